//! Worlds moved by hand: passwords for which there is no room among the guesses at their account.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::client::NS_SASL;
use super::come::HEADER;
use super::order::{still, turn};
use super::world::{PASSWORD, World, local};

/// Strangers from networks that have never guessed use up all guesses at account 0.
fn use_up(world: &World, first: u16) {
    let mut throttle = world.shared.throttle();
    for n in first..first + 200 {
        let [a, b] = n.to_be_bytes();
        let _ = throttle.begin(&local(0), IpAddr::from([11, a, b, 1]), world.now.0);
    }
}

/// The owner of account 0 comes from an address where it has never been, in place of client 3.
fn come(world: &mut World) {
    let link = world.clients[3].link.expect("it is connected");
    world.network.client_close(link, true);
    world.clients[3].away(world.now);
    turn(world);
    let number = world.clients[3].number;
    let link = world.network.connect(number, IpAddr::from([192, 0, 2, 7])).expect("there is room");
    world.clients[3].connected(link);
    let plain = STANDARD.encode(format!("\0{}\0{PASSWORD}", local(0)));
    world.clients[3].say(&format!("{HEADER}<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{plain}</auth>"));
}

/// A second passes.
fn second(world: &mut World) {
    world.pass(1_000);
    for _ in 0..2 {
        turn(world);
        while world.job() {}
    }
}

/// Logins, those that waited, those that were refused unheard.
fn figures(world: &World) -> (u64, u64, u64) {
    let metrics = world.workers[0].core().env().metrics();
    (metrics.logins.get(), metrics.login_waited.get(), metrics.refused_throttled.get())
}

#[test]
fn a_password_waits_for_room_among_the_guesses() {
    let (mut world, _data) = still(2, 100);
    use_up(&world, 0);
    let (before, ..) = figures(&world);
    come(&mut world);
    for _ in 0..8 {
        second(&mut world);
        assert_eq!(figures(&world), (before, 1, 0), "it is neither looked at nor refused");
    }
    // One guess is forgiven after ten seconds, and its answer is held back for as long.
    for _ in 0..14 {
        second(&mut world);
    }
    assert_eq!(figures(&world), (before + 1, 1, 0));
}

#[test]
fn a_password_that_finds_no_room_is_refused_in_the_end() {
    let (mut world, _data) = still(2, 100);
    let (before, ..) = figures(&world);
    use_up(&world, 0);
    come(&mut world);
    for n in 1..=12 {
        // Others take whatever is forgiven.
        use_up(&world, n * 200);
        second(&mut world);
        use_up(&world, n * 200);
    }
    assert_eq!(figures(&world), (before, 1, 1));
}
