"""A sleeping phone hears of a message: the real server, slixmpp as the phones, and an HTTPS server that speaks as Google's do."""

import asyncio
import base64
import json
import os
import queue
import re
import ssl
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import http_ece
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from slixmpp.exceptions import IqError

from conftest import DRIVERS, ROOT, running_server
from test_slixmpp import PATIENCE, Client, log_in, run
from test_upgrade import upgrade

PUSH = "urn:xmpp:push:0"
FORM = "jabber:x:data"
KEY = ROOT / "server" / "push" / "src" / "doubles" / "service-account.pem"
GONE = {"error": {"status": "NOT_FOUND", "message": "gone", "details": [
    {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}]}}


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Google(ThreadingHTTPServer):
    """Gives access tokens and takes messages."""

    def __init__(self, folder):
        self.messages, self.gone, self.speaks = queue.Queue(), set(), threading.Event()
        self.speaks.set()
        self.roots = folder / "roots.pem"
        key, chain = folder / "key.pem", folder / "chain.pem"
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        openssl("req", "-x509", *new, "-keyout", folder / "authority.pem", "-out", self.roots, "-subj", "/CN=an authority",
                "-addext", "basicConstraints=critical,CA:TRUE")
        openssl("req", "-x509", *new, "-keyout", key, "-out", chain, "-subj", "/CN=localhost",
                "-CA", self.roots, "-CAkey", folder / "authority.pem", "-addext", "subjectAltName=DNS:localhost",
                "-addext", "basicConstraints=critical,CA:FALSE")
        super().__init__(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(chain, key)
        tls.set_alpn_protocols(["http/1.1"])
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_address[1]}"
        self.account = folder / "account.json"
        self.account.write_text(json.dumps({
            "type": "service_account", "project_id": "whimbrel", "private_key_id": "1", "private_key": KEY.read_text(),
            "client_email": "push@whimbrel.example", "token_uri": f"{self.url}/token"}))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next(self):
        """The next message that was taken."""
        return self.messages.get(timeout=PATIENCE)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            assertion = urllib.parse.parse_qs(body.decode())["assertion"][0]
            assert assertion.count(".") == 2
            return self.answer(200, {"access_token": "good", "expires_in": 3600, "token_type": "Bearer"})
        if self.headers["Authorization"] != "Bearer good":
            return self.answer(401, {})
        if not self.server.speaks.is_set():
            # Whoever asks has gone when it speaks again.
            self.server.speaks.wait(PATIENCE)
            self.close_connection = True
            return None
        message = json.loads(body)["message"]
        if message["token"] in self.server.gone:
            return self.answer(404, GONE)
        self.server.messages.put(message)
        self.answer(200, {"name": "projects/whimbrel/messages/1"})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(params=DRIVERS)
def pushing(request, tmp_path):
    """A server whose notifications go to a Google of the test's own."""
    google = Google(tmp_path)
    config = tmp_path / "whimbrel.toml"
    config.write_text(f"""
[push]
show = "sender"
roots = "{google.roots}"
ack_seconds = 1
pause_seconds = 1
[push.fcm]
account = "{google.account}"
endpoint = "{google.url}"
""")
    with running_server(request.param, tmp_path / "data", "--config", config) as server:
        yield server, google
    google.shutdown()


class Browsers(Google):
    """A push service of browsers (RFC 8030): takes what a browser's subscription gets."""

    def finish_request(self, request, address):
        Subscription(request, address, self)


