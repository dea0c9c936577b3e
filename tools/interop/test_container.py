"""The container image: built by tools/package, run by podman as docs/packages.md says, used by two stock clients, upgraded under
them, stopped, and started again on the same volume.

It is made of the debug programs. Images and containers are in a folder of the test's own.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import BIN, PASSWORD, ROOT, Server, free_port
from test_slixmpp import log_in, run

PROFILE = ROOT / "tools/packaging/container/seccomp.json"
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
UID = 5222
DATA = "/var/lib/whimbrel"


def reason_to_skip():
    if sys.platform != "linux" or not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        return "the image is made on Debian"
    if not shutil.which("podman") or not shutil.which("crun"):
        return "podman or crun is missing: apt-get install podman crun"
    if os.geteuid() != 0:
        return "the containers of the test share the network of the machine, and are run by root only"
    return None


pytestmark = [pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or ""), pytest.mark.timeout(200)]


class Podman:
    """podman with a storage of its own, in a mount namespace that stays: containers are mounted there."""

    def __init__(self, folder: Path):
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
        # No systemd, which podman asks for timers and cgroups, may be there.
        (folder / "containers.conf").write_text('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n')
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
                            "CONTAINERS_CONF": str(folder / "containers.conf"), "TMPDIR": str(folder)}
        # Where both hierarchies of cgroups are mounted, crun does not run; one is enough.
        mounts = "true"
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
            mounts = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
        self.holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", f"{mounts} && echo ready && exec sleep infinity"],
                                       stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.holder.stdout.readline() == "ready\n", "no mount namespace"

    def inside(self, *command, check=True, **more) -> subprocess.CompletedProcess:
        enter = ["nsenter", "--mount", "--target", str(self.holder.pid)]
        done = subprocess.run([*enter, *command], env=self.environment | more.pop("env", {}), capture_output=True, text=True,
                              timeout=120, **more)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def __call__(self, *arguments, **more) -> subprocess.CompletedProcess:
        return self.inside("podman", *arguments, **more)

    def close(self):
        self("rm", "--all", "--force", check=False)
        self.holder.terminate()
        self.holder.wait()


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    running = Podman(tmp_path_factory.mktemp("podman"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def image(podman, tmp_path_factory):
    into = tmp_path_factory.mktemp("image")
    podman.inside(ROOT / "tools/package", "container", "--bin-dir", BIN, "--into", into)
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    return f"localhost/whimbrel:{version}"


class Container:
    """One that runs."""

    def __init__(self, podman: Podman, image: str, volume: Path, profile: Path, *options: str):
        self.podman, self.name = podman, f"whimbrel-{free_port()}"
        self.ports = free_port(), free_port()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        podman("run", "--detach", "--name", self.name, "--network", "host", "--cgroups", "disabled", "--stop-timeout", "60",
               "--ulimit", f"nofile={descriptors}:{descriptors}", "--ulimit", "nproc=4096:4096", "--health-interval", "disable",
               "--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", f"seccomp={profile}",
               "--volume", f"{volume}:{DATA}", *options, image, "--listen", f"127.0.0.1:{self.ports[0]}",
               "--listen-tls", f"127.0.0.1:{self.ports[1]}", "--listen-http", "none", "--workers", "2")
        deadline = time.monotonic() + 30
        while self.ctl("status", check=False).returncode != 0:
            assert time.monotonic() < deadline and self.state("Running") == "true", self.log()
            time.sleep(0.1)
        self.server = Server(None, volume, "", *self.ports, 0, Path("/dev/null"))

    def ctl(self, *arguments, **more) -> subprocess.CompletedProcess:
        options = ["--interactive"] if "input" in more else []
        return self.podman("exec", *options, self.name, "whimbrelctl", *arguments, **more)

    def log(self) -> str:
        done = self.podman("logs", self.name)
        return done.stdout + done.stderr

    def state(self, what: str) -> str:
        return self.podman("inspect", "--format", f"{{{{.State.{what}}}}}", self.name).stdout.strip()

    def driver(self) -> str:
        return json.loads(self.ctl("--json", "status").stdout)["driver"]

    def stop(self):
        """As an operator does; it ends with success."""
        self.podman("stop", self.name)
        assert self.state("ExitCode") == "0", self.log()
        self.podman("rm", self.name)


def volume(folder: Path) -> Path:
    made = folder / "volume"
    made.mkdir(mode=0o700)
    os.chown(made, UID, UID)
    return made


def test_an_image_is_used_upgraded_under_clients_and_goes_on_with_its_volume(podman, image, tmp_path):
    data = volume(tmp_path)
    first = Container(podman, image, data, PROFILE)
    assert first.driver() == "uring" or io_uring_is_off()
    assert podman("healthcheck", "run", first.name).returncode == 0
    for name in ("juliet", "romeo"):
        first.ctl("user", "add", f"{name}@localhost", "--password-stdin", input=PASSWORD + "\n")

    async def test(clients):
        juliet, = await log_in(clients, first.server, "starttls", "juliet@localhost")
        romeo, = await log_in(clients, first.server, "direct-tls", "romeo@localhost")
        for n in range(2):
            romeo.send_message(mto="juliet@localhost", mbody=f"message {n}", mtype="chat")
            assert (await juliet.get("message"))["body"] == f"message {n}"
            if n == 0:
                podman("cp", str(BIN / "whimbreld"), f"{first.name}:/usr/bin/whimbreld")
                assert "carried 2 sessions" in first.ctl("upgrade").stdout
        for client in (juliet, romeo):
            assert client.events["disconnected"].empty(), "a client was disconnected"

    run(test)
    first.stop()
    # Nothing of it is written to but the volume.
    second = Container(podman, image, data, PROFILE, "--read-only")
    assert second.ctl("user", "list").stdout.split() == ["juliet@localhost", "romeo@localhost"]
    second.stop()


def io_uring_is_off() -> bool:
    file = Path("/proc/sys/kernel/io_uring_disabled")
    return not file.exists() or file.read_text().strip() != "0"


def test_without_io_uring_the_server_takes_epoll_and_says_so(podman, image, tmp_path):
    profile = json.loads(PROFILE.read_text())
    profile["syscalls"] = [rule for rule in profile["syscalls"] if not IO_URING & set(rule["names"])]
    file = tmp_path / "seccomp.json"
    file.write_text(json.dumps(profile))
    container = Container(podman, image, volume(tmp_path), file)
    assert container.driver() == "mio"
    assert "driver mio" in container.log()
    container.stop()


def test_the_image_has_the_programs_and_no_shell(podman, image):
    def start(program, *arguments):
        return podman("run", "--rm", "--network", "none", "--cgroups", "disabled", "--ulimit", "nofile=1024:1024", "--ulimit",
                      "nproc=1024:1024", "--health-interval", "disable", "--entrypoint", program, image, *arguments, check=False)

    for program in ("whimbreld", "whimbrelctl", "wsar"):
        done = start(f"/usr/bin/{program}", "--version")
        assert done.stdout.startswith(f"{program} "), done
    assert start("/bin/sh").returncode == 127, "there is a shell"
    [made] = json.loads(podman("inspect", image).stdout)
    config = made["Config"]
    assert config["User"] == f"{UID}:{UID}" and DATA in config["Volumes"] and "5222/tcp" in config["ExposedPorts"], config
    assert made["Healthcheck"]["Test"] == ["CMD", "/usr/bin/whimbrelctl", "status"], made


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_the_profile_permits_nothing_that_the_unit_forbids():
    text = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter"], check=True, capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "SYSTEMD_COLORS": "0"}).stdout
    groups, members = {}, []
    for line in text.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def expand(name):
        return set().union(*map(expand, groups[name])) if name.startswith("@") else {name}

    unit = (ROOT / "tools/service/whimbreld.service").read_text()
    permitted = set().union(*map(expand, re.search(r"^SystemCallFilter=(.*)$", unit, re.M).group(1).split()))
    rules = json.loads(PROFILE.read_text())["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert allowed <= permitted, allowed - permitted
    assert IO_URING <= allowed
