"""Stock clients read what was said before (XEP-0313): on a second device, after an upgrade, after a new login."""

import asyncio
import shutil
from xml.etree import ElementTree

import pytest

from conftest import PASSWORD
from test_profanity import Terminal
from test_slixmpp import log_in, run
from test_upgrade import upgrade
from test_xmpp_js import hear, start


async def history(client, **query):
    """What the archive says, through all its pages, oldest first: (id, body)."""
    client.register_plugin("xep_0313")
    found = []
    async for result in client.plugin["xep_0313"].iterate(rsm={"max": "3"}, **query):
        result = result["mam_result"]
        found.append((result["id"], result["forwarded"]["stanza"]["body"]))
    return found


def id_of(message):
    """The id by which the recipient's archive knows a message (XEP-0359)."""
    return message.xml.find("{urn:xmpp:sid:0}stanza-id").attrib["id"]


def bodies(found):
    return [body for _, body in found]


def test_slixmpp_reads_a_conversation_on_another_device_and_after_an_upgrade(server):
    jids = [server.account(f"{name}mam") for name in ("juliet", "romeo", "nurse")]

    async def test(clients):
        juliet, romeo, nurse = await log_in(clients, server, "starttls", *jids)
        said = []
        for n in range(4):
            romeo.send_message(mto=jids[0], mbody=f"romeo {n}", mtype="chat")
            message = await juliet.get("message")
            said.append((id_of(message), f"romeo {n}"))
            nurse.send_message(mto=jids[0], mbody=f"nurse {n}", mtype="chat")
            message = await juliet.get("message")
            said.append((id_of(message), f"nurse {n}"))
        phone, = await log_in(clients, server, "direct-tls", jids[0])
        assert await history(phone) == said, "another device reads all of it, by the ids that were told"
        assert bodies(await history(phone, with_jid=jids[1])) == [f"romeo {n}" for n in range(4)]
        assert bodies(await history(romeo)) == [f"romeo {n}" for n in range(4)], "the sender has it too"
        await upgrade(server)
        romeo.send_message(mto=jids[0], mbody="after the upgrade", mtype="chat")
        await juliet.get("message")
        again = await history(phone)
        assert again[:-1] == said and again[-1][1] == "after the upgrade"
        newest = []
        async for result in phone.plugin["xep_0313"].iterate(reverse=True, rsm={"max": "2"}):
            newest.append(result["mam_result"]["forwarded"]["stanza"]["body"])
            if len(newest) == 2:
                break
        assert sorted(newest) == ["after the upgrade", "nurse 3"], "the last page comes first"
        for client in (juliet, romeo, nurse, phone):
            assert client.events["disconnected"].empty()
    run(test)


def test_xmpp_js_reads_its_archive(server):
    jids = [server.account(f"{name}mamjs") for name in ("juliet", "romeo")]

    async def test(clients):
        romeo, = await log_in(clients, server, "starttls", jids[1])
        for n in range(5):
            romeo.send_message(mto=jids[0], mbody=f"line {n}", mtype="chat")
        await romeo.plugin["xep_0199"].send_ping("localhost")
        node = await start(f"xmpps://localhost:{server.tls_port}", jids[0].split("@")[0], PASSWORD, "balcony",
                           server.certificate)
        try:
            await hear(node, "online")
            romeo.send_message(mto=jids[0], mbody="remember", mtype="chat")
            archive = await hear(node, "archive")
            assert [body for body in archive["bodies"] if body.startswith("line")] == [f"line {n}" for n in range(5)]
            assert archive["complete"] == "true"
        finally:
            if node.returncode is None:
                node.kill()
            await node.wait()
    run(test)


@pytest.mark.skipif(not (shutil.which("profanity") and shutil.which("tmux")), reason="profanity and tmux are missing")
def test_profanity_shows_what_was_said_before_it_came(server, tmp_path):
    juliet, romeo_jid = server.account("julietmamprof"), server.account("romeomamprof")
    terminal = Terminal(tmp_path, "prof")

    async def test(clients):
        romeo, first = await log_in(clients, server, "starttls", romeo_jid, juliet)
        romeo.send_message(mto=juliet, mbody="It was the lark", mtype="chat")
        await first.get("message")
        first.send_message(mto=romeo_jid, mbody="It was the nightingale", mtype="chat")
        await romeo.get("message")
        await first.offline()
        act, see = (lambda *a: asyncio.to_thread(terminal.type, *a)), (lambda *a: asyncio.to_thread(terminal.wait_for, *a))
        await see("Profanity")
        await act("/mam on")
        await act(f"/connect {juliet} server 127.0.0.1 port {server.port} tls trust")
        await see("password:")
        await act(PASSWORD)
        await see("logged in successfully")
        await act(f"/msg {romeo_jid}")
        await see("It was the lark", "It was the nightingale")
        await act("/quit")

    try:
        run(test)
    finally:
        terminal.close()


def test_slixmpp_finds_what_stands_for_a_retracted_message(server):
    jids = [server.account(f"{name}retract") for name in ("juliet", "romeo")]
    retract = "{urn:xmpp:message-retract:1}"

    async def test(clients):
        juliet, romeo = await log_in(clients, server, "starttls", *jids)
        info = await romeo.plugin["xep_0030"].get_info(jid=jids[1])
        assert {"urn:xmpp:message-retract:1", "urn:xmpp:message-retract:1#tombstone"} <= set(info["disco_info"]["features"])
        for text in ("first", "wrong", "last"):
            romeo.send_message(mto=jids[0], mbody=text, mtype="chat")
            message = await juliet.get("message")
            if text == "wrong":
                target = message["id"]
        retraction = romeo.make_message(mto=jids[0], mtype="chat", mbody="I took a message back")
        retraction.append(ElementTree.Element(f"{retract}retract", {"id": target}))
        retraction.send()
        assert (await juliet.get("message")).xml.find(f"{retract}retract").attrib["id"] == target
        for client in (juliet, romeo):
            client.register_plugin("xep_0313")
            found = []
            async for result in client.plugin["xep_0313"].iterate(rsm={"max": "10"}):
                found.append(result["mam_result"]["forwarded"]["stanza"])
            assert [stanza["body"] for stanza in found] == ["first", "", "last", "I took a message back"]
            assert found[1]["id"] == target and found[1].xml.find(f"{retract}retracted").attrib["id"] == found[3]["id"]
    run(test)
