//! Room for hashes, shared out among accounts.
//!
//! When there is no room for another hash, one goes. Those that no session announces go first; then those of the account that has
//! brought most, if it has more than the one that wants room would have. So whoever announces a new hash with each presence
//! loses its own, and others keep theirs. Of what is equal in this, the hash that fewest sessions announce goes, and of those the
//! one that was used least lately. A hash that clients of several accounts have announced is nobody's, and goes last.

use std::cmp::Reverse;

use super::{Entry, Holder, Interests};

/// Hashes that are looked at for a unit of work.
const HASHES_PER_UNIT: u64 = 64;

/// Resources whose hash is looked at for a unit of work.
const RESOURCES_PER_UNIT: u64 = 4096;

impl Interests {
    /// Units of work that making room has taken since the last call.
    pub fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.due_work)
    }

    /// Sessions that have lost what was known of their hash, because there was no room for it, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// A client of an account announces a hash.
    pub(super) fn claim(&mut self, number: usize, account: &str) {
        self.moments += 1;
        let entry = &mut self.entries[number];
        entry.used = self.moments;
        match &entry.holder {
            Holder::Nobody => {
                entry.holder = Holder::One(account.into());
                *self.held.entry(account.into()).or_default() += 1;
            }
            Holder::One(name) if **name != *account => self.give_up(number, Holder::Many),
            Holder::One(_) | Holder::Many => {}
        }
    }

    /// A hash no longer counts for the one account that has announced it, if it did.
    fn give_up(&mut self, number: usize, now: Holder) {
        let Holder::One(name) = std::mem::replace(&mut self.entries[number].holder, now) else { return };
        if let Some(held) = self.held.get_mut(&name) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&name);
            }
        }
    }

    /// Forgets a hash that no session announces any more.
    pub(super) fn remove(&mut self, number: usize) {
        self.give_up(number, Holder::Nobody);
        let entry = self.entries.remove(number);
        self.by_hash.remove(&entry.hash);
    }

    /// Hashes that count for an account.
    fn held_by(&self, account: &str) -> u32 {
        self.held.get(account).copied().unwrap_or(0)
    }

    /// Makes room for a hash of an account. `false`: there is none for it.
    pub(super) fn make_room(&mut self, account: &str) -> bool {
        self.due_work += self.entries.len() as u64 / HASHES_PER_UNIT;
        let own = self.held_by(account);
        let holds = |entry: &Entry| match &entry.holder {
            Holder::One(name) => self.held_by(name),
            Holder::Nobody | Holder::Many => 0,
        };
        let found = self
            .entries
            .iter()
            .map(|(number, entry)| (number, entry, holds(entry)))
            .filter(|(_, entry, held)| entry.sessions == 0 || *held > own + 1)
            .max_by_key(|(_, entry, held)| {
                (entry.sessions == 0, *held, Reverse(entry.sessions), Reverse(entry.used))
            });
        let Some((number, sessions)) = found.map(|(number, entry, _)| (number, entry.sessions)) else {
            return false;
        };
        if sessions > 0 {
            self.due_work += self.of.len() as u64 / RESOURCES_PER_UNIT;
            self.lost += u64::from(sessions);
            let is_of = |of: &&mut u32| **of as usize == number + 1;
            self.of.iter_mut().filter(is_of).for_each(|of| *of = 0);
        }
        self.remove(number);
        true
    }
}
