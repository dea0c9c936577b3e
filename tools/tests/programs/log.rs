//! The message log: looking at it, and a backup that a server can be started on.

use crate::support::{Client, Done, Place, whimbrelctl};

/// A server where three messages wait for bob.
fn with_messages() -> (Place, crate::support::Server) {
    let place = Place::new();
    for name in ["alice@localhost", "bob@localhost"] {
        assert_eq!(place.ctl(&["user", "add", "--create", name, "--password", "p"]).code, 0);
    }
    // With archives each text would be there twice.
    let config = place.file("w.toml", "workers = 2\nlog_segment_mib = 2\n[archive]\nenabled = false\n");
    let server = place.server(&["--allow-plaintext", "--config", config.to_str().expect("UTF-8")]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("the password is right");
    alice.say("<enable xmlns='urn:xmpp:sm:3'/>");
    for n in 0..3 {
        alice.say(&format!("<message to='bob@localhost' type='chat'><body>secret {n}</body></message>"));
        // One commit each: damage before the last one is no unfinished end.
        alice.say("<r xmlns='urn:xmpp:sm:3'/>");
        alice.hear(&format!("h='{}'", n + 1));
    }
    (place, server)
}

/// Logs in as bob and hears what waits.
fn hear_all(place: &Place) {
    let mut bob = Client::login(place, "bob", "p", "r").expect("the password is right");
    bob.say("<presence/>");
    for n in 0..3 {
        bob.hear(&format!("secret {n}"));
    }
}

#[test]
fn what_waits_is_counted_and_shown_while_the_server_runs() {
    let (place, _server) = with_messages();
    let stats = place.json(&["log", "stats"]);
    let logs = stats["logs"].as_array().expect("a list");
    assert_eq!(logs.len(), 2);
    assert_eq!(logs.iter().map(|log| log["waiting"].as_u64().unwrap()).sum::<u64>(), 3);
    assert!(place.ctl(&["log", "stats"]).out.contains("waiting"));
    assert_eq!(place.ctl(&["log", "verify"]).code, 0);
    assert_eq!(place.json(&["log", "verify"])["damage"], serde_json::json!([]));
    let dumped = place.ctl(&["log", "dump", "--waiting"]);
    assert_eq!(dumped.out.lines().count(), 3);
    assert!(!dumped.out.contains("secret"), "what they say is private");
    assert!(place.ctl(&["log", "dump", "--waiting", "--stanzas"]).out.contains("secret 2"));
    assert_eq!(place.ctl(&["log", "dump", "--max", "1"]).out.lines().count(), 1);
    assert_eq!(place.json(&["status"])["metrics"]["log.pending"], 3);
}

#[test]
fn a_backup_is_a_data_directory_whether_a_server_runs_or_not() {
    let (place, mut server) = with_messages();
    let running = place.data().with_file_name("running");
    let stopped = place.data().with_file_name("stopped");
    assert_eq!(place.ctl(&["backup", running.to_str().unwrap()]).code, 0);
    place.ctl(&["backup", running.to_str().unwrap()]).fails(1, &["not empty"]);
    hear_all(&place);
    server.signal("TERM");
    server.end();
    assert_eq!(place.ctl(&["backup", stopped.to_str().unwrap()]).code, 0);
    let data = place.data();
    for (copy, waiting) in [(running, 3), (stopped, 0)] {
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&copy, &data).unwrap();
        let server = place.server(&["--allow-plaintext"]);
        assert_eq!(place.json(&["status"])["metrics"]["log.pending"], waiting);
        if waiting > 0 {
            hear_all(&place);
        }
        drop(server);
    }
}

