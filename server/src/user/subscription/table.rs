//! The states of a subscription and every move between them (RFC 6121 appendix A), as data.
//!
//! Nothing here reads or writes anything: [`step`] looks up what a subscription stanza means in a state.

use whimbrel_storage::directory::{Item, Subscription};

use crate::stanza::Type;

/// The nine states of a roster item as its owner's server sees it (RFC 6121 §A.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither sees the other's presence.
    None,
    /// The user has asked and waits.
    NonePendingOut,
    /// The contact has asked and waits.
    NonePendingIn,
    /// Both have asked and wait.
    NonePendingOutIn,
    /// The user sees the contact's presence.
    To,
    /// The user sees the contact's presence, and the contact has asked.
    ToPendingIn,
    /// The contact sees the user's presence.
    From,
    /// The contact sees the user's presence, and the user has asked.
    FromPendingOut,
    /// Both see each other's presence.
    Both,
}

impl State {
    /// All states, in the order of the columns of the table.
    pub const ALL: [State; 9] = [
        State::None,
        State::NonePendingOut,
        State::NonePendingIn,
        State::NonePendingOutIn,
        State::To,
        State::ToPendingIn,
        State::From,
        State::FromPendingOut,
        State::Both,
    ];

    /// The state of a roster item. A pending request means nothing beside a subscription that covers it.
    pub fn of(item: &Item) -> State {
        match (item.subscription, item.ask, item.pending_in.is_some()) {
            (Subscription::None, false, false) => State::None,
            (Subscription::None, true, false) => State::NonePendingOut,
            (Subscription::None, false, true) => State::NonePendingIn,
            (Subscription::None, true, true) => State::NonePendingOutIn,
            (Subscription::To, _, false) => State::To,
            (Subscription::To, _, true) => State::ToPendingIn,
            (Subscription::From, false, _) => State::From,
            (Subscription::From, true, _) => State::FromPendingOut,
            (Subscription::Both, _, _) => State::Both,
        }
    }

    /// The value of the `subscription` attribute (RFC 6121 §2.1.2.5).
    pub fn subscription(self) -> Subscription {
        match self {
            State::None | State::NonePendingOut | State::NonePendingIn | State::NonePendingOutIn => {
                Subscription::None
            }
            State::To | State::ToPendingIn => Subscription::To,
            State::From | State::FromPendingOut => Subscription::From,
            State::Both => Subscription::Both,
        }
    }

    /// "Pending out": `ask='subscribe'`.
    pub fn asks(self) -> bool {
        matches!(self, State::NonePendingOut | State::NonePendingOutIn | State::FromPendingOut)
    }

    /// "Pending in": a request of the contact waits for an answer.
    pub fn is_asked(self) -> bool {
        matches!(self, State::NonePendingIn | State::NonePendingOutIn | State::ToPendingIn)
    }
}

/// The four subscription stanzas.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Asks for a subscription.
    Subscribe,
    /// Grants it, perhaps before it was asked for.
    Subscribed,
    /// Ends the sender's own subscription.
    Unsubscribe,
    /// Denies or cancels the recipient's subscription.
    Unsubscribed,
}

impl Verb {
    /// All four, in the order of the rows of the table.
    pub const ALL: [Verb; 4] = [Verb::Subscribe, Verb::Subscribed, Verb::Unsubscribe, Verb::Unsubscribed];

    /// By the type of a presence stanza.
    pub fn of(typ: Type) -> Option<Verb> {
        Some(match typ {
            Type::Subscribe => Verb::Subscribe,
            Type::Subscribed => Verb::Subscribed,
            Type::Unsubscribe => Verb::Unsubscribe,
            Type::Unsubscribed => Verb::Unsubscribed,
            _ => return Option::None,
        })
    }

    /// The type of the presence stanza.
    pub fn typ(self) -> Type {
        match self {
            Verb::Subscribe => Type::Subscribe,
            Verb::Subscribed => Type::Subscribed,
            Verb::Unsubscribe => Type::Unsubscribe,
            Verb::Unsubscribed => Type::Unsubscribed,
        }
    }
}

