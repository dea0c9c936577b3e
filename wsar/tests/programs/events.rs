//! What the page is told of what happened, and of who causes most.

use std::time::Instant;

use serde_json::Value;

use crate::serve::{request, serve};
use crate::support::{Client, PATIENCE, Server};

#[track_caller]
fn wait_for(address: &str, path: &str, mut is_there: impl FnMut(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (_, body) = request(address, &format!("GET {path}"), "");
        let told: Value = serde_json::from_str(&body).unwrap_or_default();
        if is_there(&told) {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come: {body}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The texts of the events of a kind.
fn texts(now: &Value, kind: &str) -> Vec<String> {
    let events = now["events"].as_array().into_iter().flatten();
    events
        .filter(|event| event["kind"] == kind)
        .map(|event| event["text"].as_str().expect("a text").into())
        .collect()
}

#[test]
fn starts_reloads_and_ends_are_told() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (_page, address) = serve(data.path());
    let now = wait_for(&address, "/api/now", |now| texts(now, "start").len() == 1);
    let text = &texts(&now, "start")[0];
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.starts_with(&format!("whimbreld {version} started, process ")), "{text}");
    server.process.signal("HUP");
    wait_for(&address, "/api/now", |now| texts(now, "reload").len() == 1);
    server.process.stop();
    let now = wait_for(&address, "/api/now", |now| texts(now, "end").len() == 1);
    assert!(texts(&now, "refusal").is_empty(), "{now}");
    let _again = Server::start(data.path());
    wait_for(&address, "/api/now", |now| texts(now, "start").len() == 2);
}

#[test]
fn the_busiest_are_told_with_names_and_only_there() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (_page, address) = serve(data.path());
    let mut client = Client::login(&server, "r");
    let told = wait_for(&address, "/api/busiest", |told| {
        client.say("<message to='nobody@localhost'><body>hi</body></message>");
        let mut tables = told["busiest"]["tables"].as_array().into_iter().flatten();
        tables.any(|t| {
            t["of"] == "accounts"
                && t["by"] == "messages"
                && t["rows"].as_array().is_some_and(|r| !r.is_empty())
        })
    });
    let name = told["busiest"]["tables"][0]["rows"][0]["name"].as_str().unwrap().to_owned();
    assert!(name.ends_with("@localhost"), "{told}");
    assert_eq!(told["server"]["state"], "running");
    // Scraped figures go to other machines.
    let (_, metrics) = request(&address, "GET /metrics", "");
    assert!(metrics.contains("whimbrel_messages_latency_seconds_bucket"), "{metrics}");
    assert!(!metrics.contains(&name), "{metrics}");
    let (_, explained) = request(&address, "GET /api/explain", "");
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["refusals"]["sessions"]["keys"][0], "limits.sessions");
    assert!(explained["queues"]["output"]["cure"].is_string());
}
