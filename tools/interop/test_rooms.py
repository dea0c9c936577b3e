"""A stock client makes a private group (XEP-0045), invites, talks, leaves, comes back, and finds what it has missed."""

import asyncio
import shutil
from functools import partial

import pytest
from slixmpp import JID
from slixmpp.exceptions import IqError, PresenceError
from slixmpp.plugins.xep_0410 import PingStatus

from conftest import PASSWORD
from test_profanity import Terminal
from test_slixmpp import log_in, run
from test_upgrade import upgrade

SERVICE = "conference.localhost"
PLUGINS = ("xep_0004", "xep_0030", "xep_0045", "xep_0249", "xep_0410", "xep_0421", "xep_0313", "xep_0359")
# What Conversations fills in for a private group.
PRIVATE = {
    "muc#roomconfig_persistentroom": "1",
    "muc#roomconfig_membersonly": "1",
    "muc#roomconfig_publicroom": "0",
    "muc#roomconfig_whois": "anyone",
    "muc#roomconfig_changesubject": "0",
    "muc#roomconfig_allowinvites": "0",
    "muc#roomconfig_enablearchiving": "1",
    "mam": "1",
    "muc#roomconfig_mam": "1",
}
GROUP_FEATURES = {
    "http://jabber.org/protocol/muc", "muc_membersonly", "muc_nonanonymous", "muc_persistent", "muc_hidden",
    "http://jabber.org/protocol/muc#stable_id", "http://jabber.org/protocol/muc#self-ping-optimization",
    "urn:xmpp:mam:2", "vcard-temp", "urn:xmpp:occupant-id:0",
}


def listen(client, event):
    """What comes by an event of slixmpp."""
    queue = asyncio.Queue()
    client.add_event_handler(event, queue.put_nowait)
    return queue


async def wait(queue, wanted=lambda _: True):
    async with asyncio.timeout(60):
        while True:
            found = await queue.get()
            if wanted(found):
                return found


async def come(clients, server, *jids):
    found = await log_in(clients, server, "starttls", *jids)
    for client in found:
        for plugin in PLUGINS:
            client.register_plugin(plugin)
    return found


def enter(client, room, nick):
    """Enters, and brings own presence, subject, occupants, history."""
    return client.plugin["xep_0045"].join_muc_wait(JID(room), nick, maxstanzas=20, timeout=60)


def statuses(presence):
    return presence["muc"]["status_codes"]


async def make_private_group(client, room, nick):
    """As clients do it: enter, ask for the form, fill in what they know, send it back."""
    muc = client.plugin["xep_0045"]
    presence, *_ = await enter(client, room, nick)
    assert 201 in statuses(presence) and 110 in statuses(presence), "the room was made"
    form = await muc.get_room_config(room)
    answer = client.plugin["xep_0004"].make_form(ftype="submit")
    answer.add_field("FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/muc#roomconfig")
    for name, value in PRIVATE.items():
        answer.add_field(name, value=value)
    for name in ("muc#roomconfig_membersonly", "muc#roomconfig_whois", "muc#roomconfig_enablearchiving"):
        assert name in form.get_fields(), f"the form has no {name}"
    await muc.set_room_config(room, answer)


async def history(client, room):
    """What the room's archive says, oldest first: (id, nick, body)."""
    found = []
    async for result in client.plugin["xep_0313"].iterate(jid=JID(room), rsm={"max": "3"}):
        result = result["mam_result"]
        message = result["forwarded"]["stanza"]
        if message["body"]:
            found.append((result["id"], message["from"].resource, message["body"]))
    return found


def stanza_id(message, room):
    ids = message.xml.findall("{urn:xmpp:sid:0}stanza-id")
    return next(found.attrib["id"] for found in ids if found.attrib["by"] == room)


