//! What goes out to a resource, and what is to be known of it until it has arrived.
//!
//! Every stanza for a bound client passes [`write`]. A stream with stream management remembers it until the client
//! acknowledges it, connected or not; a message of the log that goes to a client without is remembered until its
//! bytes are with the kernel. What there is room for is asked of [`room`](crate::user::room).

use std::borrow::Cow;

use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::reply;
use crate::proto::sm::{AnswerTo, Reference, StreamManagement, Unacked, element};
use crate::runtime::driver::ConnId;
use crate::runtime::timer::TimerId;
use crate::stanza::{Kind, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inactive::Urgency;
use crate::user::room::{self, Room};
use crate::user::share;
use crate::user::tables::Users;
use crate::user::tables::{Flags, Resource, ResourceKey, UserKey};

/// Bytes of the address and the id of a request that are remembered when its answer is not.
const ANSWER_NAME_BYTES_MAX: usize = 256;

/// What only some resources have: stream management, messages on their way, a place in the log.
#[derive(Debug, Default)]
pub struct Flow {
    /// Stream management, once the client has enabled it.
    pub sm: Option<StreamManagement>,
    /// Messages of the log that were written to a client without stream management and wait in the driver; or that were
    /// written before it was known whether its stream is managed.
    pub unsent: Option<Box<Vec<Sequence>>>,
    /// When a session without a connection is over.
    pub expiry: Option<TimerId>,
    /// The resource is behind: messages for it are only in the log, and it gets those after this one as there is
    /// room (see [`crate::user::offline`]). `None`: it is live, and gets messages as they come.
    pub after: Option<Sequence>,
}

// The memory budget of an idle session rests on this (docs/performance.md).
const _: () = assert!(size_of::<Flow>() <= 80);

impl Flow {
    /// Messages of the log that are on their way to the client.
    pub fn under_way(&self) -> impl Iterator<Item = Sequence> {
        self.unsent
            .iter()
            .flat_map(|unsent| unsent.iter().copied())
            .chain(self.sm.iter().flat_map(|sm| sm.records()))
    }
}

/// What a stanza for a client is to it. This decides what becomes of it when there is no room.
#[derive(Copy, Clone, Debug)]
pub enum Class<'a> {
    /// A message of the log. There is room for it, or it would have stayed there.
    Record(Sequence),
    /// Presence of this sender, which a later one of the same sender replaces. It may be dropped: the server can ask for
    /// it again.
    Presence(&'a str),
    /// The server's answer to a request of the client. It may be forgotten: the client can ask again.
    Answer {
        /// The address that the request was sent to; `None` when it had none.
        from: Option<&'a str>,
        /// The request's id.
        id: &'a str,
    },
    /// Something else that the server tells the client of its own account.
    Own,
    /// What has happened to a node. It may be dropped: then the last items are asked for again.
    Event,
    /// What was said in a room, for which there is room. A stream that cannot remember it can no longer be resumed: then its
    /// client enters the room anew.
    Room,
    /// The same, for a session without a connection that is to remember only where the room's archive has it.
    Archived(Reference),
    /// The same, where the log has it for all who have no connection.
    Spooled(Sequence),
    /// Something from somebody else that is kept nowhere. Without room it is not taken.
    Foreign,
    /// The same, where [`room::takes`] has just said that there is room.
    Taken,
    /// A message of an archive that the client has asked for, and for which there is room. The client is told of a page that
    /// it has to ask for again, so it may be forgotten.
    Page,
}

/// A stanza for a resource, and what it is to it.
#[derive(Copy, Clone, Debug)]
pub struct Outgoing<'a> {
    /// Kind.
    pub kind: Kind,
    /// What it is to the client.
    pub class: Class<'a>,
    /// Whether it may wait while the client is inactive.
    pub urgency: Urgency,
    /// The whole stanza.
    pub bytes: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// Presence of `from`.
    pub fn presence(from: &'a str, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing { kind: Kind::Presence, class: Class::Presence(from), urgency: Urgency::Replaceable, bytes }
    }

    /// An iq with which the server tells the client something of its own account.
    pub fn own(bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing { kind: Kind::Iq, class: Class::Own, urgency: Urgency::Now, bytes }
    }

    /// A message of the log.
    pub fn record(sequence: Sequence, bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing { kind: Kind::Message, class: Class::Record(sequence), urgency: Urgency::Now, bytes }
    }

    /// Whose presence it is, which a later one of the same sender replaces.
    pub fn sender(&self) -> Option<&'a str> {
        match self.class {
            Class::Presence(from) => Some(from),
            _ => None,
        }
    }
}

