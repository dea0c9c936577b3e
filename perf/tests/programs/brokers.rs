//! Brokers beside the XMPP servers, where they are installed.

use crate::support::{perf, report, told};

#[test]
fn installed_brokers_are_measured_beside_the_bare_router() {
    let installed = |program: &str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).is_file())
    };
    let servers: Vec<&str> = [("mosquitto", "mosquitto"), ("nats", "nats-server")]
        .into_iter()
        .filter(|(_, program)| installed(program))
        .map(|(server, _)| server)
        .collect();
    if servers.is_empty() {
        eprintln!("skipped: neither mosquitto nor nats-server is installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("peers.html");
    let names = servers.join(",");
    let mut args = vec!["peers", "--servers", &names, "--rounds", "1", "--hold", "20,60", "--settle", "0"];
    args.extend([
        "--sessions",
        "10",
        "--duration",
        "1",
        "--quiet",
        "--json",
        "-",
        "--html",
        html.to_str().unwrap(),
    ]);
    let output = perf(&args);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let report = report(&output);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2 * servers.len() + 1, "and the bare router");
    for run in &runs[..2 * servers.len()] {
        if run["scenario"] == "hold" {
            assert!(run["memory"]["bytes_per_session"]["process: anonymous"].is_number(), "{run}");
            continue;
        }
        for phase in run["phases"].as_array().unwrap() {
            let (sent, delivered) = (&phase["whole"]["sent"], &phase["whole"]["delivered"]);
            assert!(sent.as_u64().unwrap() > 100 && sent == delivered, "{phase}");
        }
        assert_eq!(run["phases"].as_array().map(Vec::len), Some(2), "{run}");
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(
        page.contains("<h2>Verdict") && page.contains("nothing for those who are away"),
        "what differs is said"
    );
}
