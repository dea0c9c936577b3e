//! Worlds moved by hand: a client that sends as much as it can beside one that sends little.

use std::sync::Arc;

use super::order::{four, say, settle, turn, write_to};
use super::world::World;
use crate::config::Config;
use crate::limits::Limits;

const PING: &str = "<iq type='get' id='q0'><ping xmlns='urn:xmpp:ping'/></iq>";

/// Work units that an iteration has at most when no stanza costs much: the shares of all its parts.
const ITERATION_UNITS_MAX: u64 = 7168;

fn iqs(world: &World) -> u64 {
    world.workers[0].core().env().metrics().iqs_in.get()
}

/// What has come of a client that sent so many pings at once, after the turn in which they came.
fn flood(world: &mut World, index: usize, pings: usize) {
    say(world, index, &PING.repeat(pings));
}

fn reconfigure(world: &mut World, change: impl FnOnce(&mut Limits)) {
    let mut limits = world.config.limits.clone();
    change(&mut limits);
    let config = Config { limits, ..(*world.config).clone() };
    world.workers[0].core_mut().reconfigure(Arc::new(config));
}

#[test]
fn a_flood_waits_for_its_turns_and_a_quiet_client_does_not() {
    let (mut world, _data) = four(100);
    let before = iqs(&world);
    flood(&mut world, 0, 300);
    turn(&mut world);
    let first = iqs(&world) - before;
    assert!((1..100).contains(&first), "a small part is handled at once, not {first}");
    assert!(world.workers[0].core().has_turns(), "the rest stands in the run queue");
    for _ in 0..5 {
        let n = write_to(&mut world, 1, None, 0);
        turn(&mut world);
        let appended = world.workers[0].core().env().metrics().log_appends.get();
        assert!(appended > 0, "message {n} is handled in the iteration in which it comes");
    }
    settle(&mut world);
    assert_eq!(iqs(&world) - before, 300, "nothing is lost");
    let core = world.workers[0].core();
    let (_, env, _) = (core.actors(), core.env(), core.effects());
    assert!(env.metrics().work_longest.get() <= ITERATION_UNITS_MAX);
    assert_eq!(env.metrics().input_held.get(), 0);
    assert!(!world.workers[0].core().has_turns(), "whoever is quiet stands in no queue");
}

#[test]
fn two_floods_take_turns() {
    let (mut world, _data) = four(100);
    flood(&mut world, 0, 150);
    flood(&mut world, 1, 150);
    turn(&mut world);
    let held = |world: &World| -> Vec<usize> {
        let core = world.workers[0].core();
        core.sessions().iter().map(|session| core.input_held(session.conn)).filter(|held| *held > 0).collect()
    };
    let mut before = held(&world);
    assert_eq!(before.len(), 2, "both have more than their share");
    let mut iterations = 0;
    while before.len() == 2 {
        // An iteration has work for one turn.
        turn(&mut world);
        turn(&mut world);
        let now = held(&world);
        assert!(now.len() < 2 || now.iter().zip(&before).all(|(now, before)| now < before));
        (before, iterations) = (now, iterations + 1);
    }
    assert!(iterations > 1);
}

#[test]
fn the_end_of_a_connection_comes_behind_what_it_has_sent() {
    let (mut world, _data) = four(100);
    let before = iqs(&world);
    flood(&mut world, 0, 150);
    turn(&mut world);
    while world.clients[0].is_writing() {
        turn(&mut world);
    }
    assert!(world.workers[0].core().has_turns(), "much has come and is not handled yet");
    let link = world.clients[0].link.expect("it is connected");
    world.network.client_close(link, false);
    world.clients[0].away(world.now);
    turn(&mut world);
    assert_eq!(world.workers[0].core().actors().users.counts().1, 4, "it is still there");
    for _ in 0..200 {
        world.pass(1);
        world.turn(0);
    }
    assert_eq!(iqs(&world) - before, 150, "everything was handled");
    // Nobody reads the answers, so the end may be seen only when the client is found silent.
    let limits = &world.workers[0].core().env().config.limits;
    let silent = limits.idle_seconds + limits.idle_answer_seconds + 60;
    for _ in 0..silent {
        world.pass(1000);
        world.turn(0);
    }
    assert!(world.workers[0].core().actors().users.find("u0").is_none(), "its session has ended");
}

#[test]
fn a_client_that_asks_for_more_than_its_rate_is_read_from_at_that_rate() {
    let (mut world, _data) = four(100);
    reconfigure(&mut world, |limits| {
        limits.connection_stanzas_burst = 20;
        limits.connection_stanzas_per_second = 10;
    });
    world.pass(10_000);
    let before = iqs(&world);
    flood(&mut world, 0, 100);
    for _ in 0..50 {
        turn(&mut world);
    }
    let quick = iqs(&world) - before;
    assert!((20..70).contains(&quick), "the burst and a turn beyond it, not {quick}");
    assert!(world.workers[0].core().env().metrics().slowed.get() > 0);
    let deadline = world.workers[0].core().next_deadline().expect("somebody will go on with it");
    assert!(deadline.since(world.now) <= 10_000);
    for _ in 0..20 {
        settle(&mut world);
    }
    // Answers to pings of the server are among them.
    assert!(iqs(&world) - before >= 100, "in the end all of it");
}