#[test]
fn a_log_that_is_not_there_and_one_that_is_damaged_are_named() {
    let place = Place::new();
    place.ctl(&["log", "verify"]).fails(1, &["log"]);
    let (place, mut server) = with_messages();
    server.signal("TERM");
    server.end();
    let mut damaged = 0;
    for entry in walk(&place.data().join("log")) {
        let mut bytes = std::fs::read(&entry).unwrap();
        // The first, and the one that was committed last.
        for text in [b"secret 0", b"secret 2"] {
            if let Some(at) = bytes.windows(8).position(|found| found == text) {
                bytes[at] ^= 1;
                damaged += 1;
            }
        }
        std::fs::write(&entry, bytes).unwrap();
    }
    assert_eq!(damaged, 2);
    let done = place.ctl(&["log", "verify"]);
    assert_eq!(done.code, 1);
    assert_eq!(done.out.matches("damaged at byte").count(), 2, "{}", done.out);
    // What is left after a crash, or is being written, is said and is no failure.
    let (place, mut server) = with_messages();
    server.signal("KILL");
    server.end();
    for entry in walk(&place.data().join("log")) {
        let mut bytes = std::fs::read(&entry).unwrap();
        if bytes.windows(8).any(|found| found == b"secret 2") {
            let last = bytes.iter().rposition(|&byte| byte != 0).expect("there is text in it");
            bytes[last + 100] = 1;
            std::fs::write(&entry, bytes).unwrap();
        }
    }
    let done = place.ctl(&["log", "verify"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("an unfinished end"), "{}", done.out);
}

#[test]
fn a_lost_directory_or_log_is_said_and_given_up_only_when_told_to() {
    for lost in ["directory", "log"] {
        let (place, mut server) = with_messages();
        place.ctl(&["log", "discard"]).fails(1, &["a server runs"]);
        server.signal("TERM");
        server.end();
        std::fs::remove_dir_all(place.data().join(lost)).unwrap();
        let said = [&*place.data().join(lost).display().to_string(), "is missing or empty", "log discard"];
        for _ in 0..2 {
            place
                .no_server(&[
                    "--listen",
                    "127.0.0.1:0",
                    "--listen-tls",
                    "127.0.0.1:0",
                    "--listen-http",
                    "none",
                ])
                .fails(1, &said);
            place.check(&[]).fails(1, &said);
        }
        assert_eq!(place.ctl(&["log", "discard"]).code, 0);
        assert_eq!(place.data().join("log.discarded-1/layout").exists(), lost == "directory");
        let _server = place.server(&["--allow-plaintext"]);
        assert_eq!(place.json(&["status"])["metrics"]["log.pending"], 0);
    }
}

#[test]
fn messages_for_accounts_that_an_older_directory_does_not_have_are_dropped_and_counted() {
    let (place, mut server) = with_messages();
    server.signal("TERM");
    server.end();
    let older = place.data().with_file_name("older");
    // From before bob.
    assert_eq!(place.ctl(&["backup", older.to_str().unwrap()]).code, 0);
    let mut del = std::process::Command::new(whimbrelctl());
    del.arg("--data").arg(&older).args(["user", "del", "bob@localhost"]);
    assert_eq!(Done::of(del, "").code, 0);
    std::fs::remove_dir_all(place.data().join("directory")).unwrap();
    std::fs::rename(older.join("directory"), place.data().join("directory")).unwrap();
    let mut server = place.server(&["--allow-plaintext"]);
    let metrics = place.json(&["status"])["metrics"].clone();
    assert_eq!((&metrics["log.orphans"], &metrics["log.pending"]), (&3.into(), &0.into()));
    for user in ["bob", "eve"] {
        let jid = format!("{user}@localhost");
        assert_eq!(place.ctl(&["user", "add", &jid, "--password", "p"]).code, 0);
        let mut client = Client::login(&place, user, "p", "r").expect("the password is right");
        client.say("<presence/><iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>");
        client.hear("'last'");
        assert!(!client.has_heard("secret"), "{user} is given what was another's");
    }
    server.signal("TERM");
    server.end();
}

#[test]
fn a_backup_goes_nowhere_but_into_a_new_or_empty_folder() {
    let (place, mut server) = with_messages();
    let used = place.file("used/important", "x");
    let inside = place.data().join("copy");
    for is_running in [true, false] {
        place.ctl(&["backup", used.parent().unwrap().to_str().unwrap()]).fails(1, &["not empty"]);
        place.ctl(&["backup", inside.to_str().unwrap()]).fails(1, &["in the data directory"]);
        assert!(!inside.exists());
        if is_running {
            server.signal("TERM");
            server.end();
        }
    }
}

#[test]
fn a_backup_is_read_back_whole_and_one_of_damaged_data_is_refused() {
    let (place, mut server) = with_messages();
    let copy = |name: &str| place.0.path().join(name).to_str().expect("UTF-8").to_owned();
    for is_running in [true, false] {
        let to = copy(if is_running { "of-running" } else { "of-stopped" });
        let done = place.json(&["backup", &to, "--verify"]);
        let found = &done["verified"];
        assert!(found["accounts"].as_u64() > Some(0) && found["records"].as_u64() > Some(0), "{done}");
        if is_running {
            server.signal("TERM");
            server.end();
        }
    }
    // A bit of what an account is recognised by: LMDB copies it as it is, and its checksum tells.
    let file = place.data().join("directory/data.mdb");
    let mut bytes = std::fs::read(&file).expect("it is there");
    let names: Vec<usize> = (0..bytes.len() - 64).filter(|&at| bytes[at..].starts_with(b"alice")).collect();
    assert!(!names.is_empty(), "the account is not in the file");
    for at in names {
        bytes[at + 24] ^= 1;
    }
    std::fs::write(&file, bytes).expect("it is ours");
    place.ctl(&["backup", &copy("unread")]);
    let done = place.ctl(&["backup", &copy("read"), "--verify"]);
    done.fails(1, &["is of no use", "damaged"]);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path),
        }
    }
    files
}
