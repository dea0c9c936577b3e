"""`whimbrelctl dns` against dnsmasq: what it prints is put there, and is then what it finds."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from conftest import BIN, free_port

pytestmark = pytest.mark.skipif(not shutil.which("dnsmasq"), reason="dnsmasq is missing")

CONFIG = """domain = "bücher.example"
listen = ["192.0.2.7:5222"]
listen_tls = ["192.0.2.7:443", "192.0.2.7:5223"]
"""


@contextmanager
def dns_server(*records):
    """One that knows these records and nobody else to ask."""
    port = free_port()
    process = subprocess.Popen(["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--no-daemon", "--conf-file=/dev/null",
                                "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}",
                                "--local=/example/", *records], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        # It says so when it answers.
        for line in process.stderr:
            if "started" in line:
                break
        assert process.poll() is None
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def ctl(tmp_path, *arguments):
    config = tmp_path / "w.toml"
    config.write_text(CONFIG)
    done = subprocess.run([BIN / "whimbrelctl", "--data", tmp_path / "data", "--json", "dns", "--config", config,
                           "--host", "chat.example", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


def test_what_is_printed_for_the_zone_is_what_is_found_there(tmp_path):
    code, printed = ctl(tmp_path)
    assert code == 0 and printed["domain"] == "xn--bcher-kva.example"
    records = []
    for line in printed["records"]:
        name, priority, weight, port, target = re.fullmatch(r"(\S+)\. 3600 IN SRV (\d+) (\d+) (\d+) (\S*)\.", line).groups()
        records.append(f"--srv-host={name},{target},{port},{priority},{weight}" if target else f"--srv-host={name}")
    assert len(records) == 5
    # Enough others beside it that the answer does not fit a datagram.
    crowd = [f"--srv-host=_xmpp-client._tcp.xn--bcher-kva.example,other-machine-number-{n}.example,5222,20" for n in range(30)]
    address = "--host-record=chat.example,192.0.2.7,2001:db8::7"

    with dns_server(*records, address) as at:
        code, found = ctl(tmp_path, "--check", "--resolver", at)
        assert code == 0 and {finding["level"] for finding in found["findings"]} == {"good"}, json.dumps(found)
        assert any("192.0.2.7, 2001:db8::7" in finding["text"] for finding in found["findings"])
    with dns_server(*records, *crowd, address) as at:
        code, found = ctl(tmp_path, "--check", "--resolver", at)
        assert code == 0 and any("also leads to other-machine-number-" in finding["text"] for finding in found["findings"]), found
    with dns_server(*records[1:]) as at:
        code, found = ctl(tmp_path, "--check", "--resolver", at)
        mend = [finding["text"] for finding in found["findings"] if finding["level"] == "mend"]
        assert code == 1 and len(mend) == 2, found
        assert "_xmpps-client._tcp.xn--bcher-kva.example is chat.example:5223" in mend[0]
        assert mend[1] == "chat.example has no address"


def test_a_dns_server_that_is_not_there_is_named(tmp_path):
    done = subprocess.run([BIN / "whimbrelctl", "--data", tmp_path / "data", "dns", "--check", "--domain", "a.example", "--resolver",
                           f"127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "does not answer" in done.stderr and "--resolver" in done.stderr, done
