//! What the programs say to bad input.

use std::net::TcpListener;
use std::process::Command;

use crate::support::{Done, Place, whimbreld};

#[test]
fn each_fault_of_the_configuration_is_one_line_and_exit_code_1() {
    let place = Place::new();
    let table: [(&str, &[&str]); 8] = [
        ("domian = 'x.org'", &["bad.toml", "unknown key `domian`", "did you mean `domain`?"]),
        ("[limits]\nstanza_byte = 1", &["`limits.stanza_byte`", "`limits.stanza_bytes`"]),
        ("\nlisten = ['nonsense']", &["bad.toml", "line 2", "nonsense"]),
        ("workers = 'many'", &["bad.toml", "line 1", "many"]),
        ("domain = [", &["bad.toml", "line 1"]),
        ("[limits]\nsessions = 0", &["limits.sessions is 0", "at least 1"]),
        ("[tls]\ncertificate = 'a.pem'", &["set both or neither"]),
        ("listen = []\nlisten_tls = []", &["nobody could connect"]),
    ];
    for (text, said) in table {
        let file = place.file("bad.toml", text);
        let file = file.to_str().unwrap();
        place.no_server(&["--config", file]).fails(1, said);
        place.no_server(&["--config", file, "--check"]).fails(1, said);
    }
    place.no_server(&["--config", "/does/not/exist.toml"]).fails(1, &["cannot read", "/does/not/exist.toml"]);
    assert!(!place.data().exists(), "a server that does not start makes nothing");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let place = Place::new();
    let table: [&[&str]; 4] =
        [&["--listen", "nonsense"], &["--driver", "kqueue"], &["--workers", "many"], &["--frobnicate"]];
    for args in table {
        place.no_server(args).fails(2, &["error:", args[0]]);
    }
    place.ctl(&["user", "add", "a@localhost"]).fails(2, &["--password"]);
    place.ctl(&["frobnicate"]).fails(2, &["frobnicate"]);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let place = Place::new();
    let folder = place.0.path().display().to_string();
    let nonsense = place.file("nonsense.pem", "nonsense").display().to_string();
    let table: [(String, &[&str]); 2] = [
        (format!("{folder}/missing.pem"), &["cannot read", "missing.pem", "tls.certificate"]),
        (nonsense.clone(), &["nonsense.pem", "no certificate in it"]),
    ];
    for (certificate, said) in table {
        let text = format!("[tls]\ncertificate = '{certificate}'\nkey = '{nonsense}'\n");
        let config = place.file("w.toml", text);
        let config = config.to_str().unwrap();
        place.no_server(&["--config", config, "--listen", "127.0.0.1:0"]).fails(1, said);
        place.check(&["--config", config]).fails(1, said);
    }
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["--listen", &address, "--listen-tls", "127.0.0.1:0", "--listen-http", "none"];
    let said = ["cannot listen on", &address, "another program uses this port"];
    place.no_server(&args).fails(1, &said);
    place.no_server(&[&args[..], &["--check"]].concat()).fails(1, &said);
    assert!(!place.data().exists(), "a server that does not start makes nothing");
}

#[test]
fn a_second_server_in_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let place = Place::new();
    let mut server = place.server(&[]);
    let args = ["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--listen-http", "none"];
    place.no_server(&args).fails(1, &["in use by process", &server.pid().to_string()]);
    // Whatever is taken for a stale lock and removed.
    for name in ["directory/whimbrel.lock", "directory/lock.mdb", "control.sock"] {
        std::fs::remove_file(place.data().join(name)).unwrap();
    }
    place.no_server(&args).fails(1, &["in use by another process"]);
    let add = ["user", "add", "--create", "a@localhost", "--password", "p"];
    place.ctl(&add).fails(1, &["in use by another process"]);
    let copy = place.0.path().join("copy").display().to_string();
    place.ctl(&["backup", &copy]).fails(1, &["in use by another process"]);
    place.ctl(&["log", "discard"]).fails(1, &["in use by another process"]);
    server.signal("TERM");
    assert!(server.end().success());
    let mut server = place.server(&[]);
    server.signal("TERM");
    assert!(server.end().success(), "the lock is gone with the process");
}

