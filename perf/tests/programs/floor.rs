//! The bare router carries the generator's messages, all of them, and its report is complete.

use crate::support::{perf, report, told};

#[test]
fn the_floor_loses_nothing_and_reports_memory_and_rate() {
    let html = tempfile::tempdir().unwrap();
    let path = html.path().join("floor.html");
    let output = perf(&[
        "floor",
        "--hold",
        "10,30",
        "--sessions",
        "8",
        "--duration",
        "1",
        "--quiet",
        "--json",
        "-",
        "--html",
        path.to_str().unwrap(),
    ]);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let report = report(&output);
    let totals = &report["totals"];
    assert!(totals["sent"].as_u64().unwrap() > 1_000, "{totals}");
    assert_eq!(totals["sent"], totals["delivered"]);
    assert_eq!(report["memory"]["points"].as_array().unwrap().len(), 2);
    assert!(std::fs::read_to_string(path).unwrap().contains("<svg"));
}
