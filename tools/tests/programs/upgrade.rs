//! Upgrades of the real server under real connections: what stays, what refuses, and what leads back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::support::{Client, PATIENCE, Place, Server, whimbreld};

/// A place with two accounts and a configuration that can be changed between upgrades.
fn place() -> Place {
    let place = Place::new();
    for user in ["alice", "bob"] {
        assert_eq!(
            place.ctl(&["user", "add", "--create", &format!("{user}@localhost"), "--password", "p"]).code,
            0
        );
    }
    configure(&place, "mio", 2, "");
    place
}

fn configure(place: &Place, driver: &str, workers: u32, more: &str) -> String {
    let text = format!(
        "driver = '{driver}'\nworkers = {workers}\nallow_plaintext = true\npin_workers = false\n\
         listen = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\nhttp.listen = []\nlog_segment_mib = 2\ndirectory_gib_max = 1\n{more}"
    );
    place.file("w.toml", text).to_str().expect("a path of ours").to_owned()
}

fn start(place: &Place, environment: &[(&str, &str)]) -> Server {
    let mut command = Command::new(whimbreld());
    command.arg("--data").arg(place.data()).arg("--config").arg(place.0.path().join("w.toml"));
    command.envs(environment.iter().copied());
    Server::start(command)
}

/// A program that answers an upgrade's questions as the script says; `$REAL` is the true one.
fn script(place: &Place, name: &str, text: &str) -> String {
    let path = place.file(name, format!("#!/bin/sh\nREAL='{}'\n{text}\n", whimbreld().display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("a path of ours").to_owned()
}

/// The fewest that are open in a fifth of a second: what is just being closed does not count.
fn descriptors(pid: u32) -> usize {
    let look = |_| {
        std::thread::sleep(Duration::from_millis(10));
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server runs").count()
    };
    (0..20).map(look).min().expect("there were some")
}

/// Waits, and fails when it does not come to pass.
fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
    }
}

/// Sends messages both ways and waits until they come.
fn talk(alice: &mut Client, bob: &mut Client, about: &str) {
    for (from, to, name) in [(0, 1, "bob"), (1, 0, "alice")] {
        let pair = [&mut *alice, &mut *bob];
        pair[from].say(&format!(
            "<message to='{name}@localhost' type='chat'><body>{about} {from}</body></message>"
        ));
        pair[to].hear(&format!("{about} {from}</body>"));
    }
}

