//! The loads: chat in a closed or an open loop, messages to store, presence.
//!
//! Sessions 2n and 2n+1 of a worker are a pair, so that both ends of a message are in one process and share a clock.
//! The id of a message is `w<number>-<due>-<run>`, all hexadecimal: its number in its flow, the time at which it was
//! due (not when it was sent, so that a stalled server cannot hide latency), and the run that it belongs to.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::account::Accounts;
use crate::engine::Engine;
use crate::engine::life::Mix;
use crate::engine::rooms::is_of_a_room;
use crate::engine::scan::Element;
use crate::engine::session::{Session, State};
use crate::engine::tracker::{Arrival, Flow, Tracker};

/// Messages sent in one turn at most, so that reading is not forgotten.
const SENDS_PER_TURN_MAX: u32 = 1_000;

/// Messages between two requests for an acknowledgement (XEP-0198).
const MESSAGES_PER_REQUEST: u32 = 16;

/// What a load does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Load {
    /// Nothing.
    #[default]
    Idle,
    /// Each pair keeps so many messages on their way; each arrival is answered with the next.
    Closed {
        /// Messages under way for each pair.
        window: u32,
    },
    /// Messages at a fixed rate, whatever the server does, from each session in turn.
    Open {
        /// Messages a second of this worker.
        rate: f64,
        /// Only pairs whose number is a multiple of this.
        every: u32,
    },
    /// Each even session sends so many messages to its absent partner's bare JID, at a rate.
    Store {
        /// Messages to each.
        each: u32,
        /// Messages a second of this worker.
        rate: f64,
    },
    /// A mix of everything at a fixed rate.
    Life {
        /// Events a second of this worker.
        rate: f64,
        /// What they are.
        mix: Mix,
        /// Every so many-th pair is on the move; 0: none.
        mobile: u32,
    },
    /// Presence at a fixed rate from each session in turn.
    Presence {
        /// Presences a second of this worker.
        rate: f64,
        /// Sessions that see each other.
        group: u32,
    },
}

/// The load at hand.
#[derive(Default)]
pub(crate) struct Traffic {
    load: Load,
    run: u32,
    body: String,
    sending: bool,
    /// The time that counts is over: nothing new is sent, pings included, until the next load.
    pub(super) draining: bool,
    next_due: u64,
    cursor: u32,
    tracker: Tracker,
    text: String,
    stored_left: u32,
    /// Messages due before this are not timed.
    pub(crate) timed_from_ns: u64,
    expected_presence: u64,
    seen_presence: u64,
}

impl Traffic {
    /// The number of the run at hand.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// The text of its messages.
    pub(super) fn body(&self) -> &str {
        &self.body
    }
}

impl Engine {
    /// Begins a load. Flows start at zero; what is still on its way from an earlier load does not count.
    pub(crate) fn begin(&mut self, load: Load, body_bytes: usize, timed_from_ns: u64, run: u32) {
        let now = self.clock.now_ns();
        self.traffic.tracker.clear();
        for session in &mut self.sessions {
            session.flow = Flow::default();
        }
        self.begin_in_rooms();
        self.traffic.run = run;
        self.traffic.body = "x".repeat(body_bytes);
        self.traffic.sending = true;
        self.traffic.draining = false;
        self.traffic.next_due = now;
        self.traffic.cursor = 0;
        self.traffic.timed_from_ns = timed_from_ns;
        self.traffic.load = load.clone();
        if let Load::Closed { window } = load {
            for first in (0..self.wanted / 2).map(|pair| pair * 2) {
                if self.sessions[first as usize].state != State::Ready {
                    continue;
                }
                self.out.clear();
                for _ in 0..window {
                    self.chat(first, self.clock.now_ns());
                }
                self.finish(first, Ok(()));
            }
        }
    }

    /// Sends no more of the load; what is on its way still counts.
    pub(crate) fn stop_sending(&mut self) {
        self.traffic.draining = true;
        self.traffic.sending = false;
    }

