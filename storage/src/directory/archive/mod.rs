//! What the archives of actors have in the directory (XEP-0313): where their messages lie, how much that is of each segment
//! of the journals, what they prefer, and which texts must never be shown again.
//!
//! | module | what |
//! |---|---|
//! | here | keys and values of `archive`, `archive_states` and `archive_segments` |
//! | `apply` | what a worker's archive has for the directory |
//! | `counters` | what is held of each segment, within a transaction |
//! | `read` | rows for queries |
//! | `sweep` | cuts, removals, and rows of segments that are gone |
//! | `erased` | texts that must never be shown again |
//! | `erasures` | what was erased and is on the disk still |
//! | `gathering` | blocks that are to lie together with others of their actors, and those that do from now on |
//! | `totals` | what all archives have together |
//! | `preferences` | what an actor wants to be kept (XEP-0441) |

mod apply;
mod counters;
mod erased;
mod erasures;
mod gathering;
mod preferences;
mod read;
mod sweep;
mod totals;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, damaged};
use crate::actor::ActorId;
use crate::archive::{Packed, PackedRow, Row, SegmentTally, Slot};
use crate::log::{Position, Sequence};

pub use apply::{Applied, Shares};
pub use erased::{Erased, TOMBSTONE_BYTES_MAX};
pub use erasures::{ErasurePass, ErasuresDue};
pub use gathering::{GATHER_MESSAGES_MIN, SwitchRow, Switched, Switches, ToGather};
pub use preferences::{ArchiveDefault, ArchivePreferences, PREFERENCES_JIDS_MAX};
pub use read::ArchiveView;
pub use sweep::{Shrunk, Sweep, Swept, TAKERS_MAX, largest_takers};
pub use totals::ArchiveTotals;

/// In `meta`: 1 while the index is being made anew.
const KEY_REBUILDING: &[u8] = b"archive_rebuilding";

/// Key of what an actor has many of, by an id; and of a segment, by its journal.
fn key(of: u64, id: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&of.to_be_bytes());
    key[8..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The two numbers of such a key.
fn numbers_of(key: &[u8]) -> Result<(u64, u64), &'static str> {
    let key: &[u8; 16] = key.try_into().map_err(|_| "a key that cannot be")?;
    let (of, id) = key.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("half of sixteen bytes"));
    Ok((number(of), number(id)))
}

/// How an actor's archive stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArchiveState {
    /// Bytes of the journals that its messages need; a text that two share counts for both.
    pub bytes: u64,
    /// Messages that rows have.
    pub messages: u64,
    /// Id of the newest message that a row ever had.
    pub last: Sequence,
    /// Messages before this id are no longer in the archive, whatever rows there are.
    pub first_kept: Sequence,
    /// The actor is gone: it has no archive, and gets none.
    pub is_purged: bool,
}

impl ArchiveState {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let state = Self {
            bytes: fields.number()?,
            messages: fields.number()?,
            last: Sequence(fields.number()?),
            first_kept: Sequence(fields.number()?),
            is_purged: match fields.byte()? {
                0 => false,
                1 => true,
                _ => return Err("an impossible mark"),
            },
        };
        fields.close()?;
        Ok(state)
    }

    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(33);
        for number in [self.bytes, self.messages, self.last.0, self.first_kept.0] {
            fields.number(number);
        }
        fields.byte(u8::from(self.is_purged));
        fields.seal(key)
    }
}

/// A row as it lies in the map.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'v> {
    /// Whose messages it has.
    pub actor: ActorId,
    /// Id of the first of them.
    pub first: Sequence,
    /// Id of the last of them.
    pub last: Sequence,
    /// Id of the journal in which they lie.
    pub journal: u64,
    /// The messages.
    pub packed: Packed<'v>,
}

impl<'v> RowView<'v> {
    fn decode(key: &[u8], value: &'v [u8]) -> Result<Self, &'static str> {
        let (actor, first) = numbers_of(key)?;
        let first = Sequence(first);
        let mut fields = Decoder::open(key, value)?;
        let (journal, last) = (fields.number()?, Sequence(fields.number()?));
        let packed = Packed::open(first, fields.bytes()?)?;
        fields.close()?;
        Ok(Self { actor: ActorId::from_raw(actor), first, last, journal, packed })
    }

    /// Its messages.
    ///
    /// # Errors
    /// It does not read back exactly.
    pub fn slots(&self) -> Result<Vec<Slot>, DirectoryError> {
        let slots = self.packed.slots();
        slots.map_err(damaged(Table::Archive, &key(self.actor.raw(), self.first.0)))
    }

    fn to_row(self) -> Result<Row, &'static str> {
        let row = Row { actor: self.actor, journal: self.journal, slots: self.packed.slots()? };
        if row.last() == self.last { Ok(row) } else { Err("another last message than it says") }
    }
}

fn encode_row(key: &[u8], row: &PackedRow) -> Vec<u8> {
    let mut fields = Encoder::new(20 + row.content.len());
    fields.number(row.journal);
    fields.number(row.last.0);
    fields.text(&row.content);
    fields.seal(key)
}

fn decode_tally(key: &[u8], value: &[u8]) -> Result<SegmentTally, &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let tally = SegmentTally { records: fields.number()?, bytes: fields.number()?, newest: fields.number()? };
    fields.close()?;
    Ok(tally)
}

fn encode_tally(key: &[u8], tally: &SegmentTally) -> Vec<u8> {
    let mut fields = Encoder::new(24);
    [tally.records, tally.bytes, tally.newest].into_iter().for_each(|number| fields.number(number));
    fields.seal(key)
}

/// A segment of a journal, in the order of keys.
type Segment = (u64, Position);
