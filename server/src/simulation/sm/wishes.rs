//! What peers want their archives to have (XEP-0441), and what may be in force at a time: a change is from the moment in which it is
//! asked for, is for certain when it is answered, and an earlier one may be until then.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_storage::directory::{ArchiveDefault, ArchivePreferences};

use super::RESOURCE;
use crate::proto::ns;
use crate::runtime::driver::sim::Random;
use crate::simulation::archive::Wanted;
use crate::simulation::world::bare;

/// Addresses in each list at most.
const LISTED_MAX: usize = 3;

/// Users, and whether only their resource is meant.
type List = BTreeSet<(usize, bool)>;

/// What a user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    default: ArchiveDefault,
    always: List,
    never: List,
}

fn address((user, is_resource): (usize, bool)) -> String {
    if is_resource { format!("{}/{RESOURCE}", bare(user)) } else { bare(user) }
}

impl Wish {
    /// One that differs each time.
    pub(super) fn draw(random: &mut Random, users: usize) -> Wish {
        let defaults =
            [ArchiveDefault::Always, ArchiveDefault::Always, ArchiveDefault::Never, ArchiveDefault::Roster];
        let default = *random.pick(&defaults).expect("there are some");
        let mut list = || -> List {
            (0..random.below(LISTED_MAX + 1)).map(|_| (random.below(users), random.permille(300))).collect()
        };
        Wish { default, always: list(), never: list() }
    }

    /// As the directory keeps it.
    fn stored(&self) -> ArchivePreferences {
        let list = |list: &List| {
            let mut jids: Vec<String> = list.iter().copied().map(address).collect();
            jids.sort_unstable();
            jids
        };
        ArchivePreferences { default: self.default, always: list(&self.always), never: list(&self.never) }
    }

    /// What asks for it.
    pub(super) fn query(&self) -> String {
        let default = match self.default {
            ArchiveDefault::Always => "always",
            ArchiveDefault::Never => "never",
            ArchiveDefault::Roster => "roster",
        };
        let list = |list: &List| -> String {
            list.iter().map(|one| format!("<jid>{}</jid>", address(*one))).collect()
        };
        let (always, never) = (list(&self.always), list(&self.never));
        format!(
            "<prefs xmlns='{}' default='{default}'><always>{always}</always><never>{never}</never></prefs>",
            ns::ARCHIVE
        )
    }

    /// Whether what is exchanged with a peer, at its bare address or its resource's, is archived. `is_contact`: whether the peer is in
    /// the roster, if that is known.
    fn wants(&self, (peer, is_resource): (usize, bool), is_contact: Option<bool>) -> Option<bool> {
        let named = [(peer, true), (peer, false)];
        for one in named.iter().skip(usize::from(!is_resource)) {
            match (self.never.contains(one), self.always.contains(one)) {
                (true, _) => return Some(false),
                (false, true) => return Some(true),
                (false, false) => {}
            }
        }
        match self.default {
            ArchiveDefault::Always => Some(true),
            ArchiveDefault::Never => Some(false),
            ArchiveDefault::Roster => is_contact,
        }
    }
}

/// A change of what a user wants.
#[derive(Clone, Debug)]
struct Change {
    wish: Wish,
    asked: u64,
    /// Since when another one is in force for certain.
    over: Option<u64>,
}

/// What all users want.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    changes: BTreeMap<usize, Vec<Change>>,
    /// Those who may have others in their rosters, beside whom everybody has.
    contacts: BTreeSet<(usize, usize)>,
}

/// What was in force before any change.
static USUAL: Wish =
    Wish { default: ArchiveDefault::Always, always: BTreeSet::new(), never: BTreeSet::new() };

impl Wishes {
    /// A user asks for a change; its number among the user's.
    pub(super) fn ask(&mut self, user: usize, wish: Wish, step: u64) -> usize {
        let changes = self
            .changes
            .entry(user)
            .or_insert_with(|| vec![Change { wish: USUAL.clone(), asked: 0, over: None }]);
        changes.push(Change { wish, asked: step, over: None });
        changes.len() - 1
    }

    /// A change is made: those before it were made before it, or never are.
    pub(super) fn made(&mut self, user: usize, number: usize, step: u64) {
        for change in self.changes.entry(user).or_default().iter_mut().take(number) {
            change.over.get_or_insert(step);
        }
    }

