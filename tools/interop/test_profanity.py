"""profanity, a terminal client from Debian, driven under tmux as a person would."""

import asyncio
import os
import shutil
import subprocess
import time

import pytest

from conftest import PASSWORD
from test_slixmpp import PATIENCE, log_in, run


class Terminal:
    """profanity in a tmux session of its own, with a window of so many rows."""

    def __init__(self, home, name, rows=40):
        self.socket = str(home / "tmux.sock")
        self.name = name
        environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
                       "XDG_DATA_HOME": str(home / "share"), "TERM": "xterm-256color"}
        self.tmux("new-session", "-d", "-s", name, "-x", "110", "-y", str(rows), "profanity", env=environment)

    def tmux(self, *arguments, **more):
        return subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket, *arguments], check=True,
                              capture_output=True, text=True, timeout=60, **more).stdout

    def type(self, text):
        self.tmux("send-keys", "-t", self.name, "-l", text)
        self.tmux("send-keys", "-t", self.name, "Enter")

    def wait_for(self, *texts):
        deadline = time.monotonic() + PATIENCE
        screen = ""
        while time.monotonic() < deadline:
            screen = self.tmux("capture-pane", "-p", "-t", self.name)
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"{texts} not on the screen:\n{screen}")

    def close(self):
        """Ends tmux, which has often ended by itself: its last window closes with profanity."""
        subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket, "kill-server"], check=False,
                       capture_output=True, timeout=60)


@pytest.mark.skipif(not (shutil.which("profanity") and shutil.which("tmux")), reason="profanity and tmux are missing")
def test_a_person_logs_in_sees_presence_and_talks(server, tmp_path):
    juliet, romeo_jid = server.account("julietprof"), server.account("romeoprof")
    terminal = Terminal(tmp_path, "prof")

    async def test(clients):
        (romeo,) = await log_in(clients, server, "starttls", romeo_jid)
        act, see = (lambda *a: asyncio.to_thread(terminal.type, *a)), (lambda *a: asyncio.to_thread(terminal.wait_for, *a))
        await see("Profanity")
        await act(f"/connect {juliet} server 127.0.0.1 port {server.port} tls trust")
        await see("password:")
        await act(PASSWORD)
        await see("logged in successfully")
        romeo.send_presence(pto=juliet, ptype="subscribe")
        await see("authorization request")
        await act(f"/sub allow {romeo_jid}")
        await romeo.get("presence_available", lambda p: p["from"].bare == juliet)
        await act(f"/msg {romeo_jid} O gentle Romeo")
        assert (await romeo.get("message", lambda m: m["body"]))["body"] == "O gentle Romeo"
        romeo.send_message(mto=juliet, mbody="By yonder blessed moon", mtype="chat")
        await see("By yonder blessed moon")
        await act("/quit")
        await romeo.get("presence_unavailable", lambda p: p["from"].bare == juliet)

    try:
        run(test)
    finally:
        terminal.close()
