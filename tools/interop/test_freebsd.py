"""What of FreeBSD can be tried elsewhere: the rc.d scripts under stand-ins for rc.subr(8) and daemon(8) (folder freebsd), and the
targets of the port under bmake.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from conftest import BIN, ROOT, free_port

PORT = ROOT / "tools/packaging/freebsd"
STAND_INS = Path(__file__).with_name("freebsd")
SCRIPTS = ("whimbreld", "wsar_record", "wsar_serve", "wsar_alert")
PATIENCE_SECONDS = 30
PREFIX = "/usr/local"
OURS = pwd.getpwuid(os.getuid()).pw_name


class Box:
    """A folder that is as much of a FreeBSD as the scripts look at."""

    def __init__(self, root: Path):
        self.root, self.ports = root, [free_port() for _ in range(4)]
        for folder in ("etc", "usr/local/etc", "usr/local/bin", "usr/sbin", "var/run", "var/db", "bin", "rc.d"):
            (root / folder).mkdir(parents=True)
        shutil.copy(STAND_INS / "rc.subr", root / "etc/rc.subr")
        shutil.copy(STAND_INS / "daemon", root / "usr/sbin/daemon")
        # su -m USER -c COMMAND; the user is ours.
        self.program("bin/su", '#!/bin/sh\n[ "$1" = -m ] && [ "$3" = -c ] || exit 9\nexec sh -c "$4"\n')
        for program in ("whimbreld", "whimbrelctl", "wsar"):
            shutil.copy(BIN / program, root / "usr/local/bin" / program)
        (root / "usr/local/etc/whimbrel.toml").write_text(
            f'listen = ["127.0.0.1:{self.ports[0]}"]\nlisten_tls = ["127.0.0.1:{self.ports[1]}"]\nworkers = 1\n\n'
            f'[http]\nlisten = ["127.0.0.1:{self.ports[2]}"]\n')
        self.configure("")
        for name in SCRIPTS:
            text = (ROOT / f"tools/service/{name}.rc").read_text()
            # Whole paths, wherever they stand.
            text = re.sub(r'(?<=[\s"=])/(etc|usr|var)/', rf"{root}/\1/", text)
            self.program(f"rc.d/{name}", text)

    def program(self, name, text):
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def configure(self, more):
        enable = "".join(f'{name}_enable="YES"\n{name}_user="{OURS}"\n' for name in SCRIPTS)
        (self.root / "etc/rc.conf").write_text(
            enable + f'whimbreld_descriptors=1024\nwsar_serve_args="--listen 127.0.0.1:{self.ports[3]}"\n' + more)

    def service(self, name, command, check=True):
        environment = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "RC_ROOT": str(self.root), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["sh", self.root / "rc.d" / name, command], env=environment, capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{name} {command}: {done.stdout}{done.stderr}{self.log(name)}"
        return done

    def log(self, name):
        file = self.root / f"var/run/{name}.pid.log"
        return file.read_text() if file.exists() else ""

    def pid(self, name):
        file = self.root / f"var/run/{name}.pid"
        return int(file.read_text()) if file.exists() else None

    def ctl(self, *arguments):
        return subprocess.run([self.root / "usr/local/bin/whimbrelctl", "--data", self.root / "var/db/whimbrel", *arguments],
                              capture_output=True, text=True, timeout=60)


def wait_for(what, condition, tell):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} does not come about: {tell()}"
        time.sleep(0.05)


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "box")
    yield made
    for name in SCRIPTS:
        if made.pid(name):
            made.service(name, "stop", check=False)


def test_the_server_is_started_reloaded_upgraded_and_stopped_by_rc(box):
    box.configure('whimbreld_enable="NO"\n')
    done = box.service("whimbreld", "start", check=False)
    assert done.returncode == 1 and "Set whimbreld_enable to YES" in done.stdout and box.pid("whimbreld") is None
    box.configure("")
    assert "no accounts yet" in box.service("whimbreld", "check").stdout
    box.service("whimbreld", "start")
    wait_for("the server", lambda: box.ctl("status").returncode == 0, lambda: box.log("whimbreld"))
    pid = box.pid("whimbreld")
    assert (box.root / "var/run/whimbreld.pid.user").read_text().strip() == OURS, "daemon(8) becomes the user"
    assert (box.root / "var/db/whimbrel").stat().st_mode & 0o777 == 0o700
    assert str(pid) in box.service("whimbreld", "status").stdout
    assert "already running" in box.service("whimbreld", "start", check=False).stdout
    box.service("whimbreld", "reload")
    config = box.root / "usr/local/etc/whimbrel.toml"
    good = config.read_text()
    config.write_text("no_such_key = 1\n" + good)
    done = box.service("whimbreld", "reload", check=False)
    assert done.returncode != 0 and "no_such_key" in done.stderr
    config.write_text(good)
    # As pkg does it: another file under the same name.
    program = box.root / "usr/local/bin/whimbreld"
    program.unlink()
    shutil.copy(BIN / "whimbreld", program)
    assert "carried 0 sessions" in box.service("whimbreld", "upgrade").stdout
    assert box.pid("whimbreld") == pid and box.ctl("status").returncode == 0
    assert str(pid) in box.service("whimbreld", "status").stdout
    box.service("whimbreld", "stop")
    assert box.ctl("status").returncode == 1 and "stopped" in box.log("whimbreld")
    config.unlink()
    assert "is not readable" in box.service("whimbreld", "start", check=False).stderr


def test_wsar_records_serves_and_watches_under_rc(box):
    (box.root / "var/db/whimbrel").mkdir(mode=0o700)
    for name in SCRIPTS[1:]:
        box.service(name, "start")
        pid = box.pid(name)
        assert str(pid) in box.service(name, "status").stdout, box.log(name)
        box.service(name, "upgrade")
        assert box.pid(name) not in (pid, None), "the program that now lies there goes on"
        assert (box.root / f"var/run/{name}.pid.user").read_text().strip() == OURS

    def answers():
        try:
            with socket.create_connection(("127.0.0.1", box.ports[3]), 5) as page:
                page.sendall(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                return page.recv(20).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
    wait_for("the page", answers, lambda: box.log("wsar_serve"))
    recordings = box.root / "var/db/whimbrel"
    wait_for("a recording", lambda: any(recordings.rglob("*.wsar")) or any(recordings.iterdir()), lambda: box.log("wsar_record"))
    for name in SCRIPTS[1:]:
        box.service(name, "stop")
        assert "not running" in box.service(name, "status", check=False).stdout


def variable(name):
    return re.search(rf"^{name}=[ \t]*(.*)$", (PORT / "Makefile").read_text(), re.M).group(1).split()


def test_the_port_names_what_there_is():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    assert variable("DISTVERSION") == [version]
    assert sorted(variable("USE_RC_SUBR")) == sorted(path.stem for path in (ROOT / "tools/service").glob("*.rc"))
    for name in variable("USE_RC_SUBR"):
        text = (ROOT / f"tools/service/{name}.rc").read_text()
        assert f"# PROVIDE: {name}\n" in text and f'name="{name}"' in text and f'rcvar="{name}_enable"' in text
    packages = [word for word in variable("CARGO_BUILD_ARGS") if not word.startswith("-")]
    manifests = [path.read_text() for path in ROOT.glob("*/Cargo.toml")]
    assert packages and all(any(f'name = "{package}"' in text for text in manifests) for package in packages)
    assert all((ROOT / name).exists() for name in ("LICENSE-APACHE", "LICENSE-MIT", "tools/service/whimbrel.toml"))


@pytest.mark.skipif(not shutil.which("bmake"), reason="bmake is missing: apt-get install bmake")
def test_the_port_installs_what_its_list_says(tmp_path):
    work, stage = tmp_path / "work", tmp_path / "stage"
    built = work / "target/x86_64-unknown-freebsd/release"
    built.mkdir(parents=True)
    for program in ("whimbreld", "whimbrelctl", "wsar"):
        (built / program).symlink_to(BIN / program)
    # Those that a ports tree makes before (mtree).
    for folder in ("bin", "etc", *(f"share/man/man{section}" for section in (1, 5, 8))):
        (stage / PREFIX[1:] / folder).mkdir(parents=True)
    subprocess.run(["bmake", "-r", "-m", STAND_INS, "-f", PORT / "Makefile", f"WRKDIR={work}", f"WRKSRC={ROOT}", f"STAGEDIR={stage}",
                    "post-build", "do-install"], cwd=tmp_path, check=True, capture_output=True, text=True)
    found = set()
    for path in stage.rglob("*"):
        name = str(path.relative_to(stage / PREFIX[1:])) if path.is_relative_to(stage / PREFIX[1:]) else f"/{path.relative_to(stage)}"
        if path.is_file():
            # Ports compress manual pages after this.
            found.add(f"{name}.gz" if name.startswith("share/man/") else name)
    listed = set()
    for line in (PORT / "pkg-plist").read_text().splitlines():
        keyword, _, name = line.rpartition(" ")
        assert keyword.partition("(")[0] in ("", "@sample", "@dir"), line
        if keyword.startswith("@dir"):
            assert (stage / name.lstrip("/")).is_dir(), line
        else:
            listed.add(name)
    assert found == listed, f"in one of both only: {sorted(found ^ listed)}"
    assert all((stage / PREFIX[1:] / name.removesuffix(".gz")).stat().st_size for name in listed)
