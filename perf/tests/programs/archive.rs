//! What comes out of an archive is checked: one that loses, repeats, swaps or alters messages is found out.

use serde_json::Value;

use crate::stand_in::{Archive, Behaviour, StandIn};
use crate::support::{perf, report, told};

fn archive(archive: Archive) -> (Option<i32>, String, Value) {
    let server = StandIn::start(Behaviour { archive, ..Behaviour::default() });
    let port = server.port();
    let mut args = vec!["archive", "--running", &port, "--accounts", "5", "--contacts", "2", "--each", "15"];
    args.extend(["--page", "4", "--readers", "3", "--seconds", "0", "--quiet", "--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    // Presence comes with the fill alone.
    let present = if archive == Archive::None { 1 } else { 5 };
    assert_eq!(server.presences(), present, "not everybody logged in: {stderr}");
    (code, stderr, report(&output))
}

#[test]
fn a_faithful_archive_passes_and_everything_in_it_is_read() {
    let (code, stderr, report) = archive(Archive::Faithful);
    assert_eq!(code, Some(0), "{stderr}");
    let [fill, read] = &report["runs"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(fill["phases"][0]["counted"]["delivered"], 5 * 2 * 15);
    let phases = read["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["catch-up", "one contact", "last page"]);
    let of = |index: usize| {
        let phase = &phases[index];
        let (messages, pages) = (&phase["counted"]["delivered"], &phase["latencies"]["page"]["count"]);
        (messages.as_u64().unwrap(), pages.as_u64().unwrap())
    };
    // Each account has four conversations of 15: 60 messages on 15 pages; one of them on four; the end of it on one.
    assert_eq!([of(0), of(1), of(2)], [(300, 75), (75, 20), (20, 5)]);
    let figures: Vec<_> =
        report["table"].as_array().unwrap().iter().map(|row| row["figure"].as_str().unwrap()).collect();
    for figure in ["catch-up: messages a second", "last page: page p99, ms"] {
        assert!(figures.contains(&figure), "{figures:?}");
    }
}

#[test]
fn each_fault_of_an_archive_fails_the_run_by_its_name() {
    for (behaviour, text) in [
        (Archive::Loses, "did not come back"),
        (Archive::Repeats, "came back more than once"),
        (Archive::Overlaps, "came back more than once"),
        (Archive::Swaps, "came back out of order"),
        (Archive::Alters, "came back altered"),
        (Archive::Refuses, "refuses a query: resource-constraint"),
    ] {
        let (code, stderr, _) = archive(behaviour);
        assert_eq!(code, Some(1), "{behaviour:?}: {stderr}");
        assert!(stderr.contains(text), "{behaviour:?}: {stderr}");
    }
}

#[test]
fn a_server_without_an_archive_is_told_plainly() {
    let (code, stderr, report) = archive(Archive::None);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("has no archive: urn:xmpp:mam:2"), "{stderr}");
    assert_eq!(report["table"].as_array().map(Vec::len), Some(0), "no figures are made up: {report}");
}

#[test]
fn accounts_that_are_too_few_for_their_contacts_are_refused() {
    let (code, stderr) = told(&perf(&["archive", "--accounts", "8", "--contacts", "4"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("too few for 4 contacts"), "{stderr}");
}

/// The installed servers, with the configuration that the comparison gives them.
#[test]
fn archives_of_installed_servers_are_filled_and_read() {
    let installed = |program: &str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).is_file())
    };
    let mut servers = Vec::new();
    for (server, there) in [
        ("prosody", installed("prosody")),
        (
            "ejabberd-postgresql",
            installed("ejabberdctl")
                && std::path::Path::new("/usr/lib/postgresql").is_dir()
                && std::fs::read_dir("/usr/lib/erlang/lib").is_ok_and(|mut libs| {
                    libs.any(|lib| lib.is_ok_and(|lib| lib.path().to_string_lossy().contains("p1_pgsql")))
                }),
        ),
    ] {
        if there {
            servers.push(server);
        } else {
            eprintln!("skipped: {server} is not installed");
        }
    }
    if servers.is_empty() {
        return;
    }
    let servers = servers.join(",");
    let mut args =
        vec!["archive", "--servers", &servers, "--accounts", "3", "--contacts", "1", "--each", "12"];
    args.extend(["--page", "5", "--seconds", "0", "--quiet", "--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    for run in report(&output)["runs"].as_array().unwrap() {
        assert_eq!(run["facts"]["archive"], "on", "{run}");
        for phase in run["phases"].as_array().unwrap() {
            assert!(phase["counted"]["delivered"].as_u64().unwrap() > 0, "{phase}");
            let cpu = &phase["figures"]["messages a second of server CPU"];
            assert!(cpu.as_f64().is_some_and(|cpu| cpu > 0.0), "the server's processes are found: {phase}");
        }
    }
}
