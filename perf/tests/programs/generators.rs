//! Two generators that begin together, and one report of both.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::stand_in::{Behaviour, StandIn};
use crate::support::{perf, report, told};

#[test]
fn two_generators_begin_at_one_moment_and_their_reports_become_one() {
    let server = StandIn::start(Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 5;
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let generators: Vec<_> = [("0", path("one")), ("4", path("other"))]
        .into_iter()
        .map(|(first, json)| {
            let (port, at, keys) = (server.port(), at.to_string(), path(&format!("keys{first}")));
            std::thread::spawn(move || {
                let mut args =
                    vec!["chat", "--port", &port, "--first", first, "--sessions", "4", "--workers", "1"];
                args.extend([
                    "--messages",
                    "100",
                    "--warmup",
                    "0",
                    "--duration",
                    "1",
                    "--quiet",
                    "--keys",
                    &keys,
                ]);
                args.extend(["--start-at", &at, "--json", &json]);
                perf(&args)
            })
        })
        .collect();
    for generator in generators {
        let output = generator.join().unwrap();
        assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    }
    assert_eq!(server.presences(), 8);
    let parts: Vec<serde_json::Value> = ["one", "other"]
        .map(|name| serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap())
        .to_vec();
    let output = perf(&["merge", &path("one"), &path("other"), "--json", "-"]);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let merged = report(&output);
    for count in ["logins", "sent", "delivered"] {
        let of = |report: &serde_json::Value| report["totals"][count].as_u64().unwrap();
        assert!(of(&parts[0]) > 0);
        assert_eq!(of(&merged), of(&parts[0]) + of(&parts[1]), "{count}");
    }
    assert!(parts.iter().all(|part| part["started_unix"].as_u64().unwrap() >= at));
    let timed =
        |report: &serde_json::Value| report["phases"][1]["latencies"]["message"]["count"].as_u64().unwrap();
    assert_eq!(timed(&merged), timed(&parts[0]) + timed(&parts[1]));
    assert_eq!(merged["facts"]["generators"], "2");
}

#[test]
fn a_start_that_has_passed_and_metrics_that_nobody_serves_are_told_before_anything_is_done() {
    let server = StandIn::start(Behaviour::default());
    for (option, value, text) in
        [("--start-at", "1000", "has passed"), ("--metrics", "http://127.0.0.1:1/metrics", "no answer from")]
    {
        let (code, stderr) =
            told(&perf(&["chat", "--port", &server.port(), "--sessions", "2", option, value]));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
    }
    assert_eq!(server.presences(), 0);
}