#[test]
fn a_private_key_that_others_may_read_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut server = place.server(&[]);
    server.signal("TERM");
    server.end();
    let made = place.data().join("tls");
    let (certificate, key) = (made.join("self-signed.pem"), place.0.path().join("own.key"));
    std::fs::copy(made.join("self-signed.key"), &key).unwrap();
    let text = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", certificate.display(), key.display());
    let config = place.file("w.toml", text);
    let config = config.to_str().unwrap();
    let set = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o644);
    let said = ["own.key", "everybody may use it", "chmod 600"];
    place.no_server(&["--config", config, "--listen", "127.0.0.1:0"]).fails(1, &said);
    place.check(&["--config", config]).fails(1, &said);
    let doctor = place.ctl(&["doctor", "--config", config]);
    assert!(doctor.out.contains("chmod 600"), "{doctor:?}");
    set(0o600);
    assert_eq!(place.check(&["--config", config]).code, 0);
    let _server = place.server(&["--config", config]);
    assert_eq!(place.ctl(&["reload"]).code, 0);
    set(0o660);
    place.ctl(&["reload"]).fails(1, &["own.key", "its group may change it", "chmod 600"]);
}

#[test]
fn a_directory_of_another_domain_is_refused() {
    let place = Place::new();
    assert_eq!(place.ctl(&["user", "add", "--create", "a@one.example", "--password", "p"]).code, 0);
    let args = ["--domain", "two.example", "--listen", "127.0.0.1:0"];
    place.no_server(&args).fails(1, &["one.example", "two.example"]);
    place.check(&["--domain", "two.example"]).fails(1, &["one.example", "two.example"]);
}

#[test]
fn a_file_in_the_place_of_the_data_directory_is_named() {
    let place = Place::new();
    place.file("data", "a file");
    place.no_server(&["--listen", "127.0.0.1:0"]).fails(1, &["data"]);
    place.check(&[]).fails(1, &["data"]);
    place.ctl(&["user", "add", "a@localhost", "--password", "p"]).fails(1, &["data"]);
}

/// On a read-only mount in a namespace of its own, which also stops root.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_system_is_named() {
    let place = Place::new();
    let folder = place.0.path().join("mount");
    std::fs::create_dir(&folder).unwrap();
    let run = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o ro none '{0}' && exec {program}", folder.display()));
        Done::of(command, "")
    };
    if run("true").code != 0 {
        // Namespaces are forbidden here: ordinary users are stopped by the mode.
        return a_folder_that_cannot_be_written_is_named();
    }
    let data = folder.join("data");
    let ports = "--listen 127.0.0.1:0 --listen-tls 127.0.0.1:0 --listen-http none";
    for args in [ports.to_owned(), format!("{ports} --check")] {
        let done = run(&format!("'{}' --data '{}' {args}", whimbreld().display(), data.display()));
        done.fails(1, &["mount", "ead-only file system"]);
    }
}

#[cfg(target_os = "linux")]
fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    std::fs::create_dir(place.data()).expect("the folder is ours");
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o500)).expect("it is ours");
    place.no_server(&["--listen", "127.0.0.1:0"]).fails(1, &["data", "ermission denied"]);
}

#[test]
fn commands_for_a_running_server_say_that_none_runs() {
    let place = Place::new();
    for command in ["status", "queues", "busiest", "sessions", "drain", "stop", "reload"] {
        place.ctl(&[command]).fails(1, &["no server runs in", "--data"]);
    }
    let done = place.ctl(&["kick", "a@localhost", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&done.err).expect("JSON on standard error");
    assert_eq!((done.code, &error["error"]["kind"]), (1, &"not-running".into()));
}

#[test]
fn completions_and_man_pages_are_made_for_both_programs() {
    let place = Place::new();
    let out = place.0.path().join("man");
    let man = out.to_str().unwrap();
    assert_eq!(place.ctl(&["man", man]).code, 0);
    assert!(place.ctl(&["completions", "bash"]).out.contains("whimbrelctl"));
    let server = |args: &[&str]| {
        let mut command = Command::new(whimbreld());
        command.args(args);
        Done::of(command, "")
    };
    assert_eq!(server(&["--man", man]).code, 0);
    assert!(server(&["--completions", "bash"]).out.contains("--allow-plaintext"));
    for (page, text) in [
        ("whimbreld.8", "allow"),
        ("whimbrel.toml.5", "sm_resume_seconds"),
        ("whimbrelctl.1", "doctor"),
        ("whimbrelctl-user-add.1", "generate"),
    ] {
        let page = std::fs::read_to_string(out.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(page.contains(text));
    }
}