def test_a_private_group_is_found_by_a_member_who_was_away(server):
    jids = [server.account(f"{name}room") for name in ("juliet", "romeo", "nurse")]
    room = f"verona-{server.driver}@{SERVICE}"

    async def test(clients):
        juliet, romeo = await come(clients, server, *jids[:2])
        await make_private_group(juliet, room, "Juliet")
        info = await juliet.plugin["xep_0030"].get_info(jid=room)
        features = set(info["disco_info"]["features"])
        assert GROUP_FEATURES <= features, GROUP_FEATURES - features

        with pytest.raises(PresenceError) as refused:
            await enter(romeo, room, "Romeo")
        assert refused.value.condition == "registration-required"
        with pytest.raises(IqError) as kept_out:
            await romeo.plugin["xep_0313"].retrieve(jid=JID(room))
        assert kept_out.value.condition == "forbidden"

        # slixmpp raises `groupchat_invite` only for rooms that it has not tried before.
        invited = listen(romeo, "groupchat_direct_invite")
        muc = juliet.plugin["xep_0045"]
        muc.invite(room, jids[1], reason="Come")
        await wait(invited, lambda message: message["from"].bare == room)
        presence, subject, occupants, _ = await enter(romeo, room, "Romeo")
        assert {100, 110} <= set(statuses(presence)), "all see who it is"
        assert not subject["subject"]
        assert [(there["from"].resource, there["muc"]["jid"].bare) for there in occupants if
                there["from"].resource == "Juliet"] == [("Juliet", jids[0])]
        assert await romeo.plugin["xep_0410"].send_self_ping(JID(f"{room}/Romeo")) == PingStatus.JOINED

        heard = listen(juliet, "groupchat_message"), listen(romeo, "groupchat_message")
        romeo.send_message(mto=room, mbody="But soft", mtype="groupchat")
        ids = set()
        for queue in heard:
            message = await wait(queue, lambda message: message["body"] == "But soft")
            ids.add((stanza_id(message, room), message["occupant-id"]["id"]))
        assert len(ids) == 1, "one order and one id for everybody"
        occupant = ids.pop()[1]
        assert occupant

        # The nurse is made a member while she is away.
        await muc.set_affiliation(room, "member", jid=jids[2])
        members = await romeo.plugin["xep_0045"].get_affiliation_list(room, "member")
        assert set(members) >= {jids[2]}, "members may see who the others are"
        juliet.send_message(mto=room, mbody="Nurse, where are you?", mtype="groupchat")
        await wait(heard[0], lambda message: message["body"] == "Nurse, where are you?")

        # Romeo leaves and misses something.
        left = listen(juliet, f"muc::{room}::got_offline")
        romeo.plugin["xep_0045"].leave_muc(JID(room), "Romeo")
        await wait(left)
        assert await romeo.plugin["xep_0410"].send_self_ping(JID(f"{room}/Romeo")) != PingStatus.JOINED
        juliet.send_message(mto=room, mbody="He is gone", mtype="groupchat")
        await wait(heard[0], lambda message: message["body"] == "He is gone")
        await upgrade(server)

        nurse, = await come(clients, server, jids[2])
        _, _, _, missed = await enter(nurse, room, "Nurse")
        said = ["But soft", "Nurse, where are you?", "He is gone"]
        assert [message["body"] for message in missed if message["body"]] == said
        again, _, _, _ = await enter(romeo, room, "Romeo")
        assert again["occupant-id"]["id"] == occupant, "the same occupant after a return and an upgrade"
        for client in (nurse, romeo):
            found = await history(client, room)
            assert [body for _, _, body in found] == said
            assert [nick for _, nick, _ in found] == ["Romeo", "Juliet", "Juliet"]
        await muc.destroy(room, reason="over")
        with pytest.raises(IqError) as gone:
            await romeo.plugin["xep_0313"].retrieve(jid=JID(room))
        assert gone.value.condition == "item-not-found"
    run(test)


def test_roles_nicks_subjects_and_bans_are_those_of_the_xep(server):
    jids = [server.account(f"{name}role") for name in ("owner", "guest", "other")]
    room = f"hall-{server.driver}@{SERVICE}"

    async def test(clients):
        owner, guest, other = await come(clients, server, *jids)
        muc, as_guest = owner.plugin["xep_0045"], guest.plugin["xep_0045"]
        await enter(owner, room, "Owner")
        form = owner.plugin["xep_0004"].make_form(ftype="submit")
        await muc.set_room_config(room, form)
        services = await guest.plugin["xep_0030"].get_items(jid="localhost")
        assert SERVICE in {item[0] for item in services["disco_items"]["items"]}
        listed = await guest.plugin["xep_0030"].get_items(jid=SERVICE)
        assert room in {item[0] for item in listed["disco_items"]["items"]}, "it is public"

        with pytest.raises(PresenceError) as taken:
            await enter(guest, room, "Owner")
        assert taken.value.condition == "conflict"
        entered = listen(owner, f"muc::{room}::got_online")
        presence, *_ = await enter(guest, room, "Guest")
        assert 100 not in statuses(presence) and presence["muc"]["role"] == "participant"
        await wait(entered, lambda presence: presence["from"].resource == "Guest")
        seen = muc.get_jid_property(JID(room), "Guest", "jid")
        assert JID(seen).bare == jids[1], "the owner sees who it is"
        assert not as_guest.get_jid_property(JID(room), "Owner", "jid"), "and the guest does not"

        with pytest.raises(IqError) as denied:
            await as_guest.set_role(room, "Owner", "none")
        assert denied.value.condition in ("forbidden", "not-allowed")
        subjects = listen(guest, f"muc::{room}::groupchat_subject")
        muc.set_subject(room, "Tonight")
        assert (await wait(subjects))["subject"] == "Tonight"

        changed = listen(owner, "groupchat_presence")
        await as_guest.set_self_nick(JID(room), "Visitor", timeout=60)
        await wait(changed, lambda presence: presence["from"].resource == "Visitor")

        private = listen(guest, "message")
        owner.send_message(mto=f"{room}/Visitor", mbody="psst", mtype="chat")
        message = await wait(private, lambda message: message["body"] == "psst")
        assert message["from"] == f"{room}/Owner"

        await enter(other, room, "Other")
        # The one who is banned must have heard of it: slixmpp takes the end of the last stay for an answer to the next entering.
        gone, own = listen(guest, "groupchat_presence"), listen(other, "groupchat_presence")
        await muc.set_affiliation(room, "outcast", jid=jids[2], reason="enough")
        for seen in (gone, own):
            presence = await wait(seen, lambda p: p["from"].resource == "Other" and p["type"] == "unavailable")
            assert 301 in statuses(presence)
        with pytest.raises(PresenceError) as banned:
            await enter(other, room, "Other")
        assert banned.value.condition == "forbidden"

        told = listen(guest, "groupchat_presence")
        await muc.destroy(room, reason="closed", altroom=f"elsewhere@{SERVICE}")
        await wait(told, lambda p: p["type"] == "unavailable" and
                   p.xml.find(".//{http://jabber.org/protocol/muc#user}destroy") is not None)
    run(test)


