"""A person in profanity makes a private group, invites, talks, leaves, comes back, and is invited by others."""

import asyncio
import re
import shutil

import pytest
from slixmpp import JID
from slixmpp.exceptions import PresenceError

from conftest import PASSWORD
from test_pep import befriend
from test_profanity import Terminal
from test_rooms import GROUP_FEATURES, SERVICE, come, enter, history, listen, make_private_group, statuses, wait
from test_slixmpp import run

pytestmark = pytest.mark.skipif(not (shutil.which("profanity") and shutil.which("tmux")), reason="profanity and tmux are missing")

# What a person changes in the form for a private group, by the labels of the server.
PRIVATE = {
    "Keep the room when the last occupant leaves": "on",
    "Show the room in the list of rooms": "off",
    "Only members may enter": "on",
    "Keep messages for those who come later": "on",
    "Who sees real addresses": "anyone",
}


class Person:
    """Somebody at a terminal with profanity; each step is done beside the other clients."""

    def __init__(self, terminal):
        self.terminal = terminal

    async def types(self, text):
        await asyncio.to_thread(self.terminal.type, text)

    async def sees(self, *texts):
        return await asyncio.to_thread(self.terminal.wait_for, *texts)

    async def logs_in(self, server, jid):
        await self.sees("Profanity")
        await self.types(f"/connect {jid} server 127.0.0.1 port {server.port} tls trust")
        await self.sees("password:")
        await self.types(PASSWORD)
        await self.sees("logged in successfully")


@pytest.fixture
def person(tmp_path):
    # So high that the form of a room is seen whole.
    terminal = Terminal(tmp_path, "group", rows=100)
    yield Person(terminal)
    terminal.close()


def test_profanity_makes_a_private_group_leaves_it_and_finds_what_it_missed(server, person):
    jids = [server.account(f"{name}profgroup") for name in ("juliet", "romeo", "nurse")]
    room = f"profanity-group-{server.driver}@{SERVICE}"

    async def test(clients):
        romeo, nurse = await come(clients, server, *jids[1:])
        await person.logs_in(server, jids[0])
        await person.types(f"/join {room} nick Juliet")
        await person.sees("Room locked, requires configuration")
        await person.types("/room config")
        form = await person.sees("Keep the room when the last occupant leaves")
        fields = {label: tag for tag, label in re.findall(r"\[(field\d+)\]\s+([^:\n]*[^:\s(])", form)}
        for label, value in PRIVATE.items():
            assert label in fields, f"{label} is not in the form:\n{form}"
            await person.types(f"/{fields[label]} {value}")
        await person.types("/form submit")
        await person.sees("Room configuration successful")
        info = await romeo.plugin["xep_0030"].get_info(jid=room)
        assert GROUP_FEATURES <= set(info["disco_info"]["features"]), "a private group"
        with pytest.raises(PresenceError) as refused:
            await enter(romeo, room, "Romeo")
        assert refused.value.condition == "registration-required"

        # It has looked at the room before that was configured, takes it for one that anybody may enter, and invites by itself (XEP-0249).
        invited = listen(romeo, "groupchat_direct_invite")
        await person.types(f"/affiliation set member {jids[1]}")
        await person.types(f"/invite send {jids[1]} Come")
        message = await wait(invited, lambda message: message["from"].bare == jids[0])
        assert message["groupchat_invite"]["jid"] == room and message["groupchat_invite"]["reason"] == "Come"
        presence, *_ = await enter(romeo, room, "Romeo")
        assert {100, 110} <= set(statuses(presence)) and presence["muc"]["affiliation"] == "member"
        await person.sees("Romeo")
        heard = listen(romeo, "groupchat_message")
        romeo.send_message(mto=room, mbody="By yonder blessed moon", mtype="groupchat")
        await person.sees("By yonder blessed moon")
        await person.types("O swear not by the moon")
        message = await wait(heard, lambda message: message["body"] == "O swear not by the moon")
        assert message["from"] == f"{room}/Juliet"

        left = listen(romeo, f"muc::{room}::got_offline")
        await person.types(f"/close {room}")
        await wait(left, lambda presence: presence["from"].resource == "Juliet")
        # It takes the end of its last stay for an answer to the next entering: this comes behind that.
        romeo.send_message(mto=jids[0], mbody="You have left us", mtype="chat")
        await person.sees(f"<< chat message: {jids[1]}")
        romeo.send_message(mto=room, mbody="What shall I swear by?", mtype="groupchat")
        await wait(heard, lambda message: message["body"] == "What shall I swear by?")
        back = listen(romeo, f"muc::{room}::got_online")
        await person.types(f"/join {room} nick Juliet")
        presence = await wait(back, lambda presence: presence["from"].resource == "Juliet")
        assert presence["muc"]["affiliation"] == "owner" and presence["muc"]["jid"].bare == jids[0]
        await person.sees("What shall I swear by?")
        await person.types("Do not swear at all")
        await wait(heard, lambda message: message["body"] == "Do not swear at all")

        # Now it knows that only members may enter: it invites by the room, which makes a member.
        invited = listen(nurse, "groupchat_direct_invite")
        await person.types(f"/invite send {jids[2]} Come as well")
        await wait(invited, lambda message: message["from"].bare == room)
        presence, *_ = await enter(nurse, room, "Nurse")
        assert presence["muc"]["affiliation"] == "member"
        found = [(nick, body) for _, nick, body in await history(nurse, room)]
        assert found == [("Romeo", "By yonder blessed moon"), ("Juliet", "O swear not by the moon"),
                         ("Romeo", "What shall I swear by?"), ("Juliet", "Do not swear at all")]
        await person.types("/quit")
        await wait(left, lambda presence: presence["from"].resource == "Juliet")

    run(test)


