//! What may be asked of an archive, and what answers it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Snapshot;
use super::continuation::Continuation;
use crate::actor::ActorId;
use crate::directory::DirectoryError;
use crate::log::{LogError, PeerHash, Sequence};

/// In which order a page goes through an archive. Its messages come in the order in which they were found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// The oldest first.
    #[default]
    Forwards,
    /// The newest first.
    Backwards,
}

/// Decides by a message's text whether it is asked for. Called on a reader's thread.
pub type Predicate = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A page of an archive, or a step of one.
#[derive(Clone)]
pub struct Query {
    /// Whose archive.
    pub actor: ActorId,
    /// What the actor's home has of it in memory, taken for this query.
    pub snapshot: Snapshot,
    /// Only messages after this id; [`Sequence::ZERO`]: from the first one on.
    pub after: Sequence,
    /// Only messages before this id; [`Sequence::MAX`]: up to the last one.
    pub before: Sequence,
    /// Only messages that were received in this millisecond or later.
    pub from_ms: u64,
    /// Only messages that were received in this millisecond or earlier.
    pub until_ms: u64,
    /// Messages before this id are too old to be shown, for all purposes.
    pub not_before: Sequence,
    /// Only messages with this peer. Blocks without it are not read.
    pub peer: Option<PeerHash>,
    /// Only messages of which this is true: two peers may have one hash.
    pub matches: Option<Predicate>,
    /// If not empty, only these messages.
    pub ids: Vec<Sequence>,
    /// Unless all of these are in the archive, the answer is [`End::NotFound`]. `ids` need not be repeated.
    pub must_exist: Vec<Sequence>,
    /// See [`Order`].
    pub order: Order,
    /// Most messages. With 0, the answer is only whether there is one.
    pub messages_max: usize,
    /// The step ends before its texts take more than this, but not before the first one; and when it has read sixteen times as much.
    pub bytes_max: usize,
    /// Most texts that are read for `matches`.
    pub looks_max: usize,
    /// The step ends when so many rows of the directory have been looked at (at least 2): in a large archive, what was exchanged
    /// with one peer may lie far apart, or nowhere.
    pub rows_max: usize,
    /// Of so many messages behind a full page it is told where they lie: [`Page::continuation`].
    pub following: usize,
}

/// How far the time in an id may be from that of the message's reception: after a crash ids are ahead of the clock by up to ten
/// minutes, and while a clock that was set back catches up, by as much as that. Messages within so much of the window are read,
/// and those taken that were received in it.
const DRIFT_MS: u64 = 70 * 60_000;

/// Bytes of texts in a step.
pub const STEP_BYTES: usize = 64 << 10;

/// Rows of a step: of so many messages times 64. A reader's thread goes to the next query then, and the state of the directory
/// that it reads can go.
pub const STEP_ROWS: usize = 4_096;

impl Query {
    /// All of an archive in order, in steps of [`STEP_BYTES`].
    #[must_use]
    pub fn all(actor: ActorId, snapshot: Snapshot) -> Self {
        Self {
            actor,
            snapshot,
            after: Sequence::ZERO,
            before: Sequence::MAX,
            from_ms: 0,
            until_ms: u64::MAX,
            not_before: Sequence::ZERO,
            peer: None,
            matches: None,
            ids: Vec::new(),
            must_exist: Vec::new(),
            order: Order::Forwards,
            messages_max: usize::MAX,
            bytes_max: STEP_BYTES,
            looks_max: usize::MAX,
            rows_max: STEP_ROWS,
            following: 0,
        }
    }

    /// One message, by its id: one look, however large the archive is.
    #[must_use]
    pub fn one(actor: ActorId, snapshot: Snapshot, id: Sequence) -> Self {
        Self {
            after: Sequence(id.0.saturating_sub(1)),
            before: Sequence(id.0.saturating_add(1)),
            ids: vec![id],
            messages_max: 1,
            ..Self::all(actor, snapshot)
        }
    }

    /// What is left of the query after a step that ended with [`End::Step`].
    #[must_use]
    pub fn rest(mut self, page: &Page) -> Self {
        self.messages_max -= page.messages.len().min(self.messages_max);
        self.looks_max -= page.cost.looks.min(self.looks_max);
        self.must_exist.clear();
        match self.order {
            Order::Forwards => self.after = self.after.max(page.reached),
            Order::Backwards => self.before = self.before.min(page.reached),
        }
        self
    }

