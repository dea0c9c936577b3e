//! Is there room? What waits for one client is bounded, and so is what is remembered of it until it is acknowledged.
//!
//! | marks of `limits.output_backlog_bytes` | what happens |
//! | --- | --- |
//! | a quarter | messages stay in the log; presence is held back, the newest of each sender |
//! | the half | the client's next stanza waits; what others send it, and is not kept, is refused or dropped |
//! | the whole | an answer becomes an error, "ask again"; with all that cannot be put off the connection is reset |
//!
//! | marks of `limits.sm_unacked_bytes` and `_stanzas` | what happens |
//! | --- | --- |
//! | the half | messages stay in the log; presence is sent, but not remembered; the rest of others is refused |
//! | the whole | of an answer is remembered only which request it was for |
//!
//! A session without a connection keeps `limits.detached_bytes` beside its references into the log (the mailbox and the spool
//! of its account) and into archives of rooms. In the spool an account has room for a quarter of `limits.offline_messages`.
//!
//! A client that reads is never kept waiting for an acknowledgement of its own: it could not be read.

use crate::env::Env;
use crate::memory::Pressure;
use crate::proto::sm::queue::ENTRY_BYTES;
use crate::runtime::driver::ConnId;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::flow::Class;
use crate::user::share;
use crate::user::tables::Users;
use crate::user::tables::{Flags, ResourceKey};

/// Whether there is room for another message of the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Now,
    /// Perhaps in the next iteration, when this one's output is with the driver.
    Soon,
    /// After the client has read, or acknowledged, something.
    Later,
}

/// Whether there is room for another message. There is none past the half of what may wait for acknowledgement, and
/// while a quarter of what may wait in the output waits there: so messages alone never end a stream. Nor is there while the
/// account may hold no more and something waits for the client, whose going will bring the message.
pub fn for_message(actors: &Actors, env: &Env, fx: &Effects, key: ResourceKey) -> Room {
    if actors.users.resource(key).flags.has(Flags::BACKED_UP) || !fits_unacked(&actors.users, env, key, 0, 2)
    {
        return Room::Later;
    }
    let resource = actors.users.resource(key);
    if !share::has_for_others(actors, env, fx, key, 0) {
        let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
        if fx.out.with_driver(resource.conn) > 0 || sm.is_some_and(|sm| sm.unacked_size().0 > 0) {
            return Room::Later;
        }
    }
    match fx.out.plain_len(resource.conn) < env.config.limits.output_backlog_bytes as usize / 4 {
        true => Room::Now,
        false => Room::Soon,
    }
}

/// Whether a managed stream that is behind has so much room again that it is worth reading the log on: three quarters of what may be
/// unacknowledged. What is on its way to all sessions of an account is looked through each time, and a client may acknowledge its
/// messages one by one.
pub fn for_many(users: &Users, env: &Env, key: ResourceKey) -> bool {
    let sm = users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let Some((entries, bytes)) = sm.map(|sm| sm.unacked_size()) else { return true };
    entries <= env.config.limits.sm_unacked_stanzas as usize / 8 * 3
        && bytes <= env.config.limits.unacked_bytes() / 8 * 3
}

/// Whether there is room for a step of a page that the client has asked for. What it has not acknowledged does not count: it
/// may have sent something behind its request, and nothing behind that is read before the page has ended, acknowledgements
/// neither. What there is no room to remember is forgotten, and a resumed stream is told to ask again.
pub fn for_page(actors: &Actors, env: &Env, fx: &Effects, key: ResourceKey) -> Room {
    let resource = actors.users.resource(key);
    let waits = fx.out.with_driver(resource.conn) > 0;
    if resource.flags.has(Flags::BACKED_UP) || waits && !share::has_for_others(actors, env, fx, key, 0) {
        return Room::Later;
    }
    match fx.out.plain_len(resource.conn) < env.config.limits.output_backlog_bytes as usize / 4 {
        true => Room::Now,
        false => Room::Soon,
    }
}

/// Whether the next stanza of a client may be handled: there is room for what it may be answered with. If not, something
/// waits for the client, and there may be once it has been read.
pub fn for_next_stanza(
    actors: &Actors,
    env: &Env,
    fx: &Effects,
    conn: ConnId,
    resource: Option<ResourceKey>,
) -> bool {
    let waiting = fx.out.waiting(conn);
    waiting <= env.config.limits.output_backlog_bytes as usize / 2
        && resource.is_none_or(|key| share::reads(actors, env, fx, key, waiting))
}

