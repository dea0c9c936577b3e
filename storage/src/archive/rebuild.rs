//! Making the index anew from the journals, when the directory has lost it: before the logs are opened.
//!
//! Compaction puts older messages behind newer ones, and the gathered log has what others had first, while a row wants its
//! messages in order. So the messages of all journals are collected and sorted, those of all actors if they are few, otherwise
//! those of a part of the actors in each of several passes: the memory is bounded by [`MESSAGES_MAX`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Changes;
use super::query::QueryError;
use super::row::{ROW_MESSAGES_MAX, Row};
use super::segments::{Folders, Segments, Source};
use super::slot::Slot;
use crate::actor::ActorId;
use crate::directory::{Directory, Shares, WriteTransaction, run_inline};
use crate::journal::format::record::Seed;
use crate::journal::open::scan::Walk;
use crate::journal::{Entry, ReaderSet, What};
use crate::log::{Flags, LogError, PeerHash, Position, Record, Sequence, gathered_journal, journals_by_age};

/// Messages that are in memory at once.
const MESSAGES_MAX: u64 = 4_000_000;
/// Rows that are written in one transaction.
const BATCH_ROWS: usize = 1000;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rebuilt {
    /// Journals that are done.
    pub journals: u64,
    /// How many there are.
    pub journals_total: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Messages that are in rows.
    pub messages: u64,
}

/// A message that was found, and the journal and the segment of its record.
#[derive(Clone, Copy, Debug)]
struct Seen {
    slot: Slot,
    journal: u64,
    segment: Position,
}

/// Messages that were found, of each actor in order.
type Found = BTreeMap<ActorId, BTreeMap<Sequence, Seen>>;

/// Makes all rows of archives anew from the logs in a folder, which must not be open. Messages of actors that are not there
/// are left out. `tell` is called for each segment.
///
/// One that is interrupted is to be run again: until then nobody gets to know what archives hold
/// ([`Directory::archive_segments`]), so no file goes that the index does not have yet.
///
/// What was cut is not there again as far as the directory still knows of it; what was erased stays erased.
///
/// # Errors
/// There are no logs; they, or the directory, cannot be read or written.
pub fn rebuild(
    directory: &Directory,
    log: &Path,
    is_there: &dyn Fn(ActorId) -> bool,
    tell: &mut dyn FnMut(Rebuilt),
) -> Result<Rebuilt, QueryError> {
    let mut journals = journals_by_age(log)?;
    // A copy that is gathered counts, as one by compaction does: it comes last.
    let gathered = gathered_journal(log)?;
    journals.sort_by_key(|(journal, _)| Some(*journal) == gathered);
    run_inline(directory, Box::new(|transaction| transaction.clear_archive_index()))?;
    let mut rebuilding = Rebuilding {
        directory,
        segments: Segments::new(Arc::new(Folders::new(journals.clone()))),
        is_there,
        tell,
        done: Rebuilt { journals_total: journals.len() as u64, ..Rebuilt::default() },
        messages_max: MESSAGES_MAX,
    };
    let journals: Vec<u64> = journals.into_iter().map(|(journal, _)| journal).collect();
    rebuilding.run(&journals, gathered)?;
    run_inline(directory, Box::new(|transaction| transaction.end_archive_index()))?;
    Ok(rebuilding.done)
}

struct Rebuilding<'a> {
    directory: &'a Directory,
    segments: Segments,
    is_there: &'a dyn Fn(ActorId) -> bool,
    tell: &'a mut dyn FnMut(Rebuilt),
    done: Rebuilt,
    messages_max: u64,
}

