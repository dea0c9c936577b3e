//! The copies of messages that belong to archives (XEP-0313), from the append to the wire.
//!
//! ```text
//! message ─► does its sender want it? ─┬─ both homes here ─► one text, a copy for each ─► stanza-id ─► resources, carbons
//!            does its recipient?       └─ else ─► the sender's copy here, the recipient's there
//! ```
//! The copy of the sender waits for nobody and is in no mailbox. A stanza is acknowledged when all of its copies are durable.
//!
//! | module | what |
//! | --- | --- |
//! | here | who gets a copy, and how it is told by which id |
//! | [`continuations`] | the next pages of those who read all of their archives |
//! | [`erasure`] | erased texts leave the disk |
//! | [`in_room`] | retractions in rooms |
//! | [`index`] | what the archive has for the directory |
//! | [`open`] | retractions that have not taken effect |
//! | [`retract`] | retractions take effect |
//! | [`torn`] | pages of which a session cannot keep all |
//! | [`upkeep`] | what goes, and when |

pub mod continuations;
pub mod erasure;
pub mod in_room;
pub mod index;
pub mod open;
pub mod retract;
pub mod torn;
pub mod upkeep;

use std::collections::HashMap;

use foldhash::fast::RandomState;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{ArchivePreferences, DirectoryError};
use whimbrel_storage::log::{ActorCopy, Flags, Sequence};

use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::archive::preferences;
use crate::proto::{delay, stanza_id};
use crate::stanza::Delivery;
use crate::user::actors::{Actors, Effects};
use crate::user::tables::{ResourceKey, UserKey};
use crate::xml::writer;

/// What a worker knows of its users' archives beside the log.
#[derive(Default)]
pub struct Archives {
    /// The preferences of those who are online and have stated some.
    preferences: HashMap<ActorId, ArchivePreferences, RandomState>,
    /// What is under way of its retractions.
    pub(crate) retractions: retract::Retractions,
    /// What is under way of its upkeep.
    pub(crate) upkeep: upkeep::Upkeep,
    /// Where archives that are read page by page go on.
    pub(crate) continuations: continuations::Continuations,
}

impl Archives {
    /// A user has become online, or has other preferences.
    pub fn set_preferences(&mut self, actor: ActorId, preferences: Option<ArchivePreferences>) {
        match preferences.filter(|preferences| *preferences != ArchivePreferences::default()) {
            Some(preferences) => _ = self.preferences.insert(actor, preferences),
            None => self.forget(actor),
        }
    }

    /// A user has gone.
    pub fn forget(&mut self, actor: ActorId) {
        if !self.preferences.is_empty() {
            self.preferences.remove(&actor);
        }
    }
}

/// Reads what a user wants to be archived, before its first session.
pub fn load_preferences(actors: &mut Actors, env: &Env, fx: &Effects, (account, local): (ActorId, &str)) {
    if !env.config.archive.enabled || actors.users.find(local).is_some() {
        return;
    }
    fx.work.add(work::LOOK);
    match env.shared.directory.archive_preferences(account) {
        Ok(preferences) => actors.archives.set_preferences(account, preferences),
        Err(error) => _ = unreadable(local, &error),
    }
}

/// The copy of a message for the archive of its sender, a user of this worker. `None`: it gets none, or what it sends itself,
/// of which one copy is enough.
pub fn sender_copy(
    actors: &Actors,
    env: &Env,
    fx: &Effects,
    sender: ResourceKey,
    d: &Delivery<'_>,
) -> Option<ActorCopy> {
    if !env.config.archive.enabled || !d.is_archived() {
        return None;
    }
    let user = actors.users.user(actors.users.resource(sender).user);
    if *user.local == *d.to_local {
        return None;
    }
    let peer = Peer { local: d.to_local, resource: d.to_resource };
    let preferences = actors.archives.preferences.get(&user.id);
    let is_wanted = preferences.is_none_or(|of| wants(env, fx, of, &user.local, &peer));
    let flags = archived(is_wanted).and(retracting(d)).and(Flags::NOT_QUEUED);
    // What it retracts may have been archived when the preferences were others.
    flags.is_kept().then(|| ActorCopy {
        actor: user.id,
        flags,
        peer: env.shared.archive_ids.peer(d.to_local),
    })
}