/// Writes a stanza to a resource.
pub fn write(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, out: &Outgoing<'_>) {
    let &Outgoing { kind, class, bytes, .. } = out;
    if matches!(class, Class::Presence(_) | Class::Event | Class::Foreign)
        && !room::takes(actors, env, fx, key, class, bytes.len())
    {
        return drop_one(&mut actors.users, env, key, class);
    }
    let mut bytes = Cow::Borrowed(bytes);
    if let Class::Answer { from, id } = class
        && !room::has_for_answer(actors, env, fx, key, bytes.len())
    {
        env.metrics().refused_answers.add(1);
        bytes = Cow::Owned(ask_again(&actors.users.full_jid(env, key), from, id));
    }
    let conn = actors.users.resource(key).conn;
    if matches!(class, Class::Own) && conn != ConnId::NONE && !share::has(actors, env, fx, key, bytes.len()) {
        // It may not be left out, and the client would never know.
        env.metrics().refused_account_memory.add(1);
        fx.cut.push(conn);
    }
    let managed = actors.users.sm_mut(key).is_some();
    if managed {
        let entry = entry_of(actors, env, fx, key, &Outgoing { bytes: &bytes, ..*out });
        if let Some(sm) = actors.users.sm_mut(key) {
            sm.sent(entry, bytes.len());
            if kind == Kind::Message {
                fx.out.times.sent(sm.id().0, sm.sent_count());
            }
        }
        fx.due_sm.push(key);
    } else if let Class::Record(sequence) = class {
        let user = actors.users.account_of(key);
        actors.commits.awaiting_flush.push(crate::user::commits::AwaitingFlush {
            resource: key,
            user,
            sequence,
        });
    }
    fx.work.add(work::WRITE);
    fx.work.add_bytes(bytes.len());
    if conn == ConnId::NONE {
        return;
    }
    if !fx.out.is_written(conn) {
        fx.work.add(work::SEND);
    }
    match kind {
        Kind::Message => fx.out.write_message(conn, &bytes),
        Kind::Presence | Kind::Iq => fx.out.stream(conn).written(&bytes),
    }
    if managed && actors.users.sm_mut(key).is_some_and(StreamManagement::ask_for_bytes) {
        fx.out.stream(conn).element(element::write_request);
    }
}

/// A stanza that is not taken. Anything that can be had again is marked to be asked for.
fn drop_one(users: &mut Users, env: &Env, key: ResourceKey, class: Class<'_>) {
    env.metrics().dropped_output.add(1);
    if let Class::Presence(_) | Class::Event = class {
        users.resource_mut(key).flags.put(Flags::PRESENCE_LOST, true);
    }
}

/// What a managed stream remembers of a stanza until it is acknowledged: all of it while there is room, else as little
/// as will do. A stream that is not to remember what it cannot do without can no longer be resumed.
fn entry_of(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    out: &Outgoing<'_>,
) -> Unacked {
    let &Outgoing { kind, class, bytes, .. } = out;
    let length = u32::try_from(bytes.len()).expect("a stanza is bounded by limits.stanza_bytes");
    match class {
        Class::Record(sequence) => return Unacked::Record { sequence, length },
        Class::Archived(reference) => return Unacked::Archived { reference, length },
        Class::Spooled(sequence) => return Unacked::Spooled { sequence, length },
        _ => {}
    }
    let ends_forgotten_page = matches!(class, Class::Answer { .. })
        && actors.users.resource_mut(key).flags.take(Flags::PAGE_FORGOTTEN);
    // Of what others send, `room::takes` has said by now whether it can be remembered.
    let is_taken = matches!(class, Class::Event | Class::Foreign | Class::Taken);
    if is_taken || !ends_forgotten_page && room::has_to_remember(actors, env, fx, key, class, bytes.len()) {
        let sender = match class {
            Class::Presence(from) => actors.users.sender_hash(from),
            _ => 0,
        };
        return Unacked::Stanza { kind, sender, bytes: bytes.into() };
    }
    env.metrics().unremembered.add(1);
    match class {
        Class::Answer { from, id }
            if id.len() + from.map_or(0, str::len) <= ANSWER_NAME_BYTES_MAX
                && room::has_for_entry(actors, env, fx, key) =>
        {
            Unacked::Answer(Box::new(AnswerTo { from: from.map(Into::into), id: id.into() }))
        }
        Class::Answer { .. } | Class::Own | Class::Room => {
            actors.users.forbid_resumption(env, fx, key);
            Unacked::Forgotten(1)
        }
        Class::Page => {
            actors.users.resource_mut(key).flags.put(Flags::PAGE_FORGOTTEN, true);
            Unacked::Forgotten(1)
        }
        _ => Unacked::Forgotten(1),
    }
}

/// The error in place of an answer for which there is no room: the client is to ask again.
pub fn ask_again(to: &str, from: Option<&str>, id: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let text = "too much waits for this client; ask again";
    let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
    reply::iq(Type::Error, from, to, Some(id), &mut bytes, |out| error.write(out));
    bytes
}