#[test]
fn connections_live_through_upgrades_to_other_drivers_and_numbers_of_workers() {
    let place = place();
    let mut server = start(&place, &[]);
    let pid = server.pid();
    let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
    let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
    for client in [&mut alice, &mut bob] {
        client.say("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        client.hear("<enabled");
    }
    talk(&mut alice, &mut bob, "before");
    // Half a stanza is on its way.
    alice.say("<message to='bob@localhost' type='chat'><body>first half");
    let address = place.address();
    let mut first = None;
    let table = [("mio", 2), ("uring", 2), ("uring", 1), ("mio", 3), ("mio", 1), ("uring", 2), ("mio", 2)];
    for (round, (driver, workers)) in table.into_iter().enumerate() {
        configure(&place, driver, workers, "");
        let answer = place.json(&["upgrade"]);
        assert_eq!(answer["sessions"], 2, "{answer}");
        assert_eq!(answer["pid"], pid, "{answer}");
        assert_eq!(answer["closed"], serde_json::json!({}), "{answer}");
        server.wait_for_log("upgraded from");
        alice.say(&format!(", second half {round}</body></message>"));
        bob.hear(&format!("second half {round}</body>"));
        talk(&mut alice, &mut bob, &format!("round {round}"));
        alice.say("<r xmlns='urn:xmpp:sm:3'/>");
        // Everything was counted: one in each of the rounds before, and this one's two.
        alice.hear(&format!("h=\"{}\"", 3 + 2 * round).replace('"', "'"));
        alice.say("<message to='bob@localhost' type='chat'><body>first half");
        let status = place.json(&["status"]);
        assert_eq!((&status["workers"], &status["connections"]), (&workers.into(), &2.into()), "{status}");
        assert_eq!(place.address(), address, "the port stays");
        // A client that comes now finds the server as well.
        drop(Client::login(&place, "bob", "p", "visitor").expect("the password is right"));
        await_that("the visitor stays", || place.json(&["status"])["connections"] == 2);
        if (driver, workers) == ("mio", 2) {
            let first = *first.get_or_insert_with(|| descriptors(pid));
            // The two listeners of a third worker stay: clients may wait in them.
            await_that("descriptors are left behind", || descriptors(pid) <= first + 2);
        }
    }
    drop((alice, bob));
    assert_eq!(place.ctl(&["stop"]).code, 0);
    assert!(server.end().success());
}

/// What a client has said once of the nodes that it wants to hear of is known to the next program, whatever the number of its
/// workers.
#[test]
fn clients_hear_of_the_nodes_that_they_want_after_an_upgrade() {
    const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'>\
        <identity category='client' type='pc' name='test'/><feature var='n+notify'/></query>";
    let place = place();
    let _server = start(&place, &[]);
    let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
    // The hash of INFO (XEP-0115).
    alice.say(
        "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:test' \
         ver='bw46mwrAOcbApCn2FgxYo5jOJsg='/></presence>",
    );
    alice.hear("urn:test#bw46mwrAOcbApCn2FgxYo5jOJsg=");
    alice.say(&format!("<iq type='result' id='caps' to='localhost'>{INFO}</iq>"));
    for workers in [3, 1, 2] {
        configure(&place, "mio", workers, "");
        assert_eq!(place.json(&["upgrade"])["closed"], serde_json::json!({}));
        alice.say(&format!(
            "<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='n'>\
             <item id='i'><note xmlns='urn:note'>with {workers} workers</note></item></publish></pubsub></iq>"
        ));
        alice.hear(&format!("with {workers} workers</note></item></items></event></message>"));
    }
    assert!(!alice.has_heard_twice("disco#info"), "it is asked once");
}

#[test]
fn what_an_upgrade_closes_is_counted_once() {
    let place = place();
    let _server = start(&place, &[]);
    // In the middle of a login.
    let mut socket = TcpStream::connect(place.address()).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let begun = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                 to='localhost' version='1.0'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
                 mechanism='SCRAM-SHA-256'>biwsbj1hbGljZSxyPWFiYw==</auth>";
    socket.write_all(begun.as_bytes()).expect("the server reads");
    let mut said = Vec::new();
    while !said.windows(10).any(|window| window == b"<challenge") {
        let mut buffer = [0; 4096];
        let count = socket.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "the server has closed: {}", said.escape_ascii());
        said.extend_from_slice(&buffer[..count]);
    }
    let answer = place.json(&["upgrade"]);
    assert_eq!(answer["closed"], serde_json::json!({"in the middle of a login": 1}), "{answer}");
}

