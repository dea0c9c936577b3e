//! `whimbreld --check` fails for what cannot start, and a start that fails leaves nothing behind.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Place, whimbrelctl};

const DAY: u64 = 24 * 3600;

/// A configuration with a certificate that is valid for so many days from now, and key.
fn certificate(place: &Place, days: i64) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());
    let span = Duration::from_secs(days.unsigned_abs() * DAY);
    params.not_before = now - Duration::from_secs(400 * DAY);
    params.not_after = if days < 0 { now - span } else { now + span };
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    let chain = place.file("c.pem", made.pem());
    let secret = place.file("c.key", key.serialize_pem());
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let text = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", chain.display(), secret.display());
    place.file("w.toml", text).display().to_string()
}

#[test]
fn a_certificate_near_its_end_or_beyond_it_is_a_fault() {
    let place = Place::new();
    for (days, said) in [(-3, "has expired"), (9, "expires in ")] {
        let config = certificate(&place, days);
        place.check(&["--config", &config]).fails(1, &["c.pem", said, "renew it"]);
    }
    let config = certificate(&place, 60);
    let done = place.check(&["--config", &config]);
    assert_eq!(done.code, 0, "{done:?}");
    // One that is about to expire is no reason not to serve.
    let config = certificate(&place, 9);
    place.server(&["--config", &config]);
}

#[test]
fn an_address_that_cannot_be_had_is_a_fault_before_anything_is_made() {
    let place = Place::new();
    // TEST-NET-1 (RFC 5737) belongs to nobody.
    let lacking = ["--listen", "192.0.2.1:5222", "--listen-tls", "127.0.0.1:0", "--listen-http", "none"];
    let said = ["cannot listen on 192.0.2.1:5222", "this machine has no such address"];
    place.no_server(&[&lacking[..], &["--check"]].concat()).fails(1, &said);
    place.no_server(&lacking).fails(1, &said);
    for pair in
        [["[::]:5222", "0.0.0.0:5222"], ["0.0.0.0:5222", "127.0.0.1:5222"], ["127.0.0.1:1", "127.0.0.1:1"]]
    {
        let args = ["--listen", pair[0], "--listen-tls", pair[1]];
        place.no_server(&[&args[..], &["--check"]].concat()).fails(1, &["listen_tls has", pair[1]]);
        place.no_server(&args).fails(1, &["listen_tls has", pair[1]]);
    }
    assert!(!place.data().exists());
}

#[test]
fn a_user_who_is_not_there_is_a_fault() {
    let place = Place::new();
    let config = place.file("w.toml", "user = 'no-such-user-here'\n").display().to_string();
    let said = ["no user \"no-such-user-here\""];
    place.check(&["--config", &config]).fails(1, &said);
    place
        .no_server(&[
            "--config",
            &config,
            "--listen",
            "127.0.0.1:0",
            "--listen-tls",
            "127.0.0.1:0",
            "--listen-http",
            "none",
        ])
        .fails(1, &said);
    let config =
        place.file("w.toml", "user = 'nobody'\ngroup = 'no-such-group-here'\n").display().to_string();
    place.check(&["--config", &config]).fails(1, &["no group \"no-such-group-here\""]);
    assert!(!place.data().exists());
}

#[test]
fn logins_without_tls_where_others_listen_are_a_fault() {
    let place = Place::new();
    let args = [
        "--allow-plaintext",
        "--listen",
        "0.0.0.0:0",
        "--listen-tls",
        "127.0.0.1:0",
        "--listen-http",
        "none",
        "--check",
    ];
    place.no_server(&args).fails(1, &["allow_plaintext", "0.0.0.0:0", "in the clear"]);
    let done = place.check(&["--allow-plaintext"]);
    assert!(done.code == 0 && done.out.contains("on loopback addresses"), "{done:?}");
}

#[test]
fn a_folder_with_other_files_is_not_taken_for_a_data_directory() {
    let place = Place::new();
    place.file("data/thesis.tex", "years of work");
    let said = ["data", "thesis.tex", "other files"];
    place.check(&[]).fails(1, &said);
    place
        .no_server(&["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--listen-http", "none"])
        .fails(1, &said);
    let names: Vec<_> = std::fs::read_dir(place.data()).expect("it is there").collect();
    assert_eq!(names.len(), 1);
}

/// The gateway is looked at after directory, certificate and log were made.
#[test]
fn a_start_that_fails_late_leaves_nothing_behind_but_what_was_there() {
    let place = Place::new();
    let text = "listen = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\nhttp.listen = []\n[registration]\nin_band = true\n\
                gateway = 'webhook'\nwebhook_url = 'https://sms.example/'\nwebhook_secret_file = '/nowhere/secret'\n";
    let config = place.file("w.toml", text).display().to_string();
    place.no_server(&["--config", &config]).fails(1, &["/nowhere/secret"]);
    assert!(!place.data().exists(), "the start has left something");
    // The folder was there, and with it a note.
    place.file("data/.note", "mine");
    place.no_server(&["--config", &config]).fails(1, &["/nowhere/secret"]);
    let names = || -> Vec<_> {
        std::fs::read_dir(place.data())
            .expect("it is there")
            .map(|entry| entry.expect("a file").file_name())
            .collect()
    };
    assert_eq!(names(), [".note"]);
    // Accounts were there: they stay, and a later start serves them.
    assert_eq!(place.ctl(&["user", "add", "--create", "a@localhost", "--password", "p"]).code, 0);
    place.no_server(&["--config", &config]).fails(1, &["/nowhere/secret"]);
    let _server = place.server(&[]);
    assert_eq!(place.ctl(&["user", "list"]).out, "a@localhost\n");
    // The second to come takes nothing from the first.
    place.no_server(&["--config", &config]).fails(1, &["in use by"]);
    assert_eq!(place.ctl(&["user", "list"]).out, "a@localhost\n");
}

#[test]
fn no_message_shows_numbers_of_the_system_or_types_of_the_program() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    let bad = place.file("bad.toml", "workers = 'many'\n").display().to_string();
    let list = place.file("list.toml", "listen = '127.0.0.1:0'\n").display().to_string();
    let table: [&[&str]; 4] =
        [&["--config", "/nowhere.toml"], &["--config", &bad], &["--config", &list], &["--listen", &address]];
    for args in table {
        let done = place.no_server(args);
        for word in ["os error", "expected", "invalid type", "u32"] {
            assert!(done.code == 1 && !done.err.contains(word), "{word}: {done:?}");
        }
    }
    let mut command = std::process::Command::new(whimbrelctl());
    command.args(["--data", "/proc/1/nowhere", "user", "import", "/nowhere.tsv"]);
    let done = crate::support::Done::of(command, "");
    assert!(done.err.contains("/nowhere.tsv: No such file") && !done.err.contains("os error"), "{done:?}");
}
