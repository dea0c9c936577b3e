//! What has come for a room while it writes to the directory or reads its archive.
//!
//! A room does one thing after the other: whatever comes behind a change waits until the change is on the disk, so that there is
//! one order of all that happens in it.

use std::collections::VecDeque;

use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};

/// A stanza that waits.
pub struct Waiting {
    kind: Kind,
    typ: Type,
    traits: Traits,
    from: Box<str>,
    nick: Option<Box<str>>,
    id: Option<Box<str>>,
    bytes: Box<[u8]>,
    pending_ack: Option<PendingAck>,
}

impl Waiting {
    fn of(d: &Delivery<'_>) -> Waiting {
        Waiting {
            kind: d.kind,
            typ: d.typ,
            traits: d.traits,
            from: d.from.into(),
            nick: d.to_resource.map(Into::into),
            id: d.id.map(Into::into),
            bytes: d.bytes.into(),
            pending_ack: d.pending_ack,
        }
    }

    /// The stanza, for the room of this name.
    pub fn delivery<'a>(&'a self, name: &'a str) -> Delivery<'a> {
        Delivery {
            kind: self.kind,
            typ: self.typ,
            traits: self.traits,
            from: &self.from,
            to_local: name,
            to_resource: self.nick.as_deref(),
            id: self.id.as_deref(),
            bytes: &self.bytes,
            pending_ack: self.pending_ack,
        }
    }

    /// Whether it ends the stay of its sender.
    fn is_end(&self) -> bool {
        self.kind == Kind::Presence && matches!(self.typ, Type::Unavailable | Type::Error)
    }

    /// Bytes of memory.
    fn cost(&self) -> usize {
        let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Waiting>() + self.from.len() + length(&self.nick) + length(&self.id) + self.bytes.len()
    }
}

/// What is next for a room.
pub enum Next {
    /// A stanza.
    Stanza(Waiting),
    /// An operator's order, which is kept elsewhere: here is its place.
    Order,
}

impl Next {
    fn cost(&self) -> usize {
        match self {
            Next::Stanza(waiting) => waiting.cost(),
            Next::Order => size_of::<Waiting>(),
        }
    }

    fn stanza(&self) -> Option<&Waiting> {
        match self {
            Next::Stanza(waiting) => Some(waiting),
            Next::Order => None,
        }
    }
}

/// What waits for one room.
#[derive(Default)]
pub struct Inbox {
    is_busy: bool,
    waiting: VecDeque<Next>,
    bytes: usize,
}

impl Inbox {
    /// Whether the room writes or reads.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Whether it neither does anything nor has to.
    pub fn is_free(&self) -> bool {
        !self.is_busy && self.waiting.is_empty()
    }

    /// The room begins to write or read.
    pub fn begin(&mut self) {
        debug_assert!(!self.is_busy, "a room does one thing after the other");
        self.is_busy = true;
    }

    /// It has written or read.
    pub fn end(&mut self) {
        self.is_busy = false;
    }

    /// Lets a stanza wait. `false`: as many bytes wait as may. One that ends a stay waits in any case, once for each stay, so that
    /// nobody remains in a room who has gone. `has_seat`: its sender has a seat now.
    pub fn hold(&mut self, d: &Delivery<'_>, bytes_max: usize, has_seat: bool) -> bool {
        let waiting = Waiting::of(d);
        if self.bytes + waiting.cost() > bytes_max {
            if !waiting.is_end() {
                return false;
            }
            let mut stanzas = self.waiting.iter().rev().filter_map(Next::stanza);
            let last = stanzas.find(|other| other.from == waiting.from);
            if !last.map_or(has_seat, |other| !other.is_end()) {
                // It ends nothing that has not ended.
                return true;
            }
        }
        self.bytes += waiting.cost();
        self.waiting.push_back(Next::Stanza(waiting));
        true
    }

    /// Lets an operator's order wait. How many may is for those to say who keep them.
    pub fn hold_order(&mut self) {
        self.bytes += Next::Order.cost();
        self.waiting.push_back(Next::Order);
    }

    /// What is next, unless the room is busy.
    pub fn take(&mut self) -> Option<Next> {
        if self.is_busy {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.bytes -= next.cost();
        if self.waiting.is_empty() {
            // There are many rooms, and few of them are busy.
            self.waiting = VecDeque::new();
        }
        Some(next)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(typ: Type, bytes: &[u8]) -> Delivery<'_> {
        Delivery {
            kind: Kind::Presence,
            typ,
            traits: Traits::default(),
            from: "a@x/r",
            to_local: "room",
            to_resource: Some("nick"),
            id: None,
            bytes,
            pending_ack: None,
        }
    }

    #[test]
    fn what_comes_while_a_room_is_busy_is_next_in_its_order() {
        let mut inbox = Inbox::default();
        inbox.begin();
        assert!(
            inbox.hold(&stanza(Type::Available, b"1"), 1000, false)
                && inbox.hold(&stanza(Type::Available, b"2"), 1000, false)
        );
        assert!(inbox.take().is_none() && !inbox.is_free());
        inbox.hold_order();
        inbox.end();
        let Some(Next::Stanza(first)) = inbox.take() else { panic!("a stanza came first") };
        assert_eq!(
            (first.delivery("room").bytes, first.delivery("room").to_resource),
            (&b"1"[..], Some("nick"))
        );
        inbox.begin();
        assert!(inbox.take().is_none());
        inbox.end();
        assert!(matches!(inbox.take(), Some(Next::Stanza(_))));
        assert!(matches!(inbox.take(), Some(Next::Order)) && inbox.take().is_none());
        assert_eq!((inbox.bytes(), inbox.is_free()), (0, true));
        assert_eq!(inbox.waiting.capacity(), 0, "it keeps no memory");
    }

    #[test]
    fn a_full_inbox_takes_nothing_but_farewells() {
        let mut inbox = Inbox::default();
        inbox.begin();
        assert!(!inbox.hold(&stanza(Type::Available, b"1"), 10, true));
        assert!(inbox.hold(&stanza(Type::Unavailable, b"1"), 10, true) && inbox.bytes() > 10);
    }

    #[test]
    fn farewells_beyond_the_limit_wait_once_for_each_stay() {
        let mut inbox = Inbox::default();
        inbox.begin();
        // Whoever is not there has nothing to end.
        assert!(inbox.hold(&stanza(Type::Unavailable, b"1"), 10, false) && inbox.bytes() == 0);
        assert!(inbox.hold(&stanza(Type::Unavailable, b"1"), 10, true));
        let one = inbox.bytes();
        for typ in [Type::Unavailable, Type::Error].repeat(50) {
            assert!(inbox.hold(&stanza(typ, b"1"), 10, true));
        }
        assert_eq!(inbox.bytes(), one);
        // One who waits to enter has.
        assert!(inbox.hold(&stanza(Type::Available, b"1"), 1000, true));
        assert!(inbox.hold(&stanza(Type::Unavailable, b"1"), 10, true) && inbox.bytes() == 3 * one);
    }
}
