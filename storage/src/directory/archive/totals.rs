//! What all archives have together, for operators.

use super::super::Directory;
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::ArchiveState;
use super::sweep::actor_of;
use crate::actor::ActorId;
use crate::log::Sequence;

/// What archives have, as far as rows say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArchiveTotals {
    /// Actors whose archives have messages.
    pub actors: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of the journals that they need; a text that two share counts for both.
    pub bytes: u64,
    /// The oldest and the newest id.
    pub span: Option<(Sequence, Sequence)>,
}

impl ArchiveTotals {
    fn add(&mut self, state: &ArchiveState, span: (Sequence, Sequence)) {
        self.actors += 1;
        self.messages += state.messages;
        self.bytes += state.bytes;
        let known = self.span.unwrap_or(span);
        self.span = Some((known.0.min(span.0), known.1.max(span.1)));
    }
}

impl View<'_> {
    /// The first and the last id that an actor's rows show.
    fn archive_span(
        &self,
        actor: ActorId,
        state: &ArchiveState,
    ) -> Result<Option<(Sequence, Sequence)>, DirectoryError> {
        if state.is_purged || state.last < state.first_kept {
            return Ok(None);
        }
        let first = self.archive_first_row(actor)?.map(|row| row.first().max(state.first_kept));
        Ok(first.map(|first| (first, state.last)))
    }
}

impl Directory {
    /// What all archives have together. Looks at each.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_totals(&self) -> Result<ArchiveTotals, DirectoryError> {
        self.read(|view| {
            let mut totals = ArchiveTotals::default();
            for row in view.all(Table::ArchiveStates)? {
                let (key, value) = row?;
                let state = ArchiveState::decode(key, value).map_err(damaged(Table::ArchiveStates, key))?;
                if let Some(span) = view.archive_span(actor_of(key)?, &state)? {
                    totals.add(&state, span);
                }
            }
            Ok(totals)
        })
    }
}
