//! The rules notice what they are for.

use std::net::{IpAddr, Ipv4Addr};

use super::super::world::full;
use super::*;
use crate::runtime::driver::Tuning;
use crate::runtime::driver::sim::{Network, Sim, Weather};

/// Sessions of these users, all bound to the same resource.
fn sessions(users: &[usize]) -> Oracle {
    let network = Network::new(1, 1, Weather::default());
    let _driver = Sim::new(&network, 0, Tuning::default());
    let mut oracle = Oracle::new(users.len());
    for (client, &user) in users.iter().enumerate() {
        let link = network.connect(client as u32, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let id = oracle.request(1, user, "r0", link);
        oracle.sessions[id].bound = Some(2);
    }
    oracle
}

/// Users 0 and 1 with one bound session each.
fn two() -> Oracle {
    sessions(&[0, 1])
}

fn deliver(oracle: &mut Oracle, id: usize, n: u32) -> Result<(), Broken> {
    oracle.delivered(
        id,
        &Arrival { step: 5, from: &full(0, "r0"), text: &body(n), delayed: false },
        |_| true,
        full,
    )
}

#[test]
fn a_lost_a_doubled_and_a_misdirected_message_are_noticed() {
    let mut oracle = two();
    let n = oracle.sent(3, 0, 1, Some("r0"));
    assert!(oracle.judge(&BTreeSet::new(), false, 0).unwrap_err().contains("has vanished"));
    assert!(deliver(&mut oracle, 0, n).unwrap_err().contains("reaches user 0"));
    deliver(&mut oracle, 1, n).unwrap();
    assert!(deliver(&mut oracle, 1, n).unwrap_err().contains("twice"));
    assert!(oracle.refused(0, n).unwrap_err().contains("was delivered"));
}

#[test]
fn what_nobody_was_there_for_is_not_copied_and_anything_else_is() {
    for (available, delayed, fine) in [(None, true, true), (None, false, false), (Some(2), true, false)] {
        let mut oracle = sessions(&[0, 1, 1]);
        oracle.sessions[2].carbons = Some(2);
        oracle.sessions[2].available = available;
        let n = oracle.sent(3, 0, 1, None);
        let arrival = Arrival { step: 5, from: &full(0, "r0"), text: &body(n), delayed };
        oracle.delivered(1, &arrival, |_| true, full).unwrap();
        let outcome = oracle.judge(&BTreeSet::new(), false, 0);
        assert_eq!(outcome.is_ok(), fine, "available {available:?}, delayed {delayed}: {outcome:?}");
    }
}

#[test]
fn a_changed_order_a_false_sender_and_a_damaged_text_are_noticed() {
    let mut oracle = two();
    let (first, second) = (oracle.sent(3, 0, 1, None), oracle.sent(4, 0, 1, None));
    deliver(&mut oracle, 1, second).unwrap();
    assert!(deliver(&mut oracle, 1, first).unwrap_err().contains("after"));
    let false_sender = oracle.delivered(
        1,
        &Arrival { step: 5, from: &full(1, "r0"), text: &body(first), delayed: false },
        |_| true,
        full,
    );
    assert!(false_sender.unwrap_err().contains("comes from"));
    let damaged = format!("{} ", body(first));
    assert!(
        oracle
            .delivered(
                1,
                &Arrival { step: 5, from: &full(0, "r0"), text: &damaged, delayed: false },
                |_| true,
                full
            )
            .unwrap_err()
            .contains("nobody has sent")
    );
}

#[test]
fn what_was_under_way_to_a_session_that_the_server_has_ended_may_come_late_to_another() {
    // Sessions 1 and 2 are of the same user.
    let cases = [(false, false, false), (true, true, false), (true, false, true), (false, true, false)];
    for (delayed, serves, fine) in cases {
        let mut oracle = sessions(&[0, 1, 1]);
        let other = oracle.sessions[2].link;
        let (first, second) = (oracle.sent(3, 0, 1, None), oracle.sent(4, 0, 1, None));
        deliver(&mut oracle, 1, second).unwrap();
        let served = |link| link != other || serves;
        let outcome = oracle.delivered(
            1,
            &Arrival { step: 5, from: &full(0, "r0"), text: &body(first), delayed },
            served,
            full,
        );
        assert_eq!(outcome.is_ok(), fine, "delayed {delayed}, served {serves}: {outcome:?}");
    }
    // Its own stream is no excuse.
    let mut oracle = two();
    let (first, second) = (oracle.sent(3, 0, 1, None), oracle.sent(4, 0, 1, None));
    deliver(&mut oracle, 1, second).unwrap();
    let outcome = oracle.delivered(
        1,
        &Arrival { step: 5, from: &full(0, "r0"), text: &body(first), delayed: true },
        |_| false,
        full,
    );
    assert!(outcome.unwrap_err().contains("after"));
}

#[test]
fn a_message_into_a_connection_that_breaks_may_be_lost_and_a_refusal_needs_a_reason() {
    let mut oracle = two();
    oracle.sent(3, 0, 1, None);
    oracle.end(4, 1, true);
    oracle.judge(&BTreeSet::new(), false, 0).unwrap();
    let mut oracle = two();
    let n = oracle.sent(3, 0, 1, Some("r0"));
    oracle.refused(0, n).unwrap();
    assert!(oracle.judge(&BTreeSet::new(), false, 0).unwrap_err().contains("could receive it"));
}

#[test]
fn two_rosters_may_differ_only_where_a_grant_can_be_taken_for_another() {
    // First asked, asked again, withdrawn; and whether `to` without `from`, and `from` without `to`, are allowed.
    let cases = [
        (false, false, false, false, false),
        (true, false, false, false, false),
        (true, false, true, false, false),
        (true, true, false, false, true),
        (true, true, true, true, true),
    ];
    for (asks, again, withdraws, to, from) in cases {
        let mut oracle = two();
        if asks {
            oracle.asks(0, 1, true);
        }
        if withdraws {
            oracle.withdraws(0, 1);
        }
        if again {
            oracle.asks(0, 1, false);
        }
        let allowed = (oracle.may_differ(0, 1, true, false), oracle.may_differ(0, 1, false, true));
        assert_eq!(allowed, (to, from), "asks {asks}, again {again}, withdraws {withdraws}");
        assert!(!oracle.may_differ(1, 0, true, false) && !oracle.may_differ(1, 0, false, true));
    }
}
