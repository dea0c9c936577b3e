"""Gajim, a desktop client, under Xvfb: a contact's avatar appears in it, a bookmark that another device makes, and a group to which
it was added while it was away.

WHIMBREL_SCREENSHOTS names a folder in which pictures of its window are kept.
"""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import tempfile
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest
from slixmpp.plugins.xep_0402.stanza import Conference

from conftest import DRIVERS, PASSWORD, running_server
from test_pep import BOOKMARKS, befriend
from test_rooms import PLUGINS, listen, make_private_group, wait
from test_slixmpp import log_in, run

PATIENCE = 60
NOBODY = 65534
# Places in its window, which is as large as the screen.
FIRST_CHAT, INPUT = ("240", "165"), ("600", "475")
PROGRAMS = ("gajim", "Xvfb", "xwd", "xdotool", "dbus-run-session", "setpriv")
# Does what a person chooses in a menu. Gajim brings the Python that has GLib's bindings.
ACTIVATE = """
import sys
from gi.repository import Gio, GLib
path, action, *parameters = sys.argv[1:]
parameters = GLib.Variant("(sava{sv})", (action, [GLib.Variant.parse(None, text) for text in parameters], {}))
Gio.bus_get_sync(Gio.BusType.SESSION).call_sync("org.gajim.Gajim", path, "org.gtk.Actions", "Activate", parameters, None, 0, -1)
"""

