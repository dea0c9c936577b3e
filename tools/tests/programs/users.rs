//! `whimbrelctl user …`, with a server and without: the answers are the same.

use crate::support::{Client, Place};

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
