//! The archive: what an actor may ask for later (XEP-0313), found again in the journals.
//!
//! ```text
//!  record ──▶ Archive (a worker's): open blocks ──▶ sealed ── take_changes ──▶ directory::Writer ──▶ rows, 64 messages each
//!                │ snapshot of an actor                          ▲                                      │
//!                ▼                                               └── changes_done ◀── commit            │
//!             Query ──▶ Readers (threads): rows ◀───────────────────────────────────────────────────────┘
//!                            └── pread ◀── segments of all journals, sealed generations too
//! ```
//!
//! [`Archive`] reads a worker's journal beside the queue. It takes note of each message that is to be archived
//! ([`Flags::ARCHIVED`](crate::log::Flags::ARCHIVED)): its id, where its text lies, and a hash of its peer, about twelve bytes in
//! the open block of its actor. A block that is full, or the oldest of too many, becomes a row of the directory's table
//! `archive`; until the commit of that row it stays in memory. So no message causes a write to the directory, and the memory is
//! bounded by [`Settings::heads_bytes_max`]. Blocks in memory go into the journal's checkpoints; after a crash the records behind
//! the checkpoint are told again, and what the directory has already of them is not written twice.
//!
//! What rows hold of each segment is counted in the directory together with the rows ([`Tallies`]), so a segment lives
//! exactly as long as a row or a block refers to it, over any crash.
//!
//! | module | what |
//! |---|---|
//! | here | what an archive has in memory, and what goes to the directory |
//! | `follow` | following the journal |
//! | `heads`, `chunks` | blocks in memory |
//! | `slot`, `pack`, `row` | a message, in few bytes; a block of them |
//! | `moves` | what compaction has moved |
//! | `tally`, `tallies` | what is held of each segment: in memory, and by rows |
//! | `saved` | its block in a checkpoint |
//! | `query`, `page`, `texts` | what may be asked, and the answer |
//! | `segments`, `ahead` | reading texts where they lie, away from the workers; having the disk bring several at once |
//! | `continuation` | the next pages of one who reads all, on the worker, as far as they are in memory |
//! | `records` | the records of a segment, without having all of it in memory |
//! | `erase` | taking erased texts out of the files |
//! | `prepare` | what compaction is to move |
//! | `retractions`, `retract` | retractions that have not taken effect; finding what they are about |
//! | `gather` | texts of an actor that lie far apart are copied to where they lie together |
//! | `readers` | the threads that do it |
//! | `rebuild` | making a lost index anew |
//! | `tail` | what no row has yet, seen without opening a log |

#[expect(unsafe_code, reason = "a system call")]
mod ahead;
mod chunks;
pub mod continuation;
pub mod erase;
mod follow;
pub mod gather;
mod heads;
mod moves;
mod pack;
pub(crate) mod page;
pub mod prepare;
pub mod query;
pub mod readers;
pub mod rebuild;
mod records;
pub mod retract;
mod retractions;
mod row;
mod saved;
pub(crate) mod segments;
mod slot;
pub mod tail;
mod tallies;
mod tally;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::actor::ActorId;
use crate::log::{Position, Sequence};

use follow::{Preparation, Text};
use heads::Heads;
use moves::Moves;
use retractions::Retractions;
use tally::Tally;

pub use moves::Move;
pub use retractions::{Retraction, RetractionLoad};
pub use row::{Packed, PackedRow, ROW_MESSAGES_MAX, Row};
pub use slot::Slot;
pub use tallies::{SegmentHeld, Tallies};
pub use tally::SegmentTally;

/// Moves that go to the directory at once.
const MOVES_MAX: usize = 1024;

/// Settings of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of memory that open blocks of a worker may take; past it the oldest are sealed. As many again may be taken by
    /// sealed ones that wait for the directory; past that no message is taken for the archive.
    pub heads_bytes_max: usize,
}

impl Default for Settings {
    /// 16 MiB.
    fn default() -> Self {
        Self { heads_bytes_max: 16 << 20 }
    }
}