missing = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def png(width, height, rows):
    """A picture of rows of red, green, blue."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    inside = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", inside) + chunk(b"IEND", b"")


def one_colour(*rgb):
    return png(64, 64, [bytes(rgb) * 64] * 64)


def colours(path):
    """The pixels of a window dump (xwd), as (width, height, rows of red, green, blue)."""
    dump = path.read_bytes()
    head = struct.unpack(">25I", dump[:100])
    start, width, height, step, line = head[0] + 12 * head[19], head[4], head[5], head[11] // 8, head[12]
    rows = []
    for y in range(height):
        row = dump[start + y * line:start + y * line + width * step]
        rows.append(bytes(byte for x in range(0, width * step, step) for byte in (row[x + 2], row[x + 1], row[x])))
    return width, height, rows


class Desktop:
    """A desktop program that runs on a screen."""

    def __init__(self, display, log):
        self.display, self.log = display, log

    def wait_for(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what} does not come about:\n" + self.log.read_text()[-4000:]
            time.sleep(0.2)

    def says(self, text):
        self.wait_for(f"`{text}`", lambda: text in self.log.read_text())

    def shows(self, rgb, name):
        """Waits until its window has a spot of this colour, and keeps a picture."""
        found = []

        def look():
            found[:] = [self.screen()]
            return any(bytes(rgb) * 8 in row for row in found[0][2])
        self.wait_for(f"{rgb} on the screen", look)
        self.keeps(found[0], name)

    def keeps_picture(self, name):
        """Keeps a picture of what it shows now."""
        self.keeps(self.screen(), name)

    def screen(self):
        dump = self.log.with_name("window.xwd")
        subprocess.run(["xwd", "-display", self.display, "-root", "-silent", "-out", dump], check=True)
        return colours(dump)

    def keeps(self, picture, name):
        if folder := os.environ.get("WHIMBREL_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(png(*picture))

    def xdotool(self, *arguments):
        environment = {"PATH": os.environ["PATH"], "DISPLAY": self.display}
        return subprocess.run(["xdotool", *arguments], env=environment, check=True, capture_output=True, text=True).stdout

    def windows(self):
        """Those that are seen, in the order in which they came."""
        try:
            return self.xdotool("search", "--onlyvisible", "--name", ".").split()
        except subprocess.CalledProcessError:
            return []  # There is none yet.


class Gajim(Desktop):
    """A Gajim that runs."""

    def __init__(self, folder, display, log):
        super().__init__(display, log)
        self.config, self.bus = folder / "config", folder / "bus"

    def activates(self, action, *parameters, window=None):
        """Chooses something in the menu of the application, or of a window by its number; parameters are as GLib prints them."""
        path = "/org/gajim/Gajim" + (f"/window/{window}" if window else "")
        environment = {"DBUS_SESSION_BUS_ADDRESS": self.bus.read_text().strip()}
        command = as_nobody("/usr/bin/python3", "-c", ACTIVATE, path, action, *parameters)
        subprocess.run(command, env=environment, check=True, timeout=PATIENCE)

    def has(self, text):
        """Whether a message with this text is in its history."""
        database = next(self.config.rglob("logs.db"), None)
        if database is None:
            return False
        history = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            return bool(history.execute("SELECT 1 FROM logs WHERE message = ?", (text,)).fetchall())
        except sqlite3.OperationalError:
            return False  # It is just being made, or written.
        finally:
            history.close()

    def has_heard(self, text):
        """Waits until a message with this text is in its history."""
        self.wait_for(f"`{text}` in the history", lambda: self.has(text))

    def types(self, text, is_done):
        """Types a text into the first chat of its list and sends it, until something is so: nothing tells when the window is ready
        for keys."""
        def try_to():
            # There is no window manager, so nobody else gives it the keys.
            if not (windows := self.windows()):
                return False
            self.xdotool("windowfocus", windows[-1])
            self.xdotool("mousemove", *FIRST_CHAT, "click", "1")
            self.xdotool("mousemove", *INPUT, "click", "1", "key", "ctrl+u", "type", "--delay", "20", text)
            self.xdotool("key", "Return")
            for _ in range(10):
                if is_done():
                    return True
                time.sleep(0.2)
            return False
        self.wait_for(f"`{text}` is sent", try_to)

    def speaks(self, text):
        """Says something in the first chat of its list."""
        self.types(text, lambda: self.has(text))


def settings(path, server, chats, more):
    """What Gajim finds as if it had been set up by hand: one account, no TLS, no key ring."""
    account = {"name": "juliet", "hostname": "localhost", "password": PASSWORD, "savepass": True, "active": True,
               "autoconnect": True, "use_custom_host": True, "custom_host": "127.0.0.1", "custom_port": server.port,
               "custom_type": "PLAIN", "use_plain_connection": True, "confirm_unencrypted_connection": False,
               "resource": "gajim", "account_label": "juliet", "default_workspace": "w"} | more
    app = {"use_keyring": False, "check_for_update": False, "trayicon": "never"}
    workspaces = {"w": {"name": "Verona", "color": "rgb(191, 99, 154)", "avatar_sha": "", "chats": chats}}
    rows = {"app": app, "workspaces": workspaces, "soundevents": {}, "status_presets": {}, "proxies": {}, "plugins": {}}
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE settings (name TEXT UNIQUE, settings TEXT)")
    database.execute("CREATE TABLE account_settings (account TEXT UNIQUE, settings TEXT)")
    database.executemany("INSERT INTO settings VALUES (?, ?)", [(name, json.dumps(row)) for name, row in rows.items()])
    database.execute("INSERT INTO account_settings VALUES (?, ?)",
                     ("juliet", json.dumps({"account": account, "contact": {}, "group_chat": {}})))
    database.execute("PRAGMA user_version = 5")
    database.commit()
    database.close()


@contextmanager
def screen():
    """A screen of its own; yields its name."""
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "800x500x24"], pass_fds=[write],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            yield ":" + answer.readline().strip()
    finally:
        server.terminate()
        server.wait(20)


def as_nobody(*command):
    """The command as somebody who is not root: a desktop program does not run as root, and its bus lets in nobody but its user."""
    if os.geteuid() != 0:
        return list(command)
    return [shutil.which("setpriv"), "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *command]


@contextmanager
def program(command, folder, display, within=(), **more):
    """A desktop program whose home is a folder, with what it says in the file `log` there. It does not run as root. `within`: what
    runs it elsewhere."""
    command = ["dbus-run-session", "--", "sh", "-c", 'echo "$DBUS_SESSION_BUS_ADDRESS" >"$HOME/bus" && exec "$@"', "sh", *command]
    command = as_nobody(*command)
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DISPLAY": display, "LANG": "C.UTF-8", "NO_AT_BRIDGE": "1"}
    with open(folder / "log", "w") as log:
        running = subprocess.Popen([*within, *command], env=environment | more, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(20)


@contextmanager
def gajim(server, chats, within=(), **account):
    """`account`: settings of the account that are others than usual."""
    # Not below the folder of the test, into which nobody else may look.
    folder = Path(tempfile.mkdtemp(prefix="gajim-"))
    (folder / "config").mkdir()
    settings(folder / "config" / "settings.sqlite", server, chats, account)
    command = ["gajim", "--separate", "--config-path", folder / "config", "--loglevel", "gajim=INFO"]
    try:
        with screen() as display, program(command, folder, display, within):
            yield Gajim(folder, display, folder / "log")
    finally:
        # A process of its desktop may be writing its last words.
        shutil.rmtree(folder, ignore_errors=True)


async def set_avatar(client, picture):
    avatar = client.plugin["xep_0084"]
    await avatar.publish_avatar(picture)
    await avatar.publish_avatar_metadata([{"id": hashlib.sha1(picture).hexdigest(), "type": "image/png", "bytes": len(picture)}])


async def bookmark(client, room, name):
    conference = Conference()
    conference["name"], conference["autojoin"] = name, True
    options = client.plugin["xep_0004"].make_form(ftype="submit")
    options.add_field("FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
    for field, value in (("persist_items", "true"), ("max_items", "max"), ("access_model", "whitelist"),
                         ("send_last_published_item", "never")):
        options.add_field(f"pubsub#{field}", value=value)
    await client.plugin["xep_0060"].publish(client.boundjid.bare, BOOKMARKS, id=room, payload=conference, options=options)


def test_gajim_shows_a_contacts_avatar_and_follows_a_bookmark_of_another_device(tmp_path):
    red, blue = (200, 30, 40), (20, 60, 220)

    async def test(clients):
        phone, romeo = await log_in(clients, server, "starttls", "juliet@localhost", "romeo@localhost")
        for client in (phone, romeo):
            for plugin in ("xep_0084", "xep_0402", "xep_0115", "xep_0163"):
                client.register_plugin(plugin)
        await befriend(phone, romeo)
        await set_avatar(romeo, one_colour(*red))
        await bookmark(phone, "verona@rooms.example", "Verona")
        chats = [{"account": "juliet", "jid": "romeo@localhost", "type": "contact", "pinned": False, "position": -1}]
        with gajim(server, chats) as desktop:
            def step(what, *arguments):
                return asyncio.get_running_loop().run_in_executor(None, what, *arguments)
            # What was there before it came.
            await step(desktop.says, "Autojoin Bookmark: verona@rooms.example")
            await step(desktop.says, f"romeo@localhost {hashlib.sha1(one_colour(*red)).hexdigest()}")
            await step(desktop.shows, red, "gajim-avatar.png")
            # What happens while it is there.
            await set_avatar(romeo, one_colour(*blue))
            await step(desktop.says, f"romeo@localhost {hashlib.sha1(one_colour(*blue)).hexdigest()}")
            await step(desktop.shows, blue, "gajim-new-avatar.png")
            await bookmark(phone, "mantua@rooms.example", "Mantua")
            await step(desktop.says, "Schedule autojoin in 10s for: mantua@rooms.example")

    with running_server(DRIVERS[0], tmp_path / "data", "--allow-plaintext") as server:
        for name in ("juliet", "romeo"):
            server.account(name)
        run(test)


def test_gajim_finds_a_group_to_which_it_was_added_while_it_was_away(tmp_path):
    room = "verona@conference.localhost"

    async def test(clients):
        [romeo] = await log_in(clients, server, "starttls", "romeo@localhost")
        [phone] = await log_in(clients, server, "starttls", "juliet@localhost")
        for client in (romeo, phone):
            for plugin in PLUGINS:
                client.register_plugin(plugin)
        await befriend(phone, romeo)
        await phone.disconnect()
        await make_private_group(romeo, room, "Romeo")
        await romeo.plugin["xep_0045"].set_affiliation(room, "member", jid="juliet@localhost")
        romeo.send_message(mto=room, mbody="Said while she was away", mtype="groupchat")
        came, heard = listen(romeo, f"muc::{room}::got_online"), listen(romeo, "groupchat_message")
        with gajim(server, []) as desktop:
            def step(what, *arguments):
                return asyncio.get_running_loop().run_in_executor(None, what, *arguments)
            # Nobody has told it of the group: it enters by the bookmark that the server has written.
            await step(desktop.says, f"Autojoin Bookmark: {room}")
            presence = await wait(came, lambda presence: presence["from"].resource != "Romeo")
            assert presence["muc"]["affiliation"] == "member" and presence["muc"]["jid"].bare == "juliet@localhost"
            await step(desktop.has_heard, "Said while she was away")
            romeo.send_message(mto=room, mbody="Good morrow", mtype="groupchat")
            await step(desktop.has_heard, "Good morrow")
            await step(desktop.speaks, "Good day to you")
            message = await wait(heard, lambda message: message["body"] == "Good day to you")
            assert message["from"] == presence["from"], "it speaks in the group"
            await step(desktop.keeps_picture, "gajim-group.png")

    with running_server(DRIVERS[0], tmp_path / "data", "--allow-plaintext") as server:
        for name in ("juliet", "romeo"):
            server.account(name)
        run(test)
