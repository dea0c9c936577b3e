//! Records where they lie, in the memory maps.

use super::super::error::Damage;
use super::super::format::message::Position;
use super::super::format::record::Raw;
use super::super::open::scan::Walk;
use super::super::reader::Entry;
use super::Journal;
use super::segment::{Segment, find};

impl Journal {
    /// The record that begins at a position, of so many bytes.
    ///
    /// # Errors
    /// Its segment is gone, or the disk gives back something else.
    pub fn entry_at(&self, position: Position, bytes: u64) -> Result<Entry<'_>, Damage> {
        let Some(segment) = find(&self.segments, position.0).and_then(|at| self.segments.get(at)) else {
            return Err(self.lost(position, bytes, "the segment is gone"));
        };
        let offset = (position.0 - segment.base) as usize;
        let here = segment.map.bytes().get(offset..).unwrap_or_default();
        let entry = Raw::parse(here, self.seed, position.0).ok().and_then(|raw| raw.entry(segment.base));
        entry.ok_or_else(|| self.lost(position, bytes, "a waiting message cannot be read back"))
    }

    /// Says what is wrong with the record at a position.
    pub(crate) fn lost(&self, position: Position, bytes: u64, what: &'static str) -> Damage {
        match find(&self.segments, position.0).and_then(|at| self.segments.get(at)) {
            Some(segment) => {
                Damage { path: segment.path.clone(), offset: position.0 - segment.base, bytes, what }
            }
            None => Damage { path: self.shared.folder().to_owned(), offset: position.0, bytes, what },
        }
    }

    /// Whether the journal has the segment that holds this position.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        find(&self.segments, position.0).is_some()
    }

    /// Where the segments begin, the oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Position> + '_ {
        self.segments.iter().map(|segment| Position(segment.base))
    }

    /// The next record that readers are told of, at or after a position in the segment that begins at `segment`, and where
    /// to go on. Damage is passed over. `None` at the end of the segment.
    pub fn next_entry(&self, segment: Position, from: Position) -> Option<(Entry<'_>, Position)> {
        let at = find(&self.segments, segment.0)?;
        let Segment { base, map, .. } = self.segments.get(at)?;
        let offset = from.0.saturating_sub(*base) as usize;
        Walk::new(map.bytes(), self.seed, *base, offset).find_map(|raw| {
            let next = Position(raw.position + raw.stored_bytes());
            raw.entry(*base).map(|entry| (entry, next))
        })
    }
}
