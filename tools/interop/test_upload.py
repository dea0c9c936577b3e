"""Files: slixmpp uploads one and gets it back; Converse.js sends a picture and another client sees it; and nginx stands in front of
the server with exactly the configuration that docs/web.md shows."""

import asyncio
import base64
import json
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from browser import CHROMIUM
from conftest import PASSWORD, ROOT, free_port, running_server
from test_converse import Converse, complaints, open_browser, picture, site  # noqa: F401 (a fixture)
from test_rooms import come
from test_slixmpp import PATIENCE, log_in, run
from test_wsar_serve import keep

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def get(url, context=None, **headers):
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
        return answer.status, answer.headers, answer.read()


def test_slixmpp_uploads_and_gets_what_it_has_uploaded(tmp_path):
    pytest.importorskip("aiohttp")
    config = tmp_path / "whimbrel.toml"
    config.write_text("[http]\ntls = false\n[upload]\nfile_mib_max = 2\n")
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        juliet_jid, romeo_jid = server.account("juliet"), server.account("romeo")
        file = tmp_path / "a rose – by any other name.png"
        file.write_bytes(picture(300))

        async def test(clients):
            juliet, romeo = await log_in(clients, server, "starttls", juliet_jid, romeo_jid)
            for client in (juliet, romeo):
                client.register_plugin("xep_0363")
                client.register_plugin("xep_0066")
            upload = juliet.plugin["xep_0363"]
            url = await upload.upload_file(file, timeout=PATIENCE)
            assert upload.upload_service == "upload.localhost" and upload.max_file_size == 2 << 20
            message = juliet.make_message(mto=romeo_jid, mbody=url, mtype="chat")
            message["oob"]["url"] = url
            message.send()
            heard = await romeo.get("message", lambda message: message["body"])
            status, headers, body = await asyncio.to_thread(get, heard["oob"]["url"])
            assert (status, headers["Content-Type"], body) == (200, "image/png", file.read_bytes())
            assert headers["Content-Disposition"].startswith("inline; ")
            status, headers, body = await asyncio.to_thread(get, url, Range="bytes=10-19")
            assert (status, body) == (206, file.read_bytes()[10:20])
            with pytest.raises(Exception) as refused:
                await upload.request_slot("upload.localhost", "a.png", (2 << 20) + 1, "image/png")
            assert refused.value.condition == "not-acceptable"

        run(test)
        listed = json.loads(server.ctl("upload", "list", "juliet@localhost", "--json").stdout)
        assert [row["name"] for row in listed["uploads"]] == [file.name] and listed["files"] == 1
        server.ctl("upload", "remove", listed["uploads"][0]["id"])
        assert json.loads(server.ctl("upload", "stats", "--json").stdout)["files"] == 0


@pytest.mark.skipif(not CHROMIUM, reason="chromium is missing")
@pytest.mark.timeout(600)
def test_converse_sends_a_picture_and_another_browser_sees_it(site, tmp_path):  # noqa: F811
    config = tmp_path / "whimbrel.toml"
    config.write_text(f'[http]\nallowed_origins = ["{site}"]\n')
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        juliet_jid, romeo_jid, nurse_jid = (server.account(name) for name in ("juliet", "romeo", "nurse"))
        browsers = [open_browser(server, tmp_path / name) for name in ("profile", "another")]
        pages = [browser.page() for browser in browsers]
        image = base64.b64encode(picture(64)).decode()

        async def test(clients):
            (nurse,) = await come(clients, server, nurse_jid)
            juliet, romeo = (Converse(page) for page in pages)
            for person, jid in ((juliet, juliet_jid), (romeo, romeo_jid)):
                await person.log_in(site, jid)
                await person.online()
            await romeo.run(f"api.chats.open('{juliet_jid}', {{}}, true).then(() => true)")
            for jid in (romeo_jid, nurse_jid):
                await juliet.run(f"api.chats.open('{jid}', {{}}, true).then(() => true)")
                await juliet.wait("document.querySelector('.chatbox:not(.hidden) textarea.chat-textarea')", "a chat")
                await juliet.run(f"api.chats.get('{jid}').then(chat => chat.sendFiles([new File([Uint8Array.from(atob("
                                 f"'{image}'), byte => byte.charCodeAt(0))], 'a rose.png', {{type: 'image/png'}})]))"
                                 ".then(() => true)")
            message = await nurse.get("message", lambda message: message["body"])
            url = message["body"]
            assert re.search(r"/upload/[0-9a-f]{48}/a%20rose\.png$", url), url
            shown = ("[...document.querySelectorAll('.chatbox:not(.hidden) .chat-msg img')].some(image =>"
                     " image.src.includes('/upload/') && image.complete && image.naturalWidth === 64)")
            await romeo.wait(shown, "the picture")
            keep(pages[1].picture(tmp_path / "converse-upload.png"))
            context = ssl.create_default_context(cafile=server.certificate)
            _, _, body = await asyncio.to_thread(get, url, context)
            assert base64.b64encode(body).decode() == image
            for page in pages:
                assert complaints(page) == []

        try:
            run(test)
            assert json.loads(server.ctl("upload", "stats", "--json").stdout)["files"] == 2
        finally:
            for browser in browsers:
                browser.close()


