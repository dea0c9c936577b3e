//! What clients hear of their sessions after a crash, and what the directory has for that.

use std::time::{Duration, Instant};

use whimbrel_storage::directory::{StreamCount, run_inline};

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
        let mut juliet = program.login("juliet", "phone");
        let session = manage(&mut juliet);
        juliet.send("<presence/>");
        juliet.settle();
        // Nothing of this is in the log.
        juliet.await_handled(2);
        juliet.cut();
        await_figure(&program, "sm.counts", 1);
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
        let mut juliet = program.login("juliet", "phone");
        let session = manage(&mut juliet);
        juliet.settle();
        juliet.cut();
        await_figure(&program, "sm.counts", 1);
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
    let mut juliet = program.login("juliet", "phone");
    let session = manage(&mut juliet);
    for handled in 1..3 {
        juliet.settle();
        juliet.cut();
        await_figure(&program, "sm.counts", 1);
        let went_on = resume(program.address(), &session);
        juliet = went_on.0;
        assert_eq!(went_on.1, handled);
        await_figure(&program, "sm.counts", 0);
    }
    juliet.settle();
    juliet.cut();
    await_figure(&program, "sm.counts", 1);
    // Another program in the same process knows of it.
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
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
    let mut juliet = program.login("juliet", "phone");
    let session = manage(&mut juliet);
    juliet.cut();
    await_figure(&program, "sm.counts", 1);
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
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
    let mut juliet = program.login("juliet", "phone");
    let session = manage(&mut juliet);
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
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
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
    let mut juliet = program.login("juliet", "phone");
    let session = manage(&mut juliet);
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
        let counts = |server: &TestServer, wanted: u64| {
            let since = Instant::now();
            let total = || server.server.shared.directory.stream_count_total().unwrap();
            while total() != wanted {
                assert!(since.elapsed() < PATIENCE, "{} counts", total());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let mut juliet = server.online("juliet", "phone");
        manage(&mut juliet);
        juliet.cut();
        counts(server, 1);
        // The same resource takes its place.
        let mut juliet = server.online("juliet", "phone");
        counts(server, 0);
        manage(&mut juliet);
        juliet.cut();
        counts(server, 1);
        let mut other = server.login("juliet", "desk");
        other.send("<iq type='set' id='gone'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        counts(server, 0);
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
        let keep = move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
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
