"""`wsar serve`: its page in a real browser, with a real server; its API; who is let in.

WHIMBREL_SCREENSHOTS names a folder in which pictures of the page are kept.
"""

import atexit
import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from browser import CHROMIUM, PATIENCE, Browser
from conftest import BIN, PASSWORD, start

TOKEN = "a token of nobody's".replace(" ", "-")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is missing")
pytestmark = pytest.mark.timeout(600)


class Wsar:
    """A running `wsar serve`."""

    def __init__(self, data, *arguments, **environment):
        self.process = subprocess.Popen([BIN / "wsar", "--data", data, "serve", "--listen", "127.0.0.1:0", *arguments],
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        atexit.register(self.process.kill)  # A test that fails leaves nothing behind.
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://"), self.process.wait(20)

    def get(self, path, **headers):
        request = urllib.request.Request(self.address + path.lstrip("/"), headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def json(self, path, **headers):
        return json.loads(self.get(path, **headers))

    def status(self, path, **headers):
        try:
            self.get(path, **headers)
            return 200
        except urllib.error.HTTPError as error:
            return error.code

    def close(self):
        self.process.terminate()
        assert self.process.wait(30) == 0


class RawClient:
    """A client that can be deaf: it only reads when it is told to."""

    def __init__(self, server, name, receive_buffer=None):
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.connect(("127.0.0.1", server.tls_port))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.socket.settimeout(PATIENCE)
        header = ("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
                  "to='localhost' version='1.0'>")
        secret = base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()
        self.say(header, "</stream:features>")
        self.say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>", "<success")
        self.say(header, "</stream:features>")
        bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>"
        self.say(bind, "</jid>")
        self.say("<presence/>", "<presence")

    def say(self, text, answer=None):
        self.socket.sendall(text.encode())
        heard = ""
        while answer and answer not in heard:
            data = self.socket.recv(65536)
            assert data, heard
            heard += data.decode(errors="replace")

    def listen(self):
        """Reads everything from now on, in a thread of its own."""
        def read():
            with contextlib.suppress(OSError):
                while self.socket.recv(1 << 20):
                    pass
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} does not come about")


def keep(picture):
    """A picture of the page for docs/, when somebody wants it; it must show something in any case."""
    assert picture.stat().st_size > 20_000, f"{picture} is nearly empty"
    if folder := os.environ.get("WHIMBREL_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / picture.name).write_bytes(picture.read_bytes())


def fits(page):
    """Nothing reaches over the right edge."""
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), page.run("document.documentElement.scrollWidth")


@pytest.fixture
def watched(tmp_path):
    """A server of our own, with two accounts."""
    server = start("mio", tmp_path / "data")
    server.account("juliet")
    server.account("romeo")
    yield server
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)


@pytest.fixture
def browser(tmp_path):
    running = Browser(tmp_path / "profile")
    yield running
    running.close()


RULES = """
[[rule]]
name = "clients read slowly"
metric = "queue.output.length"
above = 100_000
clear = 1_000
for = "1s"
"""


