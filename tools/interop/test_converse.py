"""Converse.js in a headless Chromium, over WebSocket, where it finds the server by host-meta, and over BOSH: it logs in, talks with
a TCP client in a chat and in a private group, shows an avatar, and has its history again in a browser that has forgotten
everything.

WHIMBREL_SCREENSHOTS names a folder in which pictures of it are kept.
"""

import asyncio
import base64
import functools
import hashlib
import http.server
import json
import struct
import subprocess
import threading
import zlib
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser
from conftest import PASSWORD, running_server
from test_pep import befriend
from test_rooms import SERVICE, come, listen, make_private_group, wait
from test_slixmpp import PATIENCE, log_in, run
from test_wsar_serve import keep

DIST = Path(__file__).resolve().parent / "node_modules" / "converse.js" / "dist"
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason="chromium is missing"), pytest.mark.timeout(600)]

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Converse</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/converse.min.css">
<body class="converse-fullscreen">
<script type="module" src="/converse.min.js"></script>
<script type="module">
converse.plugins.add("test", { initialize() { window.api = this._converse.api; } });
converse.initialize({
    whitelisted_plugins: ["test"], assets_path: "/", i18n: "en", view_mode: "fullscreen", play_sounds: false,
    authentication: "login", auto_reconnect: false, allow_non_roster_messaging: true, muc_nickname_from_jid: true,
    ...(location.pathname === "/bosh")
        && { discover_connection_methods: false, bosh_service_url: "https://localhost/http-bind" },
}).then(() => { window.ready = true; });
</script>
"""


MUC_IS_SHOWN = ("document.querySelector('.chatbox:not(.hidden) converse-muc-message-form,"
                " converse-muc.chatbox:not(.hidden)')")


def picture(width=64):
    """A PNG of one colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + b"\x22\x88\xcc" * width) * width
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Site(http.server.SimpleHTTPRequestHandler):
    """Converse's files, and the page."""

    def do_GET(self):
        if self.path not in ("/", "/bosh"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, directory=DIST))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def key_hash(certificate):
    """What Chromium calls a certificate's key by, so that it trusts this one and no other."""
    script = ("const c = new crypto.X509Certificate(require('fs').readFileSync(process.argv[1]));"
              "console.log(crypto.createHash('sha256').update(c.publicKey.export({type: 'spki', format: 'der'}))"
              ".digest('base64'))")
    return subprocess.run(["node", "-e", script, certificate], check=True, capture_output=True, text=True,
                          timeout=PATIENCE).stdout.strip()


def open_browser(server, folder):
    """One for which the server's HTTP is on port 443, where clients look for host-meta."""
    return Browser(folder, f"--host-resolver-rules=MAP localhost:443 127.0.0.1:{server.http_port}",
                   f"--ignore-certificate-errors-spki-list={key_hash(server.certificate)}")


class Converse:
    """A page with Converse.js. Waiting for it lets slixmpp go on."""

    def __init__(self, page):
        self.page = page

    async def run(self, expression):
        return await asyncio.to_thread(self.page.run, expression)

    async def wait(self, expression, what=""):
        try:
            return await asyncio.to_thread(self.page.wait, f"(async () => !!(await ({expression})))()", what or expression)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe console says: {self.page.complaints}") from error

    async def log_in(self, site, jid, password=PASSWORD):
        await asyncio.to_thread(self.page.open, site)
        await self.wait("window.ready && document.querySelector('#converse-login-jid')")
        await self.run(f"document.querySelector('#converse-login-jid').value = {json.dumps(jid)};"
                       f"document.querySelector('#converse-login-password').value = {json.dumps(password)};"
                       "document.querySelector('#converse-login').requestSubmit()")

    async def online(self):
        await self.wait("api.connection.connected() && api.connection.authenticated()", "a login")

    async def say(self, text):
        """Types into the chat that is shown, and sends it."""
        await self.wait("document.querySelector('.chatbox:not(.hidden) textarea.chat-textarea')", "a field to write in")
        await self.run("document.querySelector('.chatbox:not(.hidden) textarea.chat-textarea').focus()")
        await asyncio.to_thread(self.page.call, "Input.insertText", text=text)
        await asyncio.to_thread(self.page.key, "Enter")

    async def shows(self, *texts):
        """Exactly these messages, in this order, in the chat that is shown."""
        shown = ("[...document.querySelectorAll('.chatbox:not(.hidden) .chat-msg__text')]"
                 ".map(message => message.textContent.trim()).join('|')")
        wanted = json.dumps("|".join(texts))
        try:
            await self.wait(f"{shown} === {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{texts} are not shown, but {await self.run(shown)}") from error


def complaints(page):
    """All but those of the logos of its sponsors, which are not in the package, there being no network; and that there is
    no session of BOSH, for which it looks first when its page was loaded again."""
    own = '"url": "https://conversejs.org/media/logos/', "_restore: no restoreable session"
    return [said for said in page.complaints if not any(text in said for text in own)]


