//! `wsar [INTERVAL [COUNT]]`.

use std::path::Path;

use serde_json::Value;
use whimbrel_stats::{FILE_NAME, Reader};

use crate::support::{Client, Server, output};

fn samples(data: &Path, args: &[&str]) -> Vec<Value> {
    let text = output(data, args);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A counter or gauge of the stats file, over all workers.
fn total(data: &Path, name: &str) -> u64 {
    let reader = Reader::open(&data.join(FILE_NAME)).expect("the server has made it");
    let mut sum = 0u64;
    for group in reader.groups() {
        let Some(metric) = group.metrics.iter().find(|metric| metric.name == name) else { continue };
        for instance in 0..group.instances {
            let mut words = Vec::new();
            reader.read(group, instance, &mut words).expect("it is whole");
            sum = sum.wrapping_add(words[metric.word]);
        }
    }
    sum
}

#[test]
fn without_a_server_the_machine_is_shown() {
    let data = tempfile::tempdir().unwrap();
    let samples = samples(data.path(), &["0.2", "2", "--json", "--cpu", "--memory", "--server"]);
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let of = |column: &str| sample["cpu"]["all"][column].as_f64().unwrap();
        let sum: f64 =
            ["user", "nice", "system", "irq", "softirq", "steal", "iowait", "idle"].map(of).iter().sum();
        assert!((sum - 100.0).abs() < 0.01, "{sample}");
        assert!(sample["memory"]["available"].as_f64().unwrap() > 1e6, "{sample}");
        assert_eq!(sample["server"], Value::Null);
    }
    let text = output(data.path(), &["0.2", "1"]);
    assert!(text.lines().all(|line| line.len() <= 80) && text.contains("Average"), "{text}");
}

#[test]
fn the_servers_counters_are_what_a_client_sent() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = Client::login(&server, "balcony");
    client.say("<presence/>");
    client.hear("<presence");
    for n in 0..50 {
        client.say(&format!(
            "<message to='juliet@localhost/balcony' id='m{n}' type='chat'><body>{n}</body></message>"
        ));
    }
    client.hear("m49");
    assert_eq!((total(data.path(), "messages.in"), total(data.path(), "messages.out")), (50, 50));
    assert_eq!((total(data.path(), "logins"), total(data.path(), "connections")), (1, 1));
    assert_eq!((total(data.path(), "presences.in"), total(data.path(), "binds")), (1, 1));

    let allocated = total(data.path(), "server.allocator.in_use");
    assert!((100_000..1 << 30).contains(&allocated), "{allocated} bytes allocated");

    let args = ["0.5", "1", "--json", "--server", "--queues", "--workers", "--process"];
    let sample = samples(data.path(), &args).remove(0);
    assert_eq!(sample["server"]["connections"], 1.0, "{sample}");
    for queue in ["mailbox", "output", "commit", "completions", "commands", "directory", "crypto"] {
        let queue = &sample["queues"][queue];
        assert!(queue["limit"].as_f64().unwrap() > 0.0 && queue["length"] == 0.0, "{sample}");
    }
    assert_eq!(sample["workers"].as_object().unwrap().len(), 3, "two workers and both together: {sample}");
    assert!(sample["process"]["files"].as_f64().unwrap() > 5.0, "{sample}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let seen = sample["process"]["resident"].as_f64().unwrap() / 1024.0;
    assert!((resident - seen).abs() < resident * 0.2, "{resident} KiB in /proc, {seen} seen");
}