/// Which way a stanza goes, seen from the user whose roster item it moves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The user sends it.
    Outbound,
    /// The user receives it.
    Inbound,
}

/// What a move asks the server to do besides changing the state.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Consequences(u8);

impl Consequences {
    /// Nothing.
    pub const NONE: Consequences = Consequences(0);
    /// Send the user's stanza on to the contact.
    pub const ROUTE: Consequences = Consequences(1);
    /// Hand the contact's stanza to the user's resources.
    pub const DELIVER: Consequences = Consequences(2);
    /// Push the changed item to the user's interested resources.
    pub const PUSH: Consequences = Consequences(4);
    /// Answer the contact with `subscribed` in the user's name.
    pub const REPLY: Consequences = Consequences(8);
    /// Ask for the contact's presence. The RFC lets the contact's server send it after its `subscribed` (§3.1.5); here
    /// it is fetched once the grant is written, so that it cannot overtake the `subscribed` that waits for the write.
    pub const PROBE: Consequences = Consequences(16);
    /// Send the contact `unavailable` from the user's available resources.
    pub const UNAVAILABLE: Consequences = Consequences(32);
    /// Note the pre-approval (RFC 6121 §3.4).
    pub const APPROVE: Consequences = Consequences(64);
    /// Withdraw the pre-approval (RFC 6121 §3.2.2).
    pub const WITHDRAW: Consequences = Consequences(128);

    /// Whether all of `other` are asked for.
    pub const fn has(self, other: Consequences) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    pub const fn and(self, other: Consequences) -> Consequences {
        Consequences(self.0 | other.0)
    }
}

/// A move: the new state and what else happens.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state afterwards.
    pub next: State,
    /// What else happens.
    pub consequences: Consequences,
}

/// What a stanza means in a state. `approved` is the pre-approval flag of the item.
pub fn step(state: State, approved: bool, direction: Direction, verb: Verb) -> Step {
    let row = match (direction, verb) {
        (Direction::Inbound, Verb::Subscribe) if approved => &INBOUND_SUBSCRIBE_APPROVED,
        (Direction::Outbound, _) => &OUTBOUND[verb as usize],
        (Direction::Inbound, _) => &INBOUND[verb as usize],
    };
    let (next, consequences) = row[state as usize];
    Step { next, consequences }
}

type Row = [(State, Consequences); 9];

use State::{
    Both, From, FromPendingOut, None, NonePendingIn, NonePendingOut, NonePendingOutIn, To, ToPendingIn,
};

const NOTHING: Consequences = Consequences::NONE;
const ROUTE: Consequences = Consequences::ROUTE;
const DELIVER: Consequences = Consequences::DELIVER;
const ROUTE_PUSH: Consequences = ROUTE.and(Consequences::PUSH);
const DELIVER_PUSH: Consequences = DELIVER.and(Consequences::PUSH);
/// §3.1.5: the contact has granted what the user had. It may have been withdrawn in between, so the contact is asked again.
const PROBE: Consequences = Consequences::PROBE;
/// §3.1.6: the user may see the contact from now on.
const GRANTED: Consequences = DELIVER_PUSH.and(Consequences::PROBE);
/// §3.4.2: a grant before the request.
const APPROVE: Consequences = Consequences::APPROVE.and(Consequences::PUSH);
/// §3.1.3: the contact may see the user already; the contact's server perhaps does not know.
const REPLY: Consequences = Consequences::REPLY;
/// §3.4.3: the request meets a pre-approval.
const REPLY_PUSH: Consequences = REPLY.and(Consequences::PUSH);
const WITHDRAW: Consequences = Consequences::WITHDRAW;
const DENY: Consequences = WITHDRAW.and(ROUTE);
/// §3.2.2: the contact no longer sees the user.
const CANCEL: Consequences = DENY.and(Consequences::PUSH).and(Consequences::UNAVAILABLE);
/// §3.3.3: the same at the contact's own wish.
const LEFT: Consequences = DELIVER_PUSH.and(Consequences::UNAVAILABLE);

