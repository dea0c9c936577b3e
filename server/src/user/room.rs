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
//! A session without a connection keeps `limits.detached_bytes` beside its references into the log.
//!
//! A client that reads is never kept waiting for an acknowledgement of its own: it could not be read.

use crate::memory::Pressure;
use crate::runtime::driver::ConnId;
use crate::stream::sm::queue::ENTRY_BYTES;
use crate::user::flow::Class;
use crate::user::home::Home;
use crate::user::share;
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
pub fn for_message(home: &Home, key: ResourceKey) -> Room {
    if home.users.resource(key).flags.has(Flags::BACKED_UP) || !fits_unacked(home, key, 0, 2) {
        return Room::Later;
    }
    let resource = home.users.resource(key);
    if !share::has_for_others(home, key, 0) {
        let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
        if home.out.with_driver(resource.conn) > 0 || sm.is_some_and(|sm| sm.unacked_size().0 > 0) {
            return Room::Later;
        }
    }
    match home.out.plain_len(resource.conn) < home.config.limits.output_backlog_bytes as usize / 4 {
        true => Room::Now,
        false => Room::Soon,
    }
}

/// Whether the next stanza of a client may be handled: there is room for what it may be answered with. If not, something
/// waits for the client, and there may be once it has been read.
pub fn for_next_stanza(home: &Home, conn: ConnId, resource: Option<ResourceKey>) -> bool {
    let waiting = home.out.waiting(conn);
    waiting <= home.config.limits.output_backlog_bytes as usize / 2
        && resource.is_none_or(|key| share::reads(home, key, waiting))
}

/// Whether something that others send to a client, and that is not in the log, is taken.
pub fn takes(home: &mut Home, key: ResourceKey, class: Class<'_>, length: usize) -> bool {
    let conn = home.users.resource(key).conn;
    let is_presence = matches!(class, Class::Presence(_));
    if conn != ConnId::NONE
        && home.out.waiting(conn) + length > home.config.limits.output_backlog_bytes as usize / 2
        || !share::has_for_others(home, key, length)
    {
        return false;
    }
    // Presence is sent even if it cannot be remembered, to a client that is there.
    is_presence && conn != ConnId::NONE || fits_when_thinned(home, key, length, 2)
}

/// Whether there is room for an answer of the server. It is asked for while little waits, so what may still be too much is
/// a long one.
pub fn has_for_answer(home: &mut Home, key: ResourceKey, length: usize) -> bool {
    let waiting = home.out.waiting(home.users.resource(key).conn);
    length <= ANSWER_BYTES_ALWAYS
        || waiting + length <= home.config.limits.output_backlog_bytes as usize
            && share::has(home, key, length)
}

/// Answers of so many bytes are given in any case: an error would not be shorter by much.
const ANSWER_BYTES_ALWAYS: usize = 1024;

/// Whether a managed stream can remember a stanza of so many bytes. Presence that was replaced is forgotten first.
pub fn has_to_remember(home: &mut Home, key: ResourceKey, class: Class<'_>, length: usize) -> bool {
    if matches!(class, Class::Presence(_) | Class::Foreign) {
        return fits_when_thinned(home, key, length, 2) && share::has_for_others(home, key, length);
    }
    fits_when_thinned(home, key, length, 1) && share::has(home, key, length)
}

fn fits_when_thinned(home: &mut Home, key: ResourceKey, length: usize, part: usize) -> bool {
    if fits_unacked(home, key, length, part) {
        return true;
    }
    let limits = &home.config.limits;
    let (entries_max, bytes_max) = (limits.sm_unacked_stanzas as usize, limits.unacked_bytes());
    if let Some(queue) = home.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) {
        queue.thin(entries_max, bytes_max);
    }
    fits_unacked(home, key, length, part)
}

/// Whether a managed stream has room for another entry that takes few bytes.
pub fn has_for_entry(home: &mut Home, key: ResourceKey) -> bool {
    let sm = home.users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let entries = sm.map_or(0, |sm| sm.unacked_size().0);
    entries < home.config.limits.sm_unacked_stanzas as usize && share::has(home, key, ENTRY_BYTES)
}

/// Whether a stanza fits into the `1 / part` of what may be unacknowledged. A stream that is not managed has no such limit.
fn fits_unacked(home: &Home, key: ResourceKey, length: usize, part: usize) -> bool {
    let resource = home.users.resource(key);
    let Some(sm) = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref()) else { return true };
    let (entries, bytes) = sm.unacked_size();
    entries < home.config.limits.sm_unacked_stanzas as usize / part
        && bytes + length + ENTRY_BYTES <= home.config.limits.unacked_bytes() / part
        && (resource.conn != ConnId::NONE || length == 0 || sm.content() + length <= detached_bytes(home))
}

/// Bytes, beside references, that a session without a connection may keep of what it has not acknowledged.
pub fn detached_bytes(home: &Home) -> usize {
    if home.shared.memory.pressure() >= Pressure::Tight {
        return 0;
    }
    home.config.limits.detached_bytes as usize
}
