//! Showing a client again what it has missed: presence that was dropped because it read too slowly or had no connection.
//!
//! All of it at once may be more than there is room for, and then the client would never see the end of it. So it is asked for in
//! parts, each of which is well below what may wait for one client, and the next when the client has read the last:
//!
//! | what | a part |
//! | --- | --- |
//! | presence of contacts | those whose names fall to it: as many parts as the roster needs |
//! | presence of occupants, room after room | those whose nicks fall to it: nobody is shown more than `rooms.presence_max` of them |
//!
//! Where somebody falls does not depend on who else comes and goes meanwhile. The first part goes out at once, another one whenever
//! the sweep finds that nothing waits for the client.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use whimbrel_storage::directory::Subscription;

use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::keys::ResourceKey;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::presence::{contacts, send_to_contacts, show_own_resources};
use crate::user::tables::Flags;
use crate::user::{events, seats, subscription};

/// What a presence takes, in bytes, with the worst that is usual in it.
const PRESENCE_BYTES: usize = 1024;

/// Presences that are asked for at once at least.
const PART_MIN: usize = 8;

/// Some of the names, by their hash.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Part {
    number: u32,
    of: u32,
}

impl Part {
    /// All of them.
    pub const ALL: Part = Part { number: 0, of: 1 };

    /// Whether a name falls to it.
    pub fn has(self, name: &str) -> bool {
        crc32c::crc32c(name.as_bytes()) % self.of == self.number
    }

    /// As text, as [`Part::read`] takes it.
    pub fn text(self) -> String {
        format!("{} of {}", self.number, self.of)
    }

    /// From text; everything, when it is none.
    pub fn read(text: Option<&str>) -> Part {
        let read = |text: &str| {
            let (number, of) = text.split_once(" of ")?;
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (number < of).then_some(Part { number, of })
        };
        text.and_then(read).unwrap_or(Part::ALL)
    }
}

/// What is left to show to one client.
#[derive(Debug)]
struct Refresh {
    /// The next part of its contacts, and how many there are.
    contacts: (u32, u32),
    /// Rooms; the last one is next.
    rooms: Vec<Box<str>>,
    /// The next part of that room.
    room_part: u32,
}

/// What is left to show to clients of this worker.
#[derive(Debug, Default)]
pub struct Refreshes {
    list: HashMap<ResourceKey, Refresh, FixedState>,
}

impl Refreshes {
    /// A resource is gone.
    pub fn forget(&mut self, key: ResourceKey) {
        if !self.list.is_empty() {
            self.list.remove(&key);
        }
    }
}

/// A resource for which presence was dropped gets to see everything again; one that is in the middle of it sees more. One that is
/// not available learns it when it becomes so.
pub fn refresh(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let flags = &mut actors.users.resource_mut(key).flags;
    let is_available = flags.has(Flags::AVAILABLE);
    // Another program has begun with it, before an upgrade.
    let is_begun = flags.has(Flags::SHOWN_AGAIN) && actors.refreshes.list.contains_key(&key);
    if is_available && is_begun {
        return go_on(actors, env, fx, key);
    }
    if !flags.has(Flags::PRESENCE_LOST) && !flags.has(Flags::SHOWN_AGAIN) {
        return;
    }
    flags.put(Flags::PRESENCE_LOST, false);
    flags.put(Flags::SHOWN_AGAIN, is_available);
    if is_available {
        begin(actors, env, fx, key);
    }
}

fn begin(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    env.metrics().presence_refreshed.add(1);
    let (full, local) = (actors.users.full_jid(env, key), actors.users.local_of(key).to_owned());
    let mut count = 0;
    let read = contacts::each(actors, env, fx, &local, |_, subscription| {
        count += usize::from(is_seen(subscription));
    });
    if let Err(error) = read {
        tracing::error!(user = local, %error, "cannot read a roster");
    }
    let parts = u32::try_from(count.div_ceil(at_once(env))).unwrap_or(u32::MAX);
    let rooms = seats::rooms_of(actors, env, key);
    actors.refreshes.list.insert(key, Refresh { contacts: (0, parts), rooms, room_part: 0 });
    // What was dropped may have been its own, which its client hears like that of others (§4.4.2).
    show_own_resources(actors, env, fx, key, &full, |_| true);
    subscription::deliver_pending(actors, env, fx, key);
    let wanted = actors.interests.nodes_of(key).to_vec();
    events::ask_for_last(actors, env, fx, key, &wanted);
    go_on(actors, env, fx, key);
}

/// Presences that are asked for at once: they take a quarter of what may wait for a client, of which there is room for half.
fn at_once(env: &Env) -> usize {
    (env.config.limits.output_backlog_bytes as usize / 4 / PRESENCE_BYTES).max(PART_MIN)
}

fn is_seen(subscription: Subscription) -> bool {
    matches!(subscription, Subscription::To | Subscription::Both)
}

fn go_on(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    let full = actors.users.full_jid(env, key);
    let Some(refresh) = actors.refreshes.list.get_mut(&key) else { return };
    let mut left = at_once(env);
    if refresh.contacts.0 < refresh.contacts.1 {
        let part = Part { number: refresh.contacts.0, of: refresh.contacts.1 };
        refresh.contacts.0 += 1;
        if refresh.contacts.1 > 1 {
            left = 0;
        }
        ask_contacts(actors, env, fx, (key, &full), part);
    }
    let shown_max = (env.config.rooms.presence_max as usize).max(1);
    let parts = shown_max.div_ceil(at_once(env));
    while let Some(refresh) = actors.refreshes.list.get_mut(&key)
        && let Some(room) = refresh.rooms.last()
        && left >= shown_max / parts
    {
        left -= shown_max / parts;
        let part = Part { number: refresh.room_part, of: u32::try_from(parts).unwrap_or(u32::MAX) };
        seats::show_again(env, fx, (room, &full), part);
        refresh.room_part += 1;
        if refresh.room_part >= part.of {
            refresh.room_part = 0;
            refresh.rooms.pop();
        }
    }
    let is_over = |refresh: &Refresh| refresh.contacts.0 >= refresh.contacts.1 && refresh.rooms.is_empty();
    if actors.refreshes.list.get(&key).is_some_and(is_over) {
        actors.refreshes.list.remove(&key);
        actors.users.resource_mut(key).flags.put(Flags::SHOWN_AGAIN, false);
    }
}

/// Asks contacts for their presence.
fn ask_contacts(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (key, full): (ResourceKey, &str),
    part: Part,
) {
    let local = actors.users.local_of(key).to_owned();
    let fits = |contact: &str, subscription| is_seen(subscription) && part.has(contact);
    send_to_contacts(actors, env, fx, &local, &Broadcast::new(Type::Probe, full, b""), fits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_falls_to_one_part_and_parts_survive_being_text() {
        for of in [1, 2, 7] {
            let parts: Vec<Part> = (0..of).map(|number| Part { number, of }).collect();
            for name in ["", "romeo", "a nick", "thirdwitch"] {
                assert_eq!(parts.iter().filter(|part| part.has(name)).count(), 1, "{name} of {of}");
            }
            for part in parts {
                assert_eq!(Part::read(Some(&part.text())), part);
            }
        }
        for text in
            [None, Some(""), Some("1"), Some("1 of 1"), Some("0 of 0"), Some("x of 2"), Some("-1 of 2")]
        {
            assert_eq!(Part::read(text), Part::ALL, "{text:?}");
        }
    }
}
