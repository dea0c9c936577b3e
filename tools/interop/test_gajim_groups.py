"""A person in Gajim makes a private group, invites, talks, leaves, comes back, and finds what was missed."""

import asyncio
import re

from slixmpp import JID

from conftest import DRIVERS, running_server
from test_gajim import gajim, pytestmark as needs_gajim
from test_rooms import GROUP_FEATURES, SERVICE, come, enter, listen, statuses, wait
from test_slixmpp import run

pytestmark = needs_gajim

# The name in the window for a new group, and the button under a group chat that its user has left.
NAME, JOIN = ("440", "179"), ("557", "411")
# Rows and columns in which the name is then seen: letters that are dark on a ground that is bright.
NAME_ROWS, NAME_COLUMNS, DARK, BRIGHT = range(170, 188), range(280, 310), 70, 240


def makes_a_group(desktop, name):
    """By the window for a new group chat, which has a private group for a default; its address, which Gajim makes up."""
    desktop.says(f"Discovered MUC: {SERVICE}")
    desktop.activates("create-groupchat", "'juliet'")
    desktop.wait_for("the window for a new group", lambda: len(desktop.windows()) == 2)
    desktop.xdotool("windowfocus", desktop.windows()[-1])

    def try_to():
        desktop.xdotool("mousemove", *NAME, "click", "1", "key", "ctrl+a", "type", "--delay", "20", name)
        rows = desktop.screen()[2]
        seen = [max(rows[y][3 * x:3 * x + 3]) for y in NAME_ROWS for x in NAME_COLUMNS]
        return min(seen) < DARK and max(seen) > BRIGHT
    desktop.wait_for("the name in its window", try_to)
    desktop.xdotool("key", "alt+c")
    desktop.says("Configuration finished: ")
    return re.search(r"Configuration finished: (\S+)", desktop.log.read_text()).group(1)


def leaves(desktop):
    """Closes the chat and says that this is meant."""
    desktop.activates("close-chat", window=1)
    desktop.wait_for("the question", lambda: len(desktop.windows()) == 2)
    desktop.xdotool("windowfocus", desktop.windows()[-1])
    desktop.xdotool("key", "alt+l")


def comes_back(desktop, room):
    """Opens the chat again, where nothing is heard, and joins by its button."""
    desktop.activates("restore-chat", window=1)

    def try_to():
        desktop.xdotool("mousemove", *JOIN, "click", "1")
        return f"Join MUC: {room}" in desktop.log.read_text()
    desktop.wait_for("it joins", try_to)


def test_gajim_makes_a_private_group_leaves_it_and_finds_what_it_missed(tmp_path):
    async def test(clients):
        romeo, nurse = await come(clients, server, "romeo@localhost", "nurse@localhost")
        with gajim(server, []) as desktop:
            def step(what, *arguments):
                return asyncio.get_running_loop().run_in_executor(None, what, *arguments)
            room = await step(makes_a_group, desktop, "Verona")
            assert JID(room).domain == SERVICE
            info = (await romeo.plugin["xep_0030"].get_info(jid=room))["disco_info"]
            assert GROUP_FEATURES <= set(info["features"]), "a private group"
            assert {identity[3] for identity in info["identities"]} == {JID(room).user}, "strangers do not learn its name"

            invited = listen(romeo, "groupchat_direct_invite")
            await step(desktop.types, "/invite romeo@localhost Come", lambda: not invited.empty())
            await wait(invited, lambda message: message["from"].bare == room)
            presence, _, occupants, _ = await enter(romeo, room, "Romeo")
            assert {100, 110} <= set(statuses(presence)) and presence["muc"]["affiliation"] == "member"
            info = (await romeo.plugin["xep_0030"].get_info(jid=room))["disco_info"]
            assert {identity[3] for identity in info["identities"]} == {"Verona"}
            [owner] = [there for there in occupants if there["muc"]["jid"].bare == "juliet@localhost"]
            assert owner["muc"]["affiliation"] == "owner"
            asked = listen(nurse, "groupchat_direct_invite")
            await step(desktop.types, "/invite nurse@localhost", lambda: not asked.empty())
            await wait(asked, lambda message: message["from"].bare == room)
            nurse.plugin["xep_0045"].decline(room, "juliet@localhost", "Too tired")
            await step(desktop.says, "Invite declined from: nurse@localhost, reason: Too tired")
            heard = listen(romeo, "groupchat_message")
            romeo.send_message(mto=room, mbody="But soft", mtype="groupchat")
            await step(desktop.has_heard, "But soft")
            await step(desktop.speaks, "Good morrow")
            message = await wait(heard, lambda message: message["body"] == "Good morrow")
            assert message["from"] == owner["from"]

            left, back = listen(romeo, f"muc::{room}::got_offline"), listen(romeo, f"muc::{room}::got_online")
            await step(leaves, desktop)
            await wait(left, lambda presence: presence["from"] == owner["from"])
            romeo.send_message(mto=room, mbody="Said while she was away", mtype="groupchat")
            await wait(heard, lambda message: message["body"] == "Said while she was away")
            assert not desktop.has("Said while she was away")
            await step(comes_back, desktop, room)
            presence = await wait(back, lambda presence: presence["from"] == owner["from"])
            assert presence["muc"]["affiliation"] == "owner"
            await step(desktop.has_heard, "Said while she was away")
            await step(desktop.speaks, "Here again")
            await wait(heard, lambda message: message["body"] == "Here again")
            await step(desktop.keeps_picture, "gajim-own-group.png")

    with running_server(DRIVERS[0], tmp_path / "data", "--allow-plaintext") as server:
        for name in ("juliet", "romeo", "nurse"):
            server.account(name)
        run(test)