/// RFC 6121 §A.2, one row a stanza, in the order of [`Verb::ALL`]; columns in the order of [`State::ALL`].
const OUTBOUND: [Row; 4] = [
    // §A.2.1 subscribe
    [
        (NonePendingOut, ROUTE_PUSH),
        (NonePendingOut, ROUTE),
        (NonePendingOutIn, ROUTE_PUSH),
        (NonePendingOutIn, ROUTE),
        (To, ROUTE),
        (ToPendingIn, ROUTE),
        (FromPendingOut, ROUTE_PUSH),
        (FromPendingOut, ROUTE),
        (Both, ROUTE),
    ],
    // §A.2.3 subscribed
    [
        (None, APPROVE),
        (NonePendingOut, APPROVE),
        (From, ROUTE_PUSH),
        (FromPendingOut, ROUTE_PUSH),
        (To, APPROVE),
        (Both, ROUTE_PUSH),
        (From, NOTHING),
        (FromPendingOut, NOTHING),
        (Both, NOTHING),
    ],
    // §A.2.2 unsubscribe
    [
        (None, ROUTE),
        (None, ROUTE_PUSH),
        (NonePendingIn, ROUTE),
        (NonePendingIn, ROUTE_PUSH),
        (None, ROUTE_PUSH),
        (NonePendingIn, ROUTE_PUSH),
        (From, ROUTE),
        (From, ROUTE_PUSH),
        (From, ROUTE_PUSH),
    ],
    // §A.2.4 unsubscribed
    [
        (None, WITHDRAW),
        (NonePendingOut, WITHDRAW),
        (None, DENY),
        (NonePendingOut, DENY),
        (To, WITHDRAW),
        (To, DENY),
        (None, CANCEL),
        (NonePendingOut, CANCEL),
        (To, CANCEL),
    ],
];

/// RFC 6121 §A.3, laid out as [`OUTBOUND`].
const INBOUND: [Row; 4] = [
    // §A.3.1 subscribe, without a pre-approval
    [
        (NonePendingIn, DELIVER),
        (NonePendingOutIn, DELIVER),
        (NonePendingIn, NOTHING),
        (NonePendingOutIn, NOTHING),
        (ToPendingIn, DELIVER),
        (ToPendingIn, NOTHING),
        (From, REPLY),
        (FromPendingOut, REPLY),
        (Both, REPLY),
    ],
    // §A.3.3 subscribed
    [
        (None, NOTHING),
        (To, GRANTED),
        (NonePendingIn, NOTHING),
        (ToPendingIn, GRANTED),
        (To, PROBE),
        (ToPendingIn, PROBE),
        (From, NOTHING),
        (Both, GRANTED),
        (Both, PROBE),
    ],
    // §A.3.2 unsubscribe
    [
        (None, NOTHING),
        (NonePendingOut, NOTHING),
        (None, DELIVER),
        (NonePendingOut, DELIVER),
        (To, NOTHING),
        (To, DELIVER),
        (None, LEFT),
        (NonePendingOut, LEFT),
        (To, LEFT),
    ],
    // §A.3.4 unsubscribed
    [
        (None, NOTHING),
        (None, DELIVER_PUSH),
        (NonePendingIn, NOTHING),
        (NonePendingIn, DELIVER_PUSH),
        (None, DELIVER_PUSH),
        (NonePendingIn, DELIVER_PUSH),
        (From, NOTHING),
        (From, DELIVER_PUSH),
        (From, DELIVER_PUSH),
    ],
];

/// RFC 6121 §3.4.3: an inbound `subscribe` that the user has approved before.
const INBOUND_SUBSCRIBE_APPROVED: Row = [
    (From, REPLY_PUSH),
    (FromPendingOut, REPLY_PUSH),
    (From, REPLY_PUSH),
    (FromPendingOut, REPLY_PUSH),
    (Both, REPLY_PUSH),
    (Both, REPLY_PUSH),
    (From, REPLY),
    (FromPendingOut, REPLY),
    (Both, REPLY),
];

#[cfg(test)]
mod tests;