@needs_chromium
def test_a_backlog_is_seen_as_it_grows_and_clears(watched, browser, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    wsar = Wsar(watched.data, "--rules", str(rules), "--every", "0.5")
    page = browser.page()
    page.look(1440, 1000)
    page.open(wsar.address)
    page.wait("document.querySelector('#server').textContent.startsWith('running')")
    page.wait("document.querySelector('#queue-output .state').textContent === 'empty'")
    page.wait("document.querySelectorAll('.plot canvas').length >= 18")
    # Of the rules that need no file one is in force for the server's first two minutes; none speaks of a backlog.
    page.wait("document.querySelector('#alerts').textContent.includes('started lately')")
    told = "[...document.querySelectorAll('.alert')].some(alert => alert.textContent.includes('clients read slowly'))"
    assert not page.run(told)

    deaf, sender = RawClient(watched, "romeo", 4096), RawClient(watched, "juliet")
    sender.listen()
    page.wait("document.querySelector('[id=\"tile-server.connections\"] p').textContent === '2'")
    message = f"<message to='romeo@localhost/r' type='chat'><body>{'x' * 8000}</body></message>"
    stop = threading.Event()

    def send():
        with contextlib.suppress(OSError):
            while not stop.is_set():
                sender.say(message)
                time.sleep(0.001)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    page.wait("document.querySelector('#queue-output .state').textContent === 'slow readers'")
    assert page.wait("document.querySelector('#queues tbody tr').id") == "queue-output", "the fullest comes first"
    page.wait(told)
    # The chart has it, too, and its key says how much.
    page.wait("/[KM]iB/.test(document.querySelector('#chart-backlog .key b').textContent)")
    in_force = wsar.json("/api/alerts")["in_force"]
    assert "clients read slowly" in [alert["rule"] for alert in in_force]
    queues = wsar.json("/api/queues")["queues"]
    assert next(q for q in queues if q["queue"] == "output")["length"] > 100_000
    keep(page.picture(tmp_path / "backlog.png"))
    stop.set()
    deaf.listen()
    page.wait("document.querySelector('#queue-output .state').textContent === 'empty'")
    page.wait("!" + told)
    past = wsar.json("/api/history?series=queues.output.length&from=-10m&points=600")["series"]["queues.output.length"]
    assert max(value or 0 for value in past["max"]) > 100_000 and past["max"][-1] == 0
    assert page.complaints == []
    deaf.close(), sender.close()
    wsar.close()


@needs_chromium
def test_history_comes_from_the_recording_and_can_be_zoomed(watched, browser, tmp_path):
    recorder = subprocess.Popen([BIN / "wsar", "--data", watched.data, "record", "--every", "0.2"])
    client = RawClient(watched, "juliet")
    client.listen()
    folder = watched.data / "wsar"
    size = lambda: sum(file.stat().st_size for file in folder.glob("*.rec")) if folder.exists() else 0
    wait_for(lambda: size() > 1_000, "a recording")
    for n in range(200):
        client.say(f"<message to='juliet@localhost/r' id='{n}' type='chat'><body>x</body></message>")
    # Ten samples go to disk at a time: by now the file has some from after the messages.
    for _ in range(3):
        seen = size()
        wait_for(lambda: size() > seen, "more of the recording")
    wsar = Wsar(watched.data)
    began = time.time() * 1000
    page = browser.page()
    page.look(1440, 1000)
    page.open(wsar.address + "#last=3600")
    page.wait("/ to .* \\(1 h 0 min\\)$/.test(document.querySelector('#shown').textContent)")
    # What was sent before the page's server was there.
    past = wsar.json("/api/history?series=stanzas.messages_in,workers.0.busy&from=-1h&points=2000")
    before = [n for n, when in enumerate(past["times"]) if when < began - 1000]
    rates = past["series"]["stanzas.messages_in"]["max"]
    assert before and any((rates[n] or 0) > 0 for n in before), past
    page.wait("document.querySelector('#shown').textContent.includes('nothing') === false")
    page.drag("#chart-cpu .u-over", 0.4, 0.6)
    page.wait("location.hash.startsWith('#from=')")
    zoomed = page.run("location.hash.match(/\\d+/g).map(Number)")
    assert 600_000 < zoomed[1] - zoomed[0] < 840_000, "a fifth of an hour"
    page.key("-")
    page.wait("(([a, b]) => b - a > 1200000)(location.hash.match(/\\d+/g).map(Number))")
    page.key("ArrowLeft")
    page.key("l")
    page.wait("location.hash === '#live=300'")
    page.key("2")
    page.wait("location.hash === '#live=900' && document.querySelector('[data-live=\"900\"]').ariaPressed === 'true'")
    page.key("?")
    page.wait("document.querySelector('#help').open")
    page.key("Escape")
    page.wait("!document.querySelector('#help').open")
    # All buttons can be reached by the keyboard and have names.
    assert page.run("[...document.querySelectorAll('button')].every(b => b.tabIndex === 0 && (b.ariaLabel || b.textContent.trim()))")
    assert page.complaints == []
    client.close()
    wsar.close()
    recorder.terminate()
    assert recorder.wait(30) == 0


@needs_chromium
def test_the_page_is_readable_on_a_phone_in_light_and_dark(watched, browser, tmp_path):
    client = RawClient(watched, "juliet")
    client.listen()
    wsar = Wsar(watched.data)
    page = browser.page()
    for name, width, height, dark, phone in [("light", 1440, 1000, False, False), ("dark", 1440, 1000, True, False),
                                             ("phone", 390, 844, False, True), ("phone-dark", 390, 844, True, True)]:
        page.look(width, height, dark, phone)
        page.open(wsar.address)
        page.wait("document.querySelector('#server').textContent.startsWith('running')")
        page.wait("document.querySelectorAll('.plot canvas').length >= 18 && document.querySelectorAll('.heat canvas').length === 2")
        page.wait("/\\d/.test(document.querySelector('#chart-cpu .key b').textContent)")
        fits(page)
        back = [int(n) for n in re.findall(r"\d+", page.run("getComputedStyle(document.body).backgroundColor"))[:3]]
        assert (sum(back) < 150) == dark, back
        keep(page.picture(tmp_path / f"{name}.png"))
    assert page.complaints == []
    client.close()
    wsar.close()


@needs_chromium
def test_no_server_its_start_its_end_and_a_restart_are_told(browser, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    wsar = Wsar(data)
    page = browser.page()
    page.look(1200, 900)
    page.open(wsar.address)
    page.wait("document.querySelector('#server').textContent === 'no server'")
    page.wait("/\\d/.test(document.querySelector('#chart-cpu .key b').textContent)")
    server = start("mio", data)
    page.wait("document.querySelector('#server').textContent.startsWith('running')")
    page.wait("document.querySelectorAll('#queues tbody tr').length >= 7")
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    page.wait("document.querySelector('#server').textContent === 'server has ended'")
    server = start("mio", data)
    page.wait("document.querySelector('#notices').textContent.includes('started again')")
    assert len(wsar.json("/api/now")["restarts"]) == 1
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    assert page.complaints == []
    wsar.close()
    page.wait("document.querySelector('#server').textContent.includes('does not answer')")
    assert page.run("document.body.classList.contains('stale')")


@needs_chromium
def test_a_person_logs_in_with_the_token(browser, tmp_path):
    wsar = Wsar(tmp_path, WSAR_TOKEN=TOKEN)
    page = browser.page()
    page.open(wsar.address)
    for token in ("not the token at all", TOKEN):
        page.wait("location.pathname === '/login' && document.readyState === 'complete'")
        page.run(f"(document.querySelector('#token').value = {token!r}, document.forms[0].submit(), document.title = 'sent', true)")
        page.wait("document.title !== 'sent'")
    page.wait("location.pathname === '/' && /\\d/.test(document.querySelector('#chart-cpu .key b').textContent)")
    assert page.run("document.cookie") == "", "no script can read the cookie"
    page.open(f"{wsar.address}?token={TOKEN}")
    page.wait("location.pathname === '/' && location.search === ''", "the token leaves the address")
    wsar.close()


def test_only_the_token_opens_and_without_one_only_this_machine(tmp_path):
    refused = subprocess.run([BIN / "wsar", "--data", tmp_path, "serve", "--listen", "0.0.0.0:0"],
                             capture_output=True, text=True, timeout=PATIENCE,
                             env={k: v for k, v in os.environ.items() if k != "WSAR_TOKEN"})
    assert refused.returncode == 1 and "token" in refused.stderr
    short = subprocess.run([BIN / "wsar", "serve", "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                           timeout=PATIENCE, env={**os.environ, "WSAR_TOKEN": "short"})
    assert short.returncode == 1 and "16" in short.stderr
    (tmp_path / "token").write_text(TOKEN + "\n")
    wsar = Wsar(tmp_path, "--token-file", str(tmp_path / "token"))
    for path in ("/api/now", "/api/events", "/metrics", "/main.js"):
        assert wsar.status(path) == 401, path
        assert wsar.status(path, Authorization="Bearer nobody-has-this-token") == 401, path
    assert wsar.status("/api/now", Authorization=f"Bearer {TOKEN}") == 200
    assert wsar.status(f"/api/now?token={TOKEN}") == 200
    wsar.close()
    loopback = Wsar(tmp_path)
    assert loopback.status("/api/now", Host="wsar.example.com") == 403, "a name of somebody else"
    loopback.close()


def test_answers_are_bounded(tmp_path):
    wsar = Wsar(tmp_path, "--pages", "1")
    series = wsar.json("/api/series")["series"]
    assert any(one["id"] == "cpu.all.user" and one["unit"] == "percent" for one in series)
    for query in ("", "series=a&points=2001", "series=a&points=0", "series=a&from=5&to=4", "series=a&from=never",
                  "series=" + ",".join("a" * 401)):
        assert wsar.status(f"/api/history?{query}") == 400, query
    found = wsar.json("/api/history?series=cpu.all.user,cpu.all.system&from=-1d&points=10")
    assert len(found["times"]) <= 11 and set(found["series"]) == {"cpu.all.user", "cpu.all.system"}
    assert wsar.status("/api/history?series=cpu.all.user,nothing.at.all&from=-1d&points=10") == 404
    stream = urllib.request.urlopen(wsar.address + "api/events", timeout=PATIENCE)
    assert stream.headers["content-type"] == "text/event-stream"
    events = 0
    while events < 2:
        line = stream.readline()
        assert line, "the stream goes on"
        events += line.startswith(b"data: {")
    assert wsar.status("/api/events") == 503
    stream.close()
    wait_for(lambda: wsar.status("/api/now") == 200 and not events_full(wsar), "room for another page")
    assert wsar.status("/nothing") == 404
    headers = urllib.request.urlopen(wsar.address, timeout=PATIENCE).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    wsar.close()


def events_full(wsar):
    try:
        urllib.request.urlopen(wsar.address + "api/events", timeout=PATIENCE).close()
        return False
    except urllib.error.HTTPError as error:
        return error.code == 503
