"""Registration by phone number, from end to end: the real server, a real HTTP server as the provider of text messages,
slixmpp as the devices, over TLS. And the API against its own description, by schemathesis."""

import asyncio
import hashlib
import hmac
import http.client
import itertools
import json
import queue
import re
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import DRIVERS, free_port, running_server
from test_slixmpp import PATIENCE, Client, run

PHONE = "+4915112345678"
JID = "4915112345678@localhost"
SECRET = "a secret that signs requests to the webhook"


class Provider(ThreadingHTTPServer):
    """Takes what the webhook gateway sends, and checks its signature."""

    def __init__(self):
        self.messages = queue.Queue()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def pin(self) -> str:
        """The PIN of the next message."""
        text = self.messages.get(timeout=PATIENCE)["text"]
        return next(word for word in text.split() if word.isdigit())


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = self.headers["Whimbrel-Timestamp"].encode() + b"." + body
        expected = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        right = hmac.compare_digest(expected, self.headers["Whimbrel-Signature"])
        if right:
            self.server.messages.put(json.loads(body))
        self.send_response(204 if right else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


class Api:
    """The HTTP API, over TLS with the server's certificate."""

    def __init__(self, server, provider, port):
        self.server, self.provider, self.port = server, provider, port
        self.tls = ssl.create_default_context(cafile=server.certificate)

    def post(self, path, body, **headers):
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.tls, timeout=60)
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", path, text, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        answer = response.status, json.loads(response.read() or "null")
        connection.close()
        return answer

    def ask(self, phone, device, **headers):
        return self.post("/v1/registration", {"phone": phone, "device": device}, **headers)

    def tell(self, phone, pin, device, **headers):
        return self.post("/v1/registration/verify", {"phone": phone, "pin": pin, "device": device}, **headers)

    def register(self, phone, device):
        status, body = self.ask(phone, device)
        assert status == 202, body
        status, body = self.tell(phone, self.provider.pin(), device)
        assert status == 200, body
        return body["key"]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registration")
    provider = Provider()
    port = free_port()
    (folder / "secret").write_text(SECRET + "\n")
    config = folder / "whimbrel.toml"
    config.write_text(f"""
[registration]
listen = ["127.0.0.1:{port}"]
gateway = "webhook"
webhook_url = "http://127.0.0.1:{provider.server_port}/sms"
webhook_secret_file = "{folder}/secret"
trusted_proxies = ["127.0.0.1"]
resend_seconds = 0
pins_per_number_per_day = 1000
pins_per_device_per_hour = 1000
http_requests_per_minute = 100000
""")
    with running_server(DRIVERS[0], folder / "data", "--config", config) as server:
        yield Api(server, provider, port)
    provider.shutdown()


def kind(problem):
    return problem["type"].removeprefix("urn:whimbrel:problem:")


def test_a_new_device_puts_the_old_one_out_and_gets_what_waits(api):
    async def test(clients):
        key = api.register(PHONE, "the-first-device")
        old = Client(api.server, JID, "direct-tls", key)
        clients.append(old)
        await old.online()
        second = await asyncio.to_thread(api.register, PHONE, "the-second-device")
        error = await old.get("stream_error")
        assert error["condition"] == "not-authorized"

        romeo_jid = api.server.account("romeo-of-registration")
        romeo = Client(api.server, romeo_jid, "starttls")
        clients.append(romeo)
        await romeo.online()
        romeo.send_message(mto=JID, mbody="waiting", mtype="chat")
        # What he sends after it has been handled before the new device logs in.
        await romeo.get_roster()

        again = Client(api.server, JID, "direct-tls", key)
        clients.append(again)
        again.connect(host="127.0.0.1", port=api.server.tls_port)
        await again.get("failed_auth")

        new = Client(api.server, JID, "starttls", second)
        clients.append(new)
        await new.online()
        message = await new.get("message")
        assert message["body"] == "waiting" and message["from"] == romeo.boundjid
    run(test)


def test_wrong_pins_and_the_sixth_try(api):
    phone = "+4915112345679"
    assert api.ask(phone, "a-guessing-device")[0] == 202
    pin = api.provider.pin()
    wrong = "11111" if pin == "00000" else "00000"
    for left in (4, 3, 2, 1, 0):
        status, body = api.tell(phone, wrong, "a-guessing-device", **{"X-Forwarded-For": "192.0.2.7"})
        assert (status, kind(body), body["tries_left"]) == (403, "wrong-pin", left)
    status, body = api.tell(phone, pin, "a-guessing-device", **{"X-Forwarded-For": "192.0.2.8"})
    assert (status, kind(body)) == (429, "too-many-tries") and body["retry_after"] > 0
    pending = json.loads(api.server.ctl("registration", "pending", "--json").stdout)["pending"]
    assert any(row["number"] == phone and row["locked_seconds"] > 0 for row in pending), pending


