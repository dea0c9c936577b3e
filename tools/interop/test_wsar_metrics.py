"""`/metrics` of `wsar serve`, scraped by a real Prometheus; wsar's figures beside those of sysstat, ss and a client."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from conftest import free_port
from test_wsar_serve import PATIENCE, TOKEN, RawClient, Wsar, wait_for, watched  # noqa: F401 (a fixture)

RULES = Path(__file__).parents[2] / "wsar" / "monitoring" / "rules.yml"
SADC = shutil.which("sadc", path="/usr/lib/sysstat:/usr/lib64/sa:/usr/lib/sa")
pytestmark = pytest.mark.timeout(600)


class Prometheus:
    """A Prometheus that scrapes one address each second."""

    def __init__(self, folder, target):
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}, "scrape_configs": [
            {"job_name": "wsar", "authorization": {"credentials": TOKEN}, "static_configs": [{"targets": [target]}]}]}
        config["rule_files"] = [str(RULES)]
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.log = open(folder / "prometheus.log", "w")
        self.address = f"127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address={self.address}"], stdout=self.log, stderr=subprocess.STDOUT)

    def ask(self, path, **query):
        address = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def value(self, query):
        """The value of a query with one result; None when there is none yet."""
        try:
            result = self.ask("query", query=query)["result"]
        except OSError:
            return None  # It is just starting.
        return float(result[0]["value"][1]) if result else None

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus is missing")
def test_prometheus_scrapes_what_a_client_did(watched, tmp_path):  # noqa: F811
    client = RawClient(watched, "juliet")
    for n in range(50):
        client.say(f"<message to='juliet@localhost/r' id='m{n}' type='chat'><body>x</body></message>")
    client.say("<iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>", "last")
    wsar = Wsar(watched.data, WSAR_TOKEN=TOKEN)
    text = wsar.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert text.endswith("# EOF\n")
    older = wsar.get("/metrics", Authorization=f"Bearer {TOKEN}", Accept="text/plain")
    checked = subprocess.run(["promtool", "check", "metrics"], input=older, capture_output=True, text=True, timeout=PATIENCE)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    checked = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    prometheus = Prometheus(tmp_path, wsar.address.split("/")[2])
    try:
        wait_for(lambda: prometheus.value("sum(whimbrel_messages_in_total)") == 50, "50 messages in Prometheus")
        target = prometheus.ask("targets")["activeTargets"][0]
        assert (target["health"], target["lastError"]) == ("up", "")
        for query, expected in [("whimbrel_up", 1), ("sum(whimbrel_logins_total)", 1), ("sum(whimbrel_connections)", 1),
                                ("sum(whimbrel_messages_out_total)", 50), ("sum(whimbrel_presences_in_total)", 1), ("sum(whimbrel_iqs_in_total)", 1),
                                ("count(whimbrel_queue_limit{queue='commit'})", 2), ("whimbrel_queue_length{queue='crypto'}", 0)]:
            assert prometheus.value(query) == expected, query
        # The buckets add up to the count, and quantiles can be taken of them.
        assert prometheus.value("sum(whimbrel_loop_latency_seconds_bucket{le='+Inf'}) == sum(whimbrel_loop_latency_seconds_count)")
        assert 0 < prometheus.value("histogram_quantile(0.5, sum by (le) (whimbrel_loop_latency_seconds_bucket))") < 10
        for name, kind, unit in [("whimbrel_bytes_in_bytes", "counter", "bytes"), ("whimbrel_connections", "gauge", ""),
                                 ("whimbrel_loop_latency_seconds", "histogram", "seconds"), ("system_memory_total_bytes", "gauge", "bytes")]:
            (about,) = prometheus.ask("metadata", metric=name)[name]
            assert (about["type"], about["unit"]) == (kind, unit) and about["help"].endswith("."), name
        # It evaluates each of our rules, and one of them speaks of a server that has just been started.
        rules = lambda: [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]  # noqa: E731
        wait_for(lambda: all(rule["health"] == "ok" for rule in rules()), "rules that can be evaluated")
        wait_for(lambda: "firing" in {rule["name"]: rule["state"] for rule in rules()}["WhimbrelStartedLately"], "a rule in force")
        memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) * 1024
        assert prometheus.value("system_memory_total_bytes") == memory
    finally:
        prometheus.close()
        client.close()
        wsar.close()


def figure(text, name):
    """The sum of a metric over its instances."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith((name + " ", name + "{")))
    return sum(float(value) for _, value in lines)


def raw(text, row, key):
    """What `sadf -r` read first of a counter: `row; ...; key; FIRST; SECOND;`."""
    for line in text.splitlines():
        words = [word.strip() for word in line.split(";")]
        if row in words and key in words:
            return float(words[words.index(key) + 1])
    raise AssertionError(f"no {key} of {row} in {text}")


@pytest.mark.skipif(not SADC or not shutil.which("sadf"), reason="sysstat is missing")
def test_counters_agree_with_sysstat_in_the_same_seconds(tmp_path):
    """Counters only grow, so what sysstat reads lies between what wsar reads before and after it."""
    wsar = Wsar(tmp_path, "--every", "0.1")

    def sample_after(moment):
        wait_for(lambda: wsar.json("/api/now")["time"] > moment * 1000, "a later sample")
        return wsar.get("/metrics")

    before = sample_after(time.time())
    subprocess.run([SADC, "-S", "ALL", "1", "2", tmp_path / "sa"], check=True, timeout=PATIENCE)
    after = sample_after(time.time())
    wsar.close()
    said = subprocess.run(["sadf", "-r", tmp_path / "sa", "--", "-w", "-n", "DEV", "-r", "-u", "ALL"], check=True,
                          capture_output=True, text=True, timeout=PATIENCE).stdout
    for row, key, name, scale in [("cswch/s", "cswch/s", "system_context_switches_total", 1),
                                  ("proc/s", "proc/s", "system_forks_total", 1), ("lo", "rxpck/s", "system_net_in_packets_total{interface=\"lo\"}", 1),
                                  ("lo", "txkB/s", "system_net_out_bytes_total{interface=\"lo\"}", 1),
                                  # In hundredths of a second, as the kernel counts.
                                  ("CPU", "%sys", "system_cpu_system_seconds_total", 100), ("CPU", "%soft", "system_cpu_softirq_seconds_total", 100)]:
        old, new = figure(before, name) * scale, figure(after, name) * scale
        theirs = raw(said, row, key)
        # The sum over cores is cut off core by core, that of the kernel once.
        slack = os.cpu_count() if scale > 1 else 0
        assert old - slack <= theirs <= new + slack, f"{key} of {row}: {theirs} is not between {old} and {new}"
    assert raw(said, "kbttlmem", "kbttlmem") * 1024 == figure(after, "system_memory_total_bytes")


@pytest.mark.skipif(not shutil.which("ss"), reason="ss is missing")
def test_sockets_agree_with_ss_and_a_server_with_its_clients(watched, tmp_path):  # noqa: F811
    clients = [RawClient(watched, "juliet"), RawClient(watched, "romeo")]
    # The kernel counts sockets of IPv6 apart; they are open, too.
    with contextlib.suppress(OSError):
        clients.append(socket.socket(socket.AF_INET6))
        clients[-1].bind(("::1", 0))
        clients[-1].listen()
    wsar = Wsar(watched.data, "--every", "0.1")

    def ss():
        said = subprocess.run(["ss", "-s"], check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
        rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
        established = int(said.split("estab ")[1].split(",")[0])
        return established, int(rows["Total:"][1]), int(rows["TCP"][1])

    def look():
        """What ss and wsar see at one time; None when it changes meanwhile."""
        begun = time.time()
        first = ss()
        time.sleep(0.4)
        second = ss()
        now = wsar.json("/api/now")
        if first != second or now["time"] < begun * 1000:
            return None
        tables = now["tables"]
        figures = (tables["tcp"]["established"], tables["sockets"]["used"], tables["sockets"]["tcp_open"])
        return first, tuple(int(n) for n in figures), tables["server"]["connections"]

    # On a busy machine sockets come and go all the time; one quiet moment is enough.
    deadline, found = time.monotonic() + PATIENCE, []
    while time.monotonic() < deadline and not any(theirs == ours for theirs, ours, _ in found):
        if seen := look():
            found.append(seen)
    if not found:
        pytest.skip("sockets of other programs come and go here all the time")
    theirs, ours, connections = found[-1]
    assert theirs == ours, found
    assert connections == 2
    for client in clients:
        client.close()
    wait_for(lambda: wsar.json("/api/now")["tables"]["server"]["connections"] == 0, "no connections")
    wsar.close()


COMPILER = Path(__file__).parent / "node_modules" / "typescript" / "bin" / "tsc"


@pytest.mark.skipif(not COMPILER.exists(), reason="npm ci has not run")
def test_the_dashboard_is_one_by_grafanas_own_schema():
    """Its types, as Grafana publishes them: every property is one that it has, of the right kind. Beside the packages, where the compiler
    looks for them."""
    dashboard = (RULES.parent / "grafana.json").read_text()

    def compiled(text):
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".grafana-") as folder:
            source = Path(folder) / "dashboard.ts"
            source.write_text(f"import type {{ Dashboard }} from '@grafana/schema';\nexport const dashboard: Dashboard = {text};\n")
            return subprocess.run(["node", COMPILER, "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--target", "es2022",
                                   "--moduleResolution", "bundler", source], capture_output=True, text=True, timeout=PATIENCE * 4)

    done = compiled(dashboard)
    assert done.returncode == 0, done.stdout
    assert "does not exist in type 'Panel" in compiled(dashboard.replace('"gridPos"', '"gridPosition"')).stdout, "nothing is looked at"
