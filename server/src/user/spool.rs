//! What rooms without an archive have said to sessions without a connection: each text once in the log of their home, and references.
//!
//! ```text
//! said ─► kept up to a sixteenth of limits.detached_bytes; beyond: one text in the log, a reference to it in the spool of each account,
//!         and one in the queue of each session ─► <resume/> ─► texts out of the log, in their places ─► <a/> ─► no reference, no text
//! ```
//! The spool of an account is an actor of the log's queue beside the account: nothing of it is offered to anybody, expires, or counts
//! in the mailbox. It ends before the oldest message to which a session of the account refers. A crash leaves spools without
//! sessions: they go in the first second ([`tidy`]). A message that is to be stored nowhere (XEP-0334) is not in it.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use whimbrel_storage::actor::{ActorId, ActorKind};
use whimbrel_storage::log::{ActorCopy, Flags, PeerHash, Sequence};

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::proto::traits;
use crate::stanza::{Kind, Traits};
use crate::user::actors::{Actors, Effects};
use crate::user::commits::CommitTracker;
use crate::user::delivery;
use crate::user::flow::{Class, Outgoing};
use crate::user::inactive::Urgency;
use crate::user::record::{self, StoredMessage};
use crate::user::room;
use crate::user::tables::{Resource, ResourceKey, UserKey};
use crate::xml::Element;

/// Spools are given nothing more while so large a part of what the log may have is waited for: the rest is for mailboxes.
const LOG_PART: u64 = 2;

/// Sessions that hear the same on one worker, as many as an envelope has.
type Keys = SmallVec<[ResourceKey; 8]>;

/// Whether a message may be in the log.
pub fn takes(stanza: &[u8]) -> bool {
    Element::parse(stanza).is_ok_and(|message| {
        let children = message.elements().map(|child| (child.name(), child.namespace()));
        !traits::of(children).has(Traits::NO_STORE)
    })
}

/// Keeps what a room has said to these sessions, which have no connection. Returns those that have no room for it.
pub fn keep(actors: &mut Actors, env: &Env, fx: &mut Effects, cast: &Cast<'_>, keys: &[ResourceKey]) -> Keys {
    let has_room = actors.commits.log().queue().held_bytes() < actors.commits.log().room().1 / LOG_PART;
    let length = cast.head.len() + cast.tail.len();
    let mut taken = Keys::new();
    for key in keys.iter().copied().filter(|_| has_room) {
        if room::takes(actors, env, fx, key, Class::Spooled(Sequence::ZERO), length) {
            taken.push(key);
        }
    }
    let sequences = append(actors, env, fx, cast, &taken);
    let mut lost = Keys::new();
    let mut bytes = fx.buffers.lend();
    for &key in keys {
        let account = actors.users.account_of(key);
        let class = match sequences.iter().find(|(of, _)| *of == account) {
            Some((_, sequence)) if taken.contains(&key) => Class::Spooled(*sequence),
            _ => Class::Room,
        };
        bytes.clear();
        let resource = actors.users.resource(key);
        cast.write(&env.shared.domain, (actors.users.local_of(key), &resource.name), &mut bytes);
        if matches!(class, Class::Room) && !room::takes(actors, env, fx, key, class, bytes.len()) {
            lost.push(key);
            continue;
        }
        env.metrics().room_deliveries.add(1);
        let urgency = Urgency::Now;
        delivery::push_as(actors, env, fx, key, &Outgoing { kind: cast.kind, class, urgency, bytes: &bytes });
    }
    fx.buffers.give_back(bytes);
    lost
}

