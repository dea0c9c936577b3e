//! The table against the RFC's, row by row.

use super::*;
use Direction::{Inbound, Outbound};
use Verb::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};

fn state(name: &str) -> State {
    match name {
        "None" => State::None,
        "None + Pending Out" => State::NonePendingOut,
        "None + Pending In" => State::NonePendingIn,
        "None + Pending Out+In" => State::NonePendingOutIn,
        "To" => State::To,
        "To + Pending In" => State::ToPendingIn,
        "From" => State::From,
        "From + Pending Out" => State::FromPendingOut,
        "Both" => State::Both,
        other => panic!("not a state: {other}"),
    }
}

/// The RFC's tables in its own words: existing state, whether the stanza goes on ("route" outbound, "deliver"
/// inbound), new state ("-" for no change). After a "|", what sections 3.1 to 3.4 add: "auto-reply", "approve",
/// "unavailable", and "probe" where the contact's server would send presence of its own accord (see [`Consequences::PROBE`]).
const RFC_6121: &[(Direction, Verb, bool, &str)] = &[
    (
        Outbound,
        Subscribe,
        false,
        "None: MUST, None + Pending Out
             None + Pending Out: MUST, -
             None + Pending In: MUST, None + Pending Out+In
             None + Pending Out+In: MUST, -
             To: MUST, -
             To + Pending In: MUST, -
             From: MUST, From + Pending Out
             From + Pending Out: MUST, -
             Both: MUST, -",
    ),
    (
        Outbound,
        Unsubscribe,
        false,
        "None: MUST, -
             None + Pending Out: MUST, None
             None + Pending In: MUST, -
             None + Pending Out+In: MUST, None + Pending In
             To: MUST, None
             To + Pending In: MUST, None + Pending In
             From: MUST, -
             From + Pending Out: MUST, From
             Both: MUST, From",
    ),
    (
        Outbound,
        Subscribed,
        false,
        "None: MUST NOT, - | approve
             None + Pending Out: MUST NOT, - | approve
             None + Pending In: MUST, From
             None + Pending Out+In: MUST, From + Pending Out
             To: MUST NOT, - | approve
             To + Pending In: MUST, Both
             From: MUST NOT, -
             From + Pending Out: MUST NOT, -
             Both: MUST NOT, -",
    ),
    (
        Outbound,
        Unsubscribed,
        false,
        "None: MUST NOT, - | withdraw
             None + Pending Out: MUST NOT, - | withdraw
             None + Pending In: MUST, None | withdraw
             None + Pending Out+In: MUST, None + Pending Out | withdraw
             To: MUST NOT, - | withdraw
             To + Pending In: MUST, To | withdraw
             From: MUST, None | withdraw unavailable
             From + Pending Out: MUST, None + Pending Out | withdraw unavailable
             Both: MUST, To | withdraw unavailable",
    ),
    (
        Inbound,
        Subscribe,
        false,
        "None: MUST, None + Pending In
             None + Pending Out: MUST, None + Pending Out+In
             None + Pending In: MUST NOT, -
             None + Pending Out+In: MUST NOT, -
             To: MUST, To + Pending In
             To + Pending In: MUST NOT, -
             From: MUST NOT, - | auto-reply
             From + Pending Out: MUST NOT, - | auto-reply
             Both: MUST NOT, - | auto-reply",
    ),
    (
        Inbound,
        Subscribe,
        true,
        "None: MUST NOT, From | auto-reply
             None + Pending Out: MUST NOT, From + Pending Out | auto-reply
             None + Pending In: MUST NOT, From | auto-reply
             None + Pending Out+In: MUST NOT, From + Pending Out | auto-reply
             To: MUST NOT, Both | auto-reply
             To + Pending In: MUST NOT, Both | auto-reply
             From: MUST NOT, - | auto-reply
             From + Pending Out: MUST NOT, - | auto-reply
             Both: MUST NOT, - | auto-reply",
    ),
    (
        Inbound,
        Unsubscribe,
        false,
        "None: MUST NOT, -
             None + Pending Out: MUST NOT, -
             None + Pending In: MUST, None
             None + Pending Out+In: MUST, None + Pending Out
             To: MUST NOT, -
             To + Pending In: MUST, To
             From: MUST, None | unavailable
             From + Pending Out: MUST, None + Pending Out | unavailable
             Both: MUST, To | unavailable",
    ),
    (
        Inbound,
        Subscribed,
        false,
        "None: MUST NOT, -
             None + Pending Out: MUST, To | probe
             None + Pending In: MUST NOT, -
             None + Pending Out+In: MUST, To + Pending In | probe
             To: MUST NOT, - | probe
             To + Pending In: MUST NOT, - | probe
             From: MUST NOT, -
             From + Pending Out: MUST, Both | probe
             Both: MUST NOT, - | probe",
    ),
    (
        Inbound,
        Unsubscribed,
        false,
        "None: MUST NOT, -
             None + Pending Out: MUST, None
             None + Pending In: MUST NOT, -
             None + Pending Out+In: MUST, None + Pending In
             To: MUST, None
             To + Pending In: MUST, None + Pending In
             From: MUST NOT, -
             From + Pending Out: MUST, From
             Both: MUST, From",
    ),
];