def test_the_operator_sees_and_revokes(api):
    phone, local = "+4915112345681", "4915112345681"
    status = json.loads(api.server.ctl("registration", "status", "--json").stdout)
    assert status["on"] and status["gateway"] == "webhook"
    assert "webhook" in api.server.ctl("registration", "status").stdout
    api.server.ctl("registration", "test-sms", phone)
    assert "test message" in api.provider.messages.get(timeout=PATIENCE)["text"]

    async def test(clients):
        key = api.register(phone, "a-device-to-revoke")
        client = Client(api.server, f"{local}@localhost", "direct-tls", key)
        clients.append(client)
        await client.online()
        assert api.ask(phone, "another-device")[0] == 202
        pin = api.provider.pin()
        assert phone in api.server.ctl("registration", "pending").stdout
        done = json.loads(api.server.ctl("registration", "revoke", phone, "--json").stdout)
        assert done == {"pin": True, "account": True, "kicked": 1}
        assert (await client.get("stream_error"))["condition"] == "not-authorized"
        assert kind(api.tell(phone, pin, "another-device")[1]) == "not-requested"
    run(test)
    assert api.server.ctl("registration", "revoke", "+4915112345600", check=False).returncode == 1
    assert api.server.ctl("registration", "revoke", "0151", check=False).returncode == 1


def test_a_pin_outlives_an_upgrade_during_which_nobody_is_refused(api, tmp_path):
    phone, others = "+4915112345684", itertools.count(4915112340000)
    assert api.ask(phone, "a-device-that-waits")[0] == 202
    pin = api.provider.pin()
    over, seen = threading.Event(), []

    def ask_on_and_on():
        while not over.is_set():
            try:
                status, body = api.tell(f"+{next(others)}", "12345", "a-device-without-pin")
                seen.append((status, kind(body)))
            except ConnectionRefusedError:
                seen.append("refused")
            except (OSError, http.client.HTTPException):
                seen.append("cut")

    asking = threading.Thread(target=ask_on_and_on)
    asking.start()
    try:
        # What cannot take over leaves everything as it was, registration as well.
        fake = tmp_path / "whimbreld"
        fake.write_text("#!/bin/sh\nexit 1\n")
        fake.chmod(0o755)
        assert api.server.ctl("upgrade", "--binary", str(fake), check=False).returncode == 1
        assert api.ask("+4915112345685", "a-device-in-between")[0] == 202
        api.provider.pin()
        for _ in range(3):
            answer = json.loads(api.server.ctl("upgrade", "--json").stdout)
            assert answer["pid"] == api.server.process.pid
    finally:
        over.set()
        asking.join()
    expected = {(404, "not-requested"), (503, "busy"), "cut"}
    assert seen and set(seen) <= expected, [one for one in seen if one not in expected][:5]
    assert seen.count("cut") <= 3, "one request at most is cut by each exec"
    status, body = api.tell(phone, pin, "a-device-that-waits")
    assert status == 200, body
    # What it counts is kept where it counts: a PIN is good once.
    assert api.tell(phone, pin, "a-device-that-waits")[0] == 404


def test_the_audit_log_has_each_outcome_and_no_number_or_pin(api):
    phone = "+4915112345677"
    assert api.ask(phone, "a-device-in-the-log")[0] == 202
    pin = api.provider.pin()
    assert api.tell(phone, pin, "a-device-in-the-log")[0] == 200
    log = api.server.log.read_text()
    assert 'number="+49*********77"' in log and 'outcome="sent"' in log and 'outcome="registered"' in log, log
    assert "4915112345677" not in log and pin not in [word.strip('"') for word in log.split()]


def test_an_attacker_with_many_addresses_behind_a_proxy_guesses_little(api):
    """What the rules promise holds over HTTP: 600 guesses at one number from 300 addresses."""
    phone = "+4915112345683"
    looked_at = sent = 0
    pin = None
    connection = http.client.HTTPSConnection("localhost", api.port, context=api.tls, timeout=60)

    def post(path, body, address):
        headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    for n in range(600):
        address, device = f"198.51.{n % 300 // 250}.{n % 250}", "device-of-the-attacker"
        # The attacker is out of luck: a test must not fail once in 20,000 times.
        guess = f"{n:05}" if f"{n:05}" != pin else "99999"
        status, body = post("/v1/registration/verify", {"phone": phone, "pin": guess, "device": device}, address)
        assert status in (403, 404, 429), body
        looked_at += status == 403
        if status == 404:
            status, body = post("/v1/registration", {"phone": phone, "device": device}, address)
            if status == 202:
                sent, pin = sent + 1, api.provider.pin()
    assert sent == 1 and looked_at == 5, (sent, looked_at)


@pytest.mark.timeout(600)
def test_the_api_is_what_its_description_says(api, tmp_path):
    """schemathesis makes requests of all kinds from the description, and compares the answers with it."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"https://localhost:{api.port}/v1/openapi.json",
        "--tls-verify", str(api.server.certificate), "--max-examples", "20", "--request-timeout", "60", "--seed", "1",
        "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--no-color",
        # Not asked: that every text of the right form is a number that exists.
        "--exclude-checks", "positive_data_acceptance",
    ]
    # It leaves folders of its own where it runs.
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # All but the description itself.
    assert re.search(r"Tested: *3\b", done.stdout), done.stdout[-8000:]
