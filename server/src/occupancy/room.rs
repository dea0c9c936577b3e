//! One room in memory.

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::directory::rooms::{Room as Record, RoomConfig, RoomFlags};

use crate::exchange::fanout::Targets;
use crate::occupancy::occupants::Occupants;
use crate::occupancy::pace::Pace;

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
}

impl Room {
    /// A room in which nobody is.
    pub fn new(record: Record, hasher: SeedableRandomState) -> Room {
        Room {
            record,
            is_locked: false,
            occupants: Occupants::new(hasher),
            pace: Pace::default(),
            lists: None,
        }
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
