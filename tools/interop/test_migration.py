"""Accounts of ejabberd and Prosody move here: made with a stock client there, exported by their own programs, and found here.

Both run as they come from Debian, on loopback, with storage of their own in the test's folder.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import BIN, PASSWORD, free_port, running_server
from test_slixmpp import Client, log_in, run

NAMES = ("juliet", "romeo", "paris")
PATIENCE_SECONDS = 200

# Erlang takes its time where others are busy.
pytestmark = pytest.mark.timeout(500)


def wait_for(what, process):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not get there"
        time.sleep(0.1)


def listens(port):
    def look():
        return subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True).stdout.strip() != ""
    return look


@contextmanager
def ejabberd(folder: Path, modules=""):
    """Yields its port, and what exports it into a folder. `modules`: more of them, each behind a comma."""
    script = Path(shutil.which("ejabberdctl")).read_text()
    libraries = re.search(r"^\s*ERL_LIBS='?\"?([^'\"\n]+)", script, re.M).group(1)
    port, out, signal, done = free_port(), folder / "export", folder / "signal", folder / "done"
    (folder / "ejabberd.yml").write_text(f"""
hosts: [localhost]
loglevel: error
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
default_db: mnesia
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, access: all}}
modules:
  {{mod_roster: {{}}, mod_disco: {{}}, mod_offline: {{}}, mod_blocking: {{}}, mod_privacy: {{}}, mod_private: {{}}, mod_vcard: {{}}{modules}}}
