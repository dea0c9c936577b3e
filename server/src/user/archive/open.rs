//! Retractions that have not taken effect: how many there may be, and what is not to be given meanwhile.
//!
//! Anybody may send an account retractions at any time, so nothing of it waits for them just because there are some. It is read as
//! ever, and compared with them:
//!
//! | what is given | |
//! | --- | --- |
//! | its mailbox | what they are about is passed over |
//! | what a session that is resumed gets again | likewise; copies of it (XEP-0280) and what pages had of it are forgotten when the retraction comes |
//! | a page of its archive | is read once more when they have taken effect, if it has a message that they are about |
//!
//! One that lies in the log of an earlier number of workers can be read by the readers' threads alone. Everything waits for those,
//! and no more of them can come.

use std::sync::Arc;

use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Retraction as Open, RetractionLoad};
use whimbrel_storage::journal::What;
use whimbrel_storage::log::{Record, Sequence};

use crate::env::Env;
use crate::proto::archive::retraction::{self, Retraction};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::stanza::{Delivery, Kind};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::Archives;
use crate::user::commits::CommitTracker;
use crate::user::record;
use crate::user::tables::{ResourceKey, UserKey};

/// One account may have so many times fewer waiting than its worker (`archive.retractions`): of those that it has sent, of those
/// that it has received, and of those that others have received from it.
const ACCOUNT_PART: usize = 16;

/// Of those that an account has received, one author may have so many times fewer.
const AUTHOR_PART: usize = 2;

/// One of so many is left for those that users of the worker send.
const SENT_PART: usize = 4;

/// Whether another one may wait that the account sends.
fn may_send(load: &RetractionLoad, most: usize) -> bool {
    load.all < most && load.sent_by_account < most.div_ceil(ACCOUNT_PART)
}

/// Whether another one may wait that the account gets from the author.
fn may_receive(load: &RetractionLoad, most: usize) -> bool {
    let part = most.div_ceil(ACCOUNT_PART);
    load.all < most
        && load.received < most - most / SENT_PART
        && load.received_by_account < part
        && load.of_author < part
        && load.of_author_by_account < part.div_ceil(AUTHOR_PART)
}

/// Whether an account of this worker may send another retraction.
pub fn has_room_to_send(actors: &Actors, env: &Env, account: ActorId) -> bool {
    let load = actors.commits.archive().retraction_load(account, env.shared.archive_ids.peer(""));
    may_send(&load, env.config.archive.retractions as usize)
}

/// Whether an account of this worker may get another retraction from an author.
pub fn has_room_to_receive(actors: &Actors, env: &Env, account: ActorId, author: &str) -> bool {
    let load = actors.commits.archive().retraction_load(account, env.shared.archive_ids.peer(author));
    may_receive(&load, env.config.archive.retractions as usize)
}

/// As many retractions wait as may (`archive.retractions`).
pub fn too_many() -> StanzaError {
    let text = "too many retractions have not taken effect yet; try again later";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}

/// What the open retractions of an account are about.
#[derive(Default)]
pub struct TakenBack {
    open: SmallVec<[(Sequence, Arc<Retraction>); 1]>,
    /// The newest of them, read or not.
    newest: Sequence,
    /// The newest of those that cannot be read here; [`Sequence::ZERO`]: all can.
    unread: Sequence,
}

impl TakenBack {
    /// Whether a message is among it.
    pub fn has(&self, id: Sequence, stanza: &[u8]) -> bool {
        let later = self.open.iter().filter(|(retraction, _)| id < *retraction);
        !self.is_empty() && retraction::is_retracted(stanza, later.map(|(_, retraction)| &**retraction))
    }

    /// Whether there is nothing that can be read here.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The newest retraction.
    pub fn newest(&self) -> Sequence {
        self.newest
    }

    /// The newest retraction of which it is not known what it is about; [`Sequence::ZERO`]: there is none.
    pub fn unread(&self) -> Sequence {
        self.unread
    }
}

/// What the open retractions of an account are about.
pub fn taken_back(actors: &mut Actors, account: ActorId) -> TakenBack {
    taken_back_of(&actors.commits, &mut actors.archives, account)
}

