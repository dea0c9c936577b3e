//! Messages that compaction has written again, until the directory's rows say so.

use std::collections::VecDeque;

use crate::actor::ActorId;
use crate::log::{Position, Sequence};

/// A message that lies elsewhere now, as a record of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move {
    /// Id of its journal.
    pub journal: u64,
    /// Whose it is.
    pub actor: ActorId,
    /// Its id.
    pub id: Sequence,
    /// Where it begins.
    pub position: Position,
    /// Bytes of its record, divided by eight.
    pub words: u32,
}

/// Those that are not committed. The first of them may be on their way.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: VecDeque<Move>,
    handed: usize,
}

impl Moves {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Move> {
        self.waiting.iter()
    }

    pub(super) fn push(&mut self, moved: Move) {
        self.waiting.push_back(moved);
    }

    /// The first ones, so many at most, that are due: they are on their way from now on.
    pub(super) fn hand_out(&mut self, max: usize, is_due: impl Fn(&Move) -> bool) -> Vec<Move> {
        let out: Vec<Move> =
            self.waiting.iter().take(max).take_while(|moved| is_due(moved)).copied().collect();
        self.handed = out.len();
        out
    }

    /// Those that were on their way are committed, or are to be handed out again.
    pub(super) fn answered(&mut self, are_committed: bool) {
        let handed = std::mem::take(&mut self.handed);
        if are_committed {
            self.waiting.drain(..handed);
        }
    }
}
