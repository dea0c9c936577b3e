//! Retractions in rooms (XEP-0424, XEP-0425): what a room's archive gives while they have not taken effect, and how they do.
//!
//! A room looks at what a retraction is about before it says it to anybody, so its archive has only those that are good. Each names
//! one message by its id. Until the directory has what stands for that message, whoever reads the archive makes it of the retraction.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::Retraction as Open;
use whimbrel_storage::archive::query::{Found, Page};
use whimbrel_storage::archive::retract::{Meant, ReadRetraction, Replace};
use whimbrel_storage::journal::What;
use whimbrel_storage::log::{Record, Sequence};

use crate::env::Env;
use crate::proto::muc::retraction::{self, RoomRetraction};
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::user::recall;
use crate::user::record::{self, StoredMessage};
use crate::user::tables::ResourceKey;

/// A retraction that has not taken effect.
pub struct OpenRetraction {
    target: Sequence,
    retracted_ms: u64,
    retraction: RoomRetraction,
}

impl OpenRetraction {
    fn read(env: &Env, retracted_ms: u64, payload: &[u8]) -> Option<OpenRetraction> {
        let retraction = RoomRetraction::read(record::decode(payload)?.stanza)?;
        let target = env.shared.archive_ids.open(retraction.target()).map(Sequence)?;
        Some(OpenRetraction { target, retracted_ms, retraction })
    }

    /// What stands for a message; `None`: it stays as it is.
    fn replace(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let kept = record::decode(payload)?;
        let stanza = self.retraction.replace(kept.stanza, self.retracted_ms)?;
        let mut tombstone = Vec::with_capacity(stanza.len() + 64);
        StoredMessage { resource: kept.resource, stanza: &stanza }.encode(&mut tombstone);
        Some(tombstone)
    }
}

/// Reads a retraction of a room and says what it replaces by what; runs on a reader's thread.
pub(super) fn reading(env: &Env) -> ReadRetraction {
    let shared = Arc::clone(&env.shared);
    Box::new(move |retracted_ms, payload| {
        let retraction = RoomRetraction::read(record::decode(payload)?.stanza)?;
        let target = shared.archive_ids.open(retraction.target()).map(Sequence)?;
        let one = OpenRetraction { target, retracted_ms, retraction };
        let replace: Replace = Arc::new(move |_, payload| one.replace(payload));
        Some(Meant { replace, target: Some(target) })
    })
}

/// What the open retractions of a room are about.
#[derive(Default)]
pub struct TakenBack(SmallVec<[Arc<OpenRetraction>; 1]>);

impl TakenBack {
    /// Whether a message is among it.
    pub fn has(&self, id: Sequence) -> bool {
        self.0.iter().any(|one| one.target == id)
    }

    /// A message of a page, or what stands for it.
    pub fn text<'p>(&self, page: &'p Page, found: &Found) -> Cow<'p, [u8]> {
        let text = page.text(found);
        let mut about = self.0.iter().filter(|one| one.target == found.id && found.erased_ms.is_none());
        about.find_map(|one| one.replace(text)).map_or(Cow::Borrowed(text), Cow::Owned)
    }
}

/// What the open retractions of a room are about. `None`: it is not known now, because one lies in the log of an earlier number of
/// workers, which only the readers' threads can read.
pub fn taken_back(actors: &mut Actors, env: &Env, room: ActorId) -> Option<TakenBack> {
    let log = actors.commits.log();
    let mut found = TakenBack::default();
    if log.second().retractions_of(room) == 0 {
        return Some(found);
    }
    let known = &mut actors.archives.retractions.in_rooms;
    for Open { journal, slot, .. } in log.second().open_retractions_of(room) {
        if let Some(one) = known.get(&(room, slot.id)) {
            found.0.push(Arc::clone(one));
            continue;
        }
        if *journal != log.id() {
            return None;
        }
        let entry = log.entry_at(slot.position, slot.text_bytes()).ok()?;
        let What::Message(Record { payload, time_ms, .. }) = entry.what else { return None };
        let one = Arc::new(OpenRetraction::read(env, time_ms, payload)?);
        known.insert((room, slot.id), Arc::clone(&one));
        found.0.push(one);
    }
    Some(found)
}

/// A client hears that a message of a room is taken back: it is forgotten where the client's session would get it again when it is
/// resumed.
pub fn forget(actors: &mut Actors, env: &Env, fx: &Effects, key: ResourceKey, (room, target): (&str, &str)) {
    if let Some(id) = env.shared.archive_ids.open(target) {
        actors.recalls.take_back(key, (recall::hash_of(env, room), Sequence(id)));
    }
    let Some(unacked) = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { return };
    let forgotten = unacked.forget_where(|kind, stanza| {
        fx.work.add_bytes(stanza.len());
        kind == Kind::Message && retraction::shows(stanza, room, target)
    });
    env.metrics().retracted_copies.add(forgotten);
}