class Subscription(Handler):
    def do_POST(self):
        self.server.messages.put((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(201, {})


async def enable_device(client, node, jid, **fields):
    """What an app does that was written for MongooseIM; slixmpp has no plugin for it."""
    iq = client.make_iq_set()
    element = ElementTree.SubElement(iq.xml, f"{{{PUSH}}}enable", jid=jid, node=node)
    form = ElementTree.SubElement(element, f"{{{FORM}}}x", type="submit")
    options = "http://jabber.org/protocol/pubsub#publish-options"
    for name, value in {"FORM_TYPE": options, **fields}.items():
        field = ElementTree.SubElement(form, f"{{{FORM}}}field", var=name)
        ElementTree.SubElement(field, f"{{{FORM}}}value").text = value
    await iq.send()


async def enable(client, token, jid="push.localhost"):
    await enable_device(client, token, jid, service="fcm", device_id=token)


async def says(client, to, body):
    client.send_message(mto=to, mbody=body, mtype="chat")


async def hears(google):
    return await asyncio.to_thread(google.next)


def devices(server, jid):
    return json.loads(server.ctl("push", "list", jid, "--json").stdout)["devices"]


def test_a_phone_that_lost_its_connection_is_told_once_and_resumes_with_the_message(pushing):
    server, google = pushing
    jids = [server.account(name) for name in ("juliet", "romeo")]

    async def test(clients):
        juliet = Client(server, jids[0], "starttls")
        juliet.register_plugin("xep_0198")
        clients.append(juliet)
        await juliet.online()
        romeo, = await log_in(clients, server, "starttls", jids[1])
        await enable(juliet, "phone")
        with pytest.raises(IqError) as refused:
            await enable(juliet, "phone", "push.elsewhere.example")
        assert refused.value.condition == "remote-server-not-found"
        juliet.transport.abort()
        await juliet.get("disconnected")
        await says(romeo, jids[0], "Awake, dear heart")
        told = await hears(google)
        assert told["token"] == "phone" and told["data"]["last-message-sender"] == jids[1]
        assert told["data"]["message-count"] == "1" and told["android"]["priority"] == "high"
        juliet.connect(host="127.0.0.1", port=server.port)
        message = await juliet.get("message")
        assert message["body"] == "Awake, dear heart"
        assert google.messages.empty(), "once"
    run(test)


def test_what_was_not_sent_before_an_upgrade_is_sent_after_it(pushing):
    server, google = pushing
    jids = [server.account(name) for name in ("juliet", "romeo")]

    async def test(clients):
        juliet, romeo = await log_in(clients, server, "starttls", *jids)
        await enable(juliet, "phone")
        await juliet.offline()
        google.speaks.clear()
        await says(romeo, jids[0], "Awake")
        await romeo.plugin["xep_0199"].send_ping(romeo.boundjid.domain)
        await upgrade(server)
        google.speaks.set()
        told = await hears(google)
        assert (told["token"], told["data"]["last-message-sender"]) == ("phone", jids[1])
    run(test)


def test_a_revoked_token_is_removed(pushing):
    server, google = pushing
    jids = [server.account(name) for name in ("juliet", "romeo")]

    async def test(clients):
        juliet, romeo = await log_in(clients, server, "starttls", *jids)
        await enable(juliet, "old-phone")
        assert [device["node"] for device in devices(server, jids[0])] == ["old-phone"]
        await juliet.offline()
        google.gone.add("old-phone")
        await says(romeo, jids[0], "Awake")
        deadline = time.monotonic() + PATIENCE
        while devices(server, jids[0]):
            assert time.monotonic() < deadline, "the device stays"
            await asyncio.sleep(0.05)
    run(test)


def test_a_member_who_was_never_in_the_group_is_told_of_what_is_said(pushing):
    server, google = pushing
    jids = [server.account(name) for name in ("juliet", "romeo")]
    room = "hall@conference.localhost"

    async def test(clients):
        juliet, romeo = await log_in(clients, server, "starttls", *jids)
        await enable(juliet, "phone")
        await juliet.offline()
        server.ctl("room", "create", room, "--owner", jids[1])
        server.ctl("room", "member", "add", room, jids[0])
        romeo.register_plugin("xep_0045")
        await romeo.plugin["xep_0045"].join_muc_wait(room, "romeo", timeout=PATIENCE)
        romeo.send_message(mto=room, mbody="Is she here?", mtype="groupchat")
        told = await hears(google)
        assert told["token"] == "phone" and told["data"]["last-message-sender"] == room
    run(test)


def test_the_operator_tries_and_removes_a_device(pushing):
    server, google = pushing
    jid = server.account("juliet")

    async def test(clients):
        juliet, = await log_in(clients, server, "starttls", jid)
        await enable(juliet, "phone")
    run(test)
    tried = server.ctl("push", "test", jid)
    assert re.search(r"phone\s+fcm\s+sent", tried.stdout), tried.stdout
    assert google.next()["data"]["kind"] == "test"
    google.gone.add("phone")
    assert server.ctl("push", "test", jid, check=False).returncode == 1
    asked = time.monotonic()
    while devices(server, jid):
        assert time.monotonic() < asked + PATIENCE
        time.sleep(0.05)
    missing = server.ctl("push", "remove", jid, check=False)
    assert missing.returncode == 1 and "has no device" in missing.stderr


def text64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def data64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def vapid(authorization, origin):
    """Checks the server's proof (RFC 8292), as a push service does; its claims."""
    scheme, _, parameters = authorization.partition(" ")
    assert scheme == "vapid"
    parts = dict(part.strip().split("=", 1) for part in parameters.split(","))
    head, claims, signature = parts["t"].split(".")
    assert json.loads(data64(head))["alg"] == "ES256"
    r, s = (int.from_bytes(half, "big") for half in (data64(signature)[:32], data64(signature)[32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data64(parts["k"]))
    key.verify(utils.encode_dss_signature(r, s), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    claims = json.loads(data64(claims))
    assert claims["aud"] == origin and time.time() < claims["exp"] <= time.time() + 86400
    return claims


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_stock_library_decrypts_what_a_browser_gets(driver, tmp_path):
    """RFC 8291 by http_ece, which browsers' own test suites use, with keys such as a browser makes."""
    browsers = Browsers(tmp_path)
    port = browsers.server_address[1]
    key, config = tmp_path / "vapid.pem", tmp_path / "whimbrel.toml"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
    config.write_text(f"""
[push]
show = "text"
roots = "{browsers.roots}"
[push.webpush]
key = "{key}"
contact = "mailto:operator@localhost"
hosts = ["localhost:{port}"]
private_addresses = true
""")
    own, secret = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
    point = own.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    with running_server(driver, tmp_path / "data", "--config", config) as server:
        jids = [server.account(name) for name in ("juliet", "romeo")]

        async def test(clients):
            juliet, romeo = await log_in(clients, server, "starttls", *jids)
            await enable_device(juliet, "browser", "push.localhost", service="webpush", p256dh=text64(point),
                                device_id=f"{browsers.url}/subscription/1", auth=text64(secret))
            await juliet.offline()
            for text in ("Awake, dear heart", "é" * 2000):
                await says(romeo, jids[0], text)
                headers, body = await hears(browsers)
                assert headers["Content-Encoding"] == "aes128gcm" and int(headers["TTL"]) > 0
                assert vapid(headers["Authorization"], browsers.url)["sub"] == "mailto:operator@localhost"
                told = json.loads(http_ece.decrypt(body, private_key=own, auth_secret=secret, version="aes128gcm"))
                assert told["last-message-sender"] == jids[1]
                assert text.startswith(told["last-message-body"].rstrip("…")) and told["last-message-body"]
                # It is here again: what comes next is told at once.
                juliet, = await log_in(clients, server, "starttls", jids[0])
                await juliet.get("message")
                await juliet.offline()
        run(test)
    browsers.shutdown()
