//! Stream management (XEP-0198): what both sides have handled of each other's stanzas.
//!
//! A pure state machine. Counters run modulo 2^32 (§4). In one direction it says what the client may be told is
//! handled: everything before the first of its messages that is not yet safe ([`NotDurable`]). In the other it
//! keeps what the client has not acknowledged, so that it can be sent again to a resumed stream (§5).
//!
//! | module | what |
//! | --- | --- |
//! | [`element`] | the elements of the protocol |
//! | [`queue`] | what the client has not acknowledged |
//! | [`saved`] | a stream as it goes to another program |
//! | [`not_durable`] | which of the client's messages are not yet safe |

pub mod element;
pub mod not_durable;
pub mod queue;
pub mod saved;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use whimbrel_storage::log::Sequence;

pub use crate::keys::StreamId;
use crate::stanza::Kind;
use not_durable::NotDurable;
use queue::UnackedQueue;
pub use queue::{AnswerTo, Reference, Unacked};

/// Presence and iq stanzas that may go unacknowledged before the client is asked for an acknowledgement. It is
/// asked for a message at once, and for what is left when the stream rests.
const ASK_AFTER: u8 = 8;

/// Bytes sent since the last `<r/>` after which the next goes out, whatever the client has answered: so that it is asked
/// while a long answer is being written, and not only behind it.
const ASK_BYTES: u32 = 64 * 1024;

/// Stanzas of one client that may be on their way to a log or the directory. With more, nobody reads from it until half
/// of them are safe.
pub const NOT_DURABLE_MAX: usize = 4096;

/// The client has acknowledged more than it was sent (§4): the stream is to be ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooHigh {
    /// What the client said.
    pub handled: u32,
    /// What it was sent.
    pub sent: u32,
}

/// What follows from a look at a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It is not at rest; it is to be looked at again.
    Busy,
    /// `<r/>` is to be sent.
    Ask,
    /// There is nothing to do.
    Quiet,
}

/// Whether an `<r/>` of ours waits for its answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Asked {
    No,
    ForStanzas,
    AtRest,
}

/// Whether somebody is going to look if the stream rests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Watched {
    No,
    Quiet,
    /// Something has happened since the last look.
    Busy,
}

/// What a stream has under way. One that rests has none of it.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct InFlight {
    unacked: UnackedQueue,
    /// Bytes sent since the last `<r/>`.
    unasked_bytes: u32,
    not_durable: NotDurable,
}

// Every conversation has one (docs/performance.md).
const _: () = assert!(size_of::<InFlight>() <= 128);

/// The state of one sm stream, which may outlive its connection.
#[derive(Debug)]
pub struct StreamManagement {
    id: StreamId,
    /// Kept while the stream is busy, so that a message allocates nothing; see [`StreamManagement::rest`].
    in_flight: Option<Box<InFlight>>,
    /// Seconds for which it can be resumed; 0 when it cannot.
    resume_seconds: u32,
    /// Where the last request of the client came: its answer covers everything up to here.
    answer_up_to: u32,
    /// The client waits for that answer.
    answer_due: bool,
    asked: Asked,
    watched: Watched,
    /// Stanzas handled of the client.
    received: u32,
    /// What the client was last told of [`StreamManagement::received`].
    told: u32,
    /// The last `h` of the client.
    acked: u32,
    /// Stanzas since the last `<r/>`, up to [`ASK_AFTER`]; a message counts as so many.
    weight: u8,
}

// The memory budget of an idle session rests on this (docs/performance.md).
const _: () = assert!(size_of::<Option<StreamManagement>>() <= 40);

impl StreamManagement {
    /// A stream on which management has just been enabled.
    pub fn new(id: StreamId, resume_seconds: u32) -> StreamManagement {
        StreamManagement {
            id,
            in_flight: None,
            resume_seconds,
            answer_up_to: 0,
            answer_due: false,
            asked: Asked::No,
            watched: Watched::No,
            received: 0,
            told: 0,
            acked: 0,
            weight: 0,
        }
    }

