//! Every message is accounted for: a server that loses, repeats or swaps messages is found out, and the run fails.

use serde_json::Value;

use crate::stand_in::{Behaviour, StandIn};
use crate::support::{perf, report, told};

/// A short chat with a stand-in; each pair has several messages under way.
fn chat(behaviour: Behaviour, extra: &[&str]) -> (Option<i32>, String, Value) {
    let server = StandIn::start(behaviour);
    let port = server.port();
    let mut args =
        vec!["chat", "--port", &port, "--sessions", "6", "--workers", "2", "--quiet", "--json", "-"];
    args.extend(["--warmup", "0", "--duration", "1", "--drain", "5"]);
    args.extend(extra);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(server.presences(), 6, "not everybody logged in: {stderr}");
    (code, stderr, report(&output))
}

fn total(report: &Value, name: &str) -> u64 {
    report["totals"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn a_faithful_server_passes_and_all_its_messages_are_acknowledged() {
    for extra in [&["--window", "4"][..], &["--messages", "400"]] {
        let (code, stderr, report) = chat(Behaviour::default(), extra);
        assert_eq!(code, Some(0), "{stderr}");
        let sent = total(&report, "sent");
        assert!(sent > 100, "{report}");
        assert_eq!(total(&report, "delivered"), sent);
        assert_eq!(total(&report, "stream_management"), 6);
        // Presence and the ping of each login are stanzas too.
        assert_eq!(total(&report, "acknowledged"), sent + 12, "{report}");
        for wrong in ["lost", "duplicated", "out_of_order", "bounced", "dropped"] {
            assert_eq!(total(&report, wrong), 0, "{wrong}");
        }
        let latency = &report["phases"][1]["latencies"]["message"];
        assert_eq!(latency["count"].as_u64(), Some(sent), "{latency}");
    }
}

#[test]
fn a_server_that_loses_messages_fails_the_run_and_the_losses_are_counted() {
    let (code, stderr, report) =
        chat(Behaviour { lose_every: 50, ..Behaviour::default() }, &["--messages", "500"]);
    assert_eq!(code, Some(1), "{stderr}");
    let (sent, lost) = (total(&report, "sent"), total(&report, "lost"));
    assert_eq!(lost, sent / 50, "{report}");
    assert_eq!(total(&report, "delivered") + lost, sent);
    assert!(stderr.contains("were lost"), "{stderr}");
    assert!(stderr.contains(&lost.to_string()), "{stderr}");
}

#[test]
fn repeated_messages_fail_the_run() {
    let behaviour = Behaviour { repeat_every: 50, ..Behaviour::default() };
    let (code, stderr, report) = chat(behaviour, &["--messages", "500"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(total(&report, "duplicated"), total(&report, "sent") / 50, "{report}");
    assert_eq!(total(&report, "lost"), 0);
}

#[test]
fn swapped_messages_fail_the_run() {
    let (code, stderr, report) =
        chat(Behaviour { swap_every: 50, ..Behaviour::default() }, &["--messages", "500"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(total(&report, "out_of_order") > 0, "{report}");
    assert_eq!(total(&report, "duplicated"), 0, "{report}");
}

#[test]
fn a_server_that_dies_ends_the_run_with_partial_figures() {
    let (code, stderr, report) =
        chat(Behaviour { die_after: 100, ..Behaviour::default() }, &["--messages", "500"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the server ended") && stderr.contains("partial"), "{stderr}");
    assert!(total(&report, "delivered") > 50 && total(&report, "dropped") > 0, "{report}");
}
