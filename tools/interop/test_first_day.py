"""docs/first-day.md, step by step: a server as it comes, its certificate made known to the system, an account set up in Dino by hand,
and Dino and Gajim on two screens whose people talk.

The server has its usual ports, and so a network of its own, in which the clients are as well; the system that trusts the certificate is
one of the test's own too. WHIMBREL_SCREENSHOTS names a folder in which pictures are kept; those of docs/ are made so:

    WHIMBREL_SCREENSHOTS=$PWD/docs tools/interop/.venv/bin/python -m pytest tools/interop/test_first_day.py
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import BIN, PASSWORD
from test_gajim import Desktop, PROGRAMS, gajim, program, screen

missing = [name for name in (*PROGRAMS, "dino-im", "update-ca-certificates", "unshare", "nsenter", "ip") if shutil.which(name) is None]


def reason_to_skip():
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "a network and a system of its own are made by root only"
    return None


pytestmark = [pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or ""), pytest.mark.timeout(240)]

# A folder of authorities that is a copy, for this namespace alone.
ALONE = """
ip link set lo up
cp -a /etc/ssl/certs/. "$1"
mount --bind "$1" /etc/ssl/certs
mount -t tmpfs none /usr/local/share/ca-certificates
echo ready
exec sleep infinity
"""


@contextmanager
def elsewhere(folder):
    """A network and a set of trusted authorities that nobody else sees. Yields what runs a program there."""
    (folder / "certs").mkdir()
    holder = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-ec", ALONE, "sh", folder / "certs"], stdout=subprocess.PIPE,
                              text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        yield ["nsenter", "--net", "--mount", "--target", str(holder.pid)]
    finally:
        holder.terminate()
        holder.wait()


@contextmanager
def server(folder, within):
    """As `cargo run --bin whimbreld` starts it. Yields its data directory."""
    data, log = folder / "whimbrel-data", folder / "server.log"
    with open(log, "w") as out:
        running = subprocess.Popen([*within, BIN / "whimbreld", "--data", data], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run([BIN / "whimbrelctl", "--data", data, "status"], capture_output=True).returncode != 0:
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        for name in ("juliet", "romeo"):
            subprocess.run([BIN / "whimbrelctl", "--data", data, "user", "add", f"{name}@localhost", "--password-stdin"],
                           input=PASSWORD + "\n", text=True, check=True, capture_output=True)
        yield data
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0, log.read_text()


class Dino(Desktop):
    """A Dino that runs."""

    def __init__(self, folder, display):
        super().__init__(display, folder / "log")
        self.database = folder / ".local/share/dino/dino.db"

    def rows(self, query, *values):
        """Rows of its database; none while it is just being made."""
        if not self.database.exists():
            return []
        database = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return database.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()

    def has(self, text):
        return bool(self.rows("SELECT 1 FROM message WHERE body = ?", text))

    def on_top(self, window):
        """There is no window manager: nobody else gives it the keys, or the whole screen."""
        self.xdotool("windowraise", window, "windowfocus", window)
        return window

    def sign_in(self, jid):
        """By its dialogs, with mouse and keys, as the page says. Nothing draws dialogs where there is no window manager."""
        self.wait_for("the window", self.windows)
        pause = 1

        def has_account():
            return bool(self.rows("SELECT 1 FROM account WHERE bare_jid = ?", jid))

        def try_to():
            # It looks whether there is such a server, and nothing tells when the field for the password is there: the next attempt
            # waits for longer.
            nonlocal pause
            self.open_sign_in()
            self.xdotool("type", "--delay", "20", jid)
            self.xdotool("key", "Return")
            time.sleep(2 * pause)
            self.xdotool("type", "--delay", "20", PASSWORD)
            self.xdotool("key", "Return")
            for _ in range(20 * pause):
                if has_account():
                    return True
                time.sleep(0.1)
            pause *= 2
            self.xdotool("key", "Escape")
            return False
        self.wait_for("the account", try_to)
        time.sleep(1)
        if len(self.windows()) > 1:
            # It says that the account is ready, and waits for a button.
            self.on_top(self.windows()[-1])
            self.xdotool("key", "Return")

    def open_sign_in(self):
        """The dialog of a new account."""
        self.on_top(self.windows()[0])

        def is_open():
            if len(self.windows()) == 1:
                self.xdotool("mousemove", "400", "367", "click", "1")
                time.sleep(0.5)
            return len(self.windows()) > 1
        self.wait_for("the dialog of a new account", is_open)
        self.on_top(self.windows()[-1])
        time.sleep(0.5)

    def answers(self, text):
        """Into the first conversation of its list, until it is sent."""
        def try_to():
            window = self.on_top(self.windows()[-1])
            self.xdotool("windowsize", window, "800", "500")
            self.xdotool("mousemove", "150", "85", "click", "1")
            time.sleep(0.5)
            self.xdotool("mousemove", "550", "470", "click", "1", "key", "ctrl+a", "type", "--delay", "20", text)
            self.xdotool("key", "Return")
            time.sleep(1)
            return self.has(text)
        self.wait_for(f"`{text}` is sent", try_to)


@contextmanager
def dino(within):
    folder = Path(tempfile.mkdtemp(prefix="dino-"))
    try:
        with screen() as display, program(["dino-im"], folder, display, within, GSK_RENDERER="cairo", GDK_BACKEND="x11"):
            yield Dino(folder, display)
    finally:
        shutil.rmtree(folder)


def trust(data, within):
    """Step 3 of the page."""
    for command in (["cp", data / "tls/self-signed.pem", "/usr/local/share/ca-certificates/whimbrel.crt"], ["update-ca-certificates"]):
        subprocess.run([*within, *command], check=True, capture_output=True)


def test_two_people_talk_in_gajim_and_dino_on_their_first_day(tmp_path):
    tmp_path.chmod(0o755)
    chats = [{"account": "juliet", "jid": "romeo@localhost", "type": "contact", "pinned": False, "position": -1}]
    ours = SimpleNamespace(port=5222)
    with elsewhere(tmp_path) as within, server(tmp_path, within) as data:
        trust(data, within)
        with dino(within) as his:
            his.sign_in("romeo@localhost")
            with gajim(ours, chats, within, custom_host="localhost", custom_type="START TLS", use_plain_connection=False) as hers:
                hers.speaks("Good morrow, Romeo.")
                his.wait_for("her words", lambda: his.has("Good morrow, Romeo."))
                his.answers("Is the day so young?")
                hers.has_heard("Is the day so young?")
                hers.speaks("But new struck nine.")
                his.wait_for("her words", lambda: his.has("But new struck nine."))
                # Over what shows buttons below the pointer, and away.
                for place in (("550", "315"), ("550", "200"), ("150", "400")):
                    his.xdotool("mousemove", *place)
                    time.sleep(0.3)
                time.sleep(1)
                his.keeps_picture("first-day-dino.png")
                hers.keeps_picture("first-day-gajim.png")
    log = (tmp_path / "server.log").read_text()
    assert "serves localhost" in log and "ERROR" not in log, log
