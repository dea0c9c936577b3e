//! Worlds moved by hand: a client that sends as much as it can beside one that sends little.

use std::sync::Arc;

use super::order::{four, say, settle, turn, write_to};
use super::world::World;
use crate::config::Config;
use crate::exchange::fanout::{Broadcast, Targets};
use crate::limits::Limits;
use crate::runtime::driver::Event;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::tables::Flags;

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
fn what_one_says_who_floods_is_timed_apart_from_what_others_say() {
    let (mut world, _data) = four(100);
    let some = |world: &mut World| (0..5).for_each(|_| turn(world));
    let prompt = |world: &World| world.workers[0].core().env().metrics().prompt_latency.get();
    write_to(&mut world, 0, None, 0);
    settle(&mut world);
    let calm = prompt(&world);
    assert!(calm > 0, "nobody floods");
    flood(&mut world, 0, 300);
    (0..20).for_each(|_| some(&mut world));
    assert!(!world.clients[0].is_writing() && !world.workers[0].core().has_turns(), "all of it is handled");
    let before = prompt(&world);
    write_to(&mut world, 0, None, 0);
    some(&mut world);
    assert_eq!(prompt(&world), before, "a moment ago it has");
    write_to(&mut world, 2, None, 0);
    some(&mut world);
    let others = prompt(&world);
    assert!(others > before, "the other one has not");
    settle(&mut world);
    write_to(&mut world, 0, None, 0);
    settle(&mut world);
    assert!(prompt(&world) > others, "that was long ago");
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

/// Iterations until the dear requests of three clients are handled, while another one asks for little all the time, or does not.
fn iterations_of_dear_requests(other_asks: bool) -> u32 {
    let (mut world, _data) = four(100);
    // Dear, and refused in the end: nothing waits for the directory.
    let items = format!("<item jid='{}@x'/>", "\u{e9}".repeat(500)).repeat(4);
    let block = format!("<block xmlns='urn:xmpp:blocking'>{items}<item jid='@'/></block>");
    let before = iqs(&world);
    flood(&mut world, 1, 1);
    let flooders = [0, 2, 3];
    for flooder in flooders {
        say(&mut world, flooder, &format!("<iq type='set' id='q0'>{block}</iq>").repeat(4));
    }
    let (mut iterations, mut others) = (0, 1);
    let is_busy = |world: &World| {
        flooders.iter().any(|flooder| world.clients[*flooder].is_writing())
            || world.workers[0].core().has_turns()
    };
    while is_busy(&world) {
        if other_asks {
            others += 1;
            flood(&mut world, 1, 1);
        }
        turn(&mut world);
        iterations += 1;
        assert!(iterations < 1000, "they come to an end");
    }
    settle(&mut world);
    assert!(iqs(&world) - before >= 12 + others, "nothing is lost");
    iterations
}

#[test]
fn turns_that_cost_much_are_paid_for_by_the_next_ones_while_others_ask() {
    let (alone, beside) = (iterations_of_dear_requests(false), iterations_of_dear_requests(true));
    assert!(2 * beside >= 3 * alone, "{alone} iterations alone, {beside} beside another one");
}

/// What a worker does in one iteration, in work units.
fn work_of(world: &mut World) -> u64 {
    let spent = |world: &World| world.workers[0].core().effects().work.spent();
    let before = spent(world);
    turn(world);
    spent(world) - before
}

/// Errors that a client's stanza is answered with, and what the worker has done for it, in work units.
fn answered(world: &mut World, stanza: &str) -> (u64, u64) {
    let count = |world: &World| {
        let core = world.workers[0].core();
        (core.env().metrics().errors_out.get(), core.effects().work.spent())
    };
    let before = count(world);
    say(world, 0, stanza);
    for _ in 0..100 {
        turn(world);
        while world.job() {}
    }
    let after = count(world);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_stanza_of_too_many_elements_is_answered_and_not_looked_into() {
    let (mut world, _data) = four(100);
    reconfigure(&mut world, |limits| limits.stanza_bytes = 64 * 1024);
    let iq = |elements: usize| {
        let inside = "<a/>".repeat(elements);
        format!("<iq type='get' id='q'><ping xmlns='urn:xmpp:ping'><x xmlns='urn:x'>{inside}</x></ping></iq>")
    };
    assert_eq!(answered(&mut world, &iq(8_000)).0, 0);
    assert_eq!(answered(&mut world, &iq(9_000)).0, 1, "nobody makes a tree of it");
    let to = format!("u1@{}", super::world::DOMAIN);
    let message =
        |children: usize| format!("<message id='m' to='{to}'>{}</message>", "<a/>".repeat(children));
    assert_eq!(answered(&mut world, &message(1_000)).0, 0);
    assert_eq!(answered(&mut world, &message(1_100)).0, 1, "nobody looks at each of them");
    let deep = format!("<message id='m' to='{to}'><x xmlns='urn:x'>{}</x></message>", "<a/>".repeat(9_000));
    assert_eq!(answered(&mut world, &deep).0, 1, "nor is it passed to those who would make a tree of it");
}

#[test]
fn addresses_in_letters_beyond_ascii_are_paid_for_and_have_an_end() {
    let (mut world, _data) = four(100);
    reconfigure(&mut world, |limits| limits.stanza_bytes = 64 * 1024);
    let long = "\u{e9}".repeat(500);
    let message = |local: &str| {
        format!("<message id='m' to='{local}@{}'><body>x</body></message>", super::world::DOMAIN)
    };
    let (_, plain) = answered(&mut world, &message(&"e".repeat(1000)));
    let (_, dear) = answered(&mut world, &message(&long));
    assert!(dear >= plain + 100, "{dear} units, and {plain} in ASCII");
    let block = |count: usize| {
        let items = (0..count).map(|n| format!("<item jid='{long}{n}@{}'/>", super::world::DOMAIN));
        format!(
            "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{}</block></iq>",
            items.collect::<String>()
        )
    };
    assert_eq!(answered(&mut world, &block(3)).0, 0);
    assert_eq!(answered(&mut world, &block(5)).0, 1, "they are to come in parts");
}

#[test]
fn what_is_left_of_a_batch_is_read_in_the_next_iteration() {
    const PRESENCES: u64 = 84;
    let (mut world, _data) = four(100);
    let seen = |world: &World| world.workers[0].core().env().metrics().presences_out.get();
    let before = seen(&world);
    let (_, _, fx) = world.parts_mut(0);
    let mut targets = Targets::default();
    ["u0", "u1"].iter().for_each(|local| targets.push(local));
    let from = format!("x@{}/r", super::world::DOMAIN);
    for _ in 0..PRESENCES {
        fx.links.to(0).broadcast(&Broadcast::new(Type::Available, &from, b"/>").to(&targets));
    }
    turn(&mut world);
    let first = work_of(&mut world);
    let (done, all) = (seen(&world) - before, PRESENCES * 4);
    assert!((1..all).contains(&done), "a part of the batch is read, not {done} of {all}");
    assert!((512..600).contains(&first), "{first} units in one iteration");
    let core = world.workers[0].core();
    assert!(core.effects().links.has_incoming() && core.env().metrics().mailbox_cuts.get() == 1);
    let now = world.now;
    assert_eq!(world.workers[0].timeout(now), Some(std::time::Duration::ZERO), "it goes on at once");
    turn(&mut world);
    assert_eq!(seen(&world) - before, all);
    assert!(world.workers[0].core().effects().links.is_idle());
}

#[test]
fn what_was_held_for_slow_readers_goes_out_in_turns() {
    const HELD: u64 = 100;
    let (mut world, _data) = four(100);
    reconfigure(&mut world, |limits| limits.inactive_bytes = 64 * 1024);
    let conns: Vec<_> = world.workers[0].core().sessions().iter().map(|session| session.conn).collect();
    let (actors, _, fx) = world.parts_mut(0);
    let keys: Vec<_> = actors.users.iter().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), conns.len()), (4, 4));
    keys.iter().for_each(|key| actors.users.resource_mut(*key).flags.put(Flags::BACKED_UP, true));
    let mut targets = Targets::default();
    ["u0", "u1"].iter().for_each(|local| targets.push(local));
    for number in 0..HELD {
        let from = format!("x{number}@{}/r", super::world::DOMAIN);
        fx.links.to(0).broadcast(&Broadcast::new(Type::Available, &from, b"/>").to(&targets));
    }
    for _ in 0..6 {
        turn(&mut world);
    }
    let held = |world: &mut World| {
        let users = &world.parts_mut(0).0.users;
        keys.iter().filter(|key| users.resource(**key).held.is_some()).count()
    };
    assert_eq!(world.workers[0].core().env().metrics().held_inactive.get(), 4 * HELD);
    assert_eq!(held(&mut world), 4);
    let spent = |world: &World| world.workers[0].core().effects().work.spent();
    let before = spent(&world);
    for conn in conns {
        world.workers[0].core_mut().handle(Event::Drained { conn });
    }
    assert!(spent(&world) - before < HELD, "events of the driver cost little");
    let mut iterations = 0;
    while held(&mut world) > 0 {
        let work = work_of(&mut world);
        assert!(work < 128 + HELD + 20, "{work} units in iteration {iterations}");
        iterations += 1;
        assert!(iterations < 10, "it never ends");
    }
    assert!(iterations > 1);
    let users = &world.parts_mut(0).0.users;
    assert!(keys.iter().all(|key| !users.resource(*key).flags.has(Flags::BACKED_UP)), "they are live again");
}