def test_an_operator_makes_a_group_that_a_member_enters(server):
    jids = [server.account(f"{name}ops") for name in ("juliet", "romeo")]
    room = f"ops-{server.driver}@{SERVICE}"
    server.ctl("room", "create", room, "--owner", jids[0], "roomname=Operations")
    server.ctl("room", "member", "add", room, jids[1])

    async def test(clients):
        romeo, = await come(clients, server, jids[1])
        presence, *_ = await enter(romeo, room, "Romeo")
        assert presence["muc"]["affiliation"] == "member"
        told = listen(romeo, "groupchat_presence")
        await asyncio.to_thread(partial(server.ctl, "room", "member", "remove", room, jids[1], "--reason", "done"))
        presence = await wait(told, lambda p: p["type"] == "unavailable")
        assert 321 in statuses(presence)
        with pytest.raises(PresenceError):
            await enter(romeo, room, "Romeo")
    run(test)


@pytest.mark.skipif(not (shutil.which("profanity") and shutil.which("tmux")), reason="profanity and tmux are missing")
def test_a_person_in_profanity_talks_in_a_room(server, tmp_path):
    juliet, romeo_jid = server.account("julietmuc"), server.account("romeomuc")
    room = f"prof-{server.driver}@{SERVICE}"
    terminal = Terminal(tmp_path, "profroom")

    async def test(clients):
        romeo, = await come(clients, server, romeo_jid)
        act = lambda *a: asyncio.to_thread(terminal.type, *a)
        see = lambda *a: asyncio.to_thread(terminal.wait_for, *a)
        await see("Profanity")
        await act(f"/connect {juliet} server 127.0.0.1 port {server.port} tls trust")
        await see("password:")
        await act(PASSWORD)
        await see("logged in successfully")
        await act(f"/join {room} nick Juliet")
        await see("You have joined the room as Juliet")
        await act("/room accept")
        await see("Room unlocked")
        heard = listen(romeo, "groupchat_message")
        await enter(romeo, room, "Romeo")
        await see("Romeo")
        romeo.send_message(mto=room, mbody="By yonder blessed moon", mtype="groupchat")
        await see("By yonder blessed moon")
        await act("O swear not by the moon")
        message = await wait(heard, lambda message: message["body"] == "O swear not by the moon")
        assert message["from"] == f"{room}/Juliet"
        await act("/quit")

    try:
        run(test)
    finally:
        terminal.close()


