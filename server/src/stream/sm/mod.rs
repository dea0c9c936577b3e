//! Stream management (XEP-0198): what both sides have handled of each other's stanzas.
//!
//! A pure state machine. Counters run modulo 2^32 (§4). In one direction it says what the client may be told is
//! handled: everything before the first of its messages that is not yet safe ([`Unsettled`]). In the other it
//! keeps what the client has not acknowledged, so that it can be sent again to a resumed stream (§5).
//!
//! | module | what |
//! | --- | --- |
//! | [`element`] | the elements of the protocol |
//! | [`unsettled`] | which of the client's messages are not yet safe |

pub mod element;
pub mod unsettled;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use whimbrel_storage::log::Sequence;

use crate::stanza::Kind;
use unsettled::Unsettled;

/// Namespace of stream management.
pub const NS_SM: &str = "urn:xmpp:sm:3";

/// Presence and iq stanzas that may go unacknowledged before the client is asked for an acknowledgement. It is
/// asked for a message at once.
const ASK_AFTER: u32 = 8;

/// Bytes that a queued stanza costs beside its own.
const ENTRY_BYTES: usize = size_of::<Unacked>();

/// Names a stream for resumption; never 0. Unguessable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StreamId(pub u64);

impl StreamId {
    /// As the client sees it.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads what [`StreamId::text`] wrote.
    pub fn parse(text: &str) -> Option<StreamId> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
        Some(StreamId(number))
    }
}

/// A stanza that the client has not acknowledged.
#[derive(Debug)]
pub enum Unacked {
    /// One that is kept here.
    Stanza {
        /// Kind.
        kind: Kind,
        /// The stanza.
        bytes: Box<[u8]>,
    },
    /// A message that is in the log.
    Record {
        /// Its number there.
        sequence: Sequence,
        /// Its bytes when it is sent again.
        length: u32,
    },
}

impl Unacked {
    fn cost(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Unacked::Stanza { bytes, .. } => bytes.len(),
                Unacked::Record { length, .. } => *length as usize,
            }
    }
}

/// The client has acknowledged more than it was sent (§4): the stream is to be ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooHigh {
    /// What the client said.
    pub handled: u32,
    /// What it was sent.
    pub sent: u32,
}

/// The state of one managed stream, which may outlive its connection.
#[derive(Debug)]
pub struct StreamManagement {
    id: StreamId,
    /// Seconds for which it can be resumed; 0 when it cannot.
    resume_seconds: u32,
    /// The client waits for an answer to `<r/>` that covers everything up to here.
    answer_up_to: Option<u32>,
    /// An `<r/>` of ours is not answered yet.
    asked: bool,
    /// Stanzas handled of the client.
    received: u32,
    /// What the client was last told of [`StreamManagement::received`].
    told: u32,
    unsettled: Unsettled,
    /// The last `h` of the client.
    acked: u32,
    unacked: VecDeque<Unacked>,
    unacked_bytes: usize,
    /// Stanzas since the last `<r/>`; a message counts as [`ASK_AFTER`].
    weight: u32,
}