    /// Whether everything that was sent has come to an end.
    pub(crate) fn all_arrived(&self) -> bool {
        let gone = self.counters.sent - self.counters.lost - self.counters.bounced;
        self.counters.delivered == gone
            && self.traffic.seen_presence >= self.traffic.expected_presence
            && self.rooms_are_quiet()
    }

    /// Whether the server has acknowledged everything that managed sessions have sent.
    pub(crate) fn all_acknowledged(&self) -> bool {
        !self.sessions.iter().any(Session::awaits_acknowledgement)
    }

    /// What has not arrived is lost; pings that wait are unanswered.
    pub(crate) fn settle(&mut self) {
        self.settle_rooms();
        let counters = &mut self.counters;
        counters.lost += counters.sent.saturating_sub(counters.lost + counters.bounced + counters.delivered);
        counters.lost += self.traffic.expected_presence.saturating_sub(self.traffic.seen_presence);
        self.traffic.expected_presence = 0;
        self.traffic.seen_presence = 0;
        self.traffic.load = Load::Idle;
    }

    /// Asks the server what it has handled of each managed session that has sent messages. Others are let be: of a
    /// million there may be many.
    pub(crate) fn request_acknowledgements(&mut self) {
        for number in 0..self.wanted {
            if self.sessions[number as usize].awaits_acknowledgement() {
                self.out.clear();
                self.say(&["<r xmlns='urn:xmpp:sm:3'/>"]);
                self.finish(number, Ok(()));
            }
        }
    }

    /// Sends what an open loop owes by now; returns when the next is due.
    pub(super) fn send_due(&mut self, now: u64) -> Option<u64> {
        if !self.traffic.sending || self.wanted < 2 {
            return None;
        }
        let rate = match self.traffic.load {
            Load::Open { rate, .. }
            | Load::Store { rate, .. }
            | Load::Presence { rate, .. }
            | Load::Life { rate, .. } => rate,
            Load::Idle | Load::Closed { .. } => return None,
        };
        let interval = (1e9 / rate.max(0.001)) as u64;
        for _ in 0..SENDS_PER_TURN_MAX {
            if self.traffic.next_due > now {
                break;
            }
            let due = self.traffic.next_due;
            self.traffic.next_due += interval.max(1);
            if !self.send_one(due) {
                self.traffic.sending = false;
                return None;
            }
        }
        Some(self.traffic.next_due)
    }

    /// Sends the next message of the load; `false` when there is none left.
    fn send_one(&mut self, due: u64) -> bool {
        let cursor = self.traffic.cursor;
        self.traffic.cursor = cursor.wrapping_add(1);
        if let Load::Life { mix, mobile, .. } = self.traffic.load {
            self.live(cursor, due, mix, mobile);
            return true;
        }
        let pairs = self.wanted / 2;
        let number = match self.traffic.load {
            Load::Open { every, .. } => {
                let chosen = pairs.div_ceil(every.max(1));
                let turn = cursor % (chosen * 2);
                turn / 2 * every.max(1) * 2 + turn % 2
            }
            Load::Store { each, .. } => {
                if cursor >= pairs * each {
                    return false;
                }
                cursor % pairs * 2
            }
            _ => cursor % self.wanted,
        };
        let session = &self.sessions[number as usize];
        if session.state != State::Ready {
            // A lost sender is counted where it was lost.
            return true;
        }
        self.out.clear();
        match self.traffic.load {
            Load::Presence { group, .. } => self.show(number, due, group),
            Load::Store { each, .. } => {
                self.chat(number, due);
                if self.sessions[number as usize].flow.sent == each {
                    // Its answer shows that the server has dealt with everything before it.
                    self.traffic.stored_left += 1;
                    let domain = std::mem::take(&mut self.target.domain);
                    self.say(&[
                        "<iq type='get' id='stored' to='",
                        &domain,
                        "'><ping xmlns='urn:xmpp:ping'/></iq>",
                    ]);
                    self.target.domain = domain;
                }
            }
            _ => self.chat(number, due),
        }
        self.finish(number, Ok(()));
        true
    }