    fn unacked_count(&self) -> u32 {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.unacked.count())
    }

    /// Stanzas sent so far (modulo 2^32).
    pub fn sent_count(&self) -> u32 {
        self.acked.wrapping_add(self.unacked_count())
    }

    /// Something has happened. Returns whether somebody must begin to call [`StreamManagement::rest`] now and then.
    #[must_use]
    pub fn watch(&mut self) -> bool {
        std::mem::replace(&mut self.watched, Watched::Busy) == Watched::No
    }

    /// Looks whether anything has happened since the last look. If not, the stream rests: it gives its buffers back
    /// if nothing is in them, and needs no further looks until [`StreamManagement::watch`] says so. If something is
    /// unacknowledged and the client is `connected`, it is to be asked now, so that it need not be kept.
    pub fn rest(&mut self, connected: bool) -> Rest {
        if self.watched == Watched::Busy {
            self.watched = Watched::Quiet;
            return Rest::Busy;
        }
        self.watched = Watched::No;
        self.release();
        if !connected || self.asked != Asked::No || self.unacked_count() == 0 {
            return Rest::Quiet;
        }
        self.has_asked(Asked::AtRest);
        Rest::Ask
    }

    /// Gives the buffers back if nothing is in them.
    fn release(&mut self) {
        if self.in_flight.as_ref().is_some_and(|u| u.unacked.is_empty() && u.not_durable.is_empty()) {
            self.in_flight = None;
        }
    }

    /// Names the stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Seconds for which the client may resume it after a cut; 0 when it may not.
    pub fn resume_seconds(&self) -> u32 {
        self.resume_seconds
    }

    /// The stream can no longer be resumed.
    pub fn forbid_resumption(&mut self) {
        self.resume_seconds = 0;
    }

    /// A stanza of the client is being handled; returns its number.
    pub fn count_received(&mut self) -> u32 {
        self.received = self.received.wrapping_add(1);
        self.received
    }

    /// The stanza with this number, the last one counted, is not safe before so many copies of it are: each is to be durable
    /// once. Returns whether it is the first beyond [`NOT_DURABLE_MAX`].
    pub fn wait_for_copies(&mut self, number: u32, copies: u32) -> bool {
        let not_durable = &mut self.in_flight.get_or_insert_default().not_durable;
        not_durable.push(number, copies);
        not_durable.len() == NOT_DURABLE_MAX + 1
    }

    /// A stanza has become safe, or one of the copies of it that it waits for. Returns whether the client waits to hear of
    /// it.
    pub fn on_durable(&mut self, number: u32) -> bool {
        self.in_flight.as_mut().is_some_and(|u| u.not_durable.on_durable(number)) && self.answer_due
    }

    /// Stanzas that are not safe yet, or come behind such a one.
    pub fn not_durable(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.not_durable.len())
    }

    /// What the client may be told is handled.
    pub fn handled(&self) -> u32 {
        let first = self.in_flight.as_ref().and_then(|in_flight| in_flight.not_durable.first());
        first.map_or(self.received, |number| number.wrapping_sub(1))
    }

    /// The client asks for an acknowledgement; [`StreamManagement::answer`] gives it.
    pub fn request(&mut self) {
        self.answer_up_to = self.received;
        self.answer_due = true;
    }

    /// The `h` of an `<a/>` that is due now. A request that came behind stanzas which are not safe yet is
    /// answered whenever some of them have become so, and for the last time when all have.
    pub fn answer(&mut self) -> Option<u32> {
        if !self.answer_due {
            return None;
        }
        let handled = self.handled();
        let complete = self.answer_up_to.wrapping_sub(handled) as i32 <= 0;
        if complete {
            self.answer_due = false;
        } else if handled == self.told {
            return None;
        }
        self.told = handled;
        Some(handled)
    }

    /// A stanza of so many bytes is sent to the client, or would be if it were connected.
    pub fn sent(&mut self, stanza: Unacked, bytes: usize) {
        let is_light = match stanza {
            Unacked::Stanza { kind, .. } => kind != Kind::Message,
            Unacked::Answer(_) | Unacked::Forgotten(_) => true,
            Unacked::Record { .. } | Unacked::Archived { .. } | Unacked::Spooled { .. } => false,
        };
        self.weight = if is_light { ASK_AFTER.min(self.weight + 1) } else { ASK_AFTER };
        let in_flight = self.in_flight.get_or_insert_default();
        in_flight.unasked_bytes =
            in_flight.unasked_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        in_flight.unacked.push(stanza);
    }

    /// Whether `<r/>` is to be sent at the end of the iteration. For stanzas there is one at a time: the next goes out
    /// after the answer.
    pub fn ask(&mut self) -> bool {
        let ask = self.asked == Asked::No && self.weight >= ASK_AFTER;
        if ask {
            self.has_asked(Asked::ForStanzas);
        }
        ask
    }

    /// Whether `<r/>` is to be sent at once: much has been sent since the last.
    pub fn ask_for_bytes(&mut self) -> bool {
        let ask = self.in_flight.as_ref().is_some_and(|in_flight| in_flight.unasked_bytes >= ASK_BYTES);
        if ask {
            self.has_asked(Asked::ForStanzas);
        }
        ask
    }

    fn has_asked(&mut self, asked: Asked) {
        self.asked = asked;
        self.weight = 0;
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.unasked_bytes = 0;
        }
    }

    /// Whether `h` is a count that the client has already gone beyond (modulo 2^32).
    pub fn is_old(&self, h: u32) -> bool {
        h.wrapping_sub(self.acked) > u32::MAX / 2
    }

    /// Whether the client has acknowledged the stanza with this number, as [`StreamManagement::sent_count`] tells them (modulo 2^32).
    pub fn has_acknowledged(&self, number: u32) -> bool {
        self.acked.wrapping_sub(number) <= u32::MAX / 2
    }

    /// The client says that it has handled `h` stanzas. Gives what that acknowledges to `gone`, oldest first. A lower
    /// count than before is old news and acknowledges nothing.
    ///
    /// # Errors
    /// It was sent fewer.
    pub fn acknowledged(&mut self, h: u32, gone: impl FnMut(Unacked)) -> Result<(), TooHigh> {
        let count = if self.is_old(h) { 0 } else { h.wrapping_sub(self.acked) };
        if count > self.unacked_count() {
            return Err(TooHigh { handled: h, sent: self.acked.wrapping_add(self.unacked_count()) });
        }
        self.acked = self.acked.wrapping_add(count);
        let asked = std::mem::replace(&mut self.asked, Asked::No);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.unacked.acknowledge(count, gone);
        }
        if asked == Asked::AtRest {
            self.release();
        }
        Ok(())
    }

    /// What the client has not acknowledged, oldest first.
    pub fn unacked(&self) -> impl Iterator<Item = &Unacked> {
        self.in_flight.iter().flat_map(|in_flight| in_flight.unacked.iter())
    }

    /// The queue of what the client has not acknowledged, to be made smaller.
    pub fn unacked_mut(&mut self) -> Option<&mut UnackedQueue> {
        self.in_flight.as_mut().map(|in_flight| &mut in_flight.unacked)
    }

    /// The queue of what the client has not acknowledged, unless it has never had anything in it.
    pub fn unacked_queue(&self) -> Option<&UnackedQueue> {
        self.in_flight.as_ref().map(|in_flight| &in_flight.unacked)
    }

    /// Entries of stanzas that the client has not acknowledged, and the bytes that they stand for.
    pub fn unacked_size(&self) -> (usize, usize) {
        self.in_flight.as_ref().map_or((0, 0), |in_flight| in_flight.unacked.size())
    }

    /// As [`StreamManagement::unacked_size`], without references into the log. Looks at every entry.
    pub fn unacked_without_records(&self) -> (usize, usize) {
        let others = self.unacked().filter(|entry| !matches!(entry, Unacked::Record { .. }));
        others.fold((0, 0), |(entries, bytes), entry| (entries + 1, bytes + entry.cost()))
    }

    /// Bytes of unacknowledged stanzas that are kept here.
    pub fn content(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.unacked.content())
    }

    /// Bytes of memory that unacknowledged stanzas take.
    pub fn memory(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.unacked.memory())
    }

    /// Messages of the log among them.
    pub fn records(&self) -> impl Iterator<Item = Sequence> {
        self.unacked().filter_map(|stanza| match stanza {
            Unacked::Record { sequence, .. } => Some(*sequence),
            _ => None,
        })
    }

    /// The connection is gone, or another one takes its place: what was asked on the old one is void.
    pub fn disconnected(&mut self) {
        self.answer_due = false;
        self.asked = Asked::No;
    }

    /// A new connection goes on with the stream, and has everything that is unacknowledged.
    pub fn resumed(&mut self) {
        self.weight = if self.unacked_count() == 0 { 0 } else { ASK_AFTER };
        self.told = self.handled();
    }

    /// Takes everything that is unacknowledged: the stream is over.
    pub fn into_unacked(self) -> VecDeque<Unacked> {
        self.in_flight.map(|in_flight| in_flight.unacked.into_entries()).unwrap_or_default()
    }
}