    /// Whether it asks for all messages of an archive behind an id, or before one, as those do that read all of it page by page.
    pub(super) fn is_plain(&self) -> bool {
        self.peer.is_none()
            && self.matches.is_none()
            && self.ids.is_empty()
            && (self.from_ms, self.until_ms) == (0, u64::MAX)
    }

    /// Whether a message that was received then lies in the window.
    pub(super) fn is_in_window(&self, time_ms: u64) -> bool {
        (self.from_ms..=self.until_ms).contains(&time_ms)
    }

    /// The lowest and the highest id that it can give, both included.
    pub(super) fn range(&self, first_kept: Sequence) -> (Sequence, Sequence) {
        let from = Sequence::at(self.from_ms.saturating_sub(DRIFT_MS));
        let lowest = [Sequence(self.after.0.saturating_add(1)), from, self.not_before];
        let until_ms = self.until_ms.saturating_add(DRIFT_MS);
        let until = if until_ms >= Sequence::TIME_MS_MAX {
            Sequence::MAX
        } else {
            Sequence(Sequence::at(until_ms + 1).0 - 1)
        };
        let before = if self.before == Sequence::MAX {
            Sequence::MAX
        } else {
            Sequence(self.before.0.saturating_sub(1))
        };
        (lowest.into_iter().fold(first_kept, Sequence::max), until.min(before))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("actor", &self.actor)
            .field("after", &self.after)
            .field("before", &self.before)
            .field("order", &self.order)
            .field("messages_max", &self.messages_max)
            .finish_non_exhaustive()
    }
}

/// A message of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: Sequence,
    /// When the server received it, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whom the actor exchanged it with.
    pub peer: PeerHash,
    /// Where in [`Page::texts`] its text lies; of an erased one, what stands for it.
    pub text: Range<usize>,
    /// When its text was erased, in milliseconds since 1970.
    pub erased_ms: Option<u64>,
}

/// Why a page ends where it ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum End {
    /// Nothing follows.
    #[default]
    Complete,
    /// It has as many messages as were asked for, and there may be more.
    Full,
    /// Its bytes, or the texts or rows that may be looked at, are used up: [`Query::rest`] goes on.
    Step,
    /// This id is not in the archive, or no longer. There is nothing else in the page.
    NotFound(Sequence),
}

/// What a page has cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cost {
    /// Rows of the directory that were looked at.
    pub rows: usize,
    /// Texts that were read, and what stands for erased ones.
    pub looks: usize,
    /// Reads of segments.
    pub reads: usize,
    /// Bytes that they gave.
    pub bytes: usize,
    /// Messages whose segment is gone.
    pub gone: usize,
    /// Messages that the disk gives back otherwise than they were written.
    pub damaged: usize,
}

/// The answer to a query.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The messages, in the order of the query.
    pub messages: Vec<Found>,
    /// Their texts.
    pub texts: Vec<u8>,
    /// Why it ends where it ends.
    pub end: End,
    /// The last id that was looked at, whether it was asked for or not; where nothing was, that from which the query began.
    pub reached: Sequence,
    /// Messages that the archive has, whatever was asked for; those that only memory has included. It is what rows say: a
    /// message whose segment is gone may still be counted for a while.
    pub total: u64,
    /// See [`Cost`].
    pub cost: Cost,
    /// Of a full one, if that was asked for, and where the system can read from memory alone.
    pub continuation: Option<Box<Continuation>>,
}

impl Page {
    /// Whether [`Query::rest`] gives more of what was asked for.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.end == End::Step
    }

    /// A message's text, or what stands for it.
    #[must_use]
    pub fn text(&self, found: &Found) -> &[u8] {
        self.texts.get(found.text.clone()).unwrap_or_default()
    }
}

/// Why a query could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The index cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A segment cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The query has panicked.
    #[error("a query of an archive panicked")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_time_is_that_of_reception_although_ids_may_be_ahead() {
        const NOON: u64 = 1_000_000_000_000;
        let all = Query::all(ActorId::user(1), Snapshot::default());
        let query = Query { from_ms: NOON, until_ms: NOON + 1000, ..all };
        let (lowest, highest) = query.range(Sequence::ZERO);
        // After a crash an id is ten minutes ahead, and behind a clock that was set back an hour.
        for drift in [0, 10 * 60_000, 60 * 60_000] {
            let id = Sequence::at(NOON + 500 + drift);
            assert!(lowest <= id && id <= highest, "{drift}");
        }
        let received = [NOON - 1, NOON, NOON + 1000, NOON + 1001];
        assert_eq!(received.map(|time| query.is_in_window(time)), [false, true, true, false]);
    }
}
