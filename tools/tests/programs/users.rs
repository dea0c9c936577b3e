//! `whimbrelctl user …`, with a server and without: the answers are the same.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use crate::support::{Client, Done, Place, whimbrelctl, whimbreld};

/// Runs a test without a server, then with one.
fn both(test: impl Fn(&Place)) {
    let place = Place::new();
    test(&place);
    let place = Place::new();
    let mut server = place.server(&[]);
    test(&place);
    server.signal("TERM");
    assert!(server.end().success());
}

#[test]
fn accounts_are_added_listed_changed_and_deleted() {
    both(|place| {
        let quiet = |args: &[&str]| {
            let done = place.ctl(args);
            assert!(done.code == 0 && done.out.is_empty() && done.err.is_empty(), "{args:?}: {done:?}");
        };
        quiet(&["user", "add", "--create", "Bob@localhost", "--password", "p"]);
        quiet(&["user", "add", "--create", "alice@localhost", "--password", "p"]);
        assert_eq!(place.ctl(&["user", "list"]).out, "alice@localhost\nbob@localhost\n");
        let list = serde_json::json!({ "accounts": ["alice@localhost", "bob@localhost"] });
        assert_eq!(place.json(&["user", "list"]), list);
        quiet(&["user", "passwd", "bob@localhost", "--password", "q"]);
        quiet(&["user", "del", "bob@localhost"]);
        assert_eq!(place.ctl(&["user", "list"]).out, "alice@localhost\n");

        let again = ["user", "add", "alice@localhost", "--password", "p"];
        place.ctl(&again).fails(1, &["alice@localhost exists already", "user passwd"]);
        place.ctl(&["user", "del", "bob@localhost"]).fails(1, &["there is no account bob@localhost"]);
        let gone = ["user", "passwd", "bob@localhost", "--password", "p"];
        place.ctl(&gone).fails(1, &["there is no account bob@localhost"]);
        for (jid, text) in [
            ("a@other.example", "not of other.example"),
            ("localhost", "names no account"),
            ("a@localhost/x", "has a resource"),
            ("a b@localhost", "not an address"),
        ] {
            place.ctl(&["user", "add", jid, "--password", "p"]).fails(1, &[text]);
        }
        place.ctl(&["user", "add", "c@localhost", "--password", ""]).fails(1, &["password is empty"]);
        assert_eq!(place.ctl(&["user", "list"]).out, "alice@localhost\n");
    });
}

#[test]
fn what_an_account_says_of_itself_is_set_and_told() {
    both(|place| {
        place.ctl(&["user", "add", "--create", "alice@localhost", "--password", "p"]);
        let config = |set: &[&str]| place.ctl(&[&["user", "config", "alice@localhost"], set].concat());
        assert_eq!(config(&[]).out, "groups.add=default\n");
        let done = config(&["groups.add=nobody"]);
        assert!(done.code == 0 && done.out.is_empty() && done.err.is_empty(), "{done:?}");
        assert_eq!(config(&[]).out, "groups.add=nobody\n");
        let told = place.json(&["user", "config", "alice@localhost"]);
        assert_eq!(told, serde_json::json!({ "settings": { "groups.add": "nobody" } }));
        config(&["groups.add=somebody"]).fails(1, &["everyone, contacts, nobody or default"]);
        config(&["colour=red"]).fails(1, &["no setting `colour`"]);
        config(&["groups.add"]).fails(2, &["NAME=VALUE"]);
        assert_eq!(config(&[]).out, "groups.add=nobody\n", "nothing of it was set");
        let nobody = ["user", "config", "bob@localhost", "groups.add=nobody"];
        place.ctl(&nobody).fails(1, &["there is no account bob@localhost"]);
    });
}