/// As [`taken_back`], for those who have other parts of the worker's state in hand.
pub fn taken_back_of(commits: &CommitTracker, archives: &mut Archives, account: ActorId) -> TakenBack {
    let log = commits.log();
    let mut found = TakenBack::default();
    if log.second().retractions_of(account) == 0 {
        return found;
    }
    let known = &mut archives.retractions.read;
    for Open { journal, slot, .. } in log.second().open_retractions_of(account) {
        found.newest = found.newest.max(slot.id);
        let retraction = known.get(&(account, slot.id)).cloned().or_else(|| {
            let entry =
                log.entry_at(slot.position, slot.text_bytes()).ok().filter(|_| *journal == log.id())?;
            let What::Message(Record { payload, .. }) = entry.what else { return None };
            let read = Arc::new(Retraction::read(record::decode(payload)?.stanza)?);
            known.insert((account, slot.id), Arc::clone(&read));
            Some(read)
        });
        match retraction {
            Some(retraction) => found.open.push((slot.id, retraction)),
            None => found.unread = found.unread.max(slot.id),
        }
    }
    found
}

/// What the mailbox of an account is not to give. `None`: it is not to be read now, and `key` goes on when it is.
pub fn of_mailbox(actors: &mut Actors, (account, key): (ActorId, ResourceKey)) -> Option<TakenBack> {
    let taken_back = taken_back(actors, account);
    (!waits_for(actors, (account, key), taken_back.unread)).then_some(taken_back)
}

/// Who waits for retractions to take effect.
pub(super) struct Waiting {
    pub(super) account: ActorId,
    key: ResourceKey,
    /// The newest of the account that it waits for.
    up_to: Sequence,
}

/// Whether retractions of an account up to this one have not taken effect. Then `key` goes on when they have.
pub fn waits_for(actors: &mut Actors, (account, key): (ActorId, ResourceKey), up_to: Sequence) -> bool {
    let retractions = &mut actors.archives.retractions;
    let first = actors.commits.archive().first_retraction_of(account);
    if retractions.has_failed || first.is_none_or(|first| first > up_to) {
        return false;
    }
    match retractions.waiting.iter_mut().find(|one| (one.account, one.key) == (account, key)) {
        Some(waiting) => waiting.up_to = waiting.up_to.max(up_to),
        None => retractions.waiting.push(Waiting { account, key, up_to }),
    }
    true
}

/// Those go on that no retraction holds back any longer.
pub(super) fn release(actors: &mut Actors, fx: &mut Effects) {
    let retractions = &mut actors.archives.retractions;
    let (archive, has_failed) = (actors.commits.archive(), retractions.has_failed);
    retractions.waiting.retain(|Waiting { account, key, up_to }| {
        let waits = !has_failed && archive.first_retraction_of(*account).is_some_and(|first| first <= *up_to);
        if !waits {
            fx.due_cursors.note(*key);
            fx.due_room.note(*key);
        }
        waits
    });
}

/// A user sends or gets a retraction: what it is about is forgotten where a session of the user would get it again when it is
/// resumed, and no log has it so: copies (XEP-0280), pages of archives, and messages that are not kept.
pub fn forget_copies(actors: &mut Actors, env: &Env, fx: &Effects, user: UserKey, d: &Delivery<'_>) {
    if !env.config.archive.enabled || !d.retracts() {
        return;
    }
    let Some(retraction) = Retraction::read(d.bytes) else { return };
    for key in actors.users.user(user).resources.clone() {
        let Some(unacked) = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) else { continue };
        let forgotten = unacked.forget_where(|kind, stanza| {
            if kind != Kind::Message {
                return false;
            }
            fx.work.add_bytes(stanza.len());
            retraction::is_retracted_or_forwards(stanza, &retraction)
        });
        env.metrics().retracted_copies.add(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_and_no_author_takes_the_place_of_another() {
        let none = RetractionLoad::default();
        // 4096 in all, 256 for an account, 128 of one author for one account, 1024 left for those who send.
        let table = [
            (none, true, true),
            (RetractionLoad { all: 4096, ..none }, false, false),
            (RetractionLoad { all: 3072, received: 3072, ..none }, true, false),
            (RetractionLoad { all: 3072, received: 3071, ..none }, true, true),
            // As many as it may get do not keep an account from taking its own back, nor the other way round.
            (RetractionLoad { all: 256, received: 256, received_by_account: 256, ..none }, true, false),
            (RetractionLoad { all: 256, sent_by_account: 256, ..none }, false, true),
            (RetractionLoad { all: 256, received: 256, of_author: 256, ..none }, true, false),
            (
                RetractionLoad {
                    all: 128,
                    received: 128,
                    received_by_account: 128,
                    of_author: 128,
                    of_author_by_account: 128,
                    ..none
                },
                true,
                false,
            ),
            (RetractionLoad { all: 128, received: 128, received_by_account: 128, ..none }, true, true),
        ];
        for (load, send, receive) in table {
            assert_eq!((may_send(&load, 4096), may_receive(&load, 4096)), (send, receive), "{load:?}");
        }
        assert_eq!((may_send(&none, 1), may_receive(&none, 1)), (true, true));
    }
}
