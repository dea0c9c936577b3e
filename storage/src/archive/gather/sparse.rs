//! Files of which less than half is needed any more: what is needed is gathered once more, so that they go, before others have to.
//!
//! Who fills an archive and has it cut again leaves holes beside what others have in the same files. Without this the holes would count
//! as what all may have together, and the oldest of the others' would have to go for them. While there is room enough nothing is done: what
//! grows old goes a file at a time as a rule, and to copy what is left of each would be for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::batch::passes;
use super::{Gatherer, Space};
use crate::actor::ActorId;
use crate::archive::query::QueryError;
use crate::archive::records;
use crate::archive::segments::Source;
use crate::directory::WriteTransaction;
use crate::journal::ReaderSet;
use crate::log::{LogError, Position, Sequence};

/// Bytes of a file that are looked through in one step, about.
const STEP_BYTES: u64 = 1 << 20;

/// What is known of files with holes.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// The one that is looked through, and how far that is.
    under_way: Option<(u64, u64)>,
    /// Those whose rows are listed to be gathered, or that cannot be read, by where they begin.
    listed: BTreeSet<u64>,
}

/// What there is in a piece of a file.
struct Piece {
    /// Actors, each with the lowest and the highest id of its messages.
    actors: Vec<(ActorId, Sequence, Sequence)>,
    /// Bytes of the file.
    length: u64,
    /// Where the next piece begins.
    next: Option<u64>,
}

impl Sparse {
    /// A file is not looked through any more.
    fn leave(&mut self, base: u64) {
        self.under_way = None;
        self.listed.insert(base);
    }

    /// Whether a text of the gathered log lies in a file of which all that is needed is to be gathered once more.
    pub(super) fn has(&self, files: &[(u64, u64)], position: Position) -> bool {
        let behind = files.partition_point(|(base, _)| *base <= position.0);
        behind.checked_sub(1).is_some_and(|at| self.listed.contains(&files[at].0))
    }
}

impl Gatherer {
    /// Goes on with the oldest file that is sparse: lists rows that lie in a piece of it. `false`: there is none, or room enough.
    pub(super) fn list_sparse(&mut self, source: &mut dyn Source, space: Space) -> Result<bool, QueryError> {
        let (taken, most) = self.taken(space);
        let sparse = match taken >= most / 2 {
            true => self.sparse.under_way.or_else(|| self.find_sparse()),
            false => self.sparse.under_way,
        };
        let Some((base, offset)) = sparse else { return Ok(false) };
        let piece = match self.look_through(source, (base, offset)) {
            Ok(piece) => piece,
            Err(error) if passes(&error) => return Err(error.into()),
            Err(error) => {
                // It stays as it is, and holds up no other one.
                self.sparse.leave(base);
                return Err(error.into());
            }
        };
        let (journal, file) = (self.log.journal, (Position(base), Position(base + piece.length)));
        self.write(move |t: &mut WriteTransaction<'_>| t.list_gathered(journal, file, &piece.actors))?;
        self.sparse.under_way = piece.next.map(|at| (base, at));
        if self.sparse.under_way.is_none() {
            self.sparse.leave(base);
            self.metrics.sparse.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Whose messages lie in a piece of a file.
    fn look_through(
        &mut self,
        source: &mut dyn Source,
        (base, offset): (u64, u64),
    ) -> Result<Piece, LogError> {
        let (journal, segment) = (self.log.journal, Position(base));
        let length = source.length(journal, segment)?;
        let mut actors: BTreeMap<ActorId, (Sequence, Sequence)> = BTreeMap::new();
        let mut next = Some(offset);
        while let Some(at) = next.filter(|at| *at < length && *at < offset + STEP_BYTES) {
            next = records::some(source, (journal, segment), (at, length), &mut |raw| {
                let Some(entry) = raw.entry(base).filter(|entry| entry.concerns(ReaderSet::SECOND)) else {
                    return;
                };
                let ids = actors.entry(entry.actor).or_insert((entry.sequence, entry.sequence));
                *ids = (ids.0.min(entry.sequence), ids.1.max(entry.sequence));
            })?;
        }
        self.read_bytes += next.unwrap_or(length).saturating_sub(offset);
        let actors = actors.into_iter().map(|(actor, (first, last))| (actor, first, last)).collect();
        Ok(Piece { actors, length, next: next.filter(|at| *at < length) })
    }

    /// The oldest file of which less than half is needed, and something; from its beginning.
    fn find_sparse(&mut self) -> Option<(u64, u64)> {
        let is_there = |base: u64| self.files.binary_search_by_key(&base, |(base, _)| *base);
        self.sparse.listed.retain(|base| is_there(*base).is_ok());
        let held = self.place.tallies.segments(self.log.journal);
        let is_sparse = |base: u64, needed: u64| {
            !self.sparse.listed.contains(&base)
                && is_there(base).is_ok_and(|at| needed < self.files[at].1 / 2)
        };
        held.into_iter().find(|(base, held)| is_sparse(base.0, held.bytes)).map(|(base, _)| (base.0, 0))
    }
}