impl StreamManagement {
    /// A stream on which management has just been enabled.
    pub fn new(id: StreamId, resume_seconds: u32) -> StreamManagement {
        StreamManagement {
            id,
            resume_seconds,
            answer_up_to: None,
            asked: false,
            received: 0,
            told: 0,
            unsettled: Unsettled::default(),
            acked: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            weight: 0,
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

    /// The stanza with this number, the last one counted, is not safe yet.
    pub fn leave_unsettled(&mut self, number: u32) {
        self.unsettled.push(number);
    }

    /// A stanza has become safe. Returns whether the client waits to hear of it.
    pub fn settle(&mut self, number: u32) -> bool {
        self.unsettled.settle(number) && self.answer_up_to.is_some()
    }

    /// Stanzas that are not safe yet, or come behind such a one.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// What the client may be told is handled.
    pub fn handled(&self) -> u32 {
        self.unsettled.first().map_or(self.received, |number| number.wrapping_sub(1))
    }

    /// The client asks for an acknowledgement; [`StreamManagement::answer`] gives it.
    pub fn request(&mut self) {
        self.answer_up_to = Some(self.received);
    }

    /// The `h` of an `<a/>` that is due now. A request that came behind stanzas which are not safe yet is
    /// answered whenever some of them have become so, and for the last time when all have.
    pub fn answer(&mut self) -> Option<u32> {
        let up_to = self.answer_up_to?;
        let handled = self.handled();
        let complete = up_to.wrapping_sub(handled) as i32 <= 0;
        if complete {
            self.answer_up_to = None;
        } else if handled == self.told {
            return None;
        }
        self.told = handled;
        Some(handled)
    }

    /// A stanza is sent to the client, or would be if it were connected.
    pub fn sent(&mut self, stanza: Unacked) {
        let is_message = !matches!(stanza, Unacked::Stanza { kind: Kind::Presence | Kind::Iq, .. });
        self.weight = self.weight.saturating_add(if is_message { ASK_AFTER } else { 1 });
        self.unacked_bytes += stanza.cost();
        self.unacked.push_back(stanza);
    }

    /// Whether `<r/>` is to be sent now. There is one at a time: the next goes out after the answer.
    pub fn ask(&mut self) -> bool {
        let ask = !self.asked && self.weight >= ASK_AFTER;
        if ask {
            self.asked = true;
            self.weight = 0;
        }
        ask
    }

    /// The client says that it has handled `h` stanzas. Gives what that acknowledges to `gone`, oldest first.
    ///
    /// # Errors
    /// It was sent fewer.
    pub fn acknowledged(&mut self, h: u32, mut gone: impl FnMut(Unacked)) -> Result<(), TooHigh> {
        let count = h.wrapping_sub(self.acked) as usize;
        if count > self.unacked.len() {
            return Err(TooHigh { handled: h, sent: self.sent_count() });
        }
        self.acked = h;
        self.asked = false;
        for stanza in self.unacked.drain(..count) {
            self.unacked_bytes -= stanza.cost();
            gone(stanza);
        }
        if self.unacked.is_empty() {
            // An idle stream owns no queue.
            self.unacked = VecDeque::new();
        }
        Ok(())
    }

    /// Number of the last stanza sent.
    fn sent_count(&self) -> u32 {
        self.acked.wrapping_add(u32::try_from(self.unacked.len()).unwrap_or(u32::MAX))
    }

    /// What the client has not acknowledged, oldest first.
    pub fn unacked(&self) -> impl Iterator<Item = &Unacked> {
        self.unacked.iter()
    }

    /// Stanzas the client has not acknowledged, and the bytes that they stand for.
    pub fn unacked_size(&self) -> (usize, usize) {
        (self.unacked.len(), self.unacked_bytes)
    }

    /// Messages of the log among them.
    pub fn records(&self) -> impl Iterator<Item = Sequence> {
        self.unacked.iter().filter_map(|stanza| match stanza {
            Unacked::Record { sequence, .. } => Some(*sequence),
            Unacked::Stanza { .. } => None,
        })
    }

    /// Keeps of what is unacknowledged only what `keep` says, oldest first: for what can no longer be sent again.
    pub fn retain_unacked(&mut self, mut keep: impl FnMut(&Unacked) -> bool) {
        self.unacked.retain(|stanza| {
            let kept = keep(stanza);
            if !kept {
                self.unacked_bytes -= stanza.cost();
            }
            kept
        });
    }

    /// The connection is gone, or another one takes its place: what was asked on the old one is void.
    pub fn disconnected(&mut self) {
        self.answer_up_to = None;
        self.asked = false;
    }

    /// A new connection goes on with the stream, and has everything that is unacknowledged.
    pub fn resumed(&mut self) {
        self.weight = if self.unacked.is_empty() { 0 } else { ASK_AFTER };
        self.told = self.handled();
    }

    /// Takes everything that is unacknowledged: the stream is over.
    pub fn into_unacked(self) -> VecDeque<Unacked> {
        self.unacked
    }
}
