"""Stock clients read what was said before (XEP-0313): on a second device, after an upgrade, after a new login, by times and ids,
backwards; and say what is to be archived (XEP-0441)."""

import asyncio
import itertools
import json
import shutil
from xml.etree import ElementTree

import pytest
from slixmpp import JID
from slixmpp.xmlstream.handler import Collector
from slixmpp.xmlstream.matcher import StanzaPath

from conftest import PASSWORD
from test_profanity import Terminal
from test_slixmpp import log_in, mode, run  # noqa: F401
from test_upgrade import upgrade
from test_xmpp_js import hear, service, start

numbers = itertools.count()


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


async def page(client, most=50, before=None, flip=False, **fields):
    """One page of the archive: (id, time, body) of each message, and its end."""
    client.register_plugin("xep_0313")
    iq = client.make_iq_set()
    query = iq["mam"]
    query["queryid"] = iq["id"]
    for name, value in fields.items():
        query[name] = value
    query["rsm"]["max"] = str(most)
    if before is not None:
        query["rsm"]["before"] = before or True
    if flip:
        query.append(ElementTree.Element("{urn:xmpp:mam:2}flip-page"))
    results = Collector(f"page {iq['id']}", StanzaPath(f"message/mam_result@queryid={iq['id']}"))
    client.register_handler(results)
    end = await iq.send()
    found = [message["mam_result"] for message in results.stop()]
    return [(one["id"], one["forwarded"]["delay"]["stamp"], one["forwarded"]["stanza"]["body"]) for one in found], end["mam_fin"]


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


def test_slixmpp_reads_by_times_and_ids_and_backwards(server, mode):
    number = next(numbers)
    jids = [server.account(f"{name}ways{number}") for name in ("juliet", "romeo", "nurse")]

    async def test(clients):
        juliet, romeo, nurse = await log_in(clients, server, mode, *jids)
        for n in range(6):
            (nurse if n == 3 else romeo).send_message(mto=jids[0], mbody=f"line {n}", mtype="chat")
            await juliet.get("message")
            await asyncio.sleep(0.01)
        everything, end = await page(juliet)
        assert [body for _, _, body in everything] == [f"line {n}" for n in range(6)] and end["complete"] == "true"
        ids, times = [one[0] for one in everything], [one[1] for one in everything]
        for expected, fields in (
            (everything[2:], {"start": times[2]}),
            (everything[:3], {"end": times[2]}),
            (everything[1:5], {"start": times[1], "end": times[4]}),
            ([everything[2], everything[4]], {"start": times[2], "end": times[4], "with": jids[1]}),
            (everything[3:], {"after_id": ids[2]}),
            (everything[:2], {"before_id": ids[2]}),
            (everything[2:4], {"after_id": ids[1], "before_id": ids[4]}),
            ([everything[1], everything[5]], {"ids": [ids[5], ids[1]]}),
        ):
            found, end = await page(juliet, **fields)
            assert found == expected and end["complete"] == "true", fields
        # The last page, as it is and from its end; and the one before it.
        for flip in (False, True):
            found, end = await page(juliet, most=2, before="", flip=flip)
            assert found == (everything[:3:-1] if flip else everything[4:]) and end["complete"] != "true"
            found, end = await page(juliet, most=4, before=ids[4], flip=flip)
            assert found == (everything[3::-1] if flip else everything[:4]) and end["complete"] == "true"
        bounds = (await juliet.plugin["xep_0313"].get_archive_metadata())["mam_metadata"]
        assert (bounds["start"]["id"], bounds["start"]["timestamp"]) == (ids[0], times[0])
        assert (bounds["end"]["id"], bounds["end"]["timestamp"]) == (ids[5], times[5])
        fields = await juliet.plugin["xep_0313"].get_fields()
        assert {"with", "start", "end", "before-id", "after-id", "ids"} <= set(fields.get_fields())
    run(test)


