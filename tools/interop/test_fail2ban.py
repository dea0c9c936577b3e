"""The filter of fail2ban finds failed logins in the server's own log, and nothing else."""

import asyncio
import shutil
import subprocess

import pytest

from conftest import ROOT, running_server
from test_slixmpp import Client, run

FILTER = ROOT / "tools/service/fail2ban.conf"


@pytest.mark.skipif(not shutil.which("fail2ban-regex"), reason="fail2ban is missing")
def test_each_wrong_password_is_found_and_nothing_else(tmp_path):
    with running_server("mio", tmp_path / "data") as server:
        jid = server.account("juliet")

        async def test(clients):
            for name, password in ((jid, "wrong"), ("nobody@localhost", "any")):
                client = Client(server, name, "starttls", password)
                clients.append(client)
                client.connect(host="127.0.0.1", port=server.port)
                async with asyncio.timeout(60):
                    await client.events["failed_auth"].get()
            good = Client(server, jid, "starttls")
            clients.append(good)
            await good.online()

        run(test)
        log = server.log.read_text()
    failed = [line for line in log.splitlines() if "login failed" in line]
    assert len(failed) >= 2, log
    # What a client chooses must not make a line about another address.
    forged = tmp_path / "forged.log"
    forged.write_text(log + failed[0].replace("WARN", "INFO") + "\n" + failed[0].replace("reason=credentials", "reason=throttled")
                      + "\n")
    done = subprocess.run(["fail2ban-regex", "--print-all-matched", forged, FILTER], capture_output=True, text=True, timeout=60)
    wrong = sum("reason=credentials" in line for line in failed)
    assert f"{wrong} matched" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("address=127.0.0.1") >= wrong, done.stdout
