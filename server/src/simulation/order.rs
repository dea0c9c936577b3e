//! Worlds moved by hand: what happens between the commit of a subscription and its return to the worker, or while the
//! directory has no room.

use super::Settings;
use super::client::Stage;
use super::oracle;
use super::world::{World, bare, full, local};
use crate::runtime::driver::sim::Weather;
use crate::xml::writer;
use whimbrel_storage::directory::Subscription;

/// Two users on one worker with two clients each, number 0 and 2 of user 0, 1 and 3 of user 1; all online, available
/// and knowing their rosters. A network without delay; clients do nothing of their own accord.
pub(super) fn four(jobs: usize) -> (World, tempfile::TempDir) {
    still(2, jobs)
}

/// As [`four`], of so many users, with two clients each.
pub(super) fn still(users: usize, jobs: usize) -> (World, tempfile::TempDir) {
    still_on(1, users, jobs)
}

/// As [`still`], with so many workers.
fn still_on(workers: usize, users: usize, jobs: usize) -> (World, tempfile::TempDir) {
    let still = Weather { delay_ms_max: 0, idle_polls_permille: 0, short_permille: 0, ..Weather::default() };
    let settings = Settings {
        workers,
        users,
        clients: 2 * users,
        jobs,
        sessions_unauthenticated: 100,
        handshakes: 0,
        weather: still,
        ..Settings::small(5)
    };
    let data = tempfile::tempdir().expect("a folder");
    let mut world = World::new(settings, data.path()).expect("a world");
    world.calm = true;
    for index in 0..2 * users {
        come_online(&mut world, index);
    }
    for index in 0..2 * users {
        world.fetch_roster(index);
        world.become_available(index);
    }
    settle(&mut world);
    (world, data)
}

/// Brings a client online.
fn come_online(world: &mut World, index: usize) {
    while world.clients[index].stage != Stage::Online {
        if world.clients[index].stage == Stage::Away {
            world.act(index);
        }
        settle(world);
        if matches!(world.clients[index].stage, Stage::Silent | Stage::Leaving | Stage::Ghost) {
            world.leave_somehow(index);
            settle(world);
        }
    }
}

pub(super) fn settle(world: &mut World) {
    for _ in 0..40 {
        world.pass(100);
        world.round();
    }
    assert_eq!(world.failure, None);
}

/// What a client has said reaches the worker, and what the worker does then reaches the queue of writes.
pub(super) fn turn(world: &mut World) {
    for index in 0..world.clients.len() {
        world.flush(index);
    }
    world.pass(1);
    (0..world.workers.len()).for_each(|worker| world.turn(worker));
}

/// Runs the oldest write, once there is one; its result waits for the worker.
fn write(world: &mut World) {
    for _ in 0..20 {
        if world.stepped.waiting().0 > 0 {
            break;
        }
        turn(world);
    }
    assert!(world.stepped.run_write(&world.shared.directory, &world.completions), "a write waits");
}

fn subscribe(world: &mut World) {
    world.subscription(0, 1, "subscribe");
    settle(world);
    world.subscription(1, 0, "subscribed");
    settle(world);
    assert_eq!(seen(world), [full(1, "r0"), full(1, "r1")]);
}

/// The connection of a client breaks, and its worker sees that before the result of the last write.
fn cut(world: &mut World, index: usize) {
    let written = world.completions[0].take().expect("a write has come back");
    world.part(index, true);
    let link = world.clients[index].link.expect("it is connected");
    world.network.client_close(link, true);
    world.clients[index].away(world.now);
    for _ in 0..5 {
        turn(world);
    }
    assert_eq!(world.workers[0].core().actors().users.counts().1, 3);
    world.completions[0].deliver(written);
}

/// The resources of user 1 that client 0 sees.
fn seen(world: &World) -> Vec<String> {
    let live = world.clients[0].live.as_ref().expect("client 0 is online");
    live.seen.keys().filter(|jid| jid.starts_with(&bare(1))).cloned().collect()
}

pub(super) fn say(world: &mut World, index: usize, text: &str) {
    world.clients[index].say(text);
}

