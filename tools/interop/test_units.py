"""The units under systemd itself: the Debian package in a fresh Debian that is booted in a container (systemd-nspawn), with a
network of its own. The package and the root are those of test_package.py, with systemd in it.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import BIN, PASSWORD, ROOT, Server
from test_package import reason_to_skip as reason_of_package, release
from test_slixmpp import log_in, run

PATIENCE_SECONDS = 60
CLONE_NEWNET = 0x40000000
UNITS = ("whimbreld", "wsar-record", "wsar-serve", "wsar-alert")
DATA = "var/lib/whimbrel"


def reason_to_skip():
    if reason := reason_of_package():
        return reason
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn is missing: apt-get install systemd-container"
    return None


pytestmark = [pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or ""), pytest.mark.timeout(400)]


def wait_for(what, condition, tell=lambda: ""):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} does not come about\n{tell()}"
        time.sleep(0.1)
    return found


class Machine:
    """A Debian that is booted."""

    def __init__(self, path: Path, leader: int):
        self.path, self.leader = path, leader

    def run(self, *command, check=True, **more) -> subprocess.CompletedProcess:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8",
                       "SYSTEMD_PAGER": "cat"}
        inside = ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd=/"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, timeout=120, env=environment, **more)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines", "60", check=False).stdout

    def show(self, unit: str, *properties: str) -> list[str]:
        """Values of properties of a unit, in this order."""
        lines = self.run("systemctl", "show", f"{unit}.service", *(f"--property={name}" for name in properties)).stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return [values[name] for name in properties]

    def is_active(self, unit: str) -> bool:
        return self.run("systemctl", "is-active", f"{unit}.service", check=False).stdout.strip() == "active"

    def pid_here(self, pid: str) -> int:
        """The process, by its number outside."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:"))
                numbers = line.split()[1:]
                if numbers[-1] == pid and len(numbers) > 1 and os.path.samefile(entry / "ns/pid", f"/proc/{self.leader}/ns/pid"):
                    return int(entry.name)
            except (OSError, StopIteration):
                continue
        raise AssertionError(f"there is no process {pid}")

    @contextmanager
    def network(self):
        """Sockets of this thread are made in the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net") as own, open(f"/proc/{self.leader}/ns/net") as inside:
            assert libc.setns(inside.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), CLONE_NEWNET) == 0


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    into = tmp_path_factory.mktemp("packages")
    build = [ROOT / "tools/package", "deb", "--bin-dir", BIN, "--into", into, "--revision"]
    return [Path(subprocess.run([*build, str(n)], check=True, capture_output=True, text=True).stdout.strip()) for n in (1, 2)]


def leader_of(container: subprocess.Popen) -> int | None:
    """The container's process 1, which is a child of systemd-nspawn's."""
    assert container.poll() is None, "the container has ended"
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    for child in map(int, children):
        lines = Path(f"/proc/{child}/status").read_text().splitlines()
        if next(line for line in lines if line.startswith("NSpid:")).split()[-1] == "1":
            return child
    return None


@pytest.fixture(scope="module")
def machine(tmp_path_factory, packages):
    path = tmp_path_factory.mktemp("systemd") / "root"
    made = subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", "--include=adduser,systemd,systemd-sysv", release(), path],
                          capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    for package in packages:
        shutil.copy(package, path / "srv")
    log = open(path.parent / "console", "w")
    container = subprocess.Popen(["systemd-nspawn", "--quiet", "--directory", path, "--private-network", "--register=no", "--keep-unit",
                                  "--boot"],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        running = Machine(path, wait_for("a process 1", lambda: leader_of(container)))
        state = ["systemctl", "is-system-running"]
        wait_for("the end of the boot", lambda: running.run(*state, check=False).stdout.strip() in ("running", "degraded"),
                 lambda: Path(log.name).read_text()[-3000:])
        yield running
    finally:
        # The first signal asks systemd to shut down.
        container.terminate()
        try:
            container.wait(30)
        except subprocess.TimeoutExpired:
            container.kill()
            container.wait()


def test_units_have_no_mistakes_that_systemd_finds(machine, packages):
    """Before anything is installed: the programs are there from a folder."""
    machine.run("dpkg", "--unpack", f"/srv/{packages[0].name}")
    done = machine.run("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{unit}.service" for unit in UNITS))
    assert done.stderr.strip() == "", done.stderr
    exposure = machine.run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=40",
                           "/usr/lib/systemd/system/whimbreld.service", check=False)
    assert exposure.returncode == 0, exposure.stdout


def test_the_package_starts_reloads_upgrades_and_stops_its_units(machine, packages):
    said = machine.run("dpkg", "--install", f"/srv/{packages[0].name}")
    assert "error" not in (said.stdout + said.stderr).lower(), said
    assert machine.is_active("whimbreld") and machine.is_active("wsar-record"), machine.journal()
    assert machine.show("whimbreld", "Type", "NotifyAccess", "WatchdogUSec", "User") == ["notify", "main", "2min", "whimbrel"]
    assert not machine.is_active("wsar-serve") and not machine.is_active("wsar-alert")
    machine.run("systemctl", "enable", "--now", "wsar-serve", "wsar-alert")
    served(machine)
    reloads(machine)
    for name in ("juliet", "romeo"):
        machine.run("whimbrelctl", "user", "add", f"{name}@localhost", "--password-stdin", input=PASSWORD + "\n")
    upgrades(machine, packages[1])
    # What it sees is on disk ten samples at a time.
    report = ["wsar", "--data", f"/{DATA}", "report", "--every", "1s", "--stanzas"]
    wait_for("a recording", lambda: len(machine.run(*report, check=False).stdout.splitlines()) > 1, machine.journal)
    # What the sandbox of the unit permits is enough for the fast driver, where the kernel has it.
    if Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() == "0":
        assert json.loads(machine.run("whimbrelctl", "--json", "status").stdout)["driver"] == "uring"


def served(machine: Machine):
    """The page of wsar-serve shows the server that runs; wsar-alert watches and says nothing of it."""
    def metrics():
        try:
            with machine.network(), socket.create_connection(("127.0.0.1", 9522), 5) as page:
                page.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9522\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: page.recv(65536), b"")).decode()
        except OSError:
            return ""
    wait_for("the server on the page", lambda: "whimbrel_up 1" in metrics(), machine.journal)
    assert machine.is_active("wsar-alert") and machine.is_active("wsar-serve")


def reloads(machine: Machine):
    """systemctl hears whether the configuration could be read."""
    machine.run("systemctl", "reload", "whimbreld")
    file = machine.path / "etc/whimbrel/whimbrel.toml"
    good = file.read_text()
    file.write_text("no_such_key = 1\n" + good)
    done = machine.run("systemctl", "reload", "whimbreld", check=False)
    assert done.returncode != 0, "a configuration that cannot be read"
    assert "no_such_key" in machine.journal()
    file.write_text(good)
    machine.run("systemctl", "reload", "whimbreld")
    assert machine.is_active("whimbreld")


def upgrades(machine: Machine, package: Path):
    """The next revision comes while two clients talk; for systemd it is the same process."""
    before = machine.show("whimbreld", "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic")
    server = Server(None, machine.path / DATA, "auto", 5222, 5223, 0, Path("/dev/null"))

    async def test(clients):
        juliet, = await log_in(clients, server, "starttls", "juliet@localhost")
        romeo, = await log_in(clients, server, "direct-tls", "romeo@localhost")
        for n in range(2):
            romeo.send_message(mto="juliet@localhost", mbody=f"message {n}", mtype="chat")
            assert (await juliet.get("message"))["body"] == f"message {n}"
            if n == 0:
                said = machine.run("dpkg", "--install", f"/srv/{package.name}")
                assert "carried 2 sessions" in said.stdout + said.stderr, said
        for client in (juliet, romeo):
            assert client.events["disconnected"].empty(), "a client was disconnected"

    with machine.network():
        run(test)
    assert machine.show("whimbreld", "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic") == before
    assert machine.is_active("whimbreld")
    assert all(machine.is_active(unit) for unit in UNITS), machine.journal()


def test_a_server_that_hangs_is_started_again(machine):
    folder = machine.path / "etc/systemd/system/whimbreld.service.d"
    folder.mkdir(parents=True)
    (folder / "watchdog.conf").write_text("[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "whimbreld")
    pid, restarts = machine.show("whimbreld", "MainPID", "NRestarts")
    # It gives signs of life: longer than the watchdog waits, it is not touched.
    time.sleep(8)
    assert machine.show("whimbreld", "MainPID", "NRestarts") == [pid, restarts], machine.journal()
    os.kill(machine.pid_here(pid), signal.SIGSTOP)
    wait_for("a restart", lambda: machine.show("whimbreld", "NRestarts")[0] != restarts, machine.journal)
    wait_for("a server", lambda: machine.is_active("whimbreld"), machine.journal)
    new, result = machine.show("whimbreld", "MainPID", "Result")
    assert new not in (pid, "0") and result == "success"
    assert "watchdog" in machine.journal().lower()


def test_removing_the_package_stops_its_units(machine):
    machine.run("dpkg", "--purge", "whimbrel")
    assert not any(machine.is_active(unit) for unit in UNITS)
    assert machine.run("systemctl", "list-unit-files", "--no-legend", "whimbreld.service", "wsar-*", check=False).stdout.strip() == ""
    assert (machine.path / DATA / "directory/data.mdb").exists(), "nobody else has the accounts"
