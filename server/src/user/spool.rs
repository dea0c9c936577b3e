//! What rooms without an archive have said to sessions without a connection: each text once in the log of their home, and references.
//!
//! ```text
//! said ─► kept up to a sixteenth of limits.detached_bytes; beyond: one text in the log, a reference to it in the spool of each account,
//!         and one in the queue of each session ─► <resume/> ─► texts out of the log, in their places ─► <a/> ─► no reference, no text
//! ```
//! The spool of an account is an actor of the log's queue beside the account: nothing of it is offered to anybody, expires, or counts
//! in the mailbox; an account has a quarter of `limits.offline_messages` in it at most. What no session of the account refers to any
//! more goes, whatever is older. A crash leaves spools without sessions: they go from the first second on ([`tidy`]). A message that
//! is to be stored nowhere (XEP-0334) is not in it.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use whimbrel_storage::actor::{ActorId, ActorKind};
use whimbrel_storage::log::{ActorCopy, Flags, PeerHash, Sequence};

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::proto::{address, delay, traits};
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

/// Messages, and spools, that go from the log in one second after the start.
const TIDIED_AT_ONCE: u64 = 20_000;

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
        if may_have_more(actors, env, key)
            && room::takes(actors, env, fx, key, Class::Spooled(Sequence::ZERO), length)
        {
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

/// Whether the spool of a session's account is not full.
fn may_have_more(actors: &Actors, env: &Env, key: ResourceKey) -> bool {
    let spool = ActorId::spool_of(actors.users.account_of(key));
    actors.commits.log().waiting_load(spool).0 < env.config.limits.spooled_messages()
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
pub struct Text<'a> {
    stanza: &'a [u8],
    /// When it was said, in milliseconds since 1970.
    time_ms: u64,
}

impl Text<'_> {
    /// Appends it as a client of this server gets it later (XEP-0203).
    pub fn write(&self, env: &Env, to: (&str, &str), out: &mut Vec<u8>) {
        let name_end = self.stanza.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'<');
        let parts = self.stanza.split_at(name_end.unwrap_or(self.stanza.len()));
        let mut bytes = Vec::with_capacity(self.stanza.len() + 256);
        Cast::new(Kind::Message, Weight::Message, "", parts).write(&env.shared.domain, to, &mut bytes);
        match record::addresses(&bytes) {
            Some((from, _)) => delay::write_delayed(&bytes, address::bare_of(&from), self.time_ms, out),
            None => out.extend_from_slice(&bytes),
        }
    }
}

/// A message in the spool of an account. `None`: it is not there, or damaged.
pub fn text(commits: &CommitTracker, account: ActorId, sequence: Sequence) -> Option<Text<'_>> {
    let found = commits.log().read(ActorId::spool_of(account), before(sequence), 1).next()?.ok()?;
    let kept = record::decode(found.payload).filter(|_| found.sequence == sequence)?;
    Some(Text { stanza: kept.stanza, time_ms: found.time_ms })
}

/// The id that comes before one.
fn before(sequence: Sequence) -> Sequence {
    Sequence(sequence.0.saturating_sub(1))
}

/// Whether all that a session refers to is there. Reads it, once through the spool.
pub fn is_whole(actors: &Actors, fx: &Effects, key: ResourceKey) -> bool {
    let mut wanted = spooled(actors.users.resource(key));
    let Some(mut next) = wanted.next() else { return true };
    let spool = ActorId::spool_of(actors.users.account_of(key));
    for found in actors.commits.log().read(spool, before(next), u64::MAX).flatten() {
        fx.work.add_bytes(found.payload.len());
        if found.sequence > next || found.sequence == next && record::decode(found.payload).is_none() {
            return false;
        }
        if found.sequence == next {
            match wanted.next() {
                Some(after) => next = after,
                None => return true,
            }
        }
    }
    false
}

/// The messages to which a session refers, oldest first.
fn spooled(resource: &Resource) -> impl Iterator<Item = Sequence> {
    let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
    sm.and_then(|sm| sm.unacked_queue()).into_iter().flat_map(|queue| queue.spooled())
}

/// A session of an account no longer refers to these messages, or is gone. `user`: the account, while it has others.
pub fn release(
    actors: &mut Actors,
    env: &Env,
    fx: &Effects,
    (account, user): (ActorId, Option<UserKey>),
    gone: &[Sequence],
) {
    let Some(newest) = gone.iter().copied().max() else { return };
    let (mut oldest, mut kept): (Option<Sequence>, Vec<Sequence>) = (None, Vec::new());
    for key in user.into_iter().flat_map(|user| actors.users.user(user).resources.iter()) {
        let mut left = spooled(actors.users.resource(*key)).peekable();
        oldest = oldest.into_iter().chain(left.peek().copied()).min();
        kept.extend(left.take_while(|sequence| *sequence <= newest));
    }
    kept.sort_unstable();
    fx.work.add_contacts(kept.len() + gone.len());
    let spool = ActorId::spool_of(account);
    actors.commits.unspool(env, spool, oldest.map_or(Sequence::MAX, before));
    // A session that has slept for long holds nothing but what it refers to itself.
    let behind = gone.iter().filter(|sequence| oldest.is_some_and(|oldest| oldest < **sequence));
    for sequence in behind.filter(|sequence| kept.binary_search(sequence).is_err()) {
        actors.commits.unspool_one(env, spool, *sequence);
    }
}

/// What the program before has left in spools: of each, up to where nobody refers to it. `None` before the first look.
pub type Untidy = Option<Vec<(ActorId, Sequence)>>;

/// Once a second after the start: of what the program before has left goes to which no session refers.
pub fn tidy(actors: &mut Actors, env: &Env, left: &mut Untidy) {
    let left = left.get_or_insert_with(|| untidy(actors));
    let mut done = 0;
    while let Some((spool, up_to)) = left.pop() {
        done += 1 + actors.commits.unspool(env, spool, up_to);
        if done >= TIDIED_AT_ONCE {
            return;
        }
    }
    *left = Vec::new();
}

/// All spools, and up to where no session refers to what is in each.
fn untidy(actors: &Actors) -> Vec<(ActorId, Sequence)> {
    let log = actors.commits.log();
    let spools = log.actors().filter(|actor| actor.kind() == Some(ActorKind::Spool));
    // What comes from now on has sessions.
    let mut left: Vec<_> = spools.map(|spool| (spool, log.newest_id())).collect();
    if left.is_empty() {
        return left;
    }
    let mut first: HashMap<ActorId, Sequence, FixedState> = HashMap::default();
    for (key, resource) in actors.users.iter() {
        if let Some(oldest) = spooled(resource).next() {
            let known = first.entry(actors.users.account_of(key)).or_insert(oldest);
            *known = oldest.min(*known);
        }
    }
    for (spool, up_to) in &mut left {
        *up_to = first.get(&spool.account()).map_or(*up_to, |oldest| before(*oldest));
    }
    left
}
