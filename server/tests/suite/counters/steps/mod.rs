//! The steps of the walk that clients cause by XMPP, by subject. A step names what it moves; more may move.

mod archive;
mod log;
mod logins;
mod messages;
mod output;
mod pep;
mod pubsub;
mod rooms;
mod server;
mod sessions;
mod upload;
mod web;

use super::stage::{Step, run};
use crate::support::answers::befriend;
use crate::support::{TestServer, on_each_driver_with};

/// A server with the accounts juliet and romeo, who see each other's presence.
type Verona = TestServer;

const PLAIN: Step<Verona> = Step { what: "", configure: |_| {}, act: |_, _| {}, moves: &[] };

/// The chapters.
const CHAPTERS: [&[Step<Verona>]; 12] = [
    server::STEPS,
    logins::STEPS,
    sessions::STEPS,
    messages::STEPS,
    output::STEPS,
    log::STEPS,
    archive::STEPS,
    pep::STEPS,
    pubsub::STEPS,
    rooms::STEPS,
    upload::STEPS,
    web::STEPS,
];

/// All steps.
pub(super) fn all() -> impl Iterator<Item = &'static Step<Verona>> {
    CHAPTERS.into_iter().flatten()
}

fn run_on_each_driver(chapter: &[Step<Verona>]) {
    run(chapter, |step, act| {
        on_each_driver_with(step.configure, |server| {
            server.accounts(&["juliet", "romeo"]);
            befriend(server, "juliet", "romeo");
            act(server, server);
        });
    });
}

/// A test for each chapter: they run beside each other, and what fails is found sooner.
macro_rules! tests {
    ($($name:ident: $chapter:expr;)*) => {
        $(#[test]
        fn $name() {
            run_on_each_driver($chapter);
        })*
    };
}

tests! {
    steps_of_the_server_move_what_they_say: server::STEPS;
    steps_of_logins_move_what_they_say: logins::STEPS;
    steps_of_sessions_move_what_they_say: sessions::STEPS;
    steps_of_messages_move_what_they_say: messages::STEPS;
    steps_of_output_move_what_they_say: output::STEPS;
    steps_of_the_log_move_what_they_say: log::STEPS;
    steps_of_archives_move_what_they_say: archive::STEPS;
    steps_of_nodes_move_what_they_say: pep::STEPS;
    steps_of_the_publish_subscribe_service_move_what_they_say: pubsub::STEPS;
    steps_of_rooms_move_what_they_say: rooms::STEPS;
    steps_of_uploads_move_what_they_say: upload::STEPS;
    steps_of_the_web_move_what_they_say: web::STEPS;
}