async def avatar(client):
    image = picture()
    client.register_plugin("xep_0084")
    await client.plugin["xep_0084"].publish_avatar(image)
    info = {"id": hashlib.sha1(image).hexdigest(), "type": "image/png", "bytes": len(image)}
    await client.plugin["xep_0084"].publish_avatar_metadata([info])
    return base64.b64encode(image).decode()


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
def test_converse_talks_in_chats_and_groups_and_finds_its_history(site, tmp_path, transport):
    config = tmp_path / "whimbrel.toml"
    config.write_text(f'[http]\nallowed_origins = ["{site}"]\n')
    if transport == "bosh":
        site += "/bosh"
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        romeo_jid, juliet_jid = (server.account(name) for name in ("romeo", "juliet"))
        room = f"verona@{SERVICE}"
        browsers = [open_browser(server, tmp_path / name) for name in ("profile", "another")]
        page, other = (browser.page() for browser in browsers)
        page.look(1280, 800)

        async def test(clients):
            (romeo,) = await come(clients, server, romeo_jid)
            # Contacts see each other's avatar.
            (phone,) = await log_in(clients, server, "starttls", juliet_jid)
            await befriend(romeo, phone)
            image = await avatar(romeo)

            juliet = Converse(page)
            await juliet.log_in(site, juliet_jid)
            await juliet.online()
            assert await juliet.run(f"api.connection.isType('{transport}')")
            if transport == "websocket":
                assert await juliet.run("api.settings.get('websocket_url')") == "wss://localhost/xmpp-websocket"
                assert await juliet.run("api.settings.get('bosh_service_url')") == "https://localhost/http-bind"
            await juliet.run(f"api.chats.open('{romeo_jid}', {{}}, true).then(() => true)")
            await juliet.say("Art thou not Romeo?")
            message = await romeo.get("message", lambda message: message["body"])
            assert message["body"] == "Art thou not Romeo?"
            message.reply("Neither, fair saint ♥ <&>").send()
            chat = "Art thou not Romeo?", "Neither, fair saint ♥ <&>"
            await juliet.shows(*chat)
            await juliet.wait("[...document.querySelectorAll('.chatbox:not(.hidden) converse-avatar *')].some(image =>"
                              f" (image.src ?? image.href?.baseVal) === 'data:image/png;base64,{image}')", "the avatar")
            keep(page.picture(tmp_path / "converse-chat.png"))

            heard = listen(romeo, "groupchat_message")
            await make_private_group(romeo, room, "Romeo")
            await romeo.plugin["xep_0045"].set_affiliation(room, "member", jid=juliet_jid)
            await juliet.run(f"api.rooms.open('{room}', {{nick: 'Juliet'}}, true).then(() => true)")
            await juliet.say("Good night, good night")
            message = await wait(heard, lambda message: message["body"] == "Good night, good night")
            assert message["from"].resource == "Juliet"
            romeo.send_message(mto=room, mbody="Would I were sleep and peace", mtype="groupchat")
            group = "Good night, good night", "Would I were sleep and peace"
            await juliet.shows(*group)
            keep(page.picture(tmp_path / "converse-group.png"))

            # The page is loaded again: it logs in by itself, and resumes its stream under another name of its resource; over
            # BOSH it goes on with its session.
            await asyncio.to_thread(page.open, "about:blank")
            await asyncio.to_thread(page.open, site)
            await juliet.wait("window.ready")
            await juliet.online()
            await juliet.run(f"api.chats.open('{romeo_jid}', {{}}, true).then(() => true)")
            await juliet.shows(*chat)
            await juliet.say("O, wilt thou leave me so?")
            await romeo.get("message", lambda message: message["body"] == "O, wilt thou leave me so?")
            chat += "O, wilt thou leave me so?",
            await juliet.shows(*chat)

            # A browser that has never seen any of it: all that it shows comes from the archives.
            juliet = Converse(other)
            await juliet.log_in(site, juliet_jid)
            await juliet.online()
            await juliet.run(f"api.chats.open('{romeo_jid}', {{}}, true).then(() => true)")
            await juliet.shows(*chat)
            # Its bookmark brings it into the group at the same time, without showing it.
            await juliet.wait(f"api.rooms.open('{room}', {{nick: 'Juliet'}}, true).then(() => {MUC_IS_SHOWN})", "the group")
            await juliet.shows(*group)
            assert complaints(page) == complaints(other) == []
            await juliet.run("api.user.logout().then(() => true)")
            await juliet.wait("document.querySelector('#converse-login-jid')")

        try:
            run(test)
            metrics = server.status()["metrics"]
            assert metrics["sm.resumed"] == (transport == "websocket")
        finally:
            for browser in browsers:
                browser.close()


def test_a_wrong_password_and_a_page_of_somebody_else_are_told(site, tmp_path):
    config = tmp_path / "whimbrel.toml"
    config.write_text('[http]\nallowed_origins = ["https://chat.example.org"]\n')
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        jid = server.account("juliet")
        browser = open_browser(server, tmp_path / "profile")
        page = browser.page()

        async def test(_):
            juliet = Converse(page)
            await juliet.log_in(site, jid)
            async with asyncio.timeout(PATIENCE):
                while not any("403" in said for said in page.complaints):
                    await juliet.run("1")  # What the console has said comes with answers.
            assert not await juliet.run("api.connection.connected()")
            config.write_text(f'[http]\nallowed_origins = ["{site}"]\n')
            await asyncio.to_thread(server.ctl, "reload")
            await juliet.log_in(site, jid, "wrong")
            await juliet.wait("document.body.innerText.includes('password is incorrect')")
            await juliet.log_in(site, jid)
            await juliet.online()

        try:
            run(test)
        finally:
            browser.close()