/// Whether something that others send to a client, and that is not in the log, is taken.
pub fn takes(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    class: Class<'_>,
    length: usize,
) -> bool {
    if let Class::Archived(_) | Class::Spooled(_) = class {
        // It is a reference as one into the log is.
        if !fits_marks(&actors.users, env, key, length, 2) {
            thin(&mut actors.users, env, key);
        }
        return fits_marks(&actors.users, env, key, length, 2)
            && share::has_for_others(actors, env, fx, key, ENTRY_BYTES);
    }
    let conn = actors.users.resource(key).conn;
    let is_presence = matches!(class, Class::Presence(_));
    if conn != ConnId::NONE
        && fx.out.waiting(conn) + length > env.config.limits.output_backlog_bytes as usize / 2
        || !share::has_for_others(actors, env, fx, key, length)
    {
        return false;
    }
    // Presence is sent even if it cannot be remembered, to a client that is there.
    is_presence && conn != ConnId::NONE || fits_when_thinned(&mut actors.users, env, key, length, 2)
}

/// Whether there is room for an answer of the server. It is asked for while little waits, so what may still be too much is
/// a long one.
pub fn has_for_answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    length: usize,
) -> bool {
    let waiting = fx.out.waiting(actors.users.resource(key).conn);
    length <= ANSWER_BYTES_ALWAYS
        || waiting + length <= env.config.limits.output_backlog_bytes as usize
            && share::has(actors, env, fx, key, length)
}

/// Answers of so many bytes are given in any case: an error would not be shorter by much.
const ANSWER_BYTES_ALWAYS: usize = 1024;

/// Whether a managed stream can remember a stanza of so many bytes. Presence that was replaced is forgotten first. Not to be
/// asked of what others send and is kept nowhere: [`takes`] has said it.
pub fn has_to_remember(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    class: Class<'_>,
    length: usize,
) -> bool {
    if matches!(class, Class::Presence(_) | Class::Room) {
        return fits_when_thinned(&mut actors.users, env, key, length, 2)
            && share::has_for_others(actors, env, fx, key, length);
    }
    fits_when_thinned(&mut actors.users, env, key, length, 1) && share::has(actors, env, fx, key, length)
}

fn fits_when_thinned(users: &mut Users, env: &Env, key: ResourceKey, length: usize, part: usize) -> bool {
    if fits_unacked(users, env, key, length, part) {
        return true;
    }
    thin(users, env, key);
    fits_unacked(users, env, key, length, part)
}

/// Forgets presence that was replaced, if there is much of it.
fn thin(users: &mut Users, env: &Env, key: ResourceKey) {
    let limits = &env.config.limits;
    let (entries_max, bytes_max) = (limits.sm_unacked_stanzas as usize, limits.unacked_bytes());
    if let Some(queue) = users.sm_mut(key).and_then(|sm| sm.unacked_mut()) {
        queue.thin(entries_max, bytes_max);
    }
}

/// Whether a managed stream has room for another entry that takes few bytes.
pub fn has_for_entry(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) -> bool {
    let sm = actors.users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let entries = sm.map_or(0, |sm| sm.unacked_size().0);
    entries < env.config.limits.sm_unacked_stanzas as usize && share::has(actors, env, fx, key, ENTRY_BYTES)
}

/// Whether a stanza fits into the `1 / part` of what may be unacknowledged. A stream that is not managed has no such limit.
fn fits_unacked(users: &Users, env: &Env, key: ResourceKey, length: usize, part: usize) -> bool {
    let resource = users.resource(key);
    let Some(sm) = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref()) else { return true };
    fits_marks(users, env, key, length, part)
        && (resource.conn != ConnId::NONE || length == 0 || sm.content() + length <= detached_bytes(env))
}

/// The same, whether it is kept or a reference.
fn fits_marks(users: &Users, env: &Env, key: ResourceKey, length: usize, part: usize) -> bool {
    let sm = users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let Some((entries, bytes)) = sm.map(|sm| sm.unacked_size()) else { return true };
    entries < env.config.limits.sm_unacked_stanzas as usize / part
        && bytes + length + ENTRY_BYTES <= env.config.limits.unacked_bytes() / part
}

/// Bytes, beside references, that a session without a connection may keep of what it has not acknowledged.
pub fn detached_bytes(env: &Env) -> usize {
    if env.shared.memory.pressure() >= Pressure::Tight {
        return 0;
    }
    env.config.limits.detached_bytes as usize
}