def test_slixmpp_says_what_is_archived(server, mode):
    number = next(numbers)
    jids = [server.account(f"{name}prefs{number}") for name in ("juliet", "romeo", "nurse")]

    async def test(clients):
        juliet, romeo, nurse = await log_in(clients, server, mode, *jids)
        juliet.register_plugin("xep_0441")

        async def wants(standard, always=(), never=()):
            lists = [[JID(jid) for jid in jids] for jids in (always, never)]
            await juliet.plugin["xep_0441"].set_preferences(standard, *lists)
            told = await juliet.plugin["xep_0441"].get_preferences()
            assert told == (standard, set(lists[0]), set(lists[1]))

        async def both_say(text):
            for client in (romeo, nurse):
                client.send_message(mto=jids[0], mbody=text, mtype="chat")
                await juliet.get("message")

        await wants("always", never=[jids[2]])
        await both_say("never the nurse")
        await wants("never", always=[jids[1]])
        await both_say("always romeo")
        await wants("roster")
        await both_say("no contacts")
        await wants("always")
        await both_say("everybody")
        hers = [(body, one["from"].bare) for one, body in await stanzas(juliet)]
        assert hers == [("never the nurse", jids[1]), ("always romeo", jids[1]), ("everybody", jids[1]), ("everybody", jids[2])]
        # The archives of others are theirs.
        said = ["never the nurse", "always romeo", "no contacts", "everybody"]
        assert bodies(await history(romeo)) == said and bodies(await history(nurse)) == said
    run(test)


async def stanzas(client):
    """All that the archive has: (stanza, body)."""
    client.register_plugin("xep_0313")
    found = client.plugin["xep_0313"].iterate(rsm={"max": "10"})
    every = [result["mam_result"]["forwarded"]["stanza"] async for result in found]
    return [(stanza, stanza["body"]) for stanza in every]


@pytest.mark.parametrize("scheme", ["xmpp", "xmpps", "wss"])
def test_xmpp_js_reads_in_every_way_and_says_what_is_archived(server, scheme):
    jids = [server.account(f"{name}ways{scheme}") for name in ("juliet", "romeo")]

    async def test(clients):
        romeo, = await log_in(clients, server, "starttls", jids[1])
        node = await start(service(server, scheme), jids[0].split("@")[0], PASSWORD, "balcony", server.certificate)

        async def ask(name, **wanted):
            node.stdin.write(json.dumps({name: wanted}).encode() + b"\n")
            return await hear(node, name)

        try:
            await hear(node, "online")
            for n in range(5):
                romeo.send_message(mto=jids[0], mbody=f"line {n}", mtype="chat")
                await romeo.get("message")
            everything = (await ask("page"))["messages"]
            said = [[f"line {n}", f"echo: line {n}"] for n in range(5)]
            assert [one["body"] for one in everything] == list(itertools.chain(*said))
            ids, stamps = [one["id"] for one in everything], [one["stamp"] for one in everything]
            between = [one for one in everything if stamps[1] <= one["stamp"] <= stamps[3]]
            for expected, fields in (
                (between, {"start": stamps[1], "end": stamps[3], "with": jids[1]}),
                (everything[3:], {"after-id": ids[2]}),
                (everything[:2], {"before-id": ids[2]}),
                ([everything[1], everything[7]], {"ids": [ids[7], ids[1]]}),
            ):
                answer = await ask("page", fields=fields)
                assert answer["messages"] == expected and answer["complete"] == "true", fields
            last = await ask("page", max=3, before="", flip=True)
            assert last["messages"] == everything[:6:-1] and last["last"] == ids[9] and "complete" not in last
            before = await ask("page", max=2, before=ids[7])
            assert before["messages"] == everything[5:7]
            bounds = await ask("metadata")
            assert bounds["start"] == {"id": ids[0], "timestamp": stamps[0]}
            assert bounds["end"] == {"id": ids[9], "timestamp": stamps[9]}
            told = await ask("prefs", default="always", never=[jids[1]])
            assert (told["default"], told["always"], told["never"]) == ("always", [], [jids[1]])
            romeo.send_message(mto=jids[0], mbody="unheard of", mtype="chat")
            await romeo.get("message")
            assert (await ask("page"))["messages"] == everything, "neither the message nor its echo"
            await ask("prefs", default="never", always=[jids[1]])
            romeo.send_message(mto=jids[0], mbody="heard of", mtype="chat")
            await romeo.get("message")
            assert [one["body"] for one in (await ask("page"))["messages"]][10:] == ["heard of", "echo: heard of"]
        finally:
            if node.returncode is None:
                node.kill()
            await node.wait()
    run(test)
