//! Rooms (XEP-0045) of a life: the sessions of a group are in one, each as an occupant.
//!
//! Every copy of a message is accounted for, to those occupants that are not on the move. Nobody knows how many of those that come
//! and go get one. Messages of a room are numbered by the room, whoever sends them: those of different senders may overtake each
//! other, so only what is missing and what comes twice is told.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::engine::life::moves;
use crate::engine::scan::Element;
use crate::engine::session::State;
use crate::engine::tracker::{Arrival, Flow, Tracker};
use crate::engine::traffic::{group_of, read_id};

/// The rooms of a worker's sessions.
#[derive(Default)]
pub(crate) struct Rooms {
    /// Sessions of a room; 0: there are none.
    members: u32,
    /// Every so many-th pair is on the move.
    mobile: u32,
    /// Messages sent to each room.
    sent: Vec<u32>,
    /// Copies that occupants who stay are to get, and have got, since the load began.
    expected: u64,
    seen: u64,
    tracker: Tracker,
}

/// Whether a message is one of a room, passed on or refused.
pub(super) fn is_of_a_room(message: &Element<'_>) -> bool {
    let from = message.attribute(b"from").unwrap_or_default();
    message.attribute(b"type") == Some(b"groupchat") || (from.starts_with(b"life") && from.contains(&b'@'))
}

impl Engine {
    /// The first session of each group makes a room, enters it and opens it as it comes.
    pub(crate) fn make_rooms(&mut self, members: u32, mobile: u32) {
        let members = members.max(1);
        self.rooms = Rooms {
            members,
            mobile,
            sent: vec![0; self.wanted.div_ceil(members) as usize],
            ..Rooms::default()
        };
        for first in (0..self.wanted).step_by(members as usize) {
            self.out.clear();
            self.enter_room(first);
            let room = self.room_of(first);
            self.say(&[
                "<iq type='set' id='open' to='",
                &room,
                "'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
            ]);
            self.sessions[first as usize].stanzas_sent += 1;
            self.finish(first, Ok(()));
        }
    }

    /// The others enter them.
    pub(crate) fn enter_rooms(&mut self) {
        for number in 0..self.wanted {
            self.out.clear();
            self.enter_room(number);
            self.finish(number, Ok(()));
        }
    }

    /// Whether everybody who makes one, or `all`, are in their rooms.
    pub(crate) fn are_in_rooms(&self, all: bool) -> bool {
        let members = self.rooms.members.max(1);
        let in_room = |number: u32| self.sessions[number as usize].in_room;
        (0..self.wanted).filter(|number| all || number % members == 0).all(in_room)
    }

    /// Enters the room of its group without history, where there is one and it is not in it yet.
    pub(super) fn enter_room(&mut self, number: u32) {
        let session = &mut self.sessions[number as usize];
        if self.rooms.members == 0 || session.in_room || session.state != State::Ready {
            return;
        }
        session.stanzas_sent += 1;
        let to = format!("{}/n{number}", self.room_of(number));
        self.say(&[
            "<presence to='",
            &to,
            "'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
        ]);
    }

    fn room_of(&self, number: u32) -> String {
        let first = group_of(number, self.rooms.members, self.wanted).start;
        format!("life{}@conference.{}", self.share.first + u64::from(first), self.target.domain)
    }

    /// Says one message to the room of a session.
    pub(super) fn say_in_room(&mut self, number: u32, due: u64) {
        if !self.sessions[number as usize].in_room {
            return;
        }
        let room = (number / self.rooms.members) as usize;
        let sequence = self.rooms.sent[room];
        self.rooms.sent[room] += 1;
        self.rooms.expected += group_of(number, self.rooms.members, self.wanted)
            .filter(|&other| !moves(other, self.rooms.mobile) && self.sessions[other as usize].in_room)
            .count() as u64;
        let mut text = format!("<message type='groupchat' to='{}'", self.room_of(number));
        // Writing to a String cannot fail.
        let _ = write!(text, " id='w{sequence:x}-{due:x}-{:x}'><body>", self.traffic.run());
        text.push_str(self.traffic.body());
        self.say(&[&text, "</body></message>"]);
        self.sessions[number as usize].stanzas_sent += 1;
        self.counters.group_sent += 1;
    }

    /// A room has passed on a message.
    pub(super) fn said_in_room(&mut self, number: u32, message: &Element<'_>) {
        let Some((sequence, due, run)) = message.attribute(b"id").and_then(read_id) else { return };
        if run != self.traffic.run() {
            return;
        }
        if message.attribute(b"type") == Some(b"error") {
            self.counters.group_bounced += 1;
            return;
        }
        if moves(number, self.rooms.mobile) {
            return;
        }
        let mut flow = Flow { next: self.sessions[number as usize].room_next, ..Flow::default() };
        let arrival = self.rooms.tracker.arrived(number, &mut flow, sequence);
        self.sessions[number as usize].room_next = flow.next;
        if arrival == Arrival::Duplicate {
            self.counters.duplicated += 1;
            return;
        }
        self.counters.group_delivered += 1;
        self.rooms.seen += 1;
        if due >= self.traffic.timed_from_ns {
            self.recorder.group.record(self.clock.now_ns().saturating_sub(due));
        }
    }

    /// A room tells a session of itself (status 110). Returns whether that is what the presence is.
    pub(super) fn own_presence_in_room(&mut self, number: u32, presence: &Element<'_>) -> bool {
        let is_own = self.rooms.members > 0 && (presence.contains(b"'110'") || presence.contains(b"\"110\""));
        if is_own {
            self.sessions[number as usize].in_room = presence.attribute(b"type") != Some(b"unavailable");
        }
        is_own
    }

    /// Nothing is on its way any more: a load begins.
    pub(super) fn begin_in_rooms(&mut self) {
        self.rooms.tracker.clear();
        self.rooms.sent.fill(0);
        for session in &mut self.sessions {
            session.room_next = 0;
        }
    }

    /// Whether every copy has arrived.
    pub(super) fn rooms_are_quiet(&self) -> bool {
        self.rooms.seen >= self.rooms.expected
    }

    /// Copies that have not arrived are lost.
    pub(super) fn settle_rooms(&mut self) {
        self.counters.group_lost += self.rooms.expected.saturating_sub(self.rooms.seen);
        (self.rooms.expected, self.rooms.seen) = (0, 0);
    }
}
