"""Stock clients stay connected, over TLS, while the server is upgraded three times."""

import asyncio
import json
import shutil

import pytest

from conftest import PASSWORD
from test_profanity import Terminal
from test_slixmpp import log_in, run
from test_xmpp_js import hear, start

UPGRADES = 3


async def upgrade(server):
    done = await asyncio.to_thread(server.ctl, "upgrade", "--json")
    answer = json.loads(done.stdout)
    assert answer["pid"] == server.process.pid
    assert answer["closed"] == {}, answer
    return answer


@pytest.mark.skipif(not (shutil.which("profanity") and shutil.which("tmux")), reason="profanity and tmux are missing")
def test_slixmpp_profanity_and_xmpp_js_stay_through_three_upgrades(server, tmp_path):
    names = ("julietup", "romeoup", "nurseup", "friarup")
    juliet_jid, romeo_jid, nurse_jid, friar_jid = (server.account(name) for name in names)
    terminal = Terminal(tmp_path, "prof")

    async def test(clients):
        juliet, = await log_in(clients, server, "starttls", juliet_jid)
        romeo, = await log_in(clients, server, "direct-tls", romeo_jid)
        node = await start(f"xmpps://localhost:{server.tls_port}", nurse_jid.split("@")[0], PASSWORD, "js",
                           server.certificate)
        act, see = (lambda *a: asyncio.to_thread(terminal.type, *a)), (lambda *a: asyncio.to_thread(terminal.wait_for, *a))
        try:
            await hear(node, "online")
            await see("Profanity")
            await act(f"/connect {friar_jid} server 127.0.0.1 port {server.port} tls trust")
            await see("password:")
            await act(PASSWORD)
            await see("logged in successfully")
            for n in range(UPGRADES + 1):
                romeo.send_message(mto=juliet_jid, mbody=f"to slixmpp {n}", mtype="chat")
                assert (await juliet.get("message"))["body"] == f"to slixmpp {n}"
                juliet.send_message(mto=nurse_jid, mbody=f"to @xmpp/client {n}", mtype="chat")
                assert (await hear(node, "message"))["body"] == f"to @xmpp/client {n}"
                echo = await juliet.get("message")
                assert echo["body"] == f"echo: to @xmpp/client {n}"
                # Its first message opens the window in which answers show.
                await act(f"/msg {romeo_jid} from profanity {n}")
                assert (await romeo.get("message", lambda m: m["body"]))["body"] == f"from profanity {n}"
                romeo.send_message(mto=friar_jid, mbody=f"to profanity {n}", mtype="chat")
                await see(f"to profanity {n}")
                if n < UPGRADES:
                    answer = await upgrade(server)
                    assert answer["sessions"] >= 4, answer
            for client in (juliet, romeo):
                assert client.events["disconnected"].empty(), "a client was disconnected"
            assert node.returncode is None
            await act("/quit")
        finally:
            if node.returncode is None:
                node.kill()
            await node.wait()

    try:
        run(test)
    finally:
        terminal.close()
