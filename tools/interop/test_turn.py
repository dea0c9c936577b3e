"""coturn lets a client in by the credential that the server has given out (XEP-0215), and by no other."""

import shutil
import socket
import struct
import subprocess
import time
import xml.etree.ElementTree as ET

import pytest
from slixmpp.exceptions import IqError

from conftest import BIN, free_port, running_server
from test_slixmpp import PATIENCE, log_in, run

NAMESPACE = "urn:xmpp:extdisco:2"
SECRET = "a-secret-of-the-two-servers"
pytestmark = [pytest.mark.skipif(not (shutil.which("turnserver") and shutil.which("turnutils_uclient")),
                                 reason="coturn is missing"), pytest.mark.timeout(600)]


def answers(port):
    """Whether a STUN server answers a binding request (RFC 8489 §5)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.5)
        asker.connect(("127.0.0.1", port))
        try:
            asker.send(struct.pack(">HHI12s", 1, 0, 0x2112A442, b"is it there?"))
            return asker.recv(1500)[8:20] == b"is it there?"
        except OSError:
            time.sleep(0.1)
            return False


@pytest.fixture
def coturn(tmp_path):
    """One that knows a secret of before as well; its port."""
    port, log = free_port(), tmp_path / "coturn.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            ["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", str(port),
             "-r", "localhost", "--use-auth-secret", "--static-auth-secret", "the-one-of-before",
             "--static-auth-secret", SECRET, "--allow-loopback-peers", "--log-file", "stdout", "--simple-log",
             "--pidfile", tmp_path / "coturn.pid", "--userdb", tmp_path / "coturn.db"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=tmp_path)
    deadline = time.monotonic() + PATIENCE
    try:
        while not answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


def allocates(port, username, password, *options):
    """Whether coturn's own client gets allocations, and what it sends through them arrives."""
    done = subprocess.run(["turnutils_uclient", "-y", "-n", "3", "-m", "1", "-p", str(port), "-u", username, "-w", password,
                           *options, "127.0.0.1"], capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("Total lost packets 0" in said), said
    assert done.returncode == 0 or "Cannot complete Allocation" in said, said
    return done.returncode == 0


async def ask(client, query):
    iq = client.make_iq_get(ito="localhost")
    iq.append(ET.fromstring(query))
    answer = await iq.send(timeout=PATIENCE)
    return answer.xml.findall(f"*/{{{NAMESPACE}}}service")


def test_a_credential_opens_coturn(coturn, tmp_path):
    secret, config = tmp_path / "secret", tmp_path / "whimbrel.toml"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    services = [f"stun:127.0.0.1:{coturn}", f"turn:127.0.0.1:{coturn}?transport=udp", f"turn:127.0.0.1:{coturn}?transport=tcp"]
    config.write_text(f'[turn]\nservices = {services}\nsecret_file = "{secret}"\n')
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        jid = server.account("juliet")

        async def test(clients):
            (juliet,) = await log_in(clients, server, "starttls", jid)
            assert NAMESPACE in (await juliet.plugin["xep_0030"].get_info(jid="localhost"))["disco_info"]["features"]
            stun, udp, tcp = [service.attrib for service in await ask(juliet, f"<services xmlns='{NAMESPACE}'/>")]
            assert stun["type"] == "stun" and "password" not in stun
            for turn, option in ((udp, ()), (tcp, ("-t",))):
                assert (turn["type"], turn["host"], turn["port"]) == ("turn", "127.0.0.1", str(coturn))
                assert allocates(coturn, turn["username"], turn["password"], *option)
            asked = f"<service host='127.0.0.1' type='turn' port='{coturn}'/>"
            given = (await ask(juliet, f"<credentials xmlns='{NAMESPACE}'>{asked}</credentials>"))[0].attrib
            assert allocates(coturn, given["username"], given["password"])
            # Nobody gets longer than the server has said.
            expires, name = given["username"].split(":")
            assert not allocates(coturn, f"{int(expires) + 3600}:{name}", given["password"])

            # A new secret is taken when the configuration is read again; one that others may read is not.
            secret.write_text("another-secret-that-coturn-does-not-know")
            server.ctl("reload")
            stranger = (await ask(juliet, f"<services xmlns='{NAMESPACE}' type='turn'/>"))[0].attrib
            assert not allocates(coturn, stranger["username"], stranger["password"])
            secret.write_text("the-one-of-before")
            secret.chmod(0o644)
            refused = server.ctl("reload", check=False)
            assert refused.returncode != 0 and "chmod 600" in refused.stderr, refused.stderr
            secret.chmod(0o600)
            server.ctl("reload")
            before = (await ask(juliet, f"<services xmlns='{NAMESPACE}' type='turn'/>"))[0].attrib
            assert allocates(coturn, before["username"], before["password"])
            config.write_text("")
            server.ctl("reload")
            with pytest.raises(IqError) as gone:
                while True:  # Until the worker has heard of it.
                    await ask(juliet, f"<services xmlns='{NAMESPACE}'/>")
            assert gone.value.condition == "service-unavailable"
        run(test)


def test_check_tells_of_the_secret(tmp_path):
    secret, config = tmp_path / "secret", tmp_path / "whimbrel.toml"
    config.write_text(f'listen = ["127.0.0.1:0"]\nlisten_tls = []\n[http]\nlisten = []\n[turn]\nservices = ["turn:a.example"]\n'
                      f'secret_file = "{secret}"\n')
    check = [BIN / "whimbreld", "--check", "--config", config, "--data", tmp_path / "data"]
    for mode, text in ((None, "No such file"), (0o640, "chmod 600"), (0o600, None)):
        if mode:
            secret.write_text(SECRET)
            secret.chmod(mode)
        done = subprocess.run(check, capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode == 0) == (text is None), done.stderr
        assert text is None or ("STUN and TURN" in done.stderr and text in done.stderr), done.stderr
    assert "turn:a.example" in done.stdout
