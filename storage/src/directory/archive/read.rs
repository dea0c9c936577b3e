//! Rows for queries, in one consistent state of the directory. To be read on threads that may wait for the disk.

use std::ops::Bound;

use super::super::Directory;
use super::super::codec::Decoder;
use super::super::error::DirectoryError;
use super::super::tables::{Row, Table, View, damaged};
use super::{ArchiveState, Erased, KEY_REBUILDING, RowView, decode_tally, key, numbers_of};
use crate::actor::ActorId;
use crate::archive::SegmentHeld;
use crate::log::{Position, Sequence};

/// The archives in one state of the directory.
#[derive(Clone, Copy)]
pub struct ArchiveView<'t>(View<'t>);

impl Directory {
    /// Reads archives in one consistent state.
    ///
    /// # Errors
    /// What `read` returns; the directory cannot be read.
    pub fn read_archive<T>(
        &self,
        read: impl FnOnce(ArchiveView<'_>) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        self.read(|view| read(ArchiveView(view)))
    }

    /// How an actor's archive stands; as one that has nothing when there is none.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_state(&self, actor: ActorId) -> Result<ArchiveState, DirectoryError> {
        self.read(|view| view.archive_state(actor))
    }

    /// What rows hold of each segment of all journals.
    ///
    /// # Errors
    /// [`DirectoryError::HalfIndex`] while the index is being made anew, also after that was interrupted; the directory cannot be read
    /// or is damaged.
    pub fn archive_segments(&self) -> Result<Vec<SegmentHeld>, DirectoryError> {
        self.read(|view| {
            if view.counter(KEY_REBUILDING)? != 0 {
                return Err(DirectoryError::HalfIndex { path: self.0.path.clone() });
            }
            let mut all = Vec::new();
            for row in view.all(Table::ArchiveSegments)? {
                let (key, value) = row?;
                let read = numbers_of(key).and_then(|(journal, base)| {
                    let held = decode_tally(key, value)?;
                    Ok(SegmentHeld { journal, segment: Position(base), held, serial: 0 })
                });
                all.push(read.map_err(damaged(Table::ArchiveSegments, key))?);
            }
            Ok(all)
        })
    }

    /// Up to where rows have everything of each journal.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_journals(&self) -> Result<Vec<(u64, Position)>, DirectoryError> {
        self.read(|view| {
            let mut all = Vec::new();
            for row in view.all(Table::ArchiveJournals)? {
                let (key, value) = row?;
                let decoded = Decoder::open(key, value).and_then(|mut fields| {
                    let position = Position(fields.number()?);
                    fields.close()?;
                    let journal = key.try_into().map_err(|_| "a key that cannot be")?;
                    Ok((u64::from_be_bytes(journal), position))
                });
                all.push(decoded.map_err(damaged(Table::ArchiveJournals, key))?);
            }
            Ok(all)
        })
    }

    /// How many rows archives have, and bytes of their pages in the directory's file.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn archive_index(&self) -> Result<(u64, u64), DirectoryError> {
        self.read(|view| {
            let stat = view.inner.tables.of(Table::Archive).stat(view.txn);
            let stat = stat.map_err(|error| view.inner.failed("read", error))?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            Ok((stat.entries as u64, pages as u64 * u64::from(stat.page_size)))
        })
    }
}

fn row_of<'t>(row: Result<Row<'t>, heed::Error>, view: View<'t>) -> Result<RowView<'t>, DirectoryError> {
    let (key, value) = row.map_err(|error| view.inner.failed("read", error))?;
    RowView::decode(key, value).map_err(damaged(Table::Archive, key))
}

impl<'t> ArchiveView<'t> {
    /// What a transaction sees.
    pub(super) fn of(view: View<'t>) -> Self {
        Self(view)
    }

    /// How an actor's archive stands.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn state(&self, actor: ActorId) -> Result<ArchiveState, DirectoryError> {
        self.0.archive_state(actor)
    }

    /// The row of an actor whose first message has this id.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn row(&self, actor: ActorId, first: Sequence) -> Result<Option<RowView<'t>>, DirectoryError> {
        Ok(self.0.archive_row_at(actor, first)?.filter(|row| row.first == first))
    }

    /// An actor's rows from the one on that begins last at or before an id, the oldest first.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn rows_from(
        &self,
        actor: ActorId,
        from: Sequence,
    ) -> Result<impl Iterator<Item = Result<RowView<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let view = self.0;
        let first = view.archive_row_at(actor, from)?.map_or(from, |row| row.first);
        let (from, to) = (key(actor.raw(), first.0), key(actor.raw(), u64::MAX));
        let bounds = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        let rows = view.inner.tables.of(Table::Archive).range(view.txn, &bounds);
        let rows = rows.map_err(|error| view.inner.failed("read", error))?;
        Ok(rows.map(move |row| row_of(row, view)))
    }

    /// An actor's rows that begin at or before an id, the newest first.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn rows_back_from(
        &self,
        actor: ActorId,
        from: Sequence,
    ) -> Result<impl Iterator<Item = Result<RowView<'t>, DirectoryError>> + use<'t>, DirectoryError> {
        let view = self.0;
        let (first, last) = (key(actor.raw(), 0), key(actor.raw(), from.0));
        let bounds = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        let rows = view.inner.tables.of(Table::Archive).rev_range(view.txn, &bounds);
        let rows = rows.map_err(|error| view.inner.failed("read", error))?;
        Ok(rows.map(move |row| row_of(row, view)))
    }

    /// What an actor's messages between two ids, both included, have been replaced by.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn erased(
        &self,
        actor: ActorId,
        first: Sequence,
        last: Sequence,
    ) -> Result<Vec<(Sequence, Erased)>, DirectoryError> {
        self.0.archive_erased(actor, first, last)
    }

    /// The first segment of a journal of which rows hold something: what lies before it is gone. `None`: all is.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn first_segment(&self, journal: u64) -> Result<Option<Position>, DirectoryError> {
        let view = self.0;
        let (from, to) = (key(journal, 0), key(journal, u64::MAX));
        let bounds = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        let rows = view.inner.tables.of(Table::ArchiveSegments).range(view.txn, &bounds);
        let first = rows.map_err(|error| view.inner.failed("read", error))?.next();
        let Some(row) = first else { return Ok(None) };
        let (key, _) = row.map_err(|error| view.inner.failed("read", error))?;
        let (_, base) = numbers_of(key).map_err(damaged(Table::ArchiveSegments, key))?;
        Ok(Some(Position(base)))
    }

    /// Whether the segment that holds a position is still there, as far as rows hold something of it.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn is_there(&self, journal: u64, position: Position) -> Result<bool, DirectoryError> {
        Ok(self.0.archive_segment_at(journal, position)?.is_some())
    }
}
