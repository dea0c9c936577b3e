//! Texts that must never be shown again: a retraction (XEP-0424) or an operator has erased them. The message keeps its id
//! and its place; a tombstone stands for it.

use std::ops::Bound;

use super::super::WriteTransaction;
use super::super::codec::{Decoder, Encoder};
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::{key, numbers_of};
use crate::actor::ActorId;
use crate::log::Sequence;

/// Most bytes of a tombstone.
pub const TOMBSTONE_BYTES_MAX: usize = 32 << 10;

/// What stands for an erased text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Erased {
    /// When it was erased, milliseconds since 1970.
    pub at_ms: u64,
    /// When the message was received, milliseconds since 1970.
    pub received_ms: u64,
    /// What is shown in its place: a payload as the message's own.
    pub tombstone: Vec<u8>,
}

impl Erased {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let (at_ms, received_ms) = (fields.number()?, fields.number()?);
        let erased = Self { at_ms, received_ms, tombstone: fields.bytes()?.to_vec() };
        fields.close()?;
        Ok(erased)
    }
}

impl View<'_> {
    /// What an actor's messages between two ids, both included, have been replaced by.
    pub(super) fn archive_erased(
        &self,
        actor: ActorId,
        first: Sequence,
        last: Sequence,
    ) -> Result<Vec<(Sequence, Erased)>, DirectoryError> {
        let (from, to) = (key(actor.raw(), first.0), key(actor.raw(), last.0));
        if from > to {
            return Ok(Vec::new());
        }
        let table = self.inner.tables.of(Table::ArchiveErased);
        let bounds = (Bound::Included(&from[..]), Bound::Included(&to[..]));
        let rows = table.range(self.txn, &bounds);
        let mut found = Vec::new();
        for row in rows.map_err(|error| self.inner.failed("read", error))? {
            let (key, value) = row.map_err(|error| self.inner.failed("read", error))?;
            let read = numbers_of(key).and_then(|(_, id)| Ok((Sequence(id), Erased::decode(key, value)?)));
            found.push(read.map_err(damaged(Table::ArchiveErased, key))?);
        }
        Ok(found)
    }
}

impl WriteTransaction<'_> {
    /// An actor's message is never shown again; `erased` stands for it from the commit on. An id that is not in the archive
    /// may be erased: it may be about to come there. Nothing happens for an actor that is gone.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for a tombstone of more than [`TOMBSTONE_BYTES_MAX`]; the directory cannot be written.
    pub fn erase_from_archive(
        &mut self,
        actor: ActorId,
        id: Sequence,
        erased: &Erased,
    ) -> Result<(), DirectoryError> {
        let bytes = erased.tombstone.len();
        if bytes > TOMBSTONE_BYTES_MAX {
            return Err(DirectoryError::Size { what: "the tombstone", bytes, max: TOMBSTONE_BYTES_MAX });
        }
        if self.view().archive_state(actor)?.is_purged {
            return Ok(());
        }
        let key = key(actor.raw(), id.0);
        let mut fields = Encoder::new(20 + bytes);
        fields.number(erased.at_ms);
        fields.number(erased.received_ms);
        fields.text(&erased.tombstone);
        self.put(Table::ArchiveErased, &key, &fields.seal(&key))?;
        self.note_erasure(actor, id)
    }
}