impl Rebuilding<'_> {
    fn run(&mut self, journals: &[u64], gathered: Option<u64>) -> Result<(), QueryError> {
        let mut count = 0_u64;
        let mut ends = Vec::new();
        for journal in journals {
            ends.push((*journal, self.scan(*journal, &mut |_, _| count += 1)?));
        }
        let passes = count.div_ceil(self.messages_max).max(1);
        for pass in 0..passes {
            let mut found = Found::new();
            for journal in journals {
                self.scan(*journal, &mut |actor, seen| {
                    if actor.number() % passes == pass {
                        // A copy by compaction comes later, and counts.
                        found.entry(actor).or_default().insert(seen.slot.id, seen);
                    }
                })?;
                if pass + 1 == passes {
                    self.done.journals += 1;
                }
            }
            self.write(found)?;
        }
        for (journal, last_used) in ends {
            // That segment may be cut when the log is opened, and what comes next may go there. To the gathered log nothing is
            // appended.
            if Some(journal) != gathered {
                self.apply(Changes { journal, indexed_to: last_used, ..Changes::default() })?;
            }
        }
        Ok(())
    }

    /// Tells each message of archives. Returns the last segment with a record: behind it lies the one in reserve.
    fn scan(&mut self, journal: u64, tell: &mut dyn FnMut(ActorId, Seen)) -> Result<Position, LogError> {
        let mut last_used = Position::default();
        for base in self.segments.all(journal)? {
            let bytes = self.segments.whole(journal, base)?;
            let mut text: Option<Slot> = None;
            for raw in Walk::new(&bytes, Seed::new(journal), base.0, 0) {
                last_used = base;
                let Some(entry) = raw.entry(base.0) else { continue };
                let Some((slot, is_archived)) = slot_of(&entry, &mut text) else { continue };
                if is_archived && entry.concerns(ReaderSet::SECOND) && (self.is_there)(entry.actor) {
                    tell(entry.actor, Seen { slot, journal, segment: base });
                }
            }
            self.done.bytes += bytes.len() as u64;
            (self.tell)(self.done);
        }
        Ok(last_used)
    }

    /// Writes the messages of some actors. A row has messages of one journal.
    fn write(&mut self, found: Found) -> Result<(), QueryError> {
        let mut changes = Changes::default();
        for (actor, messages) in found {
            let messages: Vec<Seen> = messages.into_values().collect();
            let of_journals = messages.chunk_by(|one, other| one.journal == other.journal);
            for block in of_journals.flat_map(|part| part.chunks(ROW_MESSAGES_MAX)) {
                let journal = block[0].journal;
                changes.segments.extend(block.iter().map(|seen| (journal, seen.segment)));
                let slots = block.iter().map(|seen| seen.slot).collect();
                changes.rows.push(Row { actor, journal, slots }.pack());
                if changes.rows.len() >= BATCH_ROWS {
                    self.apply(std::mem::take(&mut changes))?;
                }
            }
        }
        self.apply(changes)
    }

    fn apply(&mut self, mut changes: Changes) -> Result<(), QueryError> {
        changes.segments.sort_unstable();
        changes.segments.dedup();
        let apply = move |transaction: &mut WriteTransaction<'_>| {
            transaction.apply_archive(&changes, Shares::default())
        };
        self.done.messages += run_inline(self.directory, Box::new(apply))?.messages;
        Ok(())
    }
}

/// What a record says of a message, and whether it is an archive's. Keeps the text that references may refer to.
pub(super) fn slot_of(entry: &Entry<'_>, text: &mut Option<Slot>) -> Option<(Slot, bool)> {
    let own = |peer| Slot {
        id: entry.sequence,
        position: entry.position,
        words: (entry.bytes / 8) as u32,
        peer,
        is_reference: false,
    };
    match entry.what {
        What::Message(Record { flags, peer, .. }) => {
            *text = Some(own(peer));
            Some((own(peer), flags.has(Flags::ARCHIVED)))
        }
        What::Body(_) => {
            *text = Some(own(PeerHash::NONE));
            None
        }
        What::Reference { flags, peer, .. } => {
            let text = text.filter(|text| text.id == entry.sequence)?;
            Some((Slot { peer, is_reference: true, ..text }, flags.has(Flags::ARCHIVED)))
        }
        _ => None,
    }
}
