//! Taking erased texts out of the files of the logs: a segment in which there are some is written anew with zeros in their
//! places, and takes the place of the old file. Every record stays where it is, so nothing that knows of it has to learn of
//! that, and a crash leaves the one file or the other.

use std::collections::{HashMap, HashSet};

use super::query::QueryError;
use super::records;
use super::segments::Source;
use crate::actor::ActorId;
use crate::directory::{ArchiveState, ArchiveView, Directory, DirectoryError};
use crate::journal::What;
use crate::journal::format::record::{Raw, Seed, erase_text};
use crate::log::{Flags, Position, Record, Sequence};

/// A text that no archive has any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Erasable {
    /// Where its record begins.
    pub position: Position,
    /// Its id.
    pub id: Sequence,
    /// In whose mailbox it may wait still: then it stays.
    pub queued: Option<ActorId>,
}

/// A text of a segment, and whose it is.
struct Text {
    id: Sequence,
    position: Position,
    /// Those whose archives were to have it.
    archived: Vec<ActorId>,
    queued: Vec<ActorId>,
}

impl Text {
    fn of(record: &Record<'_>) -> Self {
        let mut text =
            Self { id: record.sequence, position: record.position, archived: Vec::new(), queued: Vec::new() };
        text.note(record.actor, record.flags);
        text
    }

    fn note(&mut self, actor: ActorId, flags: Flags) {
        if flags.has(Flags::ARCHIVED) {
            self.archived.push(actor);
        }
        if flags.is_queued() {
            self.queued.push(actor);
        }
    }
}

/// The texts of a segment that were in archives and are in none any more: they were erased, their actors are gone, or what
/// was before an id was cut. A text that several share is among them when all have lost it. What never was in an archive is not.
pub(crate) fn erasable(
    directory: &Directory,
    source: &mut dyn Source,
    journal: u64,
    segment: Position,
) -> Result<Vec<Erasable>, QueryError> {
    let mut texts: Vec<Text> = Vec::new();
    records::each(source, journal, segment, &mut |raw| {
        let Some(entry) = raw.entry(segment.0) else { return };
        match entry.what {
            What::Message(record) if !record.flags.has(Flags::ERASED) => texts.push(Text::of(&record)),
            What::Reference { flags, .. } => {
                if let Some(text) = texts.last_mut().filter(|text| text.id == entry.sequence) {
                    text.note(entry.actor, flags);
                }
            }
            _ => {}
        }
    })?;
    // The file has been read: no state of the directory is held while a disk is waited for.
    let lost = directory.read_archive(|view| Lost::of(view, &texts))?;
    let is_lost = |text: &&Text| {
        !text.archived.is_empty() && text.archived.iter().all(|actor| lost.has(*actor, text.id))
    };
    let found = texts.iter().filter(is_lost).filter(|text| text.queued.len() <= 1);
    let erasable =
        |text: &Text| Erasable { position: text.position, id: text.id, queued: text.queued.first().copied() };
    Ok(found.map(erasable).collect())
}

/// What the actors of some texts have lost.
#[derive(Default)]
struct Lost {
    states: HashMap<ActorId, ArchiveState>,
    erased: HashSet<(ActorId, Sequence)>,
}

impl Lost {
    fn of(view: ArchiveView<'_>, texts: &[Text]) -> Result<Self, DirectoryError> {
        let mut ids: HashMap<ActorId, (Sequence, Sequence)> = HashMap::new();
        for text in texts {
            for actor in &text.archived {
                let (first, last) = ids.entry(*actor).or_insert((text.id, text.id));
                (*first, *last) = ((*first).min(text.id), (*last).max(text.id));
            }
        }
        let mut lost = Self::default();
        for (actor, (first, last)) in ids {
            lost.states.insert(actor, view.state(actor)?);
            lost.erased.extend(view.erased(actor, first, last)?.into_iter().map(|(id, _)| (actor, id)));
        }
        Ok(lost)
    }

    fn has(&self, actor: ActorId, id: Sequence) -> bool {
        let state = self.states.get(&actor).copied().unwrap_or_default();
        state.is_purged || id < state.first_kept || self.erased.contains(&(actor, id))
    }
}

/// Zeros the texts of records at these positions of a segment. Returns how many were there.
pub(crate) fn wipe(bytes: &mut [u8], journal: u64, segment: Position, positions: &[Position]) -> usize {
    let seed = Seed::new(journal);
    let mut wiped = 0;
    for position in positions {
        let Some(here) = bytes.get_mut((position.0.saturating_sub(segment.0)) as usize..) else { continue };
        if Raw::parse(here, seed, position.0).is_ok_and(|raw| raw.text().is_some()) {
            erase_text(here, seed, position.0);
            wiped += 1;
        }
    }
    wiped
}
