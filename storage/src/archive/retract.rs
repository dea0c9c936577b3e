//! Finding what a retraction (XEP-0424) is about, on a reader's thread: among the actor's newest messages with the same peer,
//! and what waits in its mailbox; or the one message of which it names the archive's own id. What a text means is for the caller
//! to say.

use std::fmt;
use std::sync::Arc;

use super::Snapshot;
use super::page;
use super::query::{Order, Query, QueryError, STEP_BYTES, STEP_ROWS};
use super::retractions::Retraction;
use super::segments::Source;
use super::slot::Slot;
use super::texts::texts_at;
use crate::directory::{Directory, Erased};
use crate::log::{PeerHash, Sequence};

/// Rows of the directory that are looked at for one retraction, at most: a peer of long ago, or one that has never written, is
/// not to cost a walk over all of a large archive.
const ROWS_MAX: usize = 4 * STEP_ROWS;

/// Bytes of texts that are read for one retraction, at most, and as many of those that wait.
const BYTES_MAX: u64 = 16 << 20;

/// Makes of the text of a message what stands for it from now on; `None`: it is not retracted.
pub type Replace = Arc<dyn Fn(Sequence, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// What a retraction is about.
pub struct Meant {
    /// Makes of a message what stands for it, if it is retracted.
    pub replace: Replace,
    /// The one message that it can be about, by its id in the archive; `None`: it is to be looked for.
    pub target: Option<Sequence>,
}

impl fmt::Debug for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meant").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Reads a retraction, which was received at this time, in milliseconds since 1970. `None`: it is none.
pub type ReadRetraction = Box<dyn FnOnce(u64, &[u8]) -> Option<Meant> + Send>;

/// A retraction whose messages are to be found.
pub struct RetractQuery {
    /// The retraction.
    pub retraction: Retraction,
    /// What the actor's home has of its archive in memory.
    pub snapshot: Snapshot,
    /// The newest messages that wait in its mailbox, and their journal: they may be in no archive.
    pub waiting: (u64, Vec<Slot>),
    /// Messages before this id are too old to be shown, for all purposes.
    pub not_before: Sequence,
    /// Most messages of the archive that are looked at, from the newest one with the same peer on.
    pub looks_max: usize,
    /// What the retraction says.
    pub read: ReadRetraction,
}

impl fmt::Debug for RetractQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetractQuery").field("retraction", &self.retraction).finish_non_exhaustive()
    }
}

/// A message that is retracted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retracted {
    /// Its id.
    pub id: Sequence,
    /// What stands for it; `None`: it is in the mailbox alone.
    pub erased: Option<Erased>,
}

/// Finds what a retraction is about: all that it means, because a client may have sent a message twice. What was erased before
/// is not among it, so a retraction that is told again does nothing.
pub(crate) fn retracted(
    directory: &Directory,
    source: &mut dyn Source,
    query: RetractQuery,
) -> Result<Vec<Retracted>, QueryError> {
    let Retraction { journal, actor, slot, .. } = query.retraction;
    let own = texts_at(source, (actor, journal), &[slot])?.into_iter().next().flatten();
    let Some((at_ms, meant)) = own.and_then(|(at_ms, text)| Some((at_ms, (query.read)(at_ms, &text)?)))
    else {
        return Ok(Vec::new());
    };
    let Meant { replace, target } = meant;
    let is_meant = Arc::clone(&replace);
    let mut rest = match target {
        Some(target) if target < slot.id => Query::one(actor, query.snapshot, target),
        // Nobody takes back what has not been said yet.
        Some(_) => return Ok(Vec::new()),
        None => Query {
            before: slot.id,
            peer: Some(slot.peer).filter(|peer| *peer != PeerHash::NONE),
            matches: Some(Arc::new(move |text| is_meant(Sequence::ZERO, text).is_some())),
            order: Order::Backwards,
            bytes_max: STEP_BYTES,
            looks_max: query.looks_max,
            ..Query::all(actor, query.snapshot)
        },
    };
    rest.not_before = query.not_before;
    let mut found = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    loop {
        let page = page::answer(directory, source, &rest)?;
        rows += page.cost.rows;
        bytes += page.cost.bytes as u64;
        for message in page.messages.iter().filter(|message| message.erased_ms.is_none()) {
            let Some(tombstone) = replace(message.id, page.text(message)) else { continue };
            let erased = Some(Erased { at_ms, received_ms: message.time_ms, tombstone });
            found.push(Retracted { id: message.id, erased });
        }
        if !page.goes_on() || page.cost.looks >= rest.looks_max || rows >= ROWS_MAX || bytes >= BYTES_MAX {
            break;
        }
        rest = rest.rest(&page);
    }
    // Those that are in no archive; and a crash may have brought back one that has been erased there.
    let (of, mut waiting) = query.waiting;
    let mut left = BYTES_MAX;
    let within = |slot: &&Slot| {
        let is_within = slot.text_bytes() <= left;
        left = left.saturating_sub(slot.text_bytes());
        is_within
    };
    let newest = waiting.iter().rev().take_while(within).count();
    waiting.drain(..waiting.len() - newest);
    waiting.retain(|waits| waits.id < slot.id && !found.iter().any(|one| one.id == waits.id));
    for (slot, text) in waiting.iter().zip(texts_at(source, (actor, of), &waiting)?) {
        if text.is_some_and(|(_, text)| replace(slot.id, &text).is_some()) {
            found.push(Retracted { id: slot.id, erased: None });
        }
    }
    Ok(found)
}
