//! Whose a message is: an actor, which is a kind and a number.
//!
//! Everything that has an inbox is an actor: users and rooms; and the publish-subscribe service is one, to which nodes without
//! an account belong. The journal's records, the queue and the directory's tables name actors in eight bytes, so a room's
//! messages can lie beside a user's without another format.

use std::fmt;

/// What an actor is. The number of a kind is written to the disk and never changes its meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(u8)]
pub enum ActorKind {
    /// An account of the domain.
    User = 1,
    /// A room.
    Room = 2,
    /// The publish-subscribe service ([`ActorId::NODES`]). All other numbers are reserved.
    Node = 3,
    /// What rooms have said to clients of an account that have no connection ([`ActorId::spool_of`]).
    Spool = 4,
}

impl ActorKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::User, Self::Room, Self::Node, Self::Spool];

    /// Its name in dumps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Room => "room",
            Self::Node => "node",
            Self::Spool => "spool",
        }
    }
}

/// Where the kind stands in the number of an actor.
const KIND_SHIFT: u32 = 56;

/// An account's count stands above so many bits of its number.
pub(crate) const COUNT_SHIFT: u32 = 28;

/// An actor: its kind in the top byte, its number in the other seven. 0 is [`ActorId::NOBODY`].
///
/// A number is never used twice, not even for an account of the same name, and not by another copy of the directory
/// either: the upper 28 bits count the actors of this kind that were ever made; the lower 28 are taken from a hash of that
/// count, the name and the credentials, which have a random salt. So when an older copy of the directory goes on beside a
/// newer journal, or parts of two copies that have both gone on are put together, no account has the number for which
/// another account's messages lie in the journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ActorId(u64);

const _: () = {
    assert!(size_of::<ActorId>() == 8);
    assert!(2 * COUNT_SHIFT == KIND_SHIFT);
};

impl ActorId {
    /// No actor: a message for it is written like any other and given to nobody.
    pub const NOBODY: Self = Self(0);

    /// The publish-subscribe service, which owns the nodes that belong to no account.
    pub const NODES: Self = Self::new(ActorKind::Node, 0);

    /// The greatest number of an actor.
    pub const NUMBER_MAX: u64 = (1 << KIND_SHIFT) - 1;

    /// Of a kind, with a number of which the lower 56 bits count.
    #[must_use]
    pub const fn new(kind: ActorKind, number: u64) -> Self {
        Self((kind as u64) << KIND_SHIFT | number & Self::NUMBER_MAX)
    }

    /// The user with this number.
    #[must_use]
    pub const fn user(number: u64) -> Self {
        Self::new(ActorKind::User, number)
    }

    /// What rooms have said to clients of this account that have no connection.
    #[must_use]
    pub const fn spool_of(account: Self) -> Self {
        Self::new(ActorKind::Spool, account.number())
    }

    /// The account on whose home it lives: its own, if it is one or the spool of one.
    #[must_use]
    pub const fn account(self) -> Self {
        match self.kind() {
            Some(ActorKind::Spool) => Self::user(self.number()),
            _ => self,
        }
    }

    /// As it was written. Of a kind that this release does not know, too: that is for those who read it to decide.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Whether it is [`ActorId::NOBODY`].
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        self.0 == 0
    }

    /// As it is written: the kind in the top byte.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// What it is; `None` for [`ActorId::NOBODY`] and for kinds that this release does not know.
    #[must_use]
    pub const fn kind(self) -> Option<ActorKind> {
        match (self.0 >> KIND_SHIFT) as u8 {
            1 => Some(ActorKind::User),
            2 => Some(ActorKind::Room),
            3 => Some(ActorKind::Node),
            4 => Some(ActorKind::Spool),
            _ => None,
        }
    }

    /// Its number within its kind.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & Self::NUMBER_MAX
    }

    /// As which of all actors of its kind that were ever made it was made.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.number() >> COUNT_SHIFT
    }

    /// The key of what the directory has once for each actor, and the prefix of all its other keys.
    pub(crate) const fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{}:{}", kind.name(), self.number()),
            None if *self == Self::NOBODY => f.write_str("nobody"),
            None => write!(f, "kind-{}:{}", self.0 >> KIND_SHIFT, self.number()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_number_read_back_and_kinds_do_not_mix() {
        for kind in ActorKind::ALL {
            for number in [0, 7, 5 << COUNT_SHIFT | 9, ActorId::NUMBER_MAX] {
                let actor = ActorId::new(kind, number);
                assert_eq!((actor.kind(), actor.number()), (Some(kind), number));
                assert_eq!(actor.count(), number >> COUNT_SHIFT);
                assert_eq!(ActorId::from_raw(actor.raw()), actor);
                assert_eq!(actor.key()[0], kind as u8, "all of a kind lie together in a table");
            }
        }
        assert_ne!(ActorId::user(7), ActorId::new(ActorKind::Room, 7));
        assert_eq!(ActorId::user(1 << 56 | 7), ActorId::user(7), "a number cannot change the kind");
        let (account, room) = (ActorId::user(5 << COUNT_SHIFT | 9), ActorId::new(ActorKind::Room, 7));
        let spool = ActorId::spool_of(account);
        assert_eq!((spool.kind(), spool.count()), (Some(ActorKind::Spool), account.count()));
        assert_eq!([spool, account, room].map(ActorId::account), [account, account, room]);
    }

    #[test]
    fn an_actor_is_shown_by_kind_and_number() {
        let shown = [
            ActorId::NOBODY,
            ActorId::user(7),
            ActorId::new(ActorKind::Room, 2),
            ActorId::from_raw(9 << 56 | 1),
        ];
        assert_eq!(shown.map(|actor| actor.to_string()), ["nobody", "user:7", "room:2", "kind-9:1"]);
    }
}
