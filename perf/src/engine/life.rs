//! A mix that looks like life: messages, to one and to groups, presence that changes, rosters that are fetched, telephones that
//! lose their connection and come back.
//!
//! Every `mobile`-th pair is on the move: those sessions lose their connections without a word, log in again, show
//! presence and enter the room of their group. The others chat, so that their messages are accounted for one by one, whatever the mobile ones do.

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::engine::session::State;

/// What of a hundred events are what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mix {
    /// Messages between the two of a pair that stays.
    pub(crate) messages: u32,
    /// Presences of anybody, to all of the group.
    pub(crate) presences: u32,
    /// Rosters, fetched by anybody.
    pub(crate) rosters: u32,
    /// Connections of mobile sessions that are cut, and come back.
    pub(crate) reconnects: u32,
    /// Messages to the room of a group, by one that stays.
    pub(crate) groups: u32,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Message,
    Presence,
    Roster,
    Reconnect,
    Group,
}

impl Mix {
    /// All shares together.
    pub(crate) fn sum(&self) -> u32 {
        self.messages + self.presences + self.rosters + self.reconnects + self.groups
    }

    /// The kind of event `number`. Kinds are spread evenly: 37 has no factor in common with a hundred.
    fn event(&self, number: u32) -> Event {
        let mut place = number.wrapping_mul(37) % self.sum().max(1);
        for (share, event) in [
            (self.messages, Event::Message),
            (self.presences, Event::Presence),
            (self.rosters, Event::Roster),
            (self.groups, Event::Group),
        ] {
            if place < share {
                return event;
            }
            place -= share;
        }
        Event::Reconnect
    }
}

/// The `turn`-th session of those pairs that are on the move, or of those that are not; `None` where there are none.
fn chosen(turn: u32, moves: bool, mobile: u32, sessions: u32) -> Option<u32> {
    let pairs = sessions / 2;
    let moving = pairs.checked_div(mobile).unwrap_or(0);
    let count = if moves { moving } else { pairs - moving };
    if count == 0 {
        return None;
    }
    let (index, side) = (turn / 2 % count, turn % 2);
    let pair = match (moves, mobile) {
        (true, _) => index * mobile + mobile - 1,
        (false, 0 | 1) => index,
        // Of each `mobile` pairs the last one moves.
        (false, _) => index / (mobile - 1) * mobile + index % (mobile - 1),
    };
    Some(pair * 2 + side)
}

/// Whether a session is one of those that are on the move.
pub(super) fn moves(session: u32, mobile: u32) -> bool {
    mobile > 0 && session / 2 % mobile == mobile - 1
}

impl Engine {
    /// Event `number` of a life.
    pub(super) fn live(&mut self, number: u32, due: u64, mix: Mix, mobile: u32) {
        // Each kind goes through its sessions by itself.
        let turn = number / 3;
        let event = mix.event(number);
        let session = match event {
            Event::Message | Event::Group => chosen(turn, false, mobile, self.wanted),
            Event::Reconnect => chosen(turn, true, mobile, self.wanted),
            Event::Presence | Event::Roster => Some(turn % self.wanted),
        };
        // One that is on its way back does nothing.
        let Some(session) = session.filter(|&session| self.sessions[session as usize].state == State::Ready)
        else {
            return;
        };
        self.out.clear();
        match event {
            Event::Message => self.chat(session, due),
            Event::Presence => self.show_once(session, due),
            Event::Roster => self.fetch_roster(session),
            Event::Group => self.say_in_room(session, due),
            Event::Reconnect => {
                self.close(session);
                self.counters.ready -= 1;
                self.to_connect.push_back(session);
                return;
            }
        }
        self.finish(session, Ok(()));
    }

    /// Its answer is counted and timed as that of a ping, one at a time for each session.
    fn fetch_roster(&mut self, number: u32) {
        let now = self.clock.now_ns();
        let session = &mut self.sessions[number as usize];
        if std::mem::replace(&mut session.ping_waits, true) {
            return;
        }
        session.started_ns = now;
        session.stanzas_sent += 1;
        self.counters.pings_sent += 1;
        self.say(&["<iq type='get' id='ping'><query xmlns='jabber:iq:roster'/></iq>"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_events_are_as_many_of_each_kind_as_asked_for() {
        let mix = Mix { messages: 50, presences: 20, rosters: 15, reconnects: 5, groups: 10 };
        for from in [0, 100, 700] {
            let count = |event| (from..from + 100).filter(|&number| mix.event(number) == event).count();
            let kinds = [Event::Message, Event::Presence, Event::Roster, Event::Reconnect, Event::Group];
            assert_eq!(kinds.map(count), [50, 20, 15, 5, 10]);
        }
    }

    #[test]
    fn those_who_move_and_those_who_stay_are_all_sessions_and_nobody_is_both() {
        for (mobile, sessions) in [(4, 40), (4, 46), (1, 10), (0, 10), (3, 22)] {
            let all = |moves| -> std::collections::BTreeSet<u32> {
                (0..4 * sessions).filter_map(|turn| chosen(turn, moves, mobile, sessions)).collect()
            };
            let (moving, staying) = (all(true), all(false));
            assert!(moving.is_disjoint(&staying), "{mobile}, {sessions}");
            assert_eq!(moving.len() + staying.len(), sessions as usize, "{mobile}, {sessions}");
            assert!(moving.iter().chain(&staying).all(|&session| session < sessions));
            assert!((0..sessions).all(|session| moves(session, mobile) == moving.contains(&session)));
        }
    }
}