    /// Nothing is under way, and the directory has this.
    pub(super) fn found(
        &mut self,
        user: usize,
        stored: Option<ArchivePreferences>,
        step: u64,
    ) -> Result<(), String> {
        let stored = stored.unwrap_or_default();
        let Some(changes) = self.changes.get_mut(&user) else {
            return match stored == USUAL.stored() {
                true => Ok(()),
                false => Err(format!("user {user} has never said what it wants, and it is {stored:?}")),
            };
        };
        let may_be = |change: &Change| change.over.is_none() && change.wish.stored() == stored;
        let Some(number) = changes.iter().rposition(may_be) else {
            return Err(format!(
                "user {user} wants {stored:?} by the directory; it has asked for {changes:?}"
            ));
        };
        for (_, change) in changes.iter_mut().enumerate().filter(|(other, _)| *other != number) {
            change.over.get_or_insert(step);
        }
        Ok(())
    }

    /// A user may put another one into its roster.
    pub(super) fn befriends(&mut self, user: usize, other: usize) {
        self.contacts.insert((user, other));
    }

    /// Whether the archive of a user is to have what it exchanges with a peer at a time between two steps. `contact`: the one whom all
    /// others have in their rosters.
    pub(super) fn wanted(
        &self,
        user: usize,
        peer: (usize, bool),
        (from, until): (u64, u64),
        contact: usize,
    ) -> Wanted {
        let is_contact = match peer.0 {
            other if other == contact && user != contact => Some(true),
            other => (!self.contacts.contains(&(user, other))).then_some(false),
        };
        let Some(changes) = self.changes.get(&user) else { return Wanted::Yes };
        let in_force = changes
            .iter()
            .filter(|change| change.asked <= until && change.over.is_none_or(|over| over >= from));
        let mut said = in_force.map(|change| change.wish.wants(peer, is_contact));
        let first = said.next().flatten();
        match first {
            Some(first) if said.all(|other| other == Some(first)) => {
                if first {
                    Wanted::Yes
                } else {
                    Wanted::No
                }
            }
            _ => Wanted::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(default: ArchiveDefault) -> Wish {
        Wish { default, ..Wish::default() }
    }

    #[test]
    fn a_change_counts_perhaps_from_when_it_is_asked_for_until_it_is_answered() {
        let mut wishes = Wishes::default();
        let number = wishes.ask(1, only(ArchiveDefault::Never), 10);
        wishes.made(1, number, 20);
        for (from, until, expected) in [
            (0, 9, Wanted::Yes),
            (9, 10, Wanted::Perhaps),
            (12, 18, Wanted::Perhaps),
            (20, 30, Wanted::Perhaps),
            (21, 30, Wanted::No),
        ] {
            assert_eq!(wishes.wanted(1, (2, false), (from, until), 0), expected, "{from} {until}");
        }
        assert_eq!(wishes.wanted(2, (1, false), (21, 30), 0), Wanted::Yes, "somebody else's");
    }

    #[test]
    fn what_is_stored_is_one_of_those_that_may_be_in_force() {
        let mut wishes = Wishes::default();
        let first = wishes.ask(1, only(ArchiveDefault::Never), 10);
        wishes.ask(1, only(ArchiveDefault::Roster), 11);
        wishes.made(1, first, 12);
        let stored = |default| Some(only(default).stored());
        assert!(wishes.clone().found(1, None, 20).is_err(), "an answered one is gone");
        wishes.clone().found(1, stored(ArchiveDefault::Roster), 20).unwrap();
        wishes.found(1, stored(ArchiveDefault::Never), 20).unwrap();
        assert!(wishes.found(1, stored(ArchiveDefault::Roster), 30).is_err(), "nobody has asked again");
        assert!(wishes.found(2, stored(ArchiveDefault::Never), 30).is_err());
        assert_eq!(wishes.wanted(1, (2, false), (21, 30), 0), Wanted::No);
    }

    #[test]
    fn lists_come_before_the_default_and_resources_before_accounts() {
        let mut wish = only(ArchiveDefault::Roster);
        wish.always.extend([(1, false), (2, true)]);
        wish.never.extend([(1, true), (2, false)]);
        for (peer, expected) in [
            ((1, false), Some(true)),
            ((1, true), Some(false)),
            ((2, false), Some(false)),
            ((2, true), Some(true)),
            ((3, true), None),
        ] {
            assert_eq!(wish.wants(peer, None), expected, "{peer:?}");
        }
        let mut wishes = Wishes::default();
        wishes.ask(3, only(ArchiveDefault::Roster), 1);
        wishes.made(3, 1, 2);
        let wanted = |wishes: &Wishes, other| wishes.wanted(3, (other, true), (5, 6), 0);
        assert_eq!((wanted(&wishes, 0), wanted(&wishes, 1)), (Wanted::Yes, Wanted::No));
        wishes.befriends(3, 1);
        assert_eq!(wanted(&wishes, 1), Wanted::Perhaps);
    }
}