fn subscription_of(world: &World, user: usize, contact: usize) -> Subscription {
    let item =
        world.shared.directory.roster_item(&local(user), &bare(contact)).expect("a roster can be read");
    item.map_or(Subscription::None, |item| item.subscription)
}

#[test]
fn who_leaves_a_subscription_hears_of_a_resource_that_ends_before_its_worker_knows_of_that() {
    let (mut world, _data) = four(100);
    subscribe(&mut world);
    world.subscription(0, 1, "unsubscribe");
    write(&mut world);
    // The contact's half is committed, and it goes before its worker hears of it.
    write(&mut world);
    assert_eq!(subscription_of(&world, 1, 0), Subscription::None);
    cut(&mut world, 3);
    settle(&mut world);
    assert_eq!(seen(&world), [""; 0]);
}

#[test]
fn who_is_removed_from_a_roster_hears_of_a_resource_that_ends_before_its_worker_knows_of_that() {
    let (mut world, _data) = four(100);
    subscribe(&mut world);
    let item = format!("<item jid='{}' subscription='remove'/>", bare(0));
    say(
        &mut world,
        1,
        &format!("<iq type='set' id='q0'><query xmlns='jabber:iq:roster'>{item}</query></iq>"),
    );
    turn(&mut world);
    write(&mut world);
    cut(&mut world, 3);
    settle(&mut world);
    assert_eq!(seen(&world), [""; 0]);
}

#[test]
fn a_presence_that_waits_behind_a_subscription_reaches_nobody_who_is_blocked() {
    let (mut world, _data) = four(100);
    subscribe(&mut world);
    assert_eq!(seen(&world).len(), 2);
    let block = format!("<block xmlns='urn:xmpp:blocking'><item jid='{}'/></block>", bare(0));
    say(&mut world, 1, &format!("<iq type='set' id='q0'>{block}</iq>"));
    turn(&mut world);
    // Sent before the block is in effect, and written after it.
    world.subscription(3, 0, "subscribe");
    turn(&mut world);
    write(&mut world);
    world.become_available(1);
    turn(&mut world);
    assert!(!world.workers[0].core().actors().under_way.is_empty());
    settle(&mut world);
    assert!(world.workers[0].core().actors().under_way.is_empty());
    assert_eq!(seen(&world), [""; 0]);
}

#[test]
fn a_presence_sent_after_an_approval_comes_after_it() {
    let (mut world, _data) = four(100);
    world.settings.watch = vec![0];
    world.subscription(0, 1, "subscribe");
    settle(&mut world);
    world.subscription(1, 0, "subscribed");
    write(&mut world);
    // Committed, and not yet told.
    world.become_available(1);
    turn(&mut world);
    world.become_available(1);
    settle(&mut world);
    let heard = world.log.join("\n");
    let approved = heard.find("type='subscribed'").expect("he hears of the approval");
    let pushed = heard.find("subscription=\"to\"").expect("he gets the push");
    let first = heard.find(&format!("from=\"{}", full(1, "r0"))).expect("he gets the presence");
    assert!(approved < pushed && pushed < first, "{heard}");
    let latest = world.clients[1].live.as_ref().and_then(|live| live.presence).map(|(number, _)| number);
    let live = world.clients[0].live.as_ref().expect("client 0 is online");
    assert_eq!(live.seen.get(&full(1, "r0")).copied(), latest);
}

#[test]
fn a_message_sent_after_a_subscription_stanza_comes_after_it() {
    let (mut world, _data) = four(100);
    subscribe(&mut world);
    world.settings.watch = vec![0];
    world.subscription(1, 0, "unsubscribed");
    say(&mut world, 1, &format!("<message type='normal' to='{}' id='after'/>", full(0, "r0")));
    turn(&mut world);
    settle(&mut world);
    let heard = world.log.join("\n");
    let stanza = heard.find("type='unsubscribed'").expect("he hears of the end");
    let message = heard.find("id='after'").expect("he gets the message");
    assert!(stanza < message, "{heard}");
}

/// Turns stream management on for client 0.
fn manage(world: &mut World) {
    say(world, 0, "<enable xmlns='urn:xmpp:sm:3'/>");
    settle(world);
}