#[test]
fn what_is_unacknowledged_is_sent_again_after_an_upgrade_to_another_number_of_workers() {
    let place = place();
    let _server = start(&place, &[]);
    let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
    let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
    bob.say("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let id = bob.hear_attribute("<enabled", "id");
    for n in 0..20 {
        alice.say(&format!("<message to='bob@localhost' type='chat'><body>message {n}.</body></message>"));
    }
    bob.hear("message 19.</body>");
    // One of the messages is acknowledged before the upgrade, some after it; the connection is lost in between.
    bob.say("<a xmlns='urn:xmpp:sm:3' h='1'/>");
    drop(bob);
    configure(&place, "mio", 3, "");
    assert_eq!(place.json(&["upgrade"])["workers"], 3);
    let mut bob = Client::before_binding(&place.address(), "bob", "p").expect("the password is right");
    bob.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='5'/>"));
    bob.hear("<resumed");
    for n in 5..20 {
        bob.hear(&format!("message {n}.</body>"));
    }
    assert!(!bob.has_heard("message 4.</body>"), "what was acknowledged comes again");
    bob.say("<a xmlns='urn:xmpp:sm:3' h='20'/>");
    bob.say("</stream:stream>");
    bob.hear("</stream:stream>");
    let mut bob = Client::login(&place, "bob", "p", "c").expect("the password is right");
    bob.say("<presence/><iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    bob.hear("id='p'");
    assert!(!bob.has_heard("message"), "what was acknowledged waits again");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a test that is one story")]
fn a_program_that_cannot_take_over_changes_nothing_and_the_command_says_why() {
    let place = place();
    configure(&place, "mio", 2, "[limits]\nupgrade_seconds = 5\n");
    let mut server = start(&place, &[]);
    let pid = server.pid();
    let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
    let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
    alice.say("<presence/>");
    bob.say("<presence/>");

    let not_executable = place.file("not-executable", "x").to_str().expect("a path of ours").to_owned();
    let mut elf = std::fs::read(whimbreld()).expect("the program is there")[..4096].to_vec();
    // Bytes 18 and 19 name the machine: an old one of IBM's, which this is not.
    elf[18..20].copy_from_slice(&22u16.to_ne_bytes());
    let foreign: PathBuf = place.file("foreign", elf);
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let foreign = foreign.to_str().expect("a path of ours").to_owned();
    let folder = place.0.path().to_str().expect("a path of ours").to_owned();
    let future = script(
        &place,
        "future",
        r#"echo '{"whimbreld":"9.9.9","states":[98,99],"domain":"localhost","data":"'"$PWD"'","workers":0}'"#,
    );
    // It reads the frame and no kind of block.
    let lacking = script(
        &place,
        "lacking",
        &format!(
            r#"case "$*" in *--upgrade-rehearse*) echo '{{}}';; *) echo '{{"whimbreld":"9.9.9","states":[2,2],"kinds":{{}},"domain":"localhost","data":"{folder}/data","workers":0}}';; esac"#
        ),
    );
    let other = script(&place, "other", "echo hello");
    let crashes = script(
        &place,
        "crashes",
        r#"case "$*" in *--upgrade-rehearse*) kill -SEGV $$;; *) exec "$REAL" "$@";; esac"#,
    );
    let hangs = script(
        &place,
        "hangs",
        r#"case "$*" in *--upgrade-rehearse*) exec sleep 1000;; *) exec "$REAL" "$@";; esac"#,
    );
    // The sample is read, the true state is not.
    let late = script(
        &place,
        "late",
        &format!(
            r#"case "$*" in *--upgrade-rehearse*) if [ -e '{folder}/seen' ]; then kill -SEGV $$; fi; : > '{folder}/seen';; esac; exec "$REAL" "$@""#
        ),
    );
    let table = [
        ("/no/such/program", "there is no program /no/such/program"),
        (&not_executable, "not executable"),
        (&foreign, "another architecture"),
        (&folder, "is no file"),
        (&future, "reads versions 98 to 99 of the state, this server writes versions 2"),
        // Of the sessions or of the log, whichever worker is heard first.
        (&lacking, "`, and this server has some"),
        (&other, "does not answer as whimbreld does"),
        (&crashes, "crashed with signal 11 on restoring"),
        (&hangs, "hangs while it restores"),
        (&late, "crashed with signal 11 on restoring"),
    ];
    for (round, (program, said)) in table.into_iter().enumerate() {
        let done = place.ctl(&["upgrade", "--binary", program]);
        assert_eq!(done.code, 1, "{program}: {done:?}");
        assert!(done.err.contains(said), "{program}: {done:?}");
        talk(&mut alice, &mut bob, &format!("still here {round}"));
    }
    server.wait_for_log("not upgraded, everything goes on");

    // The configuration is read anew, and a bad one refuses the upgrade.
    for (more, said) in [
        ("[limits]\nsession = 7\n", "unknown key `limits.session`"),
        ("domain = 'other.example'\n", "needs a restart"),
        ("[tls]\ncertificate = '/no/such/file'\nkey = '/no/such/file'\n", "/no/such/file"),
    ] {
        configure(&place, "mio", 2, more);
        let done = place.ctl(&["upgrade"]);
        assert!(done.code == 1 && done.err.contains(said), "{more}: {done:?}");
        talk(&mut alice, &mut bob, "still here");
    }
    assert_eq!(place.json(&["status"])["pid"], pid);
    // And then it works all the same.
    configure(&place, "mio", 2, "");
    assert_eq!(place.json(&["upgrade"])["sessions"], 2);
    talk(&mut alice, &mut bob, "after");
}

#[test]
fn a_restore_that_fails_leads_back_to_the_program_before() {
    for (fault, said) in [
        ("panic", "panicked"),
        ("abort", "SIGABRT"),
        ("crash", "SIGSEGV"),
        ("hang", "not done with restoring after 5 seconds"),
    ] {
        let place = place();
        configure(&place, "mio", 2, "[limits]\nupgrade_seconds = 5\n");
        let mut server = start(&place, &[("WHIMBREL_UPGRADE_FAULT", fault)]);
        let pid = server.pid();
        let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
        let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
        alice.say("<presence/>");
        bob.say("<presence/>");
        // Twice, because the way back must lead to a program that can be upgraded again; once where it takes long.
        for round in 0..if fault == "hang" { 1 } else { 2 } {
            // The way back leads from another number of workers as well.
            configure(&place, "uring", 2 + round, "[limits]\nupgrade_seconds = 5\n");
            let done = place.ctl(&["upgrade"]);
            assert_eq!(done.code, 1, "{fault}: {done:?}");
            assert!(done.err.contains(said) && done.err.contains("goes on"), "{fault}: {done:?}");
            server.wait_for_log("could not take over");
            talk(&mut alice, &mut bob, &format!("after {fault} {round}"));
        }
        let status = place.json(&["status"]);
        assert_eq!((&status["pid"], &status["connections"]), (&pid.into(), &2.into()), "{status}");
        assert_eq!(
            (&status["workers"], &status["driver"]),
            (&2.into(), &"mio".into()),
            "as it was: {status}"
        );
        let name =
            std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "whimbreld".into());
        assert_eq!(name.trim(), "whimbreld");
        assert_eq!(place.ctl(&["stop"]).code, 0);
        assert!(server.end().success());
    }
}

#[test]
fn an_address_that_cannot_be_bound_leads_back_to_the_program_before() {
    let place = place();
    let mut server = start(&place, &[]);
    let mut alice = Client::login(&place, "alice", "p", "a").expect("the password is right");
    let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
    alice.say("<presence/>");
    bob.say("<presence/>");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let text = std::fs::read_to_string(place.0.path().join("w.toml")).expect("it is ours");
    place
        .file("w.toml", text.replacen("['127.0.0.1:0']", &format!("['127.0.0.1:0', '127.0.0.1:{port}']"), 1));
    let done = place.ctl(&["upgrade"]);
    assert!(done.code == 1 && done.err.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{done:?}");
    server.wait_for_log("could not take over");
    talk(&mut alice, &mut bob, "after");
    drop(taken);
    assert_eq!(place.json(&["upgrade"])["sessions"], 2);
    talk(&mut alice, &mut bob, "at last");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "the new address is listened on");
}

/// Says something and reads until the answer has a text in it.
fn exchange(stream: &mut (impl Read + Write), say: &str, until: &str) {
    stream.write_all(say.as_bytes()).expect("the server reads");
    let (mut heard, mut piece) = (String::new(), [0; 4096]);
    while !heard.contains(until) {
        let count = stream.read(&mut piece).expect("the server answers");
        assert!(count > 0, "the server has ended the stream: {heard}");
        heard.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

/// Logs in over TLS.
fn login_over_tls(place: &Place, user: &str) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                  to='localhost' version='1.0'>";
    let mut socket = TcpStream::connect(place.address()).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    exchange(&mut socket, header, "</stream:features>");
    exchange(&mut socket, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed");
    let mut roots = rustls::RootCertStore::empty();
    let path = place.data().join("tls/self-signed.pem");
    for certificate in CertificateDer::pem_file_iter(path).expect("the server keeps its certificate here") {
        roots.add(certificate.expect("a certificate")).expect("it is one");
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = rustls::ClientConnection::new(config.into(), name).expect("a configuration");
    let mut stream = rustls::StreamOwned::new(tls, socket);
    exchange(&mut stream, header, "</stream:features>");
    let message = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0p"));
    let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>");
    exchange(&mut stream, &auth, "<success");
    exchange(&mut stream, header, "</stream:features>");
    let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    exchange(&mut stream, bind, "</jid>");
    stream
}

#[test]
fn stanzas_that_wait_in_front_of_a_tls_close_are_handled_after_an_upgrade() {
    const MESSAGES: u32 = 20;
    for driver in ["mio", "uring"] {
        let place = place();
        // After a few stanzas the rest waits.
        let slow = "[limits]\nconnection_stanzas_per_second = 1\nconnection_stanzas_burst = 3\n";
        configure(&place, driver, 1, slow);
        let mut server = start(&place, &[]);
        let mut bob = Client::login(&place, "bob", "p", "b").expect("the password is right");
        bob.say("<presence/>");
        let mut alice = login_over_tls(&place, "alice");
        let texts = (0..MESSAGES).map(|n| {
            format!("<message to='bob@localhost' type='chat'><body>last words {n};</body></message>")
        });
        alice.write_all(texts.collect::<String>().as_bytes()).expect("the server reads");
        alice.conn.send_close_notify();
        alice.flush().expect("the server reads");
        bob.hear("last words 0;</body>");
        configure(&place, driver, 1, "");
        place.json(&["upgrade"]);
        server.wait_for_log("upgraded from");
        bob.hear(&format!("last words {};</body>", MESSAGES - 1));
        await_that("alice is not gone", || place.json(&["status"])["connections"] == 1);
        drop((alice, bob));
        assert_eq!(place.ctl(&["stop"]).code, 0);
        assert!(server.end().success());
    }
}
