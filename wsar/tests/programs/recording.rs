//! `wsar record` and `wsar report`.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use wsar::record::read::size;

use crate::support::{Client, PATIENCE, Running, Server, output, wsar};

#[test]
fn a_recording_shows_what_happened_and_outlives_the_recorder() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = Client::login(&server, "balcony");
    client.say("<presence/>");
    client.hear("<presence");
    let folder = data.path().join("wsar");
    let recorder = wsar(data.path(), &["record", "--every", "0.1"]).stderr(Stdio::null()).spawn().unwrap();
    let mut recorder = Running(recorder);
    // The first block is on disk: the counters' values before the messages are recorded.
    let begun = Instant::now();
    while size(&folder).unwrap_or(0) < 1_000 {
        assert!(begun.elapsed() < PATIENCE, "nothing is recorded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for n in 0..100 {
        client.say(&format!(
            "<message to='juliet@localhost/balcony' id='m{n}' type='chat'><body>x</body></message>"
        ));
    }
    client.hear("m99");
    let after = size(&folder).unwrap();
    while size(&folder).unwrap() < after + 1_000 {
        assert!(begun.elapsed() < PATIENCE, "nothing more is recorded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // As a crash would end it.
    recorder.0.kill().unwrap();
    recorder.0.wait().unwrap();

    let text = output(data.path(), &["report", "--every", "100ms", "--stanzas", "--json"]);
    let mut sum = 0.0;
    for line in text.lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        let rate = sample["stanzas"]["messages_in"].as_f64().unwrap_or(0.0);
        sum += rate * sample["seconds"].as_f64().unwrap();
    }
    assert!((sum - 100.0).abs() < 0.01, "{sum} messages: {text}");
    let text = output(data.path(), &["report", "--from", "-1h", "--every", "100ms", "--cpu"]);
    assert!(text.contains("%user") && text.contains("Average"), "{text}");
}

#[test]
fn what_is_wrong_with_a_recording_is_told() {
    let data = tempfile::tempdir().unwrap();
    let none = wsar(data.path(), &["report"]).output().unwrap();
    let err = String::from_utf8(none.stderr).unwrap();
    assert!(!none.status.success() && err.contains("`wsar record` makes one"), "{err}");
    // The recorder has just begun: one sample, and no interval.
    output(data.path(), &["record", "--every", "0.1", "--count", "1"]);
    let short = wsar(data.path(), &["report"]).output().unwrap();
    let err = String::from_utf8(short.stderr).unwrap();
    assert!(!short.status.success() && err.contains("shorter than an interval"), "{err}");
    std::fs::remove_dir_all(data.path().join("wsar")).unwrap();
    output(data.path(), &["record", "--every", "0.1", "--count", "25"]);
    let folder = data.path().join("wsar");
    let file = wsar::record::write::files(&folder).unwrap().remove(0).1;
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 5).unwrap();
    std::fs::write(folder.join("wsar-0000000000001.rec"), "letters").unwrap();
    let done = wsar(data.path(), &["report", "--every", "100ms", "--from", "-100000d"]).output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert!(err.contains("is torn at byte") && err.contains("is not a recording of wsar"), "{err}");
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && out.lines().count() > 15, "{out}");
}

#[test]
fn ranges_and_days_that_there_are_not_are_refused() {
    let data = tempfile::tempdir().unwrap();
    output(data.path(), &["record", "--every", "0.1", "--count", "12"]);
    let dated = output(data.path(), &["report", "--every", "100ms", "--cpu"]);
    let date = dated.lines().next().unwrap_or_default();
    assert!(date.len() == 10 && date.starts_with("20") && date.matches('-').count() == 2, "{dated}");
    for (range, said) in [
        (&["--from", "9999-12-31"][..], "still to come"),
        (&["--from", "-1h", "--to", "-2h"], "is not after"),
        (&["--from", "2025-02-30"], "no such day"),
        (&["--to", "2025-04-31 12:00"], "no such day"),
    ] {
        let done = wsar(data.path(), &[&["report"], range].concat()).output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && err.contains(said) && done.stdout.is_empty(), "{range:?}: {err}");
    }
}