def block_of_the_page(port, server, certificate):
    """The block of nginx in docs/web.md, for other ports and another certificate."""
    page = (ROOT / "docs" / "web.md").read_text()
    block = re.search(r"```nginx\n(.*?)```", page, re.S).group(1)
    for old, new in (("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("http://127.0.0.1:5280", f"http://127.0.0.1:{server}"),
                     ("server_name example.org", "server_name localhost"),
                     ("/etc/letsencrypt/live/example.org/fullchain.pem", str(certificate / "self-signed.pem")),
                     ("/etc/letsencrypt/live/example.org/privkey.pem", str(certificate / "self-signed.key"))):
        assert old in block, f"the page does not say {old}"
        block = block.replace(old, new)
    return block


class Web:
    """A client over WebSocket that says what it is told."""

    def __init__(self, url, context):
        self.socket = connect(url, ssl=context, subprotocols=["xmpp"], open_timeout=PATIENCE, server_hostname="localhost")

    def ask(self, text, wanted):
        """Says something, and waits for what has a text in it."""
        if text:
            self.socket.send(text)
        while wanted not in (heard := self.socket.recv(timeout=PATIENCE)):
            pass
        return heard

    def open(self):
        return self.ask("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>", "features")


@pytest.mark.skipif(not NGINX, reason="nginx is missing")
def test_nginx_as_the_page_says_carries_logins_and_files(tmp_path):
    port = free_port()
    config = tmp_path / "whimbrel.toml"
    config.write_text('[http]\ntls = false\ntrusted_proxies = ["127.0.0.1", "::1"]\n'
                      f'[upload]\nurl = "https://localhost:{port}"\n')
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        server.account("juliet")
        tls = server.data / "tls"
        temporary = " ".join(f"{kind}_temp_path {tmp_path}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        written = tmp_path / "nginx.conf"
        written.write_text(f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log; events {{}}\n"
                           f"http {{ access_log off; {temporary}\n{block_of_the_page(port, server.http_port, tls)}}}\n")
        nginx = subprocess.Popen([NGINX, "-c", written, "-p", tmp_path, "-e", tmp_path / "nginx.log"])
        try:
            context = ssl.create_default_context(cafile=server.certificate)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    _, headers, body = get(f"https://localhost:{port}/.well-known/host-meta.json", context)
                    break
                except urllib.error.URLError:
                    assert nginx.poll() is None and time.monotonic() < deadline, (tmp_path / "nginx.log").read_text()
                    time.sleep(0.05)
            assert headers["Access-Control-Allow-Origin"] == "*"
            url = json.loads(body)["links"][0]["href"]
            assert url == "wss://localhost/xmpp-websocket"

            client = Web(f"wss://127.0.0.1:{port}/xmpp-websocket", context)
            assert "PLAIN" in client.open(), "logins are offered, because the client's side is HTTPS"
            plain = base64.b64encode(f"\0juliet\0{PASSWORD}".encode()).decode()
            client.ask(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>", "success")
            client.open()
            client.ask("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "juliet@")
            # Larger than the megabyte that nginx takes by default.
            body = picture(64) + b"\0" * (3 << 20)
            slot = client.ask(f"<iq xmlns='jabber:client' type='get' id='s' to='upload.localhost'><request xmlns='urn:xmpp:http:upload:0' "
                              f"filename='a b.png' size='{len(body)}' content-type='image/png'/></iq>", "<slot")
            put, found = (re.search(rf"<{part} url=['\"](.*?)['\"]", slot).group(1).replace("&amp;", "&") for part in ("put", "get"))
            assert found.startswith(f"https://localhost:{port}/upload/")
            request = urllib.request.Request(put, data=body, method="PUT", headers={"Content-Type": "image/png"})
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
                assert answer.status == 201
            status, headers, received = get(found, context)
            assert (status, received == body) == (200, True)
            assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            status, _, received = get(found, context, Range="bytes=1-3")
            assert (status, received) == (206, b"PNG")
            client.socket.close()
        finally:
            nginx.terminate()
            nginx.wait(PATIENCE)
    assert not Path(tmp_path / "nginx.pid").exists()
