//! One room in memory.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::rooms::{AffiliationVersion, Room as Record, RoomConfig, RoomFlags};

use crate::exchange::fanout::Targets;
use crate::occupancy::occupants::Occupants;
use crate::occupancy::pace::Pace;

/// Somebody who belongs to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The home worker of the account.
    pub home: u16,
    /// The account.
    pub account: ActorId,
    /// Its localpart.
    pub local: &'a str,
}

/// All who belong to a room, in one piece of memory: it may have ten thousand, and most of them are never there.
#[derive(Debug, Default)]
pub struct Members(Vec<u8>);

impl Members {
    /// One more.
    pub fn push(&mut self, member: &Member<'_>) {
        let length = u16::try_from(member.local.len()).expect("a part of a JID is that short");
        self.0.extend_from_slice(&member.account.raw().to_ne_bytes());
        self.0.extend_from_slice(&member.home.to_ne_bytes());
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(member.local.as_bytes());
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Member<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (account, behind) = rest.split_first_chunk::<8>()?;
            let (home, behind) = behind.split_first_chunk::<2>()?;
            let (length, behind) = behind.split_first_chunk::<2>()?;
            let (local, behind) = behind.split_at_checked(u16::from_ne_bytes(*length).into())?;
            rest = behind;
            Some(Member {
                home: u16::from_ne_bytes(*home),
                account: ActorId::from_raw(u64::from_ne_bytes(*account)),
                local: std::str::from_utf8(local).unwrap_or_default(),
            })
        })
    }
}

/// A room that somebody listens to, or that has something to do.
pub struct Room {
    /// Its row of the directory.
    pub record: Record,
    /// Who is in it.
    pub occupants: Occupants,
    /// How fast all of them speak.
    pub pace: Pace,
    /// What it has found out and may forget; `None`: nothing.
    memo: Option<Box<Memo>>,
    /// Changes of affiliations, the last ones, of which those who are in it have not been told.
    untold: u32,
    /// Its owner has just made it, and has not said yet how it is to be configured: nobody else may enter (XEP-0045 §10.1.3).
    pub is_locked: bool,
}

/// What few rooms have.
#[derive(Default)]
struct Memo {
    /// The seats by the home workers of their accounts, as a message goes to all of them; `None` when they have changed.
    lists: Option<Box<[Targets]>>,
    /// Those who belong to it, for push, as of this number of the version of its affiliations.
    members: Option<(u64, Members)>,
    /// Number of the version of its affiliations at which no account belonged to it any more.
    forsaken: Option<u64>,
}

// The memory budget of a room rests on this size (docs/performance.md): a block of the allocator has 256 bytes, the next one 320.
const _: () = assert!(size_of::<Room>() <= 256);

/// A room of more occupants keeps the lists of its seats. In a small one they are written anew for each message: there are many
/// such rooms.
const WRITTEN_ANEW_MAX: usize = 16;

impl Room {
    /// A room in which nobody is.
    pub fn new(record: Record) -> Room {
        Room {
            record,
            occupants: Occupants::default(),
            pace: Pace::default(),
            memo: None,
            untold: 0,
            is_locked: false,
        }
    }

    fn memo(&mut self) -> &mut Memo {
        self.memo.get_or_insert_default()
    }

    /// Its row of the directory is another one now. What has changed of affiliations is yet to be told.
    pub fn replace(&mut self, record: Record) -> Record {
        let (before, after) = (self.record.version().number, record.version().number);
        self.untold = u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX);
        std::mem::replace(&mut self.record, record)
    }

    /// Those who are in it are told of the next change of an affiliation: the versions before and after it. They are the same when
    /// there is none.
    pub fn tell_change(&mut self) -> (AffiliationVersion, AffiliationVersion) {
        let number = self.record.version().number;
        let told = |untold: u32| self.record.version_of(number.saturating_sub(untold.into()));
        let after = self.untold.saturating_sub(1);
        let versions = (told(self.untold), told(after));
        self.untold = after;
        versions
    }

    /// The last account that belonged to it is gone: it is to end with the last occupant, unless somebody belongs to it again.
    pub fn forsake(&mut self) {
        self.memo().forsaken = Some(self.record.version().number);
    }

    /// Whether no account belongs to it since the last one has gone.
    pub fn is_forsaken(&self) -> bool {
        let forsaken = self.memo.as_ref().and_then(|memo| memo.forsaken);
        forsaken == Some(self.record.version().number)
    }

    /// Those who belong to it; `None`: an affiliation has changed since that was known.
    pub fn members(&self) -> Option<&Members> {
        let (version, members) = self.memo.as_ref()?.members.as_ref()?;
        (*version == self.record.version().number).then_some(members)
    }

    /// Those who belong to it now.
    pub fn set_members(&mut self, mut members: Members) {
        members.0.shrink_to_fit();
        let version = self.record.version().number;
        self.memo().members = Some((version, members));
    }

    /// Its name: the localpart of its address.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// How it is configured.
    pub fn config(&self) -> &RoomConfig {
        &self.record.config
    }

    /// Whether it is configured to do this.
    pub fn has(&self, flag: RoomFlags) -> bool {
        self.record.config.flags.has(flag)
    }

    /// Seats have come or gone.
    pub fn seats_changed(&mut self) {
        if let Some(memo) = &mut self.memo {
            memo.lists = None;
        }
    }

    /// Whether [`Room::lists`] has nothing to make.
    pub fn has_lists(&self) -> bool {
        self.occupants.len() <= WRITTEN_ANEW_MAX
            || self.memo.as_ref().is_some_and(|memo| memo.lists.is_some())
    }

    /// All seats, by the workers that are their accounts' homes; `None`: they are so few that they are not listed.
    pub fn lists(&mut self, workers: usize) -> Option<&[Targets]> {
        if self.occupants.len() <= WRITTEN_ANEW_MAX {
            return None;
        }
        let (memo, occupants) = (self.memo.get_or_insert_default(), &self.occupants);
        Some(memo.lists.get_or_insert_with(|| {
            let mut lists: Vec<Targets> = Vec::new();
            lists.resize_with(workers, Targets::default);
            for (_, occupant) in occupants.iter() {
                let list = &mut lists[occupant.home()];
                occupant.seats.iter().for_each(|seat| list.push_seat(seat.local(), seat.resource()));
            }
            lists.iter_mut().for_each(Targets::shrink);
            lists.into_boxed_slice()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_read_back_in_their_order() {
        let member = |number, home, local| Member { home, account: ActorId::user(number), local };
        let all = [member(1, 0, "juliet"), member(1 << 40, u16::MAX, "r\u{e9}"), member(7, 3, "x")];
        let mut members = Members::default();
        assert_eq!(members.iter().count(), 0);
        all.iter().for_each(|member| members.push(member));
        assert_eq!(members.iter().collect::<Vec<_>>(), all);
        assert_eq!(members.0.len(), 3 * 12 + 6 + 3 + 1, "account, home, length, and the text");
    }
}