/// Writes a text once for the accounts of these sessions. The number of each for which it was written.
fn append(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    cast: &Cast<'_>,
    keys: &[ResourceKey],
) -> SmallVec<[(ActorId, Sequence); 8]> {
    let mut accounts: SmallVec<[ActorId; 8]> = SmallVec::new();
    for account in keys.iter().map(|key| actors.users.account_of(*key)) {
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    if accounts.is_empty() {
        return SmallVec::new();
    }
    let copy = |account: &ActorId| ActorCopy {
        actor: ActorId::spool_of(*account),
        flags: Flags::NO_EXPIRY,
        peer: PeerHash::NONE,
    };
    let copies: SmallVec<[ActorCopy; 8]> = accounts.iter().map(copy).collect();
    let mut stanza = fx.buffers.lend();
    stanza.extend_from_slice(cast.head);
    stanza.extend_from_slice(cast.tail);
    let Actors { commits, payload, .. } = actors;
    StoredMessage { resource: None, stanza: &stanza }.encode(payload);
    fx.work.add(work::LOGGED);
    fx.work.add_bytes(payload.len());
    let results = commits.spool(&copies, env.unix_ms(), payload, env.metrics());
    let appended = results.iter().map(|result| result.ok().map(|appended| appended.sequence));
    let written = accounts.iter().copied().zip(appended);
    let written: SmallVec<_> = written.filter_map(|(account, sequence)| Some((account, sequence?))).collect();
    fx.buffers.give_back(stanza);
    written
}

/// A message in a spool, without an address.
pub struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// Appends it as a client of this server gets it.
    pub fn write(&self, env: &Env, to: (&str, &str), out: &mut Vec<u8>) {
        let name_end = self.0.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'<');
        let parts = self.0.split_at(name_end.unwrap_or(self.0.len()));
        Cast::new(Kind::Message, Weight::Message, "", parts).write(&env.shared.domain, to, out);
    }
}

/// A message in the spool of an account. `None`: it is not there, or damaged.
pub fn text(commits: &CommitTracker, account: ActorId, sequence: Sequence) -> Option<Text<'_>> {
    let before = Sequence(sequence.0.saturating_sub(1));
    let found = commits.log().read(ActorId::spool_of(account), before, 1).next()?.ok()?;
    record::decode(found.payload).filter(|_| found.sequence == sequence).map(|kept| Text(kept.stanza))
}

/// Whether all that a session refers to is there.
pub fn is_whole(actors: &Actors, key: ResourceKey) -> bool {
    let account = actors.users.account_of(key);
    spooled(actors.users.resource(key)).all(|sequence| text(&actors.commits, account, sequence).is_some())
}

/// The messages to which a session refers, oldest first.
fn spooled(resource: &Resource) -> impl Iterator<Item = Sequence> {
    let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
    sm.and_then(|sm| sm.unacked_queue()).into_iter().flat_map(|queue| queue.spooled())
}

/// A session of an account refers to less than before, or is gone. `user`: the account, while it has others.
pub fn release(actors: &mut Actors, env: &Env, account: ActorId, user: Option<UserKey>) {
    let resources = user.into_iter().flat_map(|user| actors.users.user(user).resources.iter());
    let first = resources.filter_map(|key| spooled(actors.users.resource(*key)).next()).min();
    unspool(actors, env, ActorId::spool_of(account), first);
}

/// Nobody refers to what is before `first`; `None`: to nothing.
fn unspool(actors: &mut Actors, env: &Env, spool: ActorId, first: Option<Sequence>) {
    let up_to = first.map_or(Sequence::MAX, |first| Sequence(first.0.saturating_sub(1)));
    actors.commits.unspool(env, spool, up_to);
}

/// Once, after the start: of what the program before has left all goes to which no session refers.
pub fn tidy(actors: &mut Actors, env: &Env) {
    let is_spool = |actor: &ActorId| actor.kind() == Some(ActorKind::Spool);
    let spools: Vec<ActorId> = actors.commits.log().actors().filter(is_spool).collect();
    if spools.is_empty() {
        return;
    }
    let mut first: HashMap<ActorId, Sequence, FixedState> = HashMap::default();
    for (key, resource) in actors.users.iter() {
        if let Some(oldest) = spooled(resource).next() {
            let known = first.entry(actors.users.account_of(key)).or_insert(oldest);
            *known = oldest.min(*known);
        }
    }
    for spool in spools {
        unspool(actors, env, spool, first.get(&spool.account()).copied());
    }
}