def test_authors_and_moderators_take_messages_back(server):
    jids = [server.account(f"{name}moderation") for name in ("owner", "guest")]
    room = f"moderated-{server.driver}@{SERVICE}"

    async def test(clients):
        owner, guest = await come(clients, server, *jids)
        for client in (owner, guest):
            client.register_plugin("xep_0424")
            client.register_plugin("xep_0425")
        await enter(owner, room, "Owner")
        form = owner.plugin["xep_0004"].make_form(ftype="submit")
        await owner.plugin["xep_0045"].set_room_config(room, form)
        await enter(guest, room, "Guest")
        info = await guest.plugin["xep_0030"].get_info(jid=room)
        announced = {"urn:xmpp:message-moderate:1", "urn:xmpp:message-retract:1", "urn:xmpp:message-retract:1#tombstone"}
        assert announced <= set(info["disco_info"]["features"])
        said, retracted = listen(owner, "groupchat_message"), listen(owner, "message_retract")
        moderated = listen(guest, "moderated_message")
        ids = []
        for body in ("mine", "worse"):
            guest.send_message(mto=room, mbody=body, mtype="groupchat")
            message = await wait(said, lambda message, body=body: message["body"] == body)
            ids.append(stanza_id(message, room))

        guest.plugin["xep_0424"].send_retraction(JID(room), ids[0], mtype="groupchat")
        heard = await wait(retracted)
        assert (heard["from"].resource, heard["retract"]["id"]) == ("Guest", ids[0])
        with pytest.raises(IqError) as denied:
            await guest.plugin["xep_0425"].moderate(JID(room), ids[1], "no")
        assert denied.value.condition == "forbidden"
        await owner.plugin["xep_0425"].moderate(JID(room), ids[1], "spam")
        heard = await wait(moderated)
        retract = heard["retract"]
        assert heard["from"] == room and retract["id"] == ids[1] and retract["reason"] == "spam"
        assert retract["moderated"]["by"] == f"{room}/Owner" and retract["moderated"]["occupant-id"]["id"]

        found = {}
        async for result in guest.plugin["xep_0313"].iterate(jid=JID(room)):
            result = result["mam_result"]
            found[result["id"]] = result["forwarded"]["stanza"]
        own, other = (found[id]["retracted"] for id in ids)
        assert own["stamp"] and other["reason"] == "spam"
        assert other["moderated"]["by"] == f"{room}/Owner"
        assert not found[ids[0]]["body"] and not found[ids[1]]["body"]
    run(test)


def test_who_belongs_to_a_room_is_told_by_versions(server):
    jids = [server.account(f"{name}version") for name in ("owner", "member", "other")]
    room = f"versions-{server.driver}@{SERVICE}"

    async def test(clients):
        owner, member = await come(clients, server, *jids[:2])
        for client in (owner, member):
            client.register_plugin("xep_0463")
        await make_private_group(owner, room, "Owner")
        muc = owner.plugin["xep_0045"]
        await muc.set_affiliation(room, "member", jid=jids[1])
        lists = listen(member, "groupchat_affiliation_change")
        own = listen(member, "groupchat_presence")

        async def come_in(since):
            presence = member.make_presence(pto=f"{room}/Member")
            presence["muc_join"]["mav"]["since"] = since
            presence.send()
            return (await wait(own, lambda presence: 110 in statuses(presence)))["muc"]["mav"]["until"]

        first = await come_in("")
        told = await wait(lists, lambda message: message["muc"]["mav"]["until"])
        assert told["muc"]["mav"]["until"] == first and not told["muc"]["mav"]["since"]
        items = {item.attrib["jid"]: item.attrib["affiliation"] for item in told["muc"].xml.findall("{*}item")}
        assert items == {jids[0]: "owner", jids[1]: "member"}
        await muc.set_affiliation(room, "member", jid=jids[2])
        change = await wait(lists, lambda message: message["muc"]["mav"]["since"])
        assert change["muc"]["mav"]["since"] == first
        second = await come_in(first)
        told = await wait(lists, lambda message: message["muc"]["mav"]["since"])
        assert second == change["muc"]["mav"]["until"] == told["muc"]["mav"]["until"]
        assert [item.attrib["jid"] for item in told["muc"].xml.findall("{*}item")] == [jids[2]]
    run(test)


def test_occupants_ask_one_another(server):
    jids = [server.account(f"{name}ask") for name in ("owner", "guest")]
    room = f"asking-{server.driver}@{SERVICE}"

    async def test(clients):
        owner, guest = await come(clients, server, *jids)
        for client in (owner, guest):
            for plugin in ("xep_0054", "xep_0092", "xep_0199"):
                client.register_plugin(plugin)
        owner.plugin["xep_0092"].software_name = "Quill"
        await enter(owner, room, "Owner")
        await owner.plugin["xep_0045"].set_room_config(room, owner.plugin["xep_0004"].make_form(ftype="submit"))
        await enter(guest, room, "Guest")
        to = JID(f"{room}/Owner")
        version = await guest.plugin["xep_0092"].get_version(to)
        assert version["software_version"]["name"] == "Quill" and version["from"] == to
        assert await guest.plugin["xep_0199"].ping(to) > 0
        info = await guest.plugin["xep_0030"].get_info(jid=to)
        assert "jabber:iq:version" in info["disco_info"]["features"], "it is the client that answers"
        card = owner.plugin["xep_0054"].make_vcard()
        card["FN"] = "The Owner"
        await owner.plugin["xep_0054"].publish_vcard(vcard=card)
        shown = await guest.plugin["xep_0054"].get_vcard(to, cached=False)
        assert shown["vcard_temp"]["FN"] == "The Owner" and shown["from"] == to
        with pytest.raises(IqError) as nobody:
            await guest.plugin["xep_0092"].get_version(JID(f"{room}/Nobody"))
        assert nobody.value.condition == "item-not-found"
    run(test)