#[test]
fn nothing_is_listed_or_made_where_no_accounts_are() {
    let place = Place::new();
    let data = place.data().display().to_string();
    place.ctl(&["user", "list"]).fails(1, &["there are no accounts in", &data, "--data"]);
    // An address with a slip in `--data` must not make accounts that no server knows.
    let add = ["user", "add", "a@localhost", "--password", "p"];
    place.ctl(&add).fails(1, &["there are no accounts in", &data, "--create"]);
    let file = place.file("users.tsv", "a@localhost\tx\n");
    place.ctl(&["user", "import", file.to_str().unwrap()]).fails(1, &["there are no accounts in", &data]);
    place.ctl(&["backup", place.file("b", "").with_file_name("copy").to_str().unwrap()]).fails(1, &[&data]);
    place.ctl(&["log", "discard"]).fails(1, &["there is no server's data in", &data]);
    place.ctl(&["user", "del", "a@localhost"]).fails(1, &["there are no accounts in"]);
    assert!(!place.data().exists());
}

#[test]
fn a_generated_password_is_printed_once_and_logs_in() {
    let place = Place::new();
    let password = place.ctl(&["user", "add", "--create", "alice@localhost", "--generate"]).out;
    assert!(password.trim().len() >= 20 && password.lines().count() == 1, "{password}");
    let _server = place.server(&["--allow-plaintext"]);
    Client::login(&place, "alice", password.trim(), "r").expect("the password is right");

    let changed = place.json(&["user", "passwd", "alice@localhost", "--generate"]);
    let new = changed["password"].as_str().expect("it is shown");
    assert!(Client::login(&place, "alice", password.trim(), "r").is_err(), "the old password still works");
    Client::login(&place, "alice", new, "r").expect("the new password is right");
}

#[test]
fn a_password_from_standard_input_logs_in_and_a_deleted_account_does_not() {
    let place = Place::new();
    let _server = place.server(&["--allow-plaintext"]);
    let done = place.ctl_with(&["user", "add", "bob@localhost", "--password-stdin"], "pass word\nmore\n");
    assert_eq!(done.code, 0, "{done:?}");
    let mut client = Client::login(&place, "bob", "pass word", "r").expect("the password is right");
    assert_eq!(place.json(&["user", "del", "bob@localhost"])["kicked"], 1);
    client.hear("not-authorized");
    assert!(Client::login(&place, "bob", "pass word", "r").is_err(), "a deleted account logs in");
}

/// A terminal: the end of the person who types, and that of the program.
fn terminal() -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the system writes two descriptors, which live through the call; nothing else is asked for.
    let made = unsafe { libc::openpty(&raw mut person, &raw mut program, none, none.cast(), none.cast()) };
    assert_eq!(made, 0, "a terminal can be had");
    // SAFETY: just made, and nobody else's.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// Runs whimbrelctl at a terminal and types an answer to each question. Returns its exit code and what it has said, and