#[test]
fn archives_are_seen() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = Client::login(&server, "balcony");
    client.say("<presence/>");
    client.hear("<presence");
    let mut collector = wsar::collect::Collector::new(data.path());
    let before = collector.sample();
    client.say("<message to='juliet@localhost' id='archived' type='chat'><body>x</body></message>");
    client.hear("archived");
    client.say("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>");
    client.hear("<fin");
    let after = collector.sample();
    let delta = wsar::delta::Delta::between(&before, &after).unwrap();
    let table = wsar::table::named("archive").unwrap();
    assert_eq!((table.rows)(&delta), [""]);
    for column in table.columns {
        let value = (column.value)(&delta, "");
        let is_moved = ["added", "queries", "pages", "given"].contains(&column.key);
        match column.key {
            // There is no limit.
            "used" => assert_eq!(value, None),
            _ => assert!(value.is_some_and(|value| value > 0.0 || !is_moved), "{}: {value:?}", column.key),
        }
    }
}

#[test]
fn a_restart_of_the_server_is_seen_and_no_rate_is_absurd() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = Client::login(&server, "balcony");
    client.say("<presence/>");
    client.hear("<presence");
    let mut collector = wsar::collect::Collector::new(data.path());
    let before = collector.sample();
    let first = collector.server().clone();
    drop(client);
    server.process.stop();
    let between = collector.sample();
    assert!(matches!(collector.server(), wsar::collect::State::Ended { .. }), "{:?}", collector.server());
    assert!(between.schema.named("logins").is_empty());
    let _server = Server::start(data.path());
    let after = collector.sample();
    assert_ne!(*collector.server(), first);
    let delta = wsar::delta::Delta::between(&before, &after).unwrap();
    assert_eq!(delta.grown("logins", None), Some(0.0));
    assert_eq!(delta.sum("connections", None), Some(0.0));
}

#[test]
#[cfg(target_os = "linux")]
fn figures_agree_with_proc() {
    let data = tempfile::tempdir().unwrap();
    let mut collector = wsar::collect::Collector::new(data.path());
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let word_after = |text: &str, first: &str| -> u64 {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(first)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Counters only grow: what wsar reads lies between what is read before and after.
    let before = (read("/proc/stat"), read("/proc/vmstat"));
    let sample = collector.sample();
    let after = (read("/proc/stat"), read("/proc/vmstat"));
    for (name, key, old, new) in [
        ("context_switches", "ctxt", &before.0, &after.0),
        ("interrupts", "intr", &before.0, &after.0),
        ("forks", "processes", &before.0, &after.0),
        ("faults", "pgfault", &before.1, &after.1),
    ] {
        let value = sample.value(sample.schema.find(name, "").unwrap());
        let range = word_after(old, key)..=word_after(new, key);
        assert!(range.contains(&value), "{name}: {value} is not in {range:?}");
    }
    let total = sample.value(sample.schema.find("memory.total", "").unwrap());
    assert_eq!(total, word_after(&read("/proc/meminfo"), "MemTotal:") * 1024);
}

#[test]
fn completions_and_man_pages_are_made_from_the_command_line() {
    let data = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = output(data.path(), &["completions", shell]);
        assert!(script.contains("wsar") && script.contains("token-file"), "{shell}: {script}");
    }
    output(data.path(), &["man", &data.path().display().to_string()]);
    let page = std::fs::read_to_string(data.path().join("wsar-serve.1")).unwrap();
    assert!(page.contains("token") && data.path().join("wsar.1").exists(), "{page}");
    let nowhere = data.path().join("nowhere").display().to_string();
    let failed = crate::support::wsar(data.path(), &["man", &nowhere]).output().unwrap();
    assert!(!failed.status.success() && String::from_utf8_lossy(&failed.stderr).contains("nowhere"));
}

#[test]
fn the_data_directory_comes_from_the_environment_where_no_option_says_it() {
    let (named, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _server = Server::start(named.path());
    let up = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wsar"));
        command.args(args).args(["--json", "--server", "0.2", "1"]).env("WHIMBREL_DATA", named.path());
        let output = command.output().expect("it runs");
        let line = String::from_utf8(output.stdout).expect("UTF-8");
        serde_json::from_str::<Value>(line.trim()).unwrap_or_default()["server"].is_object()
    };
    assert!(up(&[]));
    assert!(!up(&["--data", other.path().to_str().unwrap()]));
}
