//! A roster does what a plain map with a list of changes does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put(Item),
    Remove(usize),
    Since(u64),
    Again,
    Reopen,
}

/// Few contacts, so that steps meet; some with the same long beginning, so that keys are hashed.
fn contact(number: usize) -> String {
    if number < 4 { format!("c{number}@example.com") } else { long(480 + number, &number.to_string()) }
}

fn step() -> impl Strategy<Value = Step> {
    let subscription = prop_oneof![
        Just(Subscription::None),
        Just(Subscription::To),
        Just(Subscription::From),
        Just(Subscription::Both)
    ];
    let item = (
        (0..8_usize, ".{0,8}", prop::collection::vec(".{0,8}", 0..3)),
        (subscription, any::<bool>(), any::<bool>(), any::<bool>()),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    )
        .prop_map(|((number, name, groups), (subscription, ask, approved, listed), pending_in)| Item {
            contact: contact(number),
            name,
            groups,
            subscription,
            ask,
            approved,
            pending_in,
            listed,
            version: 0,
        });
    prop_oneof![
        6 => item.prop_map(Step::Put),
        4 => (0..8_usize).prop_map(Step::Remove),
        3 => (0..60_u64).prop_map(Step::Since),
        1 => Just(Step::Again),
        1 => Just(Step::Reopen),
    ]
}

/// Few steps, so no removal is forgotten.
#[derive(Default)]
struct Model {
    version: u64,
    floor: u64,
    retired: u64,
    items: BTreeMap<String, Item>,
    /// The last change of each contact; `false` for a removal.
    changes: BTreeMap<String, (u64, bool)>,
    /// In which opening of the directory each version was made.
    incarnations: BTreeMap<u64, u64>,
}

impl Model {
    fn next(&mut self, directory: &Directory) -> u64 {
        if self.version == 0 {
            (self.version, self.floor) = (self.retired, self.retired);
        }
        self.version += 1;
        self.incarnations.insert(self.version, directory.0.incarnation);
        self.version
    }

    /// The version with a number; of numbers that were not given, something.
    fn named(&self, number: u64) -> RosterVersion {
        RosterVersion { number, incarnation: self.incarnations.get(&number).copied().unwrap_or(0) }
    }

    fn since(&self, version: u64) -> RosterChanges {
        if version != 0 && !self.incarnations.contains_key(&version) || version < self.floor {
            return RosterChanges::Everything;
        }
        let mut changes: Vec<_> = self
            .changes
            .iter()
            .filter(|(_, (at, _))| *at > version)
            .map(|(contact, (at, _))| (contact.clone(), self.named(*at), self.items.get(contact).cloned()))
            .collect();
        changes.sort_by_key(|(_, at, _)| at.number);
        RosterChanges::Since(changes)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_roster_is_a_map_that_knows_its_changes(steps in prop::collection::vec(step(), 1..60)) {
        let (folder, mut directory) = new_directory();
        add_account(&directory, "juliet");
        // Neighbours on both sides, which nothing may touch.
        for local in ["a", "z"] {
            add_account(&directory, local);
            let item = Item { contact: "c0@example.com".into(), ..Item::default() };
            write(&directory, move |t| t.put_roster_item(local, &item));
        }
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put(mut item) => {
                    let written = item.clone();
                    item.version = write(&directory, move |t| t.put_roster_item("juliet", &written));
                    prop_assert_eq!(item.version, model.next(&directory));
                    model.changes.insert(item.contact.clone(), (item.version, true));
                    model.items.insert(item.contact.clone(), item);
                }
                Step::Remove(number) => {
                    let contact = contact(number);
                    let expected = model.items.remove(&contact).map(|_| model.next(&directory));
                    if let Some(version) = expected {
                        model.changes.insert(contact.clone(), (version, false));
                    }
                    let removed = write(&directory, move |t| t.remove_roster_item("juliet", &contact));
                    prop_assert_eq!(removed, expected);
                }
                Step::Since(version) => {
                    let named = model.named(version);
                    prop_assert_eq!(directory.roster_since("juliet", named).unwrap(), model.since(version));
                    let other = RosterVersion { incarnation: named.incarnation ^ 1, ..named };
                    prop_assert_eq!(directory.roster_since("juliet", other).unwrap(), RosterChanges::Everything);
                }
                Step::Again => {
                    prop_assert!(write(&directory, |t| t.delete_account("juliet")));
                    add_account(&directory, "juliet");
                    model = Model { retired: model.retired.max(model.version), ..Model::default() };
                }
                Step::Reopen => {
                    drop(directory);
                    directory = open(&folder.path().join("directory"));
                }
            }
            prop_assert_eq!(directory.roster_version("juliet").unwrap(), model.named(model.version));
            let mut items = directory.roster_items("juliet").unwrap();
            prop_assert_eq!(write(&directory, |t| t.roster_len("juliet")), items.len());
            items.sort_by(|a, b| a.contact.cmp(&b.contact));
            prop_assert_eq!(&items, &model.items.values().cloned().collect::<Vec<_>>());
        }
        for local in ["a", "z"] {
            prop_assert_eq!(directory.roster_items(local).unwrap().len(), 1);
            prop_assert_eq!(directory.roster_version(local).unwrap().number, 1);
        }
    }
}