/// What a worker's archive has for the directory: to be applied there in one transaction, by
/// [`WriteTransaction::apply_archive`](crate::directory::WriteTransaction::apply_archive).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Which ones of this journal's they are: an answer to others, from before the log was opened again, is none to these.
    pub number: u64,
    /// Id of the journal.
    pub journal: u64,
    /// Blocks that are full or were evicted, of each actor in order.
    pub rows: Vec<PackedRow>,
    /// The journals in which all of these lie, and where their segments begin.
    pub segments: Vec<(u64, Position)>,
    /// Messages that compaction has moved.
    pub moves: Vec<Move>,
    /// Segments before this position are gone.
    pub gone_before: Option<Position>,
    /// With this, rows have everything that lies before this position.
    pub indexed_to: Position,
}

impl Changes {
    /// Whether there is nothing to apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.moves.is_empty() && self.gone_before.is_none()
    }
}

/// An actor's messages that the directory does not have yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The messages in the order of their ids, and the ids of their journals. The directory may have the first ones by now.
    parts: Vec<(u64, Vec<Slot>)>,
}

impl Snapshot {
    /// Its messages, in the order of their ids.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.parts.iter().flat_map(|(_, slots)| slots)
    }
}

/// What an archive has in memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Messages.
    pub messages: u64,
    /// Open blocks, one for each actor.
    pub open_blocks: u64,
    /// Blocks that wait for the directory.
    pub sealed_blocks: u64,
    /// Bytes of memory, in use or not.
    pub memory_bytes: u64,
    /// Messages that compaction has moved and whose rows do not say so yet.
    pub moves: u64,
    /// Blocks of journals that are sealed by now, which wait for the directory.
    pub adopted: u64,
    /// Retractions that have not taken effect yet.
    pub retractions: u64,
}

/// A block of a journal that is not written to any more.
#[derive(Clone, Debug)]
struct Adopted {
    row: PackedRow,
    segments: Vec<Position>,
}

/// The archive of one worker's journal. See the module.
#[derive(Debug)]
pub struct Archive {
    settings: Settings,
    journal: u64,
    heads: Heads,
    /// What blocks in memory hold of each segment.
    memory: Tally,
    /// What rows hold, as of the last upkeep.
    rows: Tally,
    tallies: Arc<Tallies>,
    tallies_seen: u64,
    text: Text,
    moves: Moves,
    /// Segments of journals that are not written to any more in which moved messages lie that the directory is to hear of.
    moves_adopted: BTreeSet<(u64, Position)>,
    /// The oldest first, of each actor in order. They go to the directory before all others.
    adopted: VecDeque<Adopted>,
    adopted_handed: usize,
    /// What the next changes have so far, and what their own rows hold of each segment in memory.
    gathered: Changes,
    gathered_held: Vec<(u64, SegmentTally)>,
    retractions: Retractions,
    preparation: Option<Preparation>,
    committed: Position,
    /// Rows have everything before this position.
    indexed_to: Position,
    /// Sealed blocks that are gathered, or on their way to the directory: the first ones.
    handed: usize,
    /// The number of the changes that are on their way to the directory.
    away: Option<u64>,
    /// How many changes were taken.
    taken: u64,
    /// Segments before this position are gone, and the directory is to be told.
    gone_before: Option<Position>,
    /// Segments in which no id is greater are held no longer.
    expired: u64,
}

impl Archive {
    /// Of the journal with this id.
    #[must_use]
    pub fn new(journal: u64, settings: Settings, tallies: Arc<Tallies>) -> Self {
        let mut archive = Self {
            settings,
            journal,
            heads: Heads::new(journal),
            memory: Tally::default(),
            rows: Tally::default(),
            indexed_to: tallies.indexed_to(journal),
            tallies,
            tallies_seen: u64::MAX,
            text: Text::default(),
            moves: Moves::default(),
            moves_adopted: BTreeSet::new(),
            adopted: VecDeque::new(),
            adopted_handed: 0,
            gathered: Changes::default(),
            gathered_held: Vec::new(),
            retractions: Retractions::default(),
            preparation: None,
            committed: Position(0),
            handed: 0,
            away: None,
            taken: 0,
            gone_before: None,
            expired: 0,
        };
        archive.look_at_tallies();
        archive
    }

