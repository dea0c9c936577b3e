//! What goes wrong ends with a message that says what to do, a non-zero exit, and the figures so far.

use crate::stand_in::{Behaviour, StandIn};
use crate::support::{perf, report, told};

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    for args in [
        &["hold", "--sessions", "x"][..],
        &["hold", "--rate", "0"],
        &["chat", "--sessions", "1"],
        &["chat", "--messages", "10", "--window", "3"],
        &["juggle"],
        &["report", "--html", "x.html"],
        &["hold", "--host", "nowhere.example"],
    ] {
        let (code, stderr) = told(&perf(args));
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn arguments_that_cannot_be_met_are_refused_before_anything_starts() {
    for (args, text) in [
        (&["hold", "--host", "192.0.2.1"][..], "--allow-remote"),
        (&["hold", "--sessions", "200,100"], "rising counts"),
        (&["hold", "--sessions", "3000000", "--workers", "1"], "--workers"),
        (&["hold", "--sessions", "90000", "--workers", "900", "--source", "127.0.0.1"], "--source"),
        (&["report", "/nonexistent.json", "--html", "/tmp/x.html"], "/nonexistent.json"),
        (&["presence", "--sessions-per-account", "2"], "one session for each account"),
    ] {
        let (code, stderr) = told(&perf(args));
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
}

#[test]
fn a_wrong_address_is_told_with_the_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = perf(&["hold", "--port", &free, "--sessions", "4", "--quiet", "--json", "-"]);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("127.0.0.1:{free}")) && stderr.contains("partial"), "{stderr}");
    assert!(report(&output)["totals"]["login_failures"].as_object().is_some_and(|map| !map.is_empty()));
}

#[test]
fn something_that_is_no_xmpp_server_is_told() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 100]);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (code, stderr) = told(&perf(&["hold", "--port", &port, "--sessions", "2", "--quiet"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("does not speak XMPP") && stderr.contains("HTTP/1.1"), "{stderr}");
}

#[test]
fn a_refused_login_names_the_account_and_the_remedy() {
    let server = StandIn::start(Behaviour { refuse: true, ..Behaviour::default() });
    let (code, stderr) = told(&perf(&["hold", "--port", &server.port(), "--sessions", "2", "--quiet"]));
    assert_eq!(code, Some(1));
    for part in ["@localhost", "not-authorized", "--seed"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_mechanism_that_is_not_offered_and_missing_tls_are_told() {
    let server = StandIn::start(Behaviour::default());
    for (args, text) in
        [(["--sasl", "scram-sha-256"], "SCRAM-SHA-256"), (["--tls", "starttls"], "does not offer STARTTLS")]
    {
        let mut all = vec!["hold", "--sessions", "2", "--quiet", "--port"];
        let port = server.port();
        all.push(&port);
        all.extend(args);
        let (code, stderr) = told(&perf(&all));
        assert_eq!(code, Some(1));
        assert!(stderr.contains(text), "{stderr}");
    }
}

#[test]
fn too_few_descriptors_are_told_with_the_remedy() {
    let server = StandIn::start(Behaviour::default());
    let program = env!("CARGO_BIN_EXE_whimbrel-perf");
    let script = format!(
        "ulimit -n 100; exec {program} hold --port {} --sessions 100 --workers 1 --quiet",
        server.port
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("descriptors") && stderr.contains("--workers"), "{stderr}");
}

#[test]
fn pings_without_an_answer_fail_a_hold() {
    let server = StandIn::start(Behaviour { no_pongs: true, ..Behaviour::default() });
    let args = ["hold", "--port", &server.port(), "--sessions", "2", "--settle", "0", "--ping", "1"];
    let (code, stderr) = told(&perf(&[&args[..], &["--duration", "4", "--quiet"]].concat()));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("pings were not answered"), "{stderr}");
}

#[test]
fn what_is_up_when_the_time_for_logins_is_over_is_held_and_the_run_fails() {
    let server = StandIn::start(Behaviour::default());
    let port = server.port();
    let args = ["hold", "--port", &port, "--sessions", "10000", "--rate", "20", "--login-limit", "10"];
    let output = perf(&[&args[..], &["--settle", "0", "--duration", "1", "--quiet", "--json", "-"]].concat());
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("not finished after 10 s") && stderr.contains("was held"), "{stderr}");
    let report = report(&output);
    let phases = report["phases"].as_array().unwrap();
    let hold = phases.iter().find(|phase| phase["name"] == "hold").expect("it held");
    let up = hold["figures"]["sessions that survived"].as_f64().unwrap();
    assert!(up > 0.0 && up < 10_000.0, "{hold}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_the_run_with_partial_figures() {
    use std::process::{Command, Stdio};
    let server = StandIn::start(Behaviour::default());
    let child = Command::new(env!("CARGO_BIN_EXE_whimbrel-perf"))
        .args(["hold", "--port", &server.port(), "--sessions", "4", "--duration", "600", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while server.presences() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("interrupted") && stderr.contains("partial"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("4 logins"), "{output:?}");
}
