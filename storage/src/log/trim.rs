//! Trimming: what the recipient has acknowledged, what was his whose account is gone.

use crate::directory::UserId;

use super::message::{Sequence, Trimmed};
use super::record::{HEAD_BYTES, Kind};
use super::shard::{Log, Purpose};

impl Log {
    /// The recipient has acknowledged one message. Nothing happens when it does not wait (any more).
    pub fn trim(&mut self, user: UserId, sequence: Sequence) -> Trimmed {
        let Some(slot) = self.index.remove(user, sequence.0) else {
            return Trimmed { messages: 0, is_recorded: true };
        };
        self.forget(slot);
        Trimmed { messages: 1, is_recorded: self.record(Kind::Trim, user, sequence.0) }
    }

    /// The recipient has acknowledged all messages up to and with `sequence`.
    pub fn trim_up_to(&mut self, user: UserId, sequence: Sequence) -> Trimmed {
        self.drop_up_to(Kind::TrimUpTo, user, sequence.0)
    }

    /// The account is gone: drops all that waits for it.
    pub fn purge(&mut self, user: UserId) -> Trimmed {
        self.drop_up_to(Kind::Purge, user, u64::MAX)
    }

    fn drop_up_to(&mut self, kind: Kind, user: UserId, sequence: u64) -> Trimmed {
        let messages = self.forget_up_to(user, sequence);
        Trimmed { messages, is_recorded: messages == 0 || self.record(kind, user, sequence) }
    }

    /// Takes a user's messages up to a number out of the index.
    pub(super) fn forget_up_to(&mut self, user: UserId, sequence: u64) -> u64 {
        let segments = &mut self.segments;
        self.index.remove_up_to(user, sequence, |slot| {
            let at = super::segment::find(segments, slot.position);
            if let Some(segment) = at.and_then(|at| segments.get_mut(at)) {
                segment.take(slot.bytes());
            }
        })
    }

    fn record(&mut self, kind: Kind, user: UserId, sequence: u64) -> bool {
        if self.shared.has_failed() || self.make_room(HEAD_BYTES as u64, Purpose::Upkeep).is_err() {
            return false;
        }
        self.write_note(kind, user, sequence);
        true
    }
}