    /// Whether every sender of a store load knows that its messages have been dealt with.
    pub(crate) fn all_stored(&self) -> bool {
        !self.traffic.sending && self.traffic.stored_left == 0
    }

    pub(super) fn stored(&mut self) {
        self.traffic.stored_left = self.traffic.stored_left.saturating_sub(1);
    }

    /// Says one message from a session to its partner.
    pub(super) fn chat(&mut self, number: u32, due: u64) {
        let partner = number ^ 1;
        let sequence = self.sessions[number as usize].flow.sent;
        let traffic = &mut self.traffic;
        traffic.text.clear();
        traffic.text.push_str("<message type='chat' to='");
        let bare = matches!(traffic.load, Load::Store { .. });
        let receiver = &self.sessions[partner as usize];
        let ids = self.share.first + u64::from(partner);
        // Writing to a String cannot fail.
        let _ = match &receiver.jid {
            Some(jid) => write!(traffic.text, "{jid}"),
            None if bare => {
                write!(traffic.text, "user{}@{}", self.target.account(ids), self.target.domain)
            }
            None => write!(
                traffic.text,
                "user{}@{}/p{}",
                self.target.account(ids),
                self.target.domain,
                self.target.resource(ids)
            ),
        };
        let _ = write!(traffic.text, "' id='w{sequence:x}-{due:x}-{:x}'><body>", traffic.run);
        self.out.extend_from_slice(traffic.text.as_bytes());
        self.out.extend_from_slice(traffic.body.as_bytes());
        self.out.extend_from_slice(b"</body>");
        self.out.extend_from_slice(self.target.hint.element());
        self.out.extend_from_slice(b"</message>");
        let session = &mut self.sessions[number as usize];
        session.flow.sent += 1;
        session.stanzas_sent += 1;
        self.counters.sent += 1;
        if session.managed && session.flow.sent.is_multiple_of(MESSAGES_PER_REQUEST) {
            self.out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    /// A message has come.
    pub(super) fn message(&mut self, number: u32, message: &Element<'_>) {
        if is_of_a_room(message) {
            return self.said_in_room(number, message);
        }
        let Some((sequence, due, run)) = message.attribute(b"id").and_then(read_id) else { return };
        if run != self.traffic.run {
            return;
        }
        if message.attribute(b"type") == Some(b"error") {
            self.counters.bounced += 1;
            return;
        }
        if sequence >= self.sessions[(number ^ 1) as usize].flow.sent {
            return;
        }
        let flow = &mut self.sessions[number as usize].flow;
        match self.traffic.tracker.arrived(number, flow, sequence) {
            Arrival::New => self.counters.delivered += 1,
            Arrival::OutOfOrder => {
                self.counters.delivered += 1;
                self.counters.out_of_order += 1;
            }
            Arrival::Duplicate => {
                self.counters.duplicated += 1;
                return;
            }
        }
        let now = self.clock.now_ns();
        if due >= self.traffic.timed_from_ns {
            self.recorder.message.record(now.saturating_sub(due));
        }
        if self.traffic.sending && matches!(self.traffic.load, Load::Closed { .. }) {
            self.chat(number, now);
        }
    }

    /// The server has acknowledged stanzas (XEP-0198 §4).
    pub(super) fn acknowledged(&mut self, number: u32, a: &Element<'_>) {
        let Some(handled) =
            a.attribute(b"h").and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| h.parse::<u32>().ok())
        else {
            return;
        };
        let session = &mut self.sessions[number as usize];
        let newly = handled.wrapping_sub(session.stanzas_acknowledged);
        if newly <= session.stanzas_sent.wrapping_sub(session.stanzas_acknowledged) {
            session.stanzas_acknowledged = handled;
            self.counters.acknowledged += u64::from(newly);
        }
    }

    /// Subscribes every session to the others of its group (RFC 6121 §3.1), one request each way.
    pub(crate) fn subscribe(&mut self, group: u32) {
        for number in 0..self.wanted {
            self.out.clear();
            for other in group_of(number, group, self.wanted).filter(|&other| other != number) {
                let name = Accounts::name(self.target.account(self.share.first + u64::from(other)));
                let domain = std::mem::take(&mut self.target.domain);
                self.say(&["<presence type='subscribe' to='", &name, "@", &domain, "'/>"]);
                self.target.domain = domain;
                self.sessions[number as usize].stanzas_sent += 1;
            }
            self.finish(number, Ok(()));
        }
    }

    fn show(&mut self, number: u32, due: u64, group: u32) {
        self.show_once(number, due);
        self.traffic.expected_presence += group_of(number, group, self.wanted).count() as u64 - 1;
    }

    /// Presence of which nobody knows how many it reaches.
    pub(super) fn show_once(&mut self, number: u32, due: u64) {
        let run = self.traffic.run;
        let text = format!("<presence><status>w0-{due:x}-{run:x}</status></presence>");
        self.say(&[&text]);
        self.sessions[number as usize].stanzas_sent += 1;
        self.counters.presence_sent += 1;
    }

    pub(super) fn presence_came(&mut self, number: u32, presence: &Element<'_>) {
        let from = presence.attribute(b"from").unwrap_or_default();
        if presence.attribute(b"type") == Some(b"subscribe") {
            let from = String::from_utf8_lossy(from).into_owned();
            self.say(&["<presence type='subscribed' to='", &from, "'/>"]);
            self.sessions[number as usize].stanzas_sent += 1;
            return;
        }
        if self.own_presence_in_room(number, presence) {
            return;
        }
        let Some((_, due, run)) = presence.text_of("status").and_then(read_id) else { return };
        let own = format!("{}@", Accounts::name(self.target.account(self.share.first + u64::from(number))));
        if run != self.traffic.run || from.starts_with(own.as_bytes()) {
            return;
        }
        self.counters.presence_received += 1;
        self.traffic.seen_presence += 1;
        // In a life, presence of before a login comes with it.
        if due >= self.traffic.timed_from_ns && !matches!(self.traffic.load, Load::Life { .. }) {
            self.recorder.message.record(self.clock.now_ns().saturating_sub(due));
        }
    }

    /// Ends the sessions that a store load sends to.
    pub(crate) fn send_receivers_away(&mut self) {
        for number in (0..self.wanted).filter(|number| number % 2 == 1) {
            if self.sessions[number as usize].state == State::Ready {
                self.out.clear();
                self.say(&["<presence type='unavailable'/></stream:stream>"]);
                let _ = self.flush(number);
                self.close(number);
                self.counters.ready -= 1;
            }
        }
    }

    /// Lets them come back.
    pub(crate) fn call_receivers(&mut self) {
        for number in (0..self.wanted).filter(|number| number % 2 == 1) {
            if self.sessions[number as usize].state == State::Off {
                self.to_connect.push_back(number);
            }
        }
    }
}

/// The sessions of the group of a session.
pub(super) fn group_of(number: u32, group: u32, sessions: u32) -> std::ops::Range<u32> {
    let first = number / group * group;
    first..(first + group).min(sessions)
}

/// The number, due time and run in an id.
pub(super) fn read_id(id: &[u8]) -> Option<(u32, u64, u32)> {
    let id = std::str::from_utf8(id).ok()?.strip_prefix('w')?;
    let mut parts = id.split('-');
    let sequence = u32::from_str_radix(parts.next()?, 16).ok()?;
    let due = u64::from_str_radix(parts.next()?, 16).ok()?;
    let run = u32::from_str_radix(parts.next()?, 16).ok()?;
    Some((sequence, due, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_number_due_time_and_run() {
        assert_eq!(read_id(b"w1f-ff-2"), Some((31, 255, 2)));
        for other in [&b"abc"[..], b"w1-2", b"wx-1-1", b""] {
            assert_eq!(read_id(other), None);
        }
    }

    #[test]
    fn the_last_group_may_be_smaller() {
        assert_eq!(group_of(7, 5, 8), 5..8);
        assert_eq!(group_of(4, 5, 8), 0..5);
    }
}
