//! What lies behind a page, as its reader saw it: who asks for all of an archive page by page gets the next pages without a look into
//! the directory, and without a thread that may wait, as long as their texts are in the system's memory.
//!
//! ```text
//! page n ─▶ a reader's thread: rows, texts ─▶ page, and where the next messages lie
//! page n + 1, n + 2 … ─▶ the worker: texts from memory ─┬─▶ page
//!                                                       └─ not all there, or not as written ─▶ a reader's thread
//! ```
//!
//! It gives full pages alone, so what has come to the archive meanwhile is in none of them. What has been erased since it was made,
//! its owner has to know. A file that was deleted is kept by it until it is dropped, so it is not to be kept for long.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::ahead;
use super::query::{Cost, End, Order, Page, Query};
use super::segments::{Handle, Source};
use super::texts::{Candidate, Texts};
use crate::actor::ActorId;
use crate::log::{LogError, Position, Sequence};

/// Whether pages of those who may not wait go on at all: the system can be asked for what it has in memory.
pub const GOES_ON: bool = ahead::KNOWS_MEMORY;

/// Bytes that are read for a page at most, what lies between its texts included: a worker does nothing else meanwhile.
const READ_BYTES_MAX: usize = 256 << 10;

/// Files that it holds open at most: it ends before the first message in another one.
const FILES_MAX: usize = 8;

/// See the module.
#[derive(Clone)]
pub struct Continuation {
    actor: ActorId,
    /// [`Page::total`] of the page.
    total: u64,
    /// Its last messages and those behind it, in the order of the query, without a hole.
    candidates: Vec<Candidate>,
    files: Vec<Known>,
}

/// A part of a segment.
#[derive(Clone)]
struct Known {
    journal: u64,
    part: Range<Position>,
    handle: Handle,
}

impl Continuation {
    /// Of messages in the order of a query, up to the first whose file cannot be opened now. `None`: there is no reading from memory.
    pub(super) fn of(
        actor: ActorId,
        total: u64,
        candidates: Vec<Candidate>,
        source: &mut dyn Source,
    ) -> Option<Box<Self>> {
        let mut files: Vec<Known> = Vec::new();
        let mut last = 0;
        for (at, Candidate { journal, slot }) in candidates.iter().enumerate() {
            // Those that follow one another mostly lie in one segment.
            let is_known = |known: &Known| known.journal == *journal && known.part.contains(&slot.position);
            if !files.iter().rev().any(is_known) {
                if files.len() == FILES_MAX {
                    break;
                }
                // The page itself is read: what prevents this is told when somebody asks for the next one.
                let Ok(Some(part)) = source.segment(*journal, slot.position) else { break };
                let Ok(Some(handle)) = source.handle(*journal, part.start) else { break };
                files.push(Known { journal: *journal, part, handle });
            }
            last = at + 1;
        }
        let mut candidates = candidates;
        candidates.truncate(last);
        (last > 0).then(|| Box::new(Self { actor, total, candidates, files }))
    }

    /// Answers a query, if it goes on where a page has ended and can be answered in full from memory; `None`: it is for a reader.
    /// `memory` is read into, with whatever is in it; `cost` is what that has cost, in either case.
    #[must_use]
    pub fn page(&self, query: &Query, memory: &mut Vec<u8>, cost: &mut Cost) -> Option<Page> {
        let batch = self.batch(query)?;
        let mut source = Memory { files: &self.files, bytes: 0, memory, has_all: true };
        let mut page = Page { total: self.total, end: End::Full, ..Page::default() };
        let none = HashMap::new();
        let texts = Texts::read(&mut source, batch, &none, cost).ok()?;
        page.cost = *cost;
        if source.has_all {
            let bytes: u64 = batch.iter().map(|candidate| candidate.slot.text_bytes()).sum();
            page.texts.reserve(bytes as usize);
            page.messages.reserve(batch.len());
            batch.iter().enumerate().for_each(|(at, one)| texts.take(at, one, query, None, &mut page));
        }
        texts.give_back(&mut source);
        // What is gone or damaged is counted where it is read once more.
        (page.messages.len() == batch.len()).then_some(page)
    }

    /// Whether it knows where the answer to a query lies, in memory or not.
    #[must_use]
    pub fn has(&self, query: &Query) -> bool {
        self.batch(query).is_some()
    }

    /// The messages of a page.
    fn batch(&self, query: &Query) -> Option<&[Candidate]> {
        let behind = match query.order {
            Order::Forwards if query.before == Sequence::MAX => query.after,
            Order::Backwards if query.after == Sequence::ZERO => query.before,
            _ => return None,
        };
        let is_meant = query.is_plain()
            && query.actor == self.actor
            && query.messages_max > 0
            && query.must_exist.iter().all(|id| *id == behind);
        let at = self.candidates.iter().position(|candidate| candidate.slot.id == behind)?;
        let batch = self.candidates.get(at + 1..)?.get(..query.messages_max).filter(|_| is_meant)?;
        let is_shown = batch.iter().all(|candidate| candidate.slot.id >= query.not_before);
        let bytes: u64 = batch.iter().map(|candidate| candidate.slot.text_bytes()).sum();
        let fits = bytes <= query.bytes_max as u64 && batch.len() <= query.looks_max;
        // In the same order as what is asked for.
        let is_in_order = batch.first().is_some_and(|first| match query.order {
            Order::Forwards => first.slot.id > behind,
            Order::Backwards => first.slot.id < behind,
        });
        (is_shown && fits && is_in_order).then_some(batch)
    }

    /// Files that it holds open.
    #[cfg(test)]
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.candidates.capacity() * size_of::<Candidate>()
            + self.files.capacity() * size_of::<Known>()
    }
}

/// Pages are compared by what they give; tests do.
impl PartialEq for Continuation {
    fn eq(&self, other: &Self) -> bool {
        (self.actor, &self.candidates) == (other.actor, &other.candidates)
    }
}

impl Eq for Continuation {}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation").field("messages", &self.candidates.len()).finish_non_exhaustive()
    }
}

/// What of the files is in memory.
struct Memory<'a> {
    files: &'a [Known],
    /// Bytes that were read.
    bytes: usize,
    memory: &'a mut Vec<u8>,
    /// Whether everything was there so far.
    has_all: bool,
}

impl Source for Memory<'_> {
    fn segment(&mut self, journal: u64, position: Position) -> Result<Option<Range<Position>>, LogError> {
        let known =
            self.files.iter().find(|known| known.journal == journal && known.part.contains(&position));
        Ok(known.map(|known| known.part.clone()))
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, LogError> {
        let is_meant = |known: &&Known| known.journal == journal && known.part.start == segment;
        self.bytes += to.len();
        // Once something is missing, the rest is of no use.
        self.has_all = self.has_all
            && self.bytes <= READ_BYTES_MAX
            && self
                .files
                .iter()
                .find(is_meant)
                .is_some_and(|known| known.handle.read(from.0 - segment.0, to));
        Ok(self.has_all)
    }

    fn look_again(&mut self) {}

    fn lend(&mut self) -> Vec<u8> {
        std::mem::take(self.memory)
    }

    fn give_back(&mut self, memory: Vec<u8>) {
        *self.memory = memory;
    }

    fn whole(&mut self, _journal: u64, _segment: Position) -> Result<Vec<u8>, LogError> {
        Ok(Vec::new())
    }
}