#[test]
fn every_move_is_the_one_of_the_rfc() {
    let mut rows = 0;
    for &(direction, verb, approved, table) in RFC_6121 {
        for line in table.lines().map(str::trim) {
            let (existing, rest) = line.split_once(": ").unwrap();
            let (rest, extra) = rest.split_once(" | ").unwrap_or((rest, ""));
            let (must, new) = rest.split_once(", ").unwrap();
            let existing = state(existing);
            let next = if new == "-" { existing } else { state(new) };
            let step = step(existing, approved, direction, verb);
            let what = format!("{direction:?} {verb:?} approved={approved} in {line}");
            assert_eq!(step.next, next, "{what}: new state");
            let on = if direction == Outbound { Consequences::ROUTE } else { Consequences::DELIVER };
            let off = if direction == Outbound { Consequences::DELIVER } else { Consequences::ROUTE };
            assert_eq!(step.consequences.has(on), must == "MUST", "{what}: goes on");
            assert!(!step.consequences.has(off), "{what}: goes the wrong way");
            // A push is due exactly when an attribute of the item changes (§2.1.2).
            let seen = |state: State| (state.subscription(), state.asks());
            let visible = seen(existing) != seen(next) || extra.contains("approve");
            assert_eq!(step.consequences.has(Consequences::PUSH), visible, "{what}: push");
            for (effect, name) in [
                (Consequences::REPLY, "auto-reply"),
                (Consequences::PROBE, "probe"),
                (Consequences::UNAVAILABLE, "unavailable"),
                (Consequences::APPROVE, "approve"),
                (Consequences::WITHDRAW, "withdraw"),
            ] {
                assert_eq!(step.consequences.has(effect), extra.contains(name), "{what}: {name}");
            }
            rows += 1;
        }
    }
    // Eight tables of nine rows, and the one for pre-approved requests.
    assert_eq!(rows, 81);
}

#[test]
fn only_an_inbound_subscribe_asks_for_the_pre_approval() {
    for direction in [Outbound, Inbound] {
        for verb in Verb::ALL {
            if (direction, verb) == (Inbound, Subscribe) {
                continue;
            }
            for state in State::ALL {
                assert_eq!(step(state, true, direction, verb), step(state, false, direction, verb));
            }
        }
    }
}

#[test]
fn rows_and_columns_are_indexed_in_the_order_of_their_lists() {
    for (index, verb) in Verb::ALL.into_iter().enumerate() {
        assert_eq!(verb as usize, index);
    }
    for (index, state) in State::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, index);
        let item = Item {
            subscription: state.subscription(),
            ask: state.asks(),
            pending_in: state.is_asked().then(Vec::new),
            ..Item::default()
        };
        assert_eq!(State::of(&item), state);
    }
}