/// Whether the resource gets its messages from the log.
pub fn is_behind(users: &Users, key: ResourceKey) -> bool {
    users.resource(key).flow.as_ref().is_some_and(|flow| flow.after.is_some())
}

/// Whether the resource gets a message that is being appended at once. If not, it is behind from here on.
pub fn is_live(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    sequence: Sequence,
) -> bool {
    if is_behind(&actors.users, key) {
        return false;
    }
    if room::for_message(actors, env, fx, key) == Room::Now {
        return true;
    }
    fx.due_cursors.note(key);
    env.metrics().fell_behind.add(1);
    actors.users.flow_mut(key).after = Some(Sequence(sequence.0 - 1));
    false
}

/// Messages of the log that are on their way to any resource of a user, in order. One that sleeps holds none back: whoever
/// acknowledges them first has them.
pub fn under_way(actors: &Actors, user: UserKey) -> Vec<Sequence> {
    under_way_to(actors, user, |_| true)
}

/// As [`under_way`], of the user's resources but this one.
pub fn under_way_to_others(actors: &Actors, key: ResourceKey) -> Vec<Sequence> {
    under_way_to(actors, actors.users.resource(key).user, |other| other != key)
}

fn under_way_to(actors: &Actors, user: UserKey, fits: impl Fn(ResourceKey) -> bool) -> Vec<Sequence> {
    let user = actors.users.user(user);
    let resources = user.resources.iter().filter(|key| fits(**key)).map(|key| actors.users.resource(*key));
    let awake = resources.filter(|resource| !resource.flags.has(Flags::ASLEEP));
    let flows = awake.filter_map(|resource| resource.flow.as_ref());
    let handed =
        actors.commits.awaiting_flush.iter().filter(|handed| handed.user == user.id && fits(handed.resource));
    let mut all: Vec<_> =
        flows.flat_map(|flow| flow.under_way()).chain(handed.map(|handed| handed.sequence)).collect();
    all.sort_unstable();
    all
}

/// It is known now whether the stream of a resource is managed: messages that were written to it have been delivered
/// unless it is, and what waits for it in the log may follow.
pub fn decide_sm(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let resource = actors.users.resource_mut(key);
    if resource.flags.has(Flags::SM_DECIDED) {
        return;
    }
    resource.flags.put(Flags::SM_DECIDED, true);
    let Some(flow) = &resource.flow else { return };
    let (managed, behind) = (flow.sm.is_some(), flow.after.is_some());
    if !managed && fx.out.with_driver(actors.users.resource(key).conn) == 0 {
        delivered(actors, env, key);
    }
    if behind {
        fx.due_cursors.note(key);
    }
}

/// Messages that were written to a resource without stream management are with the kernel, or the client has said that it
/// has them: they leave the log.
pub fn delivered(actors: &mut Actors, env: &Env, key: ResourceKey) {
    let user = actors.users.account_of(key);
    let unsent = actors.users.resource_mut(key).flow.as_mut().and_then(|flow| flow.unsent.take());
    for sequence in unsent.into_iter().flat_map(|unsent| *unsent) {
        actors.commits.trim(env, user, sequence);
    }
    actors.users.tidy_flow(key);
}

/// The connection of a managed session is gone. Anything that was written to it before it was managed has no number, so nobody can
/// say whether it arrived: the resource gets it from the log once more.
pub fn take_back_unsent(users: &mut Users, key: ResourceKey) {
    let flow = users.flow_mut(key);
    let oldest = flow.unsent.take().and_then(|unsent| unsent.iter().copied().min());
    if let Some(Sequence(oldest)) = oldest {
        let before = Sequence(oldest - 1);
        flow.after = Some(flow.after.map_or(before, |after| after.min(before)));
    }
}

/// A client has read everything that waited in the driver. What was held back for it meanwhile may be much, and goes out in its turn
/// ([`go_on`]).
pub fn drained(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let resource = actors.users.resource(key);
    let (managed, decided) = (is_managed(resource), resource.flags.has(Flags::SM_DECIDED));
    match resource.held.is_some() && resource.flags.has(Flags::BACKED_UP) {
        true => fx.due_held.note(key),
        false => go_on(actors, env, fx, key),
    }
    if decided && !managed {
        delivered(actors, env, key);
    }
}

/// There is room again for what a client was not given.
pub fn go_on(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let flags = &mut actors.users.resource_mut(key).flags;
    flags.put(Flags::BACKED_UP, false);
    let is_inactive = flags.has(Flags::INACTIVE);
    actors.waiting_for_room.note(fx, key);
    if !is_inactive {
        crate::user::inactive::release(actors, env, fx, key);
    }
    if is_behind(&actors.users, key) {
        fx.due_cursors.note(key);
    }
    actors.users.tidy_flow(key);
}

fn is_managed(resource: &Resource) -> bool {
    resource.flow.as_ref().is_some_and(|flow| flow.sm.is_some())
}
