"""Strophe.js, a stock BOSH client, under Node: it logs in, talks with a TCP client, goes on with a session as a page does that was
loaded again, and does not notice a live upgrade.
"""

import asyncio
import os
from pathlib import Path

import pytest

from conftest import PASSWORD
from test_slixmpp import PATIENCE, log_in, run
from test_xmpp_js import hear

HERE = Path(__file__).resolve().parent


async def start(server, jid, password):
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(server.certificate)}
    return await asyncio.create_subprocess_exec(
        "node", HERE / "strophe.mjs", f"https://localhost:{server.http_port}/http-bind", jid, password,
        stdout=asyncio.subprocess.PIPE, env=environment)


async def end(node):
    if node.returncode is None:
        node.kill()
    await node.wait()


async def talk(romeo, node, jid, text):
    romeo.send_message(mto=jid, mbody=text, mtype="chat")
    assert (await hear(node, "message"))["body"] == text
    assert (await romeo.get("message", lambda message: message["body"] == f"echo: {text}"))


def test_it_logs_in_talks_attaches_and_lives_through_an_upgrade(server):
    jids = [server.account(f"{name}strophe") for name in ("juliet", "romeo")]

    async def test(clients):
        (romeo,) = await log_in(clients, server, "starttls", jids[1])
        node = await start(server, f"{jids[0]}/balcony", PASSWORD)
        try:
            assert (await hear(node, "online"))["jid"] == f"{jids[0]}/balcony"
            await talk(romeo, node, jids[0], "what light?")
            romeo.send_message(mto=jids[0], mbody="forget", mtype="chat")
            await hear(node, "attached")
            await hear(node, "online")
            await talk(romeo, node, jids[0], "it is the east")
            # Upgraded twice, with requests that are held and without a word in between.
            for number in range(2):
                await asyncio.to_thread(server.ctl, "upgrade")
                await talk(romeo, node, jids[0], f"arise, fair sun {number}")
            romeo.send_message(mto=jids[0], mbody="leave", mtype="chat")
            await hear(node, "disconnected")
            assert await asyncio.wait_for(node.wait(), PATIENCE) == 0
        finally:
            await end(node)
    run(test)


def test_a_wrong_password_is_an_error(server):
    jid = server.account("mercutiostrophe")

    async def test():
        node = await start(server, jid, "wrong")
        try:
            await hear(node, "authfail")
        finally:
            await end(node)
    asyncio.run(test())
