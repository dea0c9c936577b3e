//! What clients hear of their sessions after a crash, and what the directory has for that.

use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::{Duration, Instant};

use whimbrel_storage::directory::{StreamCount, WriteTransaction, run_inline};

use crate::support::managed::chat;
use crate::support::program::{Program, Start};
use crate::support::pushes::{Keys, record, with_push};
use crate::support::{Client, PATIENCE, Said, TestServer, drivers};

/// Its log goes back far enough for none of its clients.
const QUICKLY: &str = "sm_resume_seconds = 1\n";

/// Data of two accounts, with push.
fn start(keys: &Keys, limits: &str) -> Start {
    let more = format!("[limits]\n{limits}{}", keys.toml());
    Start::new(&["juliet", "romeo"]).with_config(&more)
}

/// Waits until the program says so of a figure.
fn await_figure(program: &Program, name: &str, value: u64) {
    let since = Instant::now();
    while program.figures()[name] != value {
        assert!(since.elapsed() < PATIENCE, "{name} is {}, not {value}", program.figures()[name]);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts stream management on a client whose device is told. Its JID and the name of its stream.
fn manage(client: &mut Client) -> (String, String) {
    client.enable_push("juliet");
    let stream = client.enable_sm();
    (client.jid.clone(), stream)
}

/// Juliet's phone, with stream management.
fn phone(program: &Program) -> (Client, (String, String)) {
    let mut juliet = program.login("juliet", "phone");
    let session = manage(&mut juliet);
    (juliet, session)
}

/// A client loses its connection, and its session falls asleep.
fn fall_asleep(program: &Program, client: Client) {
    client.cut();
    await_figure(program, "sm.counts", 1);
}

/// Waits until the directory has so many counts.
fn await_counts(server: &TestServer, wanted: u64) {
    let since = Instant::now();
    let total = || server.server.shared.directory.stream_count_total().unwrap();
    while total() != wanted {
        assert!(since.elapsed() < PATIENCE, "{} counts", total());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Another program takes over.
fn upgrade(program: &Program) {
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
}

/// As a client hears it that wants to go on with a stream that is not there.
fn told(address: std::net::SocketAddr, name: &str, (jid, stream): &(String, String)) -> Option<u32> {
    let (_, answer) = Client::resume(address, name, jid, stream, 0);
    assert_eq!(answer.name(), "failed", "{answer:?}");
    answer.attribute("h").map(|h| h.parse().unwrap())
}

/// Goes on with a stream; the client and what was handled on it.
fn resume(address: std::net::SocketAddr, (jid, stream): &(String, String)) -> (Client, u32) {
    let (client, answer) = Client::resume(address, "juliet", jid, stream, 0);
    assert_eq!(answer.name(), "resumed", "{answer:?}");
    (client, answer.attribute("h").unwrap().parse().unwrap())
}

#[test]
fn a_sleeper_hears_after_a_kill_what_was_handled() {
    let keys = Keys::new();
    for driver in drivers() {
        let start = start(&keys, QUICKLY).with_driver(driver);
        let program = start.run();
        let (mut juliet, session) = phone(&program);
        juliet.send("<presence/>");
        juliet.settle();
        // Nothing of this is in the log.
        juliet.await_handled(2);
        fall_asleep(&program, juliet);
        program.kill();
        for _ in 0..2 {
            // As often as it asks, also after another crash, and nobody else.
            let program = start.run();
            assert_eq!(told(program.address(), "romeo", &session), None);
            assert_eq!(told(program.address(), "juliet", &session), Some(2));
            assert_eq!(told(program.address(), "juliet", &session), Some(2));
            program.kill();
        }
    }
}

#[test]
fn a_session_that_went_on_leaves_no_old_count() {
    let keys = Keys::new();
    for driver in drivers() {
        let start = start(&keys, QUICKLY).with_driver(driver);
        let program = start.run();
        let (mut juliet, session) = phone(&program);
        juliet.settle();
        fall_asleep(&program, juliet);
        let (mut juliet, handled) = resume(program.address(), &session);
        assert_eq!(handled, 1);
        juliet.settle();
        // It has been told of more than the directory had.
        juliet.await_handled(2);
        program.kill();
        let program = start.run();
        assert_eq!(told(program.address(), "juliet", &session), None);
        await_figure(&program, "sm.counts", 0);
        program.kill();
    }
}

#[test]
fn a_session_that_falls_asleep_again_has_its_new_count() {
    let keys = Keys::new();
    let start = start(&keys, QUICKLY);
    let program = start.run();
    let (mut juliet, session) = phone(&program);
    for handled in 1..3 {
        juliet.settle();
        fall_asleep(&program, juliet);
        let went_on = resume(program.address(), &session);
        juliet = went_on.0;
        assert_eq!(went_on.1, handled);
        await_figure(&program, "sm.counts", 0);
    }
    juliet.settle();
    fall_asleep(&program, juliet);
    // Another program in the same process knows of it.
    upgrade(&program);
    program.kill();
    let program = start.run();
    assert_eq!(told(program.address(), "juliet", &session), Some(3));
    program.kill();
}

#[test]
fn an_upgrade_leaves_a_sleeper_with_its_count() {
    let keys = Keys::new();
    let start = start(&keys, QUICKLY);
    let program = start.run();
    let (juliet, session) = phone(&program);
    fall_asleep(&program, juliet);
    upgrade(&program);
    let (juliet, _) = resume(program.address(), &session);
    await_figure(&program, "sm.counts", 0);
    drop(juliet);
    program.kill();
}

#[test]
fn what_was_said_before_a_silence_is_known_after_a_kill() {
    let keys = Keys::new();
    let start = start(&keys, QUICKLY);
    let program = start.run();
    let (mut juliet, session) = phone(&program);
    // A message in the log says what was handled when it came.
    for handled in 1..3 {
        juliet.send(&chat("romeo@localhost", "said"));
        juliet.await_handled(handled);
    }
    // Longer than the session of one that goes now is to wait before it sleeps: nothing that it says has come since.
    std::thread::sleep(Duration::from_millis(2500));
    program.kill();
    let program = start.run();
    assert_eq!(told(program.address(), "juliet", &session), Some(1));
    // Nor does a stop make the server forget it, nor another program.
    upgrade(&program);
    std::thread::sleep(Duration::from_millis(1500));
    program.stop();
    let program = start.run();
    assert_eq!(told(program.address(), "juliet", &session), Some(1));
    program.kill();
}

#[test]
fn a_session_kept_over_a_stop_is_not_told_of_by_the_log() {
    let keys = Keys::new();
    let start = start(&keys, "");
    let program = start.run();
    let (mut juliet, session) = phone(&program);
    juliet.send(&chat("romeo@localhost", "said"));
    juliet.await_handled(1);
    program.stop();
    let program = start.run();
    let (mut juliet, handled) = resume(program.address(), &session);
    assert_eq!(handled, 1);
    juliet.settle();
    juliet.await_handled(2);
    juliet.send("</stream:stream>");
    while matches!(juliet.next(), Said::Element(_)) {}
    // It has been told of more than the log has.
    assert_eq!(told(program.address(), "juliet", &session), None);
    program.kill();
}

#[test]
fn a_count_goes_with_its_session_and_with_its_account() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.sm_resume_seconds = 1;
    with_push(configure, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "phone");
        manage(&mut juliet);
        juliet.cut();
        await_counts(server, 1);
        // The same resource takes its place.
        let mut juliet = server.online("juliet", "phone");
        await_counts(server, 0);
        manage(&mut juliet);
        juliet.cut();
        await_counts(server, 1);
        let mut other = server.login("juliet", "desk");
        other.send("<iq type='set' id='gone'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        await_counts(server, 0);
    });
}

#[test]
fn counts_whose_time_is_over_are_told_to_nobody_and_go() {
    let keys = Keys::new();
    let start = start(&keys, "");
    let session = |stream: u64| ("juliet@localhost/phone".to_owned(), format!("{stream:016x}"));
    let directory = start.directory();
    let account = directory.account_id("juliet").unwrap().unwrap();
    for (stream, until_ms) in [(1, 1), (2, u64::MAX)] {
        let count = StreamCount { stream, handled: 7, until_ms };
        let keep = move |transaction: &mut WriteTransaction<'_>| {
            transaction.keep_stream_count(("juliet", account), &count, 10)
        };
        assert!(run_inline(&directory, Box::new(keep)).unwrap());
    }
    drop(directory);
    let program = start.run();
    assert_eq!(told(program.address(), "juliet", &session(1)), None);
    assert_eq!(told(program.address(), "juliet", &session(2)), Some(7));
    await_figure(&program, "sm.counts", 1);
    program.kill();
}

#[test]
fn a_sleeper_whose_end_was_unclean_is_told_when_its_sessions_were_not_kept() {
    let keys = Keys::new();
    for driver in drivers() {
        let configure = |config: &mut whimbrel_server::config::Config| {
            keys.configure(config);
            config.limits.sm_resume_seconds = 1;
        };
        let server = TestServer::start(driver, configure);
        let _told = record(&server);
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "phone");
        let session = manage(&mut juliet);
        juliet.settle();
        juliet.cut();
        server.await_metric("sm.asleep", 1);
        let server = server.restart_without_keeping(configure);
        assert_eq!(told(server.address(), "juliet", &session), Some(1));
    }
}

