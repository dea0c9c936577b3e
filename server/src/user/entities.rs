//! To whom a resource has shown itself by directed presence (RFC 6121 §4.6): entities, and rooms that it has asked to enter. They lie
//! in one piece of memory, because a client may be in many rooms, and every room has many clients.
//!
//! ```text
//! 1 or 2   a bit: a room; a bit: there are two bytes; length      n   a JID; of a room its name alone
//! ```

use std::borrow::Cow;

use crate::proto::address;

/// Set in the first byte of a room's name.
const IS_ROOM: u8 = 1 << 7;

/// Set in the first byte of two. The length has the other bits of both.
const IS_LONG: u8 = 1 << 6;

/// Lengths from here on have two bytes.
const LONG: usize = IS_LONG as usize;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity<'a> {
    /// Of a user or a resource of one, or of anything else.
    Jid(&'a str),
    /// A room of this server, by its name.
    Room(&'a str),
}

impl<'a> Entity<'a> {
    /// That with an address. `rooms`: the domain of the server's rooms, if it has any.
    pub fn of(jid: &'a str, rooms: Option<&str>) -> Entity<'a> {
        match rooms.and_then(|domain| address::contact_here(jid, domain)) {
            Some(room) => Entity::Room(room),
            None => Entity::Jid(jid),
        }
    }

    /// Its address. `None`: a room, where there are none any more.
    pub fn jid(self, rooms: Option<&str>) -> Option<Cow<'a, str>> {
        match self {
            Entity::Jid(jid) => Some(Cow::Borrowed(jid)),
            Entity::Room(room) => rooms.map(|domain| Cow::Owned(format!("{room}@{domain}"))),
        }
    }

    fn parts(self) -> (u8, &'a str) {
        match self {
            Entity::Jid(jid) => (0, jid),
            Entity::Room(room) => (IS_ROOM, room),
        }
    }
}

/// All of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entities(Vec<u8>);

impl Entities {
    /// Whether one is among them.
    pub fn has(&self, entity: Entity<'_>) -> bool {
        self.iter().any(|known| known == entity)
    }

    /// One more.
    pub fn push(&mut self, entity: Entity<'_>) {
        let (kind, text) = entity.parts();
        let length = u16::try_from(text.len()).ok().filter(|length| usize::from(*length) < LONG << 8);
        let [high, low] = length.expect("a JID has 3,071 bytes at most").to_be_bytes();
        let more = Entities::bytes_of(entity);
        if self.0.capacity() - self.0.len() < more {
            // They are many where there are many clients: an eighth to spare, not a half.
            self.0.reserve_exact(more + self.0.len() / 8);
        }
        match text.len() < LONG {
            true => self.0.push(kind | low),
            false => self.0.extend_from_slice(&[kind | IS_LONG | high, low]),
        }
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Keeps those that `stays` says.
    pub fn retain(&mut self, mut stays: impl FnMut(Entity<'_>) -> bool) {
        let mut left = Entities::default();
        self.iter().filter(|entity| stays(*entity)).for_each(|entity| left.push(entity));
        if left.0.len() < self.0.len() {
            *self = left;
        }
    }

    /// All of them, those that came first before others.
    pub fn iter(&self) -> impl Iterator<Item = Entity<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (head, mut behind) = rest.split_first()?;
            let mut length = usize::from(head & !(IS_ROOM | IS_LONG));
            if head & IS_LONG != 0 {
                let (low, text) = behind.split_first()?;
                (length, behind) = (length << 8 | usize::from(*low), text);
            }
            let (text, behind) = behind.split_at_checked(length)?;
            rest = behind;
            let text = std::str::from_utf8(text).ok()?;
            Some(if head & IS_ROOM == 0 { Entity::Jid(text) } else { Entity::Room(text) })
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that one takes.
    pub fn bytes_of(entity: Entity<'_>) -> usize {
        let length = entity.parts().1.len();
        if length < LONG { 1 + length } else { 2 + length }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.0.capacity()
    }
}

impl<'a> FromIterator<Entity<'a>> for Entities {
    fn from_iter<I: IntoIterator<Item = Entity<'a>>>(all: I) -> Entities {
        let mut entities = Entities::default();
        all.into_iter().for_each(|entity| entities.push(entity));
        entities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_found_and_go_one_by_one() {
        let long = format!("{}@x/{}", "l".repeat(1023), "r".repeat(1023));
        let all = [
            Entity::Jid("a@x"),
            Entity::Room("a"),
            Entity::Jid(&long),
            Entity::Room("\u{e9}"),
            Entity::Jid("a"),
        ];
        let mut entities: Entities = all.into_iter().collect();
        assert_eq!((entities.iter().collect::<Vec<_>>(), entities.count()), (all.to_vec(), 5));
        assert!(all.iter().all(|entity| entities.has(*entity)) && !entities.has(Entity::Room("a@x")));
        entities.retain(|entity| entity != Entity::Room("a"));
        assert!(!entities.has(Entity::Room("a")) && entities.has(Entity::Jid("a")));
        entities.retain(|_| true);
        assert_eq!(entities.count(), 4);
        entities.retain(|_| false);
        assert!(entities.is_empty() && entities.bytes() == 0);
    }

    #[test]
    fn a_room_is_its_name_as_long_as_there_are_rooms() {
        let rooms = Some("conference.x");
        assert_eq!(Entity::of("tea@conference.x", rooms), Entity::Room("tea"));
        for (jid, domain) in [("tea@conference.x/nick", rooms), ("tea@x", rooms), ("tea@conference.x", None)]
        {
            assert_eq!(Entity::of(jid, domain), Entity::Jid(jid));
        }
        assert_eq!(Entity::Room("tea").jid(rooms).as_deref(), Some("tea@conference.x"));
        assert_eq!((Entity::Room("tea").jid(None), Entity::Jid("a").jid(None).as_deref()), (None, Some("a")));
    }

    #[test]
    fn many_have_little_to_spare() {
        let mut entities = Entities::default();
        (0..1000).for_each(|n| entities.push(Entity::Room(&format!("room-{n:04}"))));
        assert!(entities.bytes() <= 1000 * 10 * 9 / 8 + 10, "{}", entities.bytes());
    }

    #[test]
    fn every_length_is_read_as_it_was_written() {
        let texts: Vec<String> =
            [0, 1, 62, 63, 64, 65, 255, 256, 257, 3071].iter().map(|length| "x".repeat(*length)).collect();
        let all: Vec<_> = texts.iter().flat_map(|text| [Entity::Jid(text), Entity::Room(text)]).collect();
        let entities: Entities = all.iter().copied().collect();
        assert_eq!(entities.iter().collect::<Vec<_>>(), all);
        let bytes: usize = all.iter().map(|entity| Entities::bytes_of(*entity)).sum();
        assert_eq!(entities.0.len(), bytes);
    }
}