/// what the terminal has shown.
fn at_terminal(place: &Place, args: &[&str], answers: &[(&str, &str)]) -> (i32, String, String) {
    let (mut person, program) = terminal();
    let mut command = Command::new(whimbrelctl());
    command.arg("--data").arg(place.data()).args(args).stdin(program).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    // It holds the other end of the terminal, too.
    drop(command);
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    for (question, answer) in answers {
        while !said.contains(question) {
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).expect("a pipe"), 1, "`{question}` is not asked: {said}");
            said.push(byte[0].into());
        }
        said.push_str("[…]");
        person.write_all(answer.as_bytes()).expect("a terminal");
    }
    stderr.read_to_string(&mut said).expect("a pipe");
    let code = child.wait().expect("it ends").code().expect("it is not killed");
    let mut shown = Vec::new();
    // The end of the other side is an error on Linux.
    let _ = person.read_to_end(&mut shown);
    (code, said, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn without_a_flag_the_password_is_asked_for_twice_and_not_shown() {
    let place = Place::new();
    let _server = place.server(&["--allow-plaintext"]);
    let add = ["user", "add", "carol@localhost"];
    let twice = [("Password for carol@localhost: ", "wronk\x7fg pass\r"), ("Again: ", "wrong pass\r")];
    let (code, said, shown) = at_terminal(&place, &add, &twice);
    assert_eq!((code, shown.as_str()), (0, ""), "{said}");
    Client::login(&place, "carol", "wrong pass", "r").expect("the password is what was typed");

    let passwd = ["user", "passwd", "carol@localhost"];
    let (code, said, _) = at_terminal(&place, &passwd, &[("Password", "one\r"), ("Again: ", "two\r")]);
    assert!(code == 1 && said.contains("differ; nothing was changed"), "{said}");
    let (code, said, _) = at_terminal(&place, &passwd, &[("Password", "one\x03")]);
    assert!(code == 1 && said.contains("given up; nothing was changed"), "{said}");
    Client::login(&place, "carol", "wrong pass", "r").expect("the password is as it was");
    // Without a terminal nobody can be asked.
    place.ctl(&passwd).fails(2, &["--password-stdin", "--generate"]);
}

#[test]
fn an_empty_listing_says_so_and_stays_empty_for_programs() {
    let place = Place::new();
    let _server = place.server(&[]);
    let table: [(&[&str], &str); 4] = [
        (&["user", "list"], "localhost has no accounts yet"),
        (&["sessions"], "nobody is logged in"),
        (&["sessions", "--user", "a@localhost"], "a@localhost is not logged in"),
        (&["log", "dump", "--waiting"], "no message waits"),
    ];
    for (args, said) in table {
        let done = place.ctl(args);
        assert!(done.code == 0 && done.out.is_empty() && done.err.contains(said), "{args:?}: {done:?}");
        let done = place.ctl(&[args, &["--json"]].concat());
        assert!(done.code == 0 && done.err.is_empty(), "{args:?}: {done:?}");
    }
}

#[test]
fn the_data_directory_is_named_by_the_environment_and_told() {
    let place = Place::new();
    let data = place.data().display().to_string();
    let run = |args: &[&str]| {
        let mut command = Command::new(whimbrelctl());
        command.args(args).env("WHIMBREL_DATA", &data).current_dir(place.0.path());
        Done::of(command, "")
    };
    let done = run(&["user", "add", "--create", "a@localhost", "--password", "p"]);
    assert!(
        done.code == 0 && done.err.contains(&format!("data directory {data}, from WHIMBREL_DATA")),
        "{done:?}"
    );
    let other = place.0.path().join("other").display().to_string();
    let done = run(&["--data", &other, "user", "list"]);
    assert!(done.code == 1 && done.err.contains(&other) && !done.err.contains("WHIMBREL_DATA"), "{done:?}");
    assert!(!place.0.path().join("other").exists(), "a directory is made without --create");
    assert!(run(&["status"]).err.contains("no server runs in"));
}

/// In a namespace of its own, where no other servers are.
#[cfg(target_os = "linux")]
#[test]
fn the_server_that_runs_is_found_wherever_its_data_is() {
    let place = Place::new();
    let run = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c", script]);
        command.current_dir(place.0.path()).env_remove("WHIMBREL_DATA");
        Done::of(command, "")
    };
    if run("true").code != 0 {
        eprintln!("skipped: namespaces are forbidden here");
        return;
    }
    place.file(
        "w.toml",
        "data = 'sub/data'\nlisten = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\nhttp.listen = []\n",
    );
    let (server, ctl) = (whimbreld().display().to_string(), whimbrelctl().display().to_string());
    let done = run(&format!(
        "'{server}' --config w.toml 2>log & for i in $(seq 1800); do [ -S sub/data/control.sock ] && break; sleep 0.1; \
         done; cd / && '{ctl}' user list && '{ctl}' status && '{ctl}' stop && wait"
    ));
    let data = place.0.path().join("sub/data").canonicalize().expect("it was made");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.err.contains("where process ") && done.err.contains(&data.display().to_string()),
        "{done:?}"
    );
    assert!(done.out.contains("serving localhost"), "{done:?}");
}