def test_profanity_is_invited_by_a_room_and_directly(server, person):
    jids = [server.account(f"{name}profguest") for name in ("juliet", "romeo", "nurse")]
    rooms = [f"{name}-{server.driver}@{SERVICE}" for name in ("invited", "direct")]

    async def test(clients):
        juliet, = await come(clients, server, jids[0])
        await person.logs_in(server, jids[1])
        for room in rooms:
            await make_private_group(juliet, room, "Juliet")
            entered = listen(juliet, f"muc::{room}::got_online")
            if room == rooms[0]:
                juliet.plugin["xep_0045"].invite(room, jids[1], reason="Come")
            else:
                # XEP-0249 invites and makes nobody a member.
                await juliet.plugin["xep_0045"].set_affiliation(room, "member", jid=jids[1])
                juliet.plugin["xep_0249"].send_invitation(JID(jids[1]), JID(room), reason="Come as well")
            await person.sees("Chat room invite received:", f"'/join {room}'")
            await person.types(f"/join {room} nick Romeo")
            presence = await wait(entered, lambda presence: presence["from"].resource == "Romeo")
            assert presence["muc"]["affiliation"] == "member" and presence["muc"]["jid"].bare == jids[1]
            juliet.send_message(mto=room, mbody=f"Welcome to {room}", mtype="groupchat")
            await person.sees(f"Welcome to {room}")
            # The invitation to the next room is told in the console.
            await person.types("/win 1")
        await person.types("/quit")

    run(test)


def test_profanity_finds_a_group_to_which_its_user_was_added_while_away(server, person):
    jids = [server.account(f"{name}profaway") for name in ("juliet", "romeo")]
    room = f"profanity-away-{server.driver}@{SERVICE}"

    async def test(clients):
        juliet, phone = await come(clients, server, *jids)
        await befriend(juliet, phone)
        await phone.disconnect()
        await make_private_group(juliet, room, "Juliet")
        entered = listen(juliet, f"muc::{room}::got_online")
        await juliet.plugin["xep_0045"].set_affiliation(room, "member", jid=jids[1])
        juliet.send_message(mto=room, mbody="Said while he was away", mtype="groupchat")
        # Nobody tells it of the group: it enters by the bookmark that the server has written.
        await person.logs_in(server, jids[1])
        presence = await wait(entered, lambda presence: presence["muc"]["jid"].bare == jids[1])
        assert presence["muc"]["affiliation"] == "member"
        await person.types("/win 2")
        await person.sees("Said while he was away")
        heard = listen(juliet, "groupchat_message")
        await person.types("Here I am")
        message = await wait(heard, lambda message: message["body"] == "Here I am")
        assert message["from"] == presence["from"]
        await person.types("/quit")

    run(test)