/// Presence of somebody for the room `hall`, as another worker would send it.
fn visit(world: &mut World, number: usize, typ: Type) {
    // The first one makes the room, for which it takes an account.
    let local = if number == 0 { "u0".to_owned() } else { format!("guest{number}") };
    let (from, nick) = (format!("{local}@{}/none", super::world::DOMAIN), format!("n{number}"));
    let visit = Delivery {
        kind: Kind::Presence,
        typ,
        traits: if typ == Type::Subscribe { Traits::FROM_SERVER } else { Traits::default() },
        from: &from,
        to_local: "hall",
        to_resource: Some(&nick),
        id: None,
        bytes:
            b"<presence><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
        pending_ack: None,
    };
    let (_, _, fx) = world.parts_mut(0);
    fx.links.to(0).visit(&visit);
}

fn occupants(world: &World) -> usize {
    world.workers[0].core().actors().rooms.room("hall").map_or(0, |room| room.occupants.len())
}

#[test]
fn a_room_serves_those_who_waited_in_small_parts() {
    const GUESTS: usize = 90;
    const COMING: usize = 20;
    // An iteration's envelopes, what of the room is served at once, and one who comes, whom it sees and by whom it is seen.
    const UNITS_MAX: u64 = 512 + 128 + 5 * GUESTS as u64;
    let (mut world, _data) = four(100);
    for number in 0..GUESTS {
        visit(&mut world, number, Type::Available);
        for _ in 0..20 {
            if occupants(&world) > number {
                break;
            }
            turn(&mut world);
            while world.job() {}
            if let Some(room) = world.parts_mut(0).0.rooms.room_mut("hall") {
                room.is_locked = false;
            }
        }
    }
    assert_eq!(occupants(&world), GUESTS);
    while world.workers[0].core().effects().links.has_incoming() {
        turn(&mut world);
    }
    world.parts_mut(0).0.rooms.inbox("hall").begin();
    for number in 0..COMING {
        visit(&mut world, number, Type::Unavailable);
        visit(&mut world, number, Type::Available);
    }
    for _ in 0..3 {
        turn(&mut world);
    }
    let waiting = |world: &mut World| world.parts_mut(0).0.rooms.inbox("hall").len();
    assert_eq!(waiting(&mut world), 2 * COMING);
    visit(&mut world, 0, Type::Subscribe);
    let mut iterations = 0;
    while waiting(&mut world) > 0 || world.workers[0].core().effects().links.has_incoming() {
        let work = work_of(&mut world);
        assert!(work <= UNITS_MAX, "{work} units in iteration {iterations}");
        iterations += 1;
        assert!(iterations < 1_000, "it never ends");
    }
    assert!(iterations > 10, "{iterations} iterations");
    assert_eq!(occupants(&world), GUESTS, "all are back");
}
