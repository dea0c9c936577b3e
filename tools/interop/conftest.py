"""A real whimbreld process for each driver, and the accounts that the clients use.

WHIMBREL_BIN names the folder of the built binaries (default: target/debug beside the sources).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("WHIMBREL_BIN", ROOT / "target" / "debug"))
DRIVERS = ["mio", "uring"] if sys.platform == "linux" else ["mio"]
PASSWORD = "correct horse battery staple"
START_SECONDS_MAX = 30


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Server:
    """One running whimbreld."""

    process: subprocess.Popen
    data: Path
    driver: str
    port: int
    tls_port: int
    http_port: int
    log: Path

    @property
    def certificate(self) -> Path:
        return self.data / "tls" / "self-signed.pem"

    def ctl(self, *arguments: str, check: bool = True, **more) -> subprocess.CompletedProcess:
        """Runs whimbrelctl against this server."""
        command = [BIN / "whimbrelctl", "--data", self.data, *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60, **more)

    def account(self, name: str, password: str = PASSWORD) -> str:
        """Makes an account; its JID."""
        jid = f"{name}@localhost"
        self.ctl("user", "add", jid, "--password-stdin", input=password + "\n")
        return jid

    def status(self) -> dict:
        return json.loads(self.ctl("status", "--json").stdout)


def start(driver: str, data: Path, *arguments) -> Server:
    port, tls_port, http_port = free_port(), free_port(), free_port()
    path = data.parent / f"{driver}.log"
    log = open(path, "w")
    process = subprocess.Popen(
        [BIN / "whimbreld", "--data", data, "--driver", driver, "--workers", "2",
         "--listen", f"127.0.0.1:{port}", "--listen-tls", f"127.0.0.1:{tls_port}",
         "--listen-http", f"127.0.0.1:{http_port}", *arguments],
        stdout=log, stderr=subprocess.STDOUT)
    server = Server(process, data, driver, port, tls_port, http_port, path)
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, path.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"whimbreld did not listen within {START_SECONDS_MAX} s")


@contextmanager
def running_server(driver: str, data: Path, *arguments):
    """A server with more arguments than the usual ones, ended at the end."""
    running = start(driver, data, *arguments)
    try:
        yield running
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0, "a drained server ends with success"
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="session", params=DRIVERS)
def server(request, tmp_path_factory):
    with running_server(request.param, tmp_path_factory.mktemp("server") / "data") as running:
        status = running.status()
        assert status["driver"] == request.param, f"asked for {request.param}, got {status['driver']}"
        yield running
