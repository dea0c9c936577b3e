"""@xmpp/client, a stock JavaScript client under Node: over STARTTLS, over direct TLS, and over WebSocket."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from conftest import PASSWORD
from test_slixmpp import PATIENCE, log_in, run

HERE = Path(__file__).resolve().parent


async def start(service, name, password, resource, certificate):
    # Node 20 has WebSocket behind an option, which later ones take as well.
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(certificate), "NODE_OPTIONS": "--experimental-websocket"}
    return await asyncio.create_subprocess_exec(
        "node", HERE / "client.mjs", service, name, password, resource,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment)


def service(server, scheme):
    port = {"xmpp": server.port, "xmpps": server.tls_port, "wss": server.http_port}[scheme]
    return f"{scheme}://localhost:{port}" + ("/xmpp-websocket" if scheme == "wss" else "")


async def hear(node, event):
    heard = []
    async with asyncio.timeout(PATIENCE):
        while line := await node.stdout.readline():
            heard.append(json.loads(line))
            if heard[-1]["event"] == event:
                return heard[-1]
    raise AssertionError(f"the client ended without {event}: {heard}")


@pytest.mark.parametrize("scheme", ["xmpp", "xmpps", "wss"])
def test_it_logs_in_and_talks_with_slixmpp(server, scheme):
    jids = [server.account(f"{name}js{scheme}") for name in ("juliet", "romeo")]

    async def test(clients):
        (romeo,) = await log_in(clients, server, "starttls", jids[1])
        node = await start(service(server, scheme), jids[0].split("@")[0], PASSWORD, "balcony", server.certificate)
        try:
            online = await hear(node, "online")
            assert online["jid"] == f"{jids[0]}/balcony"
            romeo.send_message(mto=jids[0], mbody="what light?", mtype="chat")
            assert (await hear(node, "message"))["body"] == "what light?"
            assert (await romeo.get("message"))["body"] == "echo: what light?"
            romeo.send_message(mto=jids[0], mbody="leave", mtype="chat")
            await hear(node, "offline")
            assert await asyncio.wait_for(node.wait(), PATIENCE) == 0
        finally:
            if node.returncode is None:
                node.kill()
    run(test)


@pytest.mark.parametrize("scheme", ["xmpp", "xmpps", "wss"])
def test_a_wrong_password_is_an_error(server, scheme):
    jid = server.account(f"mercutiojs{scheme}")

    async def test():
        node = await start(service(server, scheme), jid.split("@")[0], "wrong", "x", server.certificate)
        assert (await hear(node, "error"))["text"] == "not-authorized"
        if node.returncode is None:
            node.kill()
        await node.wait()
    asyncio.run(test())
