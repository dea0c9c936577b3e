//! Sessions that sleep: they have had no connection for longer than `limits.sm_resume_seconds`, but their own device is told by
//! push, so they can be resumed for `push.resume_hours`.
//!
//! | | a session that has lost its connection | one that sleeps |
//! | --- | --- | --- |
//! | its contacts | see it as available | see it as gone |
//! | messages for its account, and what it has not acknowledged of them | are remembered for it, by their number | stay in the log until it comes, and go to others that are there |
//! | presence, events | are remembered | are computed anew when it comes |
//! | requests of others | wait for it | are refused |
//! | its seats in rooms | stay | stay |
//!
//! So what it costs does not grow with the presence of its contacts. Past `push.resume_stanzas` or `push.resume_kib` that wait for
//! it it ends, and its client reads the archives.

use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::lifecycle::{self, Asleep};
use crate::user::presence::{EMPTY_TAIL, UNAVAILABLE_TAIL, announce, announce_to_own, dressed};
use crate::user::tables::{Flags, ResourceKey};
use crate::user::{inactive, offline};

/// Bytes in a KiB.
const KIB: u64 = 1024;

/// A session without a connection is put to sleep: those who see it are told that it is gone. What it has to know of others is
/// forgotten, and asked for when it wakes.
pub fn fall_asleep(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let was_available = actors.users.resource(key).flags.has(Flags::AVAILABLE);
    if was_available {
        let (full, local) = (actors.users.full_jid(env, key), actors.users.local_of(key).to_owned());
        let shown = Broadcast::new(Type::Unavailable, &full, UNAVAILABLE_TAIL);
        announce(actors, env, fx, &local, &shown);
        announce_to_own(actors, env, fx, key, &shown, |other| other != key);
    }
    inactive::forget(&mut actors.users, key);
    let resource = actors.users.resource_mut(key);
    resource.flags.put(Flags::AVAILABLE, false);
    resource.flags.put(Flags::ASLEEP, true);
    resource.flags.put(Flags::SHOWS_AGAIN, was_available);
    resource.flags.put(Flags::PRESENCE_LOST, true);
    let user = resource.user;
    if let Some(queue) = actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) {
        queue.thin(0, 0);
    }
    // Whatever comes from here on is behind what it has been sent, and stays in the log: so it costs nothing, and its order is kept.
    actors.users.flow_mut(key).after = Some(Sequence::ZERO);
    actors.refreshes.forget(key);
    let was_last = was_available && actors.users.available_of(user).is_empty();
    lifecycle::asleep(actors, env, fx, &Asleep { key, was_last });
    // Another one may get what waits now.
    offline::offer(actors, fx, user);
}

/// A session that sleeps has a connection again: it shows itself as before, and gets what waits. Presence of others is asked for
/// next. `true`: it did sleep.
pub fn wake(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) -> bool {
    let flags = &mut actors.users.resource_mut(key).flags;
    if !flags.take(Flags::ASLEEP) {
        return false;
    }
    if flags.take(Flags::SHOWS_AGAIN) {
        flags.put(Flags::AVAILABLE, true);
        let (full, local) = (actors.users.full_jid(env, key), actors.users.local_of(key).to_owned());
        let kept = actors.users.resource(key).presence.to_vec();
        let tail = dressed(actors, env, fx, key, if kept.is_empty() { EMPTY_TAIL.to_vec() } else { kept });
        actors.users.resource_mut(key).presence =
            if tail == EMPTY_TAIL { Box::default() } else { tail.as_slice().into() };
        let shown = Broadcast::new(Type::Available, &full, &tail);
        announce(actors, env, fx, &local, &shown);
        announce_to_own(actors, env, fx, key, &shown, |other| other != key);
    }
    fx.due_cursors.note(key);
    true
}

/// Whether more waits for a session that sleeps than may.
pub fn has_too_much(actors: &Actors, env: &Env, key: ResourceKey) -> bool {
    let config = &env.config.push;
    let (most, bytes_most) = (u64::from(config.resume_stanzas), u64::from(config.resume_kib) * KIB);
    let (messages, bytes) = actors.commits.log().waiting_load(actors.users.account_of(key));
    let sm = actors.users.resource(key).flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let (own, own_bytes) = sm.map_or((0, 0), |sm| sm.unacked_size());
    if messages + own as u64 <= most && bytes + own_bytes as u64 <= bytes_most {
        return false;
    }
    // References among what it has not acknowledged are of messages that wait in the log, and were counted there.
    let kept = sm.map_or((0, 0), |sm| sm.unacked_without_records());
    messages + kept.0 as u64 > most || bytes + kept.1 as u64 > bytes_most
}