    /// What it has in memory.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            messages: self.heads.messages(),
            open_blocks: self.heads.open_blocks() as u64,
            sealed_blocks: self.heads.sealed.len() as u64,
            memory_bytes: self.heads.memory_bytes() as u64,
            adopted: self.adopted.len() as u64,
            moves: self.moves.len() as u64,
            retractions: self.retractions.len() as u64,
        }
    }

    /// Blocks that are full, or were sealed for another reason, and wait for the directory.
    pub fn sealed_blocks(&self) -> usize {
        self.heads.sealed.len()
    }

    /// An actor's messages that the directory may not have yet. Costs a walk over the sealed blocks if one of them is the
    /// actor's, and a few nanoseconds a message.
    #[must_use]
    pub fn snapshot(&self, actor: ActorId) -> Snapshot {
        let adopted = self.adopted.iter().filter(|adopted| adopted.row.actor == actor);
        let mut parts: Vec<(u64, Vec<Slot>)> =
            adopted.map(|adopted| (adopted.row.journal, adopted.row.slots())).collect();
        parts.push((self.journal, self.heads.of(actor)));
        Snapshot { parts }
    }

    // --- What goes to the directory.

    /// Adds the rows of blocks that are due to the next changes: so many more at most, and only what the journal has
    /// committed. Returns how many. So a large transaction is made in small pieces.
    pub fn gather(&mut self, more: usize) -> usize {
        if self.is_away() {
            return 0;
        }
        let Self { adopted, gathered, heads, memory, .. } = self;
        let before = gathered.rows.len();
        for Adopted { row, segments } in adopted.iter().skip(self.adopted_handed).take(more) {
            gathered.rows.push(row.clone());
            gathered.segments.extend(segments.iter().map(|segment| (row.journal, *segment)));
        }
        let taken = gathered.rows.len() - before;
        self.adopted_handed += taken;
        let is_due = |sealed: &&heads::Sealed| sealed.end <= self.committed.0;
        for heads::Sealed { row, .. } in
            heads.sealed.iter().skip(self.handed).take(more - taken).take_while(is_due)
        {
            count_held(row, memory, &mut self.gathered_held);
            gathered.rows.push(row.clone());
            self.handed += 1;
        }
        gathered.rows.len() - before
    }

    /// Whether changes were taken and have not been answered yet: nothing can be gathered.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// How many rows the next changes have so far.
    pub fn gathered(&self) -> usize {
        self.gathered.rows.len()
    }

    /// What is to be applied to the directory now: what was gathered, and so many rows more at most. `None`: nothing, or what was
    /// taken before has not been answered yet.
    pub fn take_changes(&mut self, more: usize) -> Option<Changes> {
        if self.is_away() {
            return None;
        }
        self.gather(more);
        let mut changes = std::mem::take(&mut self.gathered);
        (changes.journal, changes.gone_before) = (self.journal, self.gone_before);
        // Nothing can be lost any more of a journal that is not written to.
        let (journal, committed) = (self.journal, self.committed);
        let is_due = |moved: &Move| moved.journal != journal || moved.position < committed;
        changes.moves = self.moves.hand_out(MOVES_MAX, is_due);
        if changes.moves.iter().any(|moved| moved.journal != journal) {
            changes.segments.extend(&self.moves_adopted);
        }
        let own = self.gathered_held.iter().map(|(segment, _)| *segment);
        let moves = changes.moves.iter().filter(|moved| moved.journal == self.journal);
        let moves = moves.filter_map(|moved| self.memory.segment_of(moved.position.0));
        changes.segments.extend(own.chain(moves).map(|base| (self.journal, Position(base))));
        changes.segments.sort_unstable();
        changes.segments.dedup();
        changes.indexed_to = self.indexed_with(&changes);
        if changes.is_empty() {
            return None;
        }
        self.taken += 1;
        changes.number = self.taken;
        self.away = Some(changes.number);
        Some(changes)
    }

    /// Up to where rows have everything once these changes are committed: nothing that stays in memory lies before that.
    fn indexed_with(&self, changes: &Changes) -> Position {
        let blocks = self.heads.first_position(self.handed);
        let left = self.moves.all().skip(changes.moves.len());
        let moves = left.filter(|moved| moved.journal == self.journal).map(|moved| moved.position).next();
        let retractions = self.retractions.first_position(self.journal);
        [blocks, moves, retractions]
            .into_iter()
            .flatten()
            .fold(self.committed, Position::min)
            .max(self.indexed_to)
    }

    /// What was taken has been committed, or has not: then it is given again. What the commit came to must have been told to
    /// the [`Tallies`] before. Of changes from before the log was opened again nothing is known any more: what they held is in
    /// memory once more, and the directory passes over what it has.
    pub fn changes_done(&mut self, changes: &Changes, is_committed: bool) {
        if self.away != Some(changes.number) {
            return self.look_at_tallies();
        }
        self.away = None;
        let adopted = std::mem::take(&mut self.adopted_handed);
        let own = std::mem::take(&mut self.handed);
        let held = std::mem::take(&mut self.gathered_held);
        if is_committed {
            for adopted in self.adopted.drain(..adopted) {
                self.tallies.answer(adopted.row.journal);
            }
            self.indexed_to = changes.indexed_to;
            (0..own).for_each(|_| self.heads.drop_sealed());
            for (segment, SegmentTally { records, bytes, .. }) in held {
                self.memory.take(segment, records, bytes);
            }
            for moved in &changes.moves {
                match moved.journal == self.journal {
                    true => self.memory.take(moved.position.0, 1, u64::from(moved.words) * 8),
                    false => self.tallies.answer(moved.journal),
                }
            }
            if self.gone_before == changes.gone_before {
                self.gone_before = None;
            }
        }
        self.moves.answered(is_committed);
        if self.moves.all().all(|moved| moved.journal == self.journal) {
            self.moves_adopted.clear();
        }
        self.look_at_tallies();
        self.finish_preparation();
    }

    fn look_at_tallies(&mut self) {
        if let Some(rows) = self.tallies.of_journal(self.journal, &mut self.tallies_seen) {
            self.rows = rows;
        }
    }

    /// Seals all blocks, so that everything goes to the directory with the next changes.
    pub fn seal_all(&mut self) {
        self.heads.seal_where(|_| true);
    }

    // --- Retention.

    /// Messages before this id need not be kept any longer: segments with nothing newer are not held from now on.
    pub fn expire(&mut self, before: Sequence) {
        if before.0 > self.expired {
            self.expired = before.0;
            self.heads.seal_where(|block| block.first < before.0);
        }
    }

    /// The newest id of the oldest segment that is held; `None`: there is none. Given to
    /// [`Archive::expire`], with one added, it lets go of that segment: for a log that has no room left.
    #[must_use]
    pub fn oldest_held(&self) -> Option<Sequence> {
        let tallies = [&self.rows, &self.memory];
        // The last one is being written to, and cannot go.
        let last = tallies.iter().filter_map(|tally| tally.0.back()).map(|(base, _)| *base).max()?;
        let held = |(base, tally): &&(u64, SegmentTally)| {
            *base < last && tally.records > 0 && tally.newest >= self.expired
        };
        let oldest = tallies.into_iter().filter_map(|tally| tally.0.iter().find(held));
        oldest.min_by_key(|(base, _)| *base).map(|(_, tally)| Sequence(tally.newest))
    }

    /// Segments of which blocks in memory hold something.
    #[cfg(test)]
    fn memory_held(&self) -> Vec<u64> {
        self.memory
            .0
            .iter()
            .filter(|(_, held)| held.records > 0 || held.bytes > 0)
            .map(|(base, _)| *base)
            .collect()
    }
}

/// Adds what a row holds of each segment.
fn count_held(row: &PackedRow, memory: &Tally, held: &mut Vec<(u64, SegmentTally)>) {
    let mut add = |position: Position, tally: SegmentTally| {
        let Some(segment) = memory.segment_of(position.0) else { return };
        // Neighbours lie in the same one, as a rule.
        match held.last_mut() {
            Some((last, held)) if *last == segment => *held = held.and(tally),
            _ => held.push((segment, tally)),
        }
    };
    if memory.segment_of(row.lowest.0) == memory.segment_of(row.highest.0) {
        return add(row.lowest, row.tally());
    }
    for slot in row.slots() {
        add(slot.position, SegmentTally { records: 1, bytes: slot.held_bytes(), newest: slot.id.0 });
    }
}