""")
    out.mkdir()
    register = ", ".join(f'ejabberd_auth:try_register(<<"{name}">>, <<"localhost">>, <<"{PASSWORD}">>)' for name in NAMES)
    wait = (f'Loop = fun Loop() -> case filelib:is_file("{signal}") of false -> timer:sleep(100), Loop(); true -> '
            f'ejabberd_piefxis:export_server(<<"{out}">>), file:write_file("{done}", <<>>) end end')
    environment = {"ERL_LIBS": libraries, "EJABBERD_CONFIG_PATH": str(folder / "ejabberd.yml"), "HOME": str(folder),
                   "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    process = subprocess.Popen([shutil.which("erl"), "-noinput", "-mnesia", "dir", f'"{folder}/mnesia"', "-s", "ejabberd", "-eval",
                                f'{register}, {wait}, spawn(Loop), file:write_file("{folder}/ready", <<>>).'],
                               env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def export():
        signal.touch()
        wait_for(done.exists, process)
        return out

    try:
        wait_for((folder / "ready").exists, process)
        wait_for(listens(port), process)
        yield port, export
    finally:
        process.kill()
        process.wait()


@contextmanager
def prosody(modules=""):
    """As `ejabberd`, and yields its data directory as well."""
    # Its tools become the user prosody, who must be able to look into the folder.
    folder = Path(tempfile.mkdtemp(prefix="prosody-"))
    folder.chmod(0o755)
    try:
        with prosody_in(folder, modules) as running:
            yield running
    finally:
        shutil.rmtree(folder)


@contextmanager
def prosody_in(folder: Path, modules=""):
    port, data, out = free_port(), folder / "data", folder / "export"
    data.mkdir()
    out.mkdir()
    config = folder / "prosody.cfg.lua"
    config.write_text(f"""
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{data}"
modules_enabled = {{ "roster", "saslauth", "private", "blocklist", "vcard", "offline", "disco"{modules} }}
modules_disabled = {{ "s2s" }}
c2s_ports = {{ {port} }}
c2s_interfaces = {{ "127.0.0.1" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
log = {{ error = "{folder}/prosody.err" }}
VirtualHost "localhost"
""")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)}
    for name in NAMES:
        subprocess.run(["prosodyctl", "--config", config, "--root", "register", name, "localhost", PASSWORD], check=True, env=environment,
                       capture_output=True)
    process = subprocess.Popen(["prosody", "--config", config, "-F"], env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)

    def export():
        # It reads the files of a server that is stopped.
        process.terminate()
        process.wait()
        stores = '{ "accounts", "roster", "vcard", "private" }'
        migrator = folder / "migrator.cfg.lua"
        migrator.write_text(f"""
from {{ hosts = {{ ["localhost"] = {stores} }}; type = "internal"; path = "{data}"; }}
to {{ type = "xep0227"; }}
""")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "prosody", folder], check=True)
        # It writes into the data directory that it was built with: here, a copy of it writes beside the test.
        program = folder / "prosody-migrator"
        text = Path(shutil.which("prosody-migrator")).read_text()
        program.write_text(re.sub(r"^CFG_DATADIR=.*", f"CFG_DATADIR='{out}';", text, flags=re.M))
        program.chmod(0o755)
        done = subprocess.run([program, f"--config={migrator}", "from", "to"], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    try:
        wait_for(listens(port), process)
        yield port, export, data
    finally:
        process.kill()
        process.wait()


class Elsewhere(Client):
    """A client of the old server, which has no certificate here."""

    def __init__(self, port, name):
        super().__init__(SimpleNamespace(port=port, tls_port=port, certificate=None), f"{name}@localhost", "plain")
        self.enable_plaintext = True
        self.plugin["feature_mechanisms"].config["unencrypted_scram"] = True
        self.plugin["feature_mechanisms"].config["unencrypted_plain"] = True


def live(port):
    """What people have when they move."""
    async def test(clients):
        for name in NAMES[:2]:
            client = Elsewhere(port, name)
            clients.append(client)
            await client.online()
        juliet, romeo = clients
        card = juliet.plugin["xep_0054"].make_vcard()
        card["FN"] = "Juliet ♥ <Capulet>"
        await juliet.plugin["xep_0054"].publish_vcard(card)
        await juliet.plugin["xep_0191"].block("paris@localhost")
        await juliet.update_roster("romeo@localhost", name="R & M", groups=["Verona"])
        for one, other in ((juliet, romeo), (romeo, juliet)):
            one.send_presence(pto=other.boundjid.bare, ptype="subscribe")
            await other.get("presence_subscribe")
            other.send_presence(pto=one.boundjid.bare, ptype="subscribed")
            await one.get("presence_subscribed")
        juliet.send_presence(pto="nurse@localhost", ptype="subscribe")
        paris = Elsewhere(port, "paris")
        clients.append(paris)
        await paris.online()
        paris.send_presence(pto="romeo@localhost", ptype="subscribe")
        await romeo.get("presence_subscribe", lambda p: p["from"].bare == "paris@localhost")
        await juliet.get_roster()
        await juliet.disconnect()
        romeo.send_message(mto="juliet@localhost", mbody="too late", mtype="chat")
        # What it sent before this is where it belongs.
        await romeo.get_roster()

    run(test)


def migrate(data: Path, export: Path, *arguments):
    done = subprocess.run([BIN / "whimbrelctl", "--data", data, "--json", "user", "migrate", export, "--create", *arguments],
                          capture_output=True, text=True, timeout=60)
    return done, json.loads(done.stdout) if done.stdout else None


def arrived(data: Path, password):
    """What they find here."""
    with running_server("mio", data) as server:
        async def test(clients):
            for name in NAMES[:2]:
                client = Client(server, f"{name}@localhost", "starttls", password(name))
                clients.append(client)
                await client.online()
            juliet, romeo = clients
            item = juliet.client_roster["romeo@localhost"]
            assert (item["subscription"], item["name"], item["groups"]) == ("both", "R & M", ["Verona"])
            assert juliet.client_roster["nurse@localhost"]["pending_out"]
            assert (await juliet.plugin["xep_0054"].get_vcard("juliet@localhost"))["vcard_temp"]["FN"] == "Juliet ♥ <Capulet>"
            blocked = (await juliet.plugin["xep_0191"].get_blocked())["blocklist"]["items"]
            assert {str(item["jid"]) for item in blocked} == {"paris@localhost"}
            # They see each other without asking again, and romeo is asked by paris again.
            await romeo.get("presence_available", lambda p: p["from"].bare == "juliet@localhost")
            await romeo.get("presence_subscribe", lambda p: p["from"].bare == "paris@localhost")
            message = await juliet.get("message", lambda m: m["body"] == "too late")
            assert message["from"].bare == "romeo@localhost" and message["delay"]["stamp"], message

        run(test)


@pytest.mark.skipif(not (shutil.which("ejabberdctl") and shutil.which("erl")), reason="ejabberd is missing")
def test_ejabberd_moves_with_keys_rosters_block_lists_cards_and_messages(tmp_path):
    with ejabberd(tmp_path) as (port, export):
        live(port)
        exported = export()
    data = tmp_path / "new"
    done, result = migrate(data, exported)
    assert result and result["added"] == 3 and result["blocked"] == 1 and result["vcards"] == 1, done
    assert (result["offline"], result["offline_left"]) == (1, 0) and done.returncode == 0, done
    # Again: nothing is made twice.
    _, again = migrate(data, exported)
    assert (again["added"], again["existing"]) == (0, 3)
    arrived(data, lambda name: PASSWORD)


@pytest.mark.skipif(not shutil.which("prosody-migrator"), reason="Prosody is missing")
def test_prosody_moves_with_the_same_and_new_passwords_where_keys_do_not_do(tmp_path):
    data, passwords, exported, stored = (tmp_path / name for name in ("new", "passwords", "export", "stored"))
    with prosody() as (port, export, store):
        live(port)
        shutil.copytree(export(), exported)
        shutil.copytree(store, stored)
    # Prosody keeps keys of SCRAM-SHA-1 only, unless it was told otherwise.
    done, result = migrate(data, exported)
    assert done.returncode == 1 and result["added"] == 0 and "--passwords" in done.stderr, done
    done, _ = migrate(data, exported, "--prosody-data", tmp_path / "elsewhere")
    assert done.returncode == 1 and "cannot read" in done.stderr, done
    done, result = migrate(data, exported, "--passwords", passwords, "--prosody-data", stored)
    assert done.returncode == 0 and (result["added"], result["new_passwords"], result["vcards"]) == (3, 3, 1), done
    assert (result["blocked"], result["offline"], result["offline_left"]) == (1, 1, 0), done
    assert passwords.stat().st_mode & 0o777 == 0o600
    new = dict(line.split("\t") for line in passwords.read_text().splitlines())
    arrived(data, lambda name: new[f"{name}@localhost"])
