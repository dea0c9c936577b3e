//! A process that has no file descriptor left goes on with what it has, says what is missing, and recovers.

use std::net::TcpStream;
use std::time::Instant;

use crate::support::answers::outcome;
use crate::support::managed::chat;
use crate::support::program::{Program, Start};
use crate::support::{Client, PATIENCE, drivers};

/// More than a server of two workers has open, and fewer than what the test opens.
const DESCRIPTORS: u32 = 128;

/// One sender may fill the log, and what does not log in stays.
const CONFIG: &str = "[limits]\npreauth_seconds = 600\noffline_percent_per_stranger = 100\noffline_percent_strangers = 100\n\
                      offline_strangers_per_minute = 1000000\n";

/// Does something until something is so.
#[track_caller]
fn until(what: &str, mut again: impl FnMut(), mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        again();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Messages both ways; `more` is beside their text.
fn talk(one: &mut Client, other: &mut Client, id: &str, more: &str) {
    let message = |to: &Client| {
        format!("<message to='{}' type='chat' id='{id}'><body>x</body>{more}</message>", to.jid)
    };
    one.send(&message(other));
    while other.next_message() != id {}
    other.send(&message(one));
    while one.next_message() != id {}
}

/// Fills the log of somebody who is away until a message is refused; the condition.
fn fill_log(sender: &mut Client) -> String {
    let filler = "x".repeat(200_000);
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "the log takes everything");
        sender.send(&format!("<message to='absent@localhost' type='chat'><body>{filler}</body></message>"));
        sender.settle();
        if let Some(refused) = sender.quiet().iter().find(|stanza| stanza.attribute("type") == Some("error"))
        {
            return outcome(refused);
        }
    }
}

/// Opens connections until the server has no descriptor for the next.
fn use_up(program: &Program) -> Vec<TcpStream> {
    let mut held = Vec::new();
    until(
        "the server accepts without end",
        || held.push(TcpStream::connect(program.address()).unwrap()),
        || program.figures()["accept.descriptor_pauses"] > 0,
    );
    // What the server closes for itself is taken by these, which wait.
    held.extend((0..32).map(|_| TcpStream::connect(program.address()).unwrap()));
    held
}

#[test]
fn without_descriptors_conversations_go_on_and_the_log_says_what_is_missing() {
    for driver in drivers() {
        let names = ["juliet", "romeo", "absent"];
        let start = Start::new(&names).with_driver(driver).with_config(CONFIG).with_descriptors(DESCRIPTORS);
        let program = start.run();
        let (mut juliet, mut romeo) = (program.login("juliet", "balcony"), program.login("romeo", "orchard"));
        talk(&mut juliet, &mut romeo, "before", "");

        let held = use_up(&program);
        assert!(program.has_said(&["cannot accept connections", "Too many open files"]), "{driver:?}");
        talk(&mut juliet, &mut romeo, "without", "");
        // The next file of the log cannot be opened. That is no full disk, and is not called one.
        assert_eq!(fill_log(&mut romeo), "resource-constraint");
        until(
            "the log says why",
            || {},
            || program.has_said(&["the log has no room for another file", "Too many open files"]),
        );
        assert!(!program.has_said(&["disk is full"]), "{driver:?}");
        assert!(program.figures()["refused.log_full"] > 0);
        // What is not kept needs no file.
        talk(&mut juliet, &mut romeo, "still without", "<no-store xmlns='urn:xmpp:hints'/>");

        drop(held);
        let mut again = program.login("juliet", "garden");
        talk(&mut again, &mut romeo, "after", "<no-store xmlns='urn:xmpp:hints'/>");
        until(
            "messages are taken again",
            || {},
            || {
                romeo.send(&chat("absent@localhost", "last"));
                romeo.settle();
                romeo.quiet().iter().all(|stanza| stanza.attribute("type") != Some("error"))
            },
        );
        drop((juliet, romeo, again));
        let mut absent = program.login("absent", "home");
        absent.send("<presence/>");
        while absent.next_message() != "last" {}
        program.stop();
    }
}
