//! A running server: signals, sessions, kick, drain, stop, reload, doctor.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Client, Place};

fn with_alice() -> Place {
    let place = Place::new();
    assert_eq!(place.ctl(&["user", "add", "--create", "alice@localhost", "--password", "p"]).code, 0);
    place
}

#[test]
fn sigterm_ends_streams_with_system_shutdown_and_the_process_with_success() {
    for signal in ["TERM", "INT"] {
        let place = with_alice();
        let mut server = place.server(&["--allow-plaintext"]);
        let mut client = Client::login(&place, "alice", "p", "r").expect("the password is right");
        server.signal(signal);
        client.hear("system-shutdown");
        client.hear("</stream:stream>");
        drop(client);
        assert!(server.end().success());
        assert!(!place.data().join("control.sock").exists(), "the socket is left behind");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = with_alice();
    let config = place.file("w.toml", "[limits]\ndrain_seconds = 600\n");
    let mut server = place.server(&["--allow-plaintext", "--config", config.to_str().unwrap()]);
    // A client that neither reads nor closes its stream is waited for.
    let _client = Client::login(&place, "alice", "p", "r").expect("the password is right");
    server.signal("TERM");
    server.wait_for_log("stopping");
    server.signal("TERM");
    server.wait_for_log("second signal");
    assert_eq!(server.end().code(), Some(1));
}

#[test]
fn a_killed_servers_socket_does_not_stop_the_next_one() {
    let place = Place::new();
    let mut server = place.server(&[]);
    server.signal("KILL");
    server.end();
    assert!(place.data().join("control.sock").exists());
    place.ctl(&["status"]).fails(1, &["no server runs in"]);
    assert_eq!(
        place.ctl(&["user", "add", "a@localhost", "--password", "p"]).code,
        0,
        "accounts can be changed"
    );
    let _server = place.server(&[]);
    assert_eq!(place.json(&["status"])["accounts"], 1);
}

#[test]
fn sighup_and_reload_read_the_configuration_again_and_errors_keep_the_old() {
    let place = Place::new();
    let config = place.file("w.toml", "[auth]\nscram_iterations = 5000\n");
    let mut server = place.server(&["--config", config.to_str().unwrap()]);
    assert_eq!(place.json(&["status"])["scram_iterations"], 5000);

    place.file("w.toml", "[auth]\nscram_iterations = 6000\n");
    server.signal("HUP");
    server.wait_for_log("read again");
    assert_eq!(place.json(&["status"])["scram_iterations"], 6000);

    place.file("w.toml", "[auth]\nscram_iteration = 7000\n");
    server.signal("HUP");
    assert!(server.wait_for_log("not reloaded").contains("did you mean `auth.scram_iterations`?"));
    place.ctl(&["reload"]).fails(1, &["unknown key `auth.scram_iteration`"]);
    assert_eq!(place.json(&["status"])["scram_iterations"], 6000);

    place.file("w.toml", "domain = 'other.example'\n[auth]\nscram_iterations = 8000\n");
    assert_eq!(place.ctl(&["reload"]).code, 0);
    server.wait_for_log("domain has changed");
    let status = place.json(&["status"]);
    assert_eq!((&status["scram_iterations"], &status["domain"]), (&8000.into(), &"localhost".into()));
}

#[test]
fn sessions_are_listed_by_user_and_kicked_one_or_all() {
    let place = with_alice();
    assert_eq!(place.ctl(&["user", "add", "bob@localhost", "--password", "p"]).code, 0);
    let _server = place.server(&["--allow-plaintext"]);
    let mut phone = Client::login(&place, "alice", "p", "phone").expect("the password is right");
    let mut desk = Client::login(&place, "alice", "p", "desk").expect("the password is right");
    let mut bob = Client::login(&place, "bob", "p", "x").expect("the password is right");
    let jids = |args: &[&str]| {
        let listed = place.json(&[&["sessions"], args].concat());
        let mut jids: Vec<String> = listed["sessions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|session| session["jid"].as_str().expect("a JID").to_owned())
            .collect();
        jids.sort();
        (jids, listed["cut"].as_bool().expect("a boolean"))
    };
    let all = ["alice@localhost/desk", "alice@localhost/phone", "bob@localhost/x"].map(String::from).to_vec();
    assert_eq!(jids(&[]), (all.clone(), false));
    assert_eq!(jids(&["--user", "Alice@localhost"]), (all[..2].to_vec(), false));
    assert_eq!(jids(&["--user", "nobody@localhost"]), (vec![], false));
    let (some, cut) = jids(&["--max", "2"]);
    assert!(some.len() == 2 && cut, "{some:?} {cut}");
    assert!(place.ctl(&["sessions", "--max", "2"]).err.contains("there are more"));
    assert!(place.ctl(&["sessions"]).out.contains("127.0.0.1"));

    assert_eq!(place.json(&["kick", "alice@localhost/phone"])["kicked"], 1);
    phone.hear("policy-violation");
    assert_eq!(place.ctl(&["kick", "alice@localhost"]).out, "1 session ended\n");
    desk.hear("policy-violation");
    place.ctl(&["kick", "alice@localhost"]).fails(1, &["alice@localhost has no session here"]);
    place.ctl(&["kick", "bob@other.example"]).fails(1, &["another domain", "localhost"]);
    assert_eq!(jids(&[]).0, ["bob@localhost/x"]);
    bob.say("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    bob.hear("id='p'");
}

#[test]
fn a_drain_lets_sessions_go_on_and_nobody_in() {
    let place = with_alice();
    let mut server = place.server(&["--allow-plaintext"]);
    let mut client = Client::login(&place, "alice", "p", "r").expect("the password is right");
    assert_eq!(place.json(&["drain"])["drain_seconds"], 10);
    client.say("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    client.hear("id='p'");
    assert_eq!(place.json(&["status"])["draining"], true);
    place.ctl(&["user", "add", "late@localhost", "--password", "p"]).fails(1, &["the server stops"]);
    client.say("</stream:stream>");
    drop(client);
    assert!(server.end().success());
}

#[test]
fn stop_returns_when_the_server_has_ended() {
    let place = with_alice();
    let mut server = place.server(&["--allow-plaintext"]);
    let mut client = Client::login(&place, "alice", "p", "r").expect("the password is right");
    let waiting = std::thread::spawn(move || {
        client.hear("system-shutdown");
    });
    let stopped = place.json(&["stop"]);
    assert_eq!(stopped, serde_json::json!({ "stopped": true, "pid": server.pid() }));
    waiting.join().expect("the client is told");
    assert!(server.end().success());
    place.ctl(&["status"]).fails(1, &["no server runs"]);
}

#[test]
fn status_and_queues_are_for_people_and_for_programs() {
    let place = with_alice();
    let _server = place.server(&[]);
    let status = place.ctl(&["status"]).out;
    for text in ["serving localhost", "2, driver", "self-signed", "accounts     1"] {
        assert!(status.contains(text), "`{text}`: {status}");
    }
    let queues = place.json(&["queues"]);
    let rows = queues["queues"].as_array().expect("a list");
    for (queue, count) in
        [("directory", 1), ("crypto", 1), ("completions", 2), ("commands", 2), ("output", 2), ("mailbox", 8)]
    {
        let found: Vec<_> = rows.iter().filter(|row| row["queue"] == queue).collect();
        assert_eq!(found.len(), count, "{queue}: {queues}");
        assert!(found.iter().all(|row| row["limit"].as_u64() > Some(0)), "{queue}: {queues}");
    }
    assert!(place.ctl(&["queues"]).out.starts_with("queue "));
    let mode = std::fs::metadata(place.data().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_busiest_are_shown_also_when_the_server_has_ended() {
    let place = Place::new();
    place.ctl(&["busiest"]).fails(1, &["no server runs"]);
    std::fs::create_dir_all(place.data()).expect("a directory");
    // As the server writes it.
    let told = r#"{"version":1,"time":1767225600000,"window_seconds":10,"failed_seconds":60,"tables":[
        {"of":"accounts","by":"messages","unit":"rate","total":40.0,"rows":[{"name":"alice@localhost","figure":30.0,"over":0.5}]},
        {"of":"addresses","by":"failed","unit":"number","total":0.0,"rows":[]}]}"#;
    std::fs::write(place.data().join("busiest.json"), told).expect("a file");
    let busiest = place.ctl(&["busiest"]).out;
    for text in [
        "accounts by messages sent a second",
        "alice@localhost",
        "75.0%",
        "failed logins in 60 s: none",
        "no server runs now",
    ] {
        assert!(busiest.contains(text), "`{text}`: {busiest}");
    }
    assert_eq!(place.json(&["busiest"])["tables"][0]["rows"][0]["figure"], 30.0);
}

#[test]
fn doctor_finds_what_must_be_mended_and_says_how() {
    let place = Place::new();
    let _server = place.server(&[]);
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let done = place.ctl(&["doctor", "--connections", "100000000", "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    for (check, level) in
        [("server", "good"), ("descriptors", "mend"), ("memory", "mend"), ("certificate names", "good")]
    {
        let found =
            findings.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("{check}: {report}"));
        assert_eq!(found["level"], level, "{found}");
    }
    let command = format!("chmod 700 {}", place.data().display());
    assert!(findings.iter().any(|row| row["command"] == command.as_str()), "{report}");
    assert!(findings.iter().all(|row| row["level"] != "mend" || row["command"].is_string()), "{report}");
}

#[test]
fn check_says_what_a_start_would_find() {
    let place = with_alice();
    let before = place.check(&[]);
    assert!(before.code == 0 && before.out.contains("1 accounts"), "{before:?}");
    let server = place.server(&[]);
    let during = place.check(&[]);
    assert!(during.out.contains(&format!("in use by process {}", server.pid())), "{during:?}");
}
