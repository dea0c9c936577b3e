//! A run against a stored one, and the page of both.

use serde_json::{Value, json};

use crate::support::{perf, report, told};

/// A real report, of which a rate can be changed.
fn measured() -> Value {
    let args = ["floor", "--hold", "4,8", "--sessions", "4", "--duration", "1", "--quiet", "--json", "-"];
    let output = perf(&args);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    report(&output)
}

#[test]
fn a_run_that_is_slower_than_its_baseline_fails_and_both_are_on_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let baseline = measured();
    let mut slower = baseline.clone();
    let phases = slower["phases"].as_array_mut().unwrap();
    let chat = phases.iter_mut().find(|phase| phase["name"] == "chat").unwrap();
    let rate = chat["figures"]["delivered a second"].as_f64().unwrap();
    chat["figures"]["delivered a second"] = json!(rate * 0.8);
    std::fs::write(path("old"), baseline.to_string()).unwrap();
    std::fs::write(path("new"), slower.to_string()).unwrap();
    let compare = |one: &str, other: &str, more: &[&str]| {
        let output = perf(&[&["compare", &path(one), &path(other)], more].concat());
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), told(&output).1)
    };
    assert_eq!(compare("old", "old", &[]).0, Some(0));
    let (code, text, stderr) = compare("old", "new", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("REGRESSED").count(), 1, "{text}");
    assert!(text.contains("20.0% worse") && stderr.contains("1 of "), "{text}{stderr}");
    assert_eq!(compare("old", "new", &["--tolerance", "25"]).0, Some(0));
    assert_eq!(compare("new", "old", &[]).0, Some(0), "better is no regression");
    let (code, _, stderr) = compare("old", "nowhere", &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nowhere"), "{stderr}");

    let page = path("page");
    let output = perf(&["report", &path("old"), &path("new"), "--html", &page]);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let page = std::fs::read_to_string(page).unwrap();
    let order = [
        "<h1>",
        " UTC, whimbrel-perf ",
        "Settings of the system",
        "<h2>Figures",
        "<h2>Latencies",
        "<svg",
        "<details>",
    ];
    assert!(order[..6].iter().all(|part| page.contains(part)), "a part is missing");
    let places: Vec<_> = order[..5].iter().map(|part| page.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "what was run comes first: {places:?}");
}