/// What client 0 hears when it asks what has been handled.
fn handled(world: &mut World) -> Option<u32> {
    say(world, 0, "<r xmlns='urn:xmpp:sm:3'/>");
    listen(world);
    world.clients[0].live.as_ref().and_then(|live| live.handled)
}

/// Everything moves but the directory's writer.
fn listen(world: &mut World) {
    for _ in 0..10 {
        turn(world);
        world.hear_all();
    }
}

fn roster_set(name: &str) -> String {
    let item = format!("<item jid='{name}@elsewhere.example'/>");
    format!("<iq type='set' id='q0'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
}

#[test]
fn nothing_is_acknowledged_beyond_a_write_that_has_not_run() {
    let (mut world, _data) = four(100);
    manage(&mut world);
    let set = |n| {
        let query = format!("<query xmlns='jabber:iq:private'><s{n} xmlns='urn:sim'/></query>");
        format!("<iq type='set' id='q0'>{query}</iq>")
    };
    say(&mut world, 0, &(set(1) + &set(2)));
    for expected in [None, Some(1), Some(2)] {
        assert_eq!(handled(&mut world), expected);
        if expected != Some(2) {
            write(&mut world);
        }
    }
}

#[test]
fn a_subscription_request_is_acknowledged_after_both_halves() {
    let (mut world, _data) = four(100);
    manage(&mut world);
    world.subscription(0, 1, "subscribe");
    assert_eq!(handled(&mut world), None);
    write(&mut world);
    assert_eq!(handled(&mut world), None);
    write(&mut world);
    assert!(handled(&mut world).is_some());
}

#[test]
fn a_subscription_request_that_waits_for_room_is_not_acknowledged() {
    let (mut world, _data) = four(1);
    manage(&mut world);
    world.subscription(0, 1, "subscribe");
    write(&mut world);
    say(&mut world, 2, &roster_set("x"));
    turn(&mut world);
    assert!(world.workers[0].core().actors().under_way.has_waiting());
    assert_eq!(handled(&mut world), None);
    settle(&mut world);
    assert!(handled(&mut world).is_some());
}

#[test]
fn what_is_refused_is_acknowledged_at_once() {
    let (mut world, _data) = four(1);
    manage(&mut world);
    say(&mut world, 2, &roster_set("x"));
    listen(&mut world);
    // The one place is taken.
    say(&mut world, 0, &roster_set("y"));
    assert_eq!(handled(&mut world), Some(1));
}

#[test]
fn sets_of_one_kind_share_a_commit_and_what_is_behind_them_waits() {
    let (mut world, _data) = four(100);
    world.settings.watch = vec![0];
    let sets: String = (0..20).map(|n| roster_set(&format!("c{n}"))).collect();
    say(&mut world, 0, &(sets + &format!("<message type='normal' to='{}' id='behind'/>", full(0, "r1"))));
    listen(&mut world);
    assert_eq!(world.stepped.waiting().0, 20, "all of them wait for the writer");
    let sent =
        |world: &World| world.log.iter().any(|line| line.contains("<-") && line.contains("id='behind'"));
    for _ in 0..20 {
        assert!(!sent(&world));
        write(&mut world);
        listen(&mut world);
    }
    assert!(sent(&world));
}

#[test]
fn a_set_of_another_kind_and_a_new_password_wait_for_their_turn() {
    let (mut world, _data) = four(100);
    let password =
        "<query xmlns='jabber:iq:register'><username>u0</username><password>right</password></query>";
    let private = "<query xmlns='jabber:iq:private'><s xmlns='urn:sim'/></query>";
    let password = format!("<iq type='set' id='q0'>{password}</iq>");
    let private = format!("<iq type='set' id='q0'>{private}</iq>");
    say(&mut world, 0, &(roster_set("a") + &private + &password + &private));
    for waits in [(1, 0), (1, 0), (0, 1), (1, 0), (1, 0), (0, 0)] {
        listen(&mut world);
        assert_eq!(world.stepped.waiting(), waits);
        let ran = match waits {
            (0, 1) => world.stepped.run_hash(&world.completions),
            (1, 0) => world.stepped.run_write(&world.shared.directory, &world.completions),
            _ => true,
        };
        assert!(ran);
    }
}

/// A client sends user 1 a chat message with so many bytes beside its text.
pub(super) fn write_to(world: &mut World, index: usize, resource: Option<&str>, bytes: usize) -> u32 {
    let session = world.clients[index].live.as_ref().expect("it is online").id;
    let n = world.oracle.sent(world.step, session, 1, resource);
    let to = resource.map_or_else(|| bare(1), |resource| full(1, resource));
    let filler = "x".repeat(bytes);
    let mut text = Vec::new();
    writer::escape_text(&oracle::body(n), &mut text);
    let text = String::from_utf8(text).expect("escaping keeps UTF-8");
    let x = format!("<x xmlns='urn:example'>{filler}</x>");
    say(world, index, &format!("<message type='chat' to='{to}'><body>{text}</body>{x}</message>"));
    n
}

#[test]
fn a_subscription_stanza_waits_for_room_in_the_directorys_queue() {
    let (mut world, _data) = four(1);
    world.subscription(0, 1, "subscribe");
    write(&mut world);
    // In the iteration in which the request goes on to the contact, another client takes the only place.
    let item = "<query xmlns='jabber:iq:roster'><item jid='x@sim.example'/></query>";
    say(&mut world, 2, &format!("<iq type='set' id='q0'>{item}</iq>"));
    turn(&mut world);
    let waits = |world: &World| world.workers[0].core().actors().under_way.has_waiting();
    assert!(waits(&world));
    assert!(
        world.workers[0].timeout(world.now).is_some_and(|wait| wait.as_millis() <= 1),
        "it tries again soon"
    );
    settle(&mut world);
    assert!(!waits(&world));
    let item = world.shared.directory.roster_item(&local(1), &bare(0)).expect("a roster can be read");
    assert!(item.expect("the request has arrived").pending_in.is_some());
}

#[test]
fn a_worker_that_holds_too_much_reads_nothing_until_the_directory_has_caught_up() {
    let (mut world, _data) = four(100);
    let limits = crate::limits::Limits { held_bytes: 1000, ..world.config.limits.clone() };
    let config = crate::config::Config { limits, ..(*world.config).clone() };
    world.workers[0].core_mut().reconfigure(std::sync::Arc::new(config));
    world.subscription(1, 0, "subscribe");
    // From another resource: what its own client sends behind the request waits at the connection.
    for _ in 0..20 {
        world.message(3);
        say(&mut world, 3, &format!("<message type='chat' to='{}'><body>n:0:.</body></message>", bare(0)));
    }
    for _ in 0..5 {
        turn(&mut world);
    }
    assert!(world.workers[0].is_stalled());
    let held = world.workers[0].core().actors().under_way.bytes();
    assert!(held > 1000, "{held}");
    world.failure = None;
    write(&mut world);
    for _ in 0..3 {
        while world.stepped.run_write(&world.shared.directory, &world.completions) {}
        turn(&mut world);
    }
    assert!(!world.workers[0].is_stalled());
    assert_eq!(world.workers[0].core().actors().under_way.bytes(), 0);
}

#[test]
fn those_who_fill_what_may_be_held_wait_and_a_bystander_does_not() {
    const ACCOMPLICES: usize = 10;
    const EACH: usize = 60;
    let (mut world, _data) = still(ACCOMPLICES + 2, 1000);
    let limits = crate::limits::Limits { held_bytes: 100_000, ..world.config.limits.clone() };
    let config = crate::config::Config { limits, ..(*world.config).clone() };
    world.workers[0].core_mut().reconfigure(std::sync::Arc::new(config));
    let metrics = |world: &World| {
        let metrics = world.workers[0].core().env().metrics();
        (metrics.messages_in.get(), metrics.messages_out.get(), metrics.iqs_in.get())
    };
    let filler = "x".repeat(2_000);
    let chat = |to: usize| {
        format!(
            "<message type='chat' to='{}'><body>{filler}</body><store xmlns='urn:xmpp:hints'/></message>",
            bare(to)
        )
    };
    let before = metrics(&world);
    for user in 0..ACCOMPLICES {
        let other = (user + 1) % ACCOMPLICES;
        say(&mut world, user, &format!("<presence type='subscribe' to='{}'/>", bare(other)));
    }
    turn(&mut world);
    // Of another client of each, because what its own client sends behind the request waits anyway.
    for user in 0..ACCOMPLICES {
        let text = chat((user + 1) % ACCOMPLICES).repeat(EACH);
        say(&mut world, user + ACCOMPLICES + 2, &text);
    }
    for _ in 0..300 {
        turn(&mut world);
        assert!(!world.workers[0].is_stalled(), "nobody else is read from any more");
    }
    let core = world.workers[0].core();
    assert!(
        (30_000..100_000).contains(&core.actors().under_way.bytes()),
        "{}",
        core.actors().under_way.bytes()
    );
    assert!(core.env().metrics().held_waits.get() >= ACCOMPLICES as u64);
    let between = metrics(&world);
    assert!(between.0 - before.0 < (ACCOMPLICES * EACH) as u64, "the rest waits");
    let (bystander, friend) = (ACCOMPLICES, ACCOMPLICES + 1);
    say(&mut world, bystander, &chat(friend));
    say(&mut world, bystander, "<iq type='get' id='q0'><ping xmlns='urn:xmpp:ping'/></iq>");
    for _ in 0..3 {
        turn(&mut world);
    }
    let after = metrics(&world);
    assert_eq!((after.0 - between.0, after.2 - between.2), (1, 1), "both are handled");
    assert!(after.1 > between.1, "and the message is delivered");
    for _ in 0..1_000 {
        turn(&mut world);
        world.round();
        // They hear of what no oracle has been told.
        world.failure = None;
    }
    assert_eq!(metrics(&world).0 - before.0, (ACCOMPLICES * EACH) as u64 + 1, "nothing is lost");
    assert_eq!(world.workers[0].core().actors().under_way.bytes(), 0);
    assert_eq!(world.workers[0].core().env().metrics().refused_held.get(), 0);
}

#[test]
fn a_sender_elsewhere_that_has_its_part_of_what_may_be_held_is_told() {
    let (mut world, _data) = still_on(2, 8, 100);
    let of_home = |home| (0..8).find(|user| world.workers[0].core().env().home_of(&local(*user)) == home);
    let (sender, contact) = (of_home(1).expect("one of eight"), of_home(0).expect("one of eight"));
    world.subscription(sender, contact, "subscribe");
    write(&mut world);
    (0..3).for_each(|_| turn(&mut world));
    // The contact's half is on its way to the directory; more comes.
    let filler = "x".repeat(3_000);
    let (from, to) = (full(sender, "r0"), local(contact));
    let bytes =
        format!("<message from='{from}' to='{to}@x' type='chat' id='m'><body>{filler}</body></message>");
    let errors = |world: &World| world.workers[0].core().env().metrics().errors_out.get();
    let (before, limit) = (errors(&world), world.config.limits.held_bytes as usize);
    let mut sent = 0;
    while world.workers[0].core().env().metrics().refused_held.get() == 0 {
        let (_, _, fx) = world.parts_mut(1);
        let message = crate::stanza::Delivery {
            kind: crate::stanza::Kind::Iq,
            typ: crate::stanza::Type::Get,
            traits: crate::stanza::Traits::default(),
            from: &from,
            to_local: &to,
            to_resource: Some("r0"),
            id: Some("m"),
            bytes: bytes.as_bytes(),
            pending_ack: None,
        };
        fx.links.to(0).stanza(&message);
        sent += 1;
        assert!(sent < 1_000, "all of it is held");
        turn(&mut world);
        turn(&mut world);
    }
    let held = world.workers[0].core().actors().under_way.bytes();
    assert!((limit / 10..limit / 8).contains(&held), "{held} of {limit}");
    assert!(!world.workers[0].is_stalled());
    assert_eq!(errors(&world) - before, 1, "its sender is answered");
}
