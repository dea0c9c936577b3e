"""The Debian package in a fresh Debian: built, installed, started, used, upgraded while clients stay, removed.

The package is made of the debug programs. The root is Debian's essential packages in a folder, without systemd: the server is
started as its unit says, and this test hears what systemd would be told.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import BIN, PASSWORD, ROOT, Server, free_port
from test_slixmpp import log_in, run

UNITS = ("whimbreld", "wsar-record", "wsar-serve", "wsar-alert")
DATA = "var/lib/whimbrel"


def reason_to_skip():
    if sys.platform != "linux" or not shutil.which("dpkg-deb"):
        return "packages of Debian are built on Debian"
    if os.geteuid() != 0:
        return "a root of Debian is made by root only"
    if not shutil.which("mmdebstrap"):
        return "mmdebstrap is missing (tools/test installs it)"
    return None


pytestmark = [pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or ""), pytest.mark.timeout(300)]


def release() -> str:
    """The release of this machine: the programs are linked with its C library."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.split("=")[1].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The package, and the next revision of it."""
    into = tmp_path_factory.mktemp("packages")
    build = [ROOT / "tools/package", "deb", "--bin-dir", BIN, "--into", into, "--revision"]
    return [Path(subprocess.run([*build, str(n)], check=True, capture_output=True, text=True).stdout.strip()) for n in (1, 2)]


class Root:
    """A fresh Debian in a folder."""

    def __init__(self, path: Path):
        self.path = path

    def run(self, *command, check=True, **more) -> subprocess.CompletedProcess:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["chroot", self.path, *command], capture_output=True, text=True, timeout=120, env=environment,
                              **more)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def dpkg(self, *arguments) -> str:
        done = self.run("dpkg", *arguments)
        return done.stdout + done.stderr

    def install(self, package: Path) -> str:
        shutil.copy(package, self.path / "tmp")
        return self.dpkg("--install", f"/tmp/{package.name}")

    def start_line(self, unit: str) -> list[str]:
        text = (self.path / f"usr/lib/systemd/system/{unit}.service").read_text()
        line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
        return shlex.split(line.removeprefix("ExecStart="))

    def popen(self, command, **more) -> subprocess.Popen:
        """As the user of the units."""
        return subprocess.Popen([shutil.which("chroot"), "--userspec=whimbrel:whimbrel", self.path, *command], stdin=subprocess.DEVNULL,
                                **more)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("debian") / "root"
    made = subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", "--include=adduser", release(), path],
                          capture_output=True, text=True, timeout=200)
    assert made.returncode == 0, made.stderr
    subprocess.run(["mount", "-t", "proc", "proc", path / "proc"], check=True)
    subprocess.run(["mount", "--bind", "/dev", path / "dev"], check=True)
    try:
        yield Root(path)
    finally:
        for folder in ("proc", "dev"):
            subprocess.run(["umount", "--lazy", path / folder], check=True)


class Manager:
    """What systemd would be told."""

    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.socket.settimeout(60)

    def hear(self) -> dict[str, str]:
        """The next message that is more than a sign of life."""
        while True:
            message = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if message != {"WATCHDOG": "1"}:
                return message


def configure(root: Root) -> tuple[int, int]:
    """As an operator does it, in the file that the package has brought."""
    ports = free_port(), free_port()
    file = root.path / "etc/whimbrel/whimbrel.toml"
    text = file.read_text()
    for key, port in zip(("listen", "listen_tls"), ports):
        line = next(line for line in text.splitlines() if line.startswith(f"#{key} = "))
        text = text.replace(line, f'{key} = ["127.0.0.1:{port}"]')
    file.write_text(text)
    return ports


def installs_what_it_should(root: Root, said: str):
    assert "error" not in said.lower(), said
    for program in ("whimbreld", "whimbrelctl", "wsar"):
        assert root.run(program, "--version").stdout.startswith(f"{program} ")
        assert (root.path / f"usr/share/bash-completion/completions/{program}").stat().st_size > 100
    for page in ("man8/whimbreld.8", "man5/whimbrel.toml.5", "man1/whimbrelctl.1", "man1/wsar.1"):
        assert (root.path / f"usr/share/man/{page}.gz").stat().st_size > 100, page
    assert root.run("stat", "-c", "%U:%G %a", f"/{DATA}").stdout.strip() == "whimbrel:whimbrel 700"
    assert "/etc/whimbrel/whimbrel.toml" in root.run("dpkg-query", "-W", "-f", "${Conffiles}", "whimbrel").stdout
    # With nothing running, whimbrelctl finds the directory of the unit.
    done = root.run("whimbrelctl", "status", check=False)
    assert done.returncode == 1 and f"no server runs in /{DATA}" in done.stderr, done.stderr
    for unit in UNITS:
        assert (root.path / root.start_line(unit)[0].lstrip("/")).exists(), unit