/// Whether the archive is to have a message.
fn archived(is_wanted: bool) -> Flags {
    if is_wanted { Flags::ARCHIVED } else { Flags::NONE }
}

/// A retraction is to take effect, whether the archive is to have it or not.
fn retracting(d: &Delivery<'_>) -> Flags {
    if d.retracts() { Flags::RETRACTS } else { Flags::NONE }
}

/// The copy of a message for its recipient, who is online when `user` is there. It waits in the mailbox, and belongs to the
/// archive if the recipient wants it.
pub fn recipient_copy(
    actors: &Actors,
    env: &Env,
    fx: &Effects,
    d: &Delivery<'_>,
    (account, user): (ActorId, Option<UserKey>),
) -> ActorCopy {
    if !env.config.archive.enabled || !d.is_archived() {
        return ActorCopy::queued(account);
    }
    let from = address::local_of(d.from);
    let peer =
        Peer { local: from, resource: address::local_and_resource(d.from).map(|(_, resource)| resource) };
    let is_wanted = match user {
        Some(_) => actors
            .archives
            .preferences
            .get(&account)
            .is_none_or(|preferences| wants(env, fx, preferences, d.to_local, &peer)),
        None => {
            fx.work.add(work::LOOK);
            match env.shared.directory.archive_preferences(account) {
                Ok(preferences) => {
                    preferences.is_none_or(|preferences| wants(env, fx, &preferences, d.to_local, &peer))
                }
                // Too much in an archive is better than too little.
                Err(error) => unreadable(d.to_local, &error),
            }
        }
    };
    let flags = archived(is_wanted).and(retracting(d));
    ActorCopy { actor: account, flags, peer: env.shared.archive_ids.peer(from) }
}

/// Whom a message is exchanged with: somebody of this server.
struct Peer<'a> {
    local: &'a str,
    resource: Option<&'a str>,
}

fn wants(env: &Env, fx: &Effects, of: &ArchivePreferences, owner: &str, peer: &Peer<'_>) -> bool {
    let bare = env.bare_jid(peer.local);
    let jid = match peer.resource {
        Some(resource) => format!("{bare}/{resource}"),
        None => bare.clone(),
    };
    preferences::wants(of, &jid, || {
        fx.work.add(work::LOOK);
        match env.shared.directory.roster_item(owner, &bare) {
            Ok(item) => item.is_some_and(|item| item.listed),
            Err(error) => unreadable(owner, &error),
        }
    })
}

fn unreadable(account: &str, error: &DirectoryError) -> bool {
    tracing::error!(user = account, %error, "cannot read the directory");
    true
}

/// Calls `go_on` with a message as its recipient gets it: with the id that the recipient's archive knows it by (XEP-0359 §3).
pub fn stamped<T>(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (d, id): (&Delivery<'_>, Option<Sequence>),
    go_on: impl FnOnce(&mut Actors, &mut Effects, &Delivery<'_>) -> T,
) -> T {
    let Some(id) = id else { return go_on(actors, fx, d) };
    let mut bytes = fx.buffers.lend();
    writer::append_child(d.bytes, &mut bytes, |out| write_id(env, d.to_local, id, out));
    let result = go_on(actors, fx, &Delivery { bytes: &bytes, ..*d });
    fx.buffers.give_back(bytes);
    result
}

/// Appends the id of a message of a user's archive.
pub fn write_id(env: &Env, local: &str, id: Sequence, out: &mut Vec<u8>) {
    let sealed = env.shared.archive_ids.seal(id.0);
    let id = std::str::from_utf8(&sealed).expect("base32 is ASCII");
    stanza_id::write_of_user(local, &env.shared.domain, id, out);
}

/// Appends a message of the log with the time at which the server received it, and its id if it is in the archive.
pub fn write_logged(
    env: &Env,
    local: &str,
    stanza: &[u8],
    record: (Sequence, Flags, u64),
    out: &mut Vec<u8>,
) {
    let (sequence, flags, time_ms) = record;
    out.reserve(stanza.len() + 256);
    writer::append_child(stanza, out, |out| {
        if flags.has(Flags::ARCHIVED) {
            write_id(env, local, sequence, out);
        }
        delay::write(&env.shared.domain, time_ms, out);
    });
}
