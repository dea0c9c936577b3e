//! One room in memory.

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::rooms::{AffiliationVersion, Room as Record, RoomConfig, RoomFlags};

use crate::exchange::fanout::Targets;
use crate::occupancy::occupants::Occupants;
use crate::occupancy::pace::Pace;

/// Somebody who belongs to a room.
#[derive(Debug)]
pub struct Member {
    /// The home worker of the account.
    pub home: u16,
    /// The account.
    pub account: ActorId,
    /// Its localpart.
    pub local: Box<str>,
}

/// A room that somebody listens to, or that has something to do.
pub struct Room {
    /// Its row of the directory.
    pub record: Record,
    /// Its owner has just made it, and has not said yet how it is to be configured: nobody else may enter (XEP-0045 §10.1.3).
    pub is_locked: bool,
    /// Who is in it.
    pub occupants: Occupants,
    /// How fast all of them speak.
    pub pace: Pace,
    /// The seats by the home workers of their accounts, as a message goes to all of them; `None` when they have changed.
    lists: Option<Box<[Targets]>>,
    /// Those who belong to it, for push, as of this number of the version of its affiliations.
    members: Option<Box<(u64, Box<[Member]>)>>,
    /// Number of the version of its affiliations up to which those who are in it have been told of changes.
    told: u64,
    /// Number of the version of its affiliations at which no account belonged to it any more.
    forsaken: Option<u64>,
}

impl Room {
    /// A room in which nobody is.
    pub fn new(record: Record, hasher: SeedableRandomState) -> Room {
        Room {
            told: record.version().number,
            record,
            is_locked: false,
            occupants: Occupants::new(hasher),
            pace: Pace::default(),
            lists: None,
            members: None,
            forsaken: None,
        }
    }

    /// Its row of the directory is another one now. What has changed of affiliations is yet to be told.
    pub fn replace(&mut self, record: Record) -> Record {
        self.told = self.record.version().number;
        std::mem::replace(&mut self.record, record)
    }

    /// Those who are in it are told of the next change of an affiliation: the versions before and after it. They are the same when
    /// there is none.
    pub fn tell_change(&mut self) -> (AffiliationVersion, AffiliationVersion) {
        let since = self.record.version_of(self.told);
        self.told = (self.told + 1).min(self.record.version().number);
        (since, self.record.version_of(self.told))
    }

    /// The last account that belonged to it is gone: it is to end with the last occupant, unless somebody belongs to it again.
    pub fn forsake(&mut self) {
        self.forsaken = Some(self.record.version().number);
    }

    /// Whether no account belongs to it since the last one has gone.
    pub fn is_forsaken(&self) -> bool {
        self.forsaken == Some(self.record.version().number)
    }

    /// Those who belong to it; `None`: an affiliation has changed since that was known.
    pub fn members(&self) -> Option<&[Member]> {
        let (version, members) = self.members.as_deref()?;
        (*version == self.record.version().number).then_some(members)
    }

    /// Those who belong to it now.
    pub fn set_members(&mut self, members: Box<[Member]>) {
        self.members = Some(Box::new((self.record.version().number, members)));
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
        self.lists = None;
    }

    /// Whether [`Room::lists`] has nothing to make.
    pub fn has_lists(&self) -> bool {
        self.lists.is_some()
    }

    /// All seats, by the workers that are their accounts' homes.
    pub fn lists(&mut self, workers: usize, home_of: impl Fn(&str) -> usize) -> &[Targets] {
        let occupants = &self.occupants;
        self.lists.get_or_insert_with(|| {
            let mut lists: Vec<Targets> = Vec::new();
            lists.resize_with(workers, Targets::default);
            for (_, occupant) in occupants.iter() {
                let home = home_of(&occupant.local);
                occupant.seats.iter().for_each(|seat| lists[home].push_seat(&occupant.local, seat));
            }
            lists.into_boxed_slice()
        })
    }
}