def test_a_package_is_installed_used_upgraded_under_clients_and_removed(root, packages):
    first, second = packages
    installs_what_it_should(root, root.install(first))
    ports = configure(root)
    start_line = root.start_line("whimbreld")
    root.run("chroot", "--userspec=whimbrel:whimbrel", "/", *start_line, "--check")
    manager = Manager(root.path / "run/notify")
    log = root.path.parent / "log"
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "120000000", "PATH": "/usr/bin"}
    process = root.popen(start_line, stderr=open(log, "w"), env=environment)
    try:
        assert manager.hear()["READY"] == "1"
        server = Server(process, root.path / DATA, "auto", *ports, 0, log)
        for name in ("juliet", "romeo"):
            root.run("whimbrelctl", "user", "add", f"{name}@localhost", "--password-stdin", input=PASSWORD + "\n")
        recorder = root.popen([*root.start_line("wsar-record"), "--count", "3"])
        assert recorder.wait(60) == 0
        upgrades(root, server, manager, second)
        recorded = root.run("wsar", "--data", f"/{DATA}", "report", "--every", "1s", "--stanzas")
        assert len(recorded.stdout.splitlines()) > 1, recorded

        said = root.dpkg("--remove", "whimbrel")
        assert process.wait(60) == 0, log.read_text()
        assert not (root.path / "usr/bin/whimbreld").exists(), said
        assert (root.path / "etc/whimbrel/whimbrel.toml").exists(), "the configuration stays until it is purged"
        said = root.dpkg("--purge", "whimbrel")
        assert not (root.path / "etc/whimbrel/whimbrel.toml").exists()
        assert "accounts and messages are still in /var/lib/whimbrel" in said
        assert (root.path / DATA / "directory/data.mdb").exists(), "nobody else has the accounts"
    finally:
        process.kill()
        process.wait()


def upgrades(root: Root, server: Server, manager: Manager, package: Path):
    """dpkg brings the next version, and two clients see nothing of it."""
    async def test(clients):
        juliet, = await log_in(clients, server, "starttls", "juliet@localhost")
        romeo, = await log_in(clients, server, "direct-tls", "romeo@localhost")
        for n in range(2):
            romeo.send_message(mto="juliet@localhost", mbody=f"message {n}", mtype="chat")
            assert (await juliet.get("message"))["body"] == f"message {n}"
            if n == 0:
                before = os.readlink(f"/proc/{server.process.pid}/exe")
                said = root.install(package)
                assert "carried 2 sessions" in said, said
                assert "RELOADING" in manager.hear()
                ready = manager.hear()
                assert ready["READY"] == "1" and ready["MAINPID"] == str(server.process.pid), ready
                assert os.readlink(f"/proc/{server.process.pid}/exe") == before, "it is not the installed program"
                assert server.process.poll() is None
        for client in (juliet, romeo):
            assert client.events["disconnected"].empty(), "a client was disconnected"

    run(test)
    done = root.run("dpkg-query", "-W", "-f", "${Version}", "whimbrel").stdout
    assert done.endswith("-2"), done


def test_a_renewed_certificate_is_deployed_for_the_server_alone(tmp_path):
    """The hook of certbot, with certificates of the domain and of another one."""
    config = tmp_path / "w.toml"
    config.write_text('# comment\ndomain = "chat.example"\n')
    for name in ("chat.example", "other.example"):
        live = tmp_path / name
        live.mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "60",
                        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", live / "privkey.pem",
                        "-out", live / "fullchain.pem"], check=True, capture_output=True)
    folder = tmp_path / "tls"
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "WHIMBREL_CONFIG": str(config), "WHIMBREL_USER": "nobody",
                   "WHIMBREL_TLS": str(folder), "WHIMBREL_DATA": str(tmp_path / "data")}

    def deploy(name):
        return subprocess.run([ROOT / "tools/service/deploy-certificate"], env=environment | {"RENEWED_LINEAGE": str(tmp_path / name)},
                              capture_output=True, text=True)

    done = deploy("other.example")
    assert done.returncode == 0 and "is not for chat.example" in done.stderr and not folder.exists(), done
    done = deploy("chat.example")
    assert done.returncode == 0, done.stderr
    key = folder / "privkey.pem"
    assert key.read_text() == (tmp_path / "chat.example/privkey.pem").read_text()
    assert key.stat().st_mode & 0o777 == 0o600 and key.owner() == "nobody"
    check = subprocess.run([BIN / "whimbreld", "--data", tmp_path / "data", "--domain", "chat.example", "--listen", "127.0.0.1:0",
                            "--listen-tls", "127.0.0.1:0", "--listen-http", "none", "--check", "--config", tls_of(tmp_path, folder)],
                           capture_output=True, text=True)
    assert check.returncode == 0 and "chat.example" in check.stdout, check
    assert deploy("gone").returncode == 1


def tls_of(tmp_path: Path, folder: Path) -> Path:
    file = tmp_path / "tls.toml"
    file.write_text(f"[tls]\ncertificate = '{folder}/fullchain.pem'\nkey = '{folder}/privkey.pem'\n")
    return file


def test_the_test_command_says_what_a_fresh_debian_lacks(root):
    folder = root.path / "src"
    for name in ("tools/test", "Cargo.toml", "tools/interop/package-lock.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    # What Debian 12 brings.
    node = root.path / "usr/bin/node"
    node.write_text("#!/bin/sh\necho v18.19.0\n")
    node.chmod(0o755)
    done = root.run("sh", "/src/tools/test", check=False)
    assert done.returncode == 1
    for text in ("Rust 1.90 or newer: https://rustup.rs", "a C compiler", "Python 3", "Node 20.10 or newer, this is v18.19.0"):
        assert text in done.stderr, f"{text}: {done.stderr}"
    done = root.run("sh", "/src/tools/test", "--rust", check=False)
    assert done.returncode == 1 and "Node" not in done.stderr and "Rust" in done.stderr, done.stderr
