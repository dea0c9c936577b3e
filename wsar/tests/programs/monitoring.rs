//! The files for Prometheus and Grafana: what they name is there. tools/interop has Prometheus load its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::serve::{request, serve};
use crate::support::{PATIENCE, Server};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

fn dashboard() -> Value {
    serde_json::from_slice(&std::fs::read(file("grafana.json")).expect("a file")).expect("JSON")
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("whimbrel_") || word.starts_with("system_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start(data.path());
    let (_page, address) = serve(data.path());
    let begun = Instant::now();
    let mut metrics = String::new();
    while !metrics.contains("whimbrel_build_info{version=") {
        assert!(begun.elapsed() < PATIENCE, "{metrics}");
        metrics = request(&address, "GET /metrics", "Accept: text/plain\r\n").1;
    }
    assert!(metrics.contains("wsar_build_info{version="), "{metrics}");
    let there = names(&metrics);
    let rules = std::fs::read_to_string(file("rules.yml")).unwrap();
    let rules: String = rules.lines().filter(|line| line.trim_start().starts_with("expr:")).collect();
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let exprs = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let exprs: String = exprs.map(|target| target["expr"].as_str().unwrap()).collect::<Vec<_>>().join(" ");
    for (what, text) in [("rules.yml", rules), ("grafana.json", exprs)] {
        let missing: Vec<String> = names(&text).difference(&there).cloned().collect();
        assert!(missing.is_empty(), "{what} names what /metrics does not have: {missing:?}");
    }
}

#[test]
fn the_dashboard_has_what_grafanas_schema_asks_for() {
    let dashboard = dashboard();
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    assert!(text(&dashboard["uid"]) && text(&dashboard["title"]) && dashboard["schemaVersion"].is_u64());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["type"] == "datasource"));
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(["stat", "timeseries"].contains(&panel["type"].as_str().unwrap()), "{panel}");
        // Every figure has a unit.
        assert!(text(&panel["title"]) && text(&panel["fieldConfig"]["defaults"]["unit"]), "{panel}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24 && place("h") > 0, "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(text(&target["refId"]) && text(&target["expr"]), "{target}");
        }
    }
}