#[test]
fn a_client_whose_first_attempt_is_gone_goes_on_with_its_second() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.sm_resume_seconds = 1;
    with_push(configure, |server, _| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "phone");
        let (jid, stream) = manage(&mut juliet);
        juliet.cut();
        await_counts(server, 1);
        // There is one transaction that writes at a time: what the directory has of the session goes behind this one.
        let directory = server.server.shared.directory.clone();
        let (go, wait) = channel::<()>();
        let (begun, is_begun) = channel();
        let writer = spawn(move || {
            let hold = move |_: &mut WriteTransaction<'_>| {
                begun.send(()).expect("somebody waits");
                Ok(wait.recv_timeout(PATIENCE).is_ok())
            };
            run_inline(&directory, Box::new(hold))
        });
        is_begun.recv().unwrap();
        let mut first = Client::connect(server.address());
        first.ask_to_resume("juliet", &jid, &stream, 0);
        // Time for the server to hear both. Without it the second is served as well, and this shows less.
        std::thread::sleep(Duration::from_millis(200));
        first.cut();
        let mut second = Client::connect(server.address());
        second.ask_to_resume("juliet", &jid, &stream, 0);
        std::thread::sleep(Duration::from_millis(200));
        drop(go);
        writer.join().expect("it does not panic").expect("nothing is written");
        let answer = second.stanza();
        assert_eq!(answer.name(), "resumed", "{answer:?}");
        await_counts(server, 0);
    });
}
