//! Rosters and their versions.

use super::*;

fn item(contact: &str) -> Item {
    Item { contact: contact.into(), listed: true, ..Item::default() }
}

fn put(directory: &Directory, contact: &str) -> u64 {
    let item = item(contact);
    write(directory, move |t| t.put_roster_item("juliet", &item))
}

fn remove(directory: &Directory, contact: &str) -> Option<u64> {
    let contact = contact.to_owned();
    write(directory, move |t| t.remove_roster_item("juliet", &contact))
}

fn with_juliet() -> (TempDir, Directory) {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    (folder, directory)
}

#[test]
fn an_item_is_kept_whole() {
    let (folder, directory) = with_juliet();
    let mut items = Vec::new();
    for subscription in [Subscription::None, Subscription::To, Subscription::From, Subscription::Both] {
        for flags in 0..16 {
            let flag = |bit: u8| flags & bit != 0;
            items.push(Item {
                contact: format!("c{:02}@example.org", items.len()),
                name: "Nurse \u{1f469}".into(),
                groups: vec!["Capulets".into(), String::new(), "Servants".into()],
                subscription,
                ask: flag(1),
                approved: flag(2),
                pending_in: flag(4).then(|| b"<presence type='subscribe'/>".to_vec()),
                listed: flag(8),
                version: 0,
            });
        }
    }
    for (index, item) in items.iter_mut().enumerate() {
        let written = item.clone();
        item.version = write(&directory, move |t| t.put_roster_item("juliet", &written));
        assert_eq!(item.version, index as u64 + 1);
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(directory.roster_items("juliet").unwrap(), items);
    let mut seen = 0;
    directory
        .roster("juliet", |found| {
            let item = &items[seen];
            let expected = (
                &*item.contact,
                item.subscription,
                item.ask,
                item.approved,
                item.pending_in.is_some(),
                item.listed,
            );
            let found = (
                found.contact,
                found.subscription,
                found.ask,
                found.approved,
                found.pending_in,
                found.listed,
            );
            assert_eq!(found, expected);
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, items.len());
    assert_eq!(directory.roster_item("juliet", "c63@example.org").unwrap().as_ref(), items.last());
}

#[test]
fn a_callback_may_read_the_directory() {
    let (_folder, directory) = with_juliet();
    put(&directory, "nurse@example.org");
    let mut found = None;
    directory.roster("juliet", |_| found = directory.credentials("juliet").unwrap()).unwrap();
    assert!(found.is_some());
}

#[test]
fn a_transaction_reads_what_it_has_written_and_others_do_not() {
    let (_folder, directory) = with_juliet();
    let outside = directory.clone();
    write(&directory, move |t| {
        assert_eq!(t.roster_version("juliet")?, RosterVersion::NEVER_CHANGED);
        assert_eq!(t.put_roster_item("juliet", &item("a@b"))?, 1);
        assert_eq!(t.put_roster_item("juliet", &item("c@d"))?, 2);
        assert_eq!(t.roster_len("juliet")?, 2);
        assert_eq!(t.roster_items("juliet")?.len(), 2);
        assert_eq!(t.roster_item("juliet", "a@b")?.map(|item| item.version), Some(1));
        assert_eq!(outside.roster_items("juliet")?, []);
        assert_eq!(t.remove_roster_item("juliet", "a@b")?, Some(3));
        assert_eq!(t.roster_len("juliet")?, 1);
        assert_eq!(t.roster_len("nobody")?, 0);
        Ok(())
    });
    assert_eq!(directory.roster_items("juliet").unwrap().len(), 1);
    assert_eq!(directory.roster_version("juliet").unwrap(), directory.version_made_now(3));
}

#[test]
fn the_longest_contacts_are_told_apart() {
    let (folder, directory) = with_juliet();
    let contacts: Vec<String> = [470, 471, 472, 503, 504, 511, 2047, CONTACT_BYTES_MAX]
        .into_iter()
        .flat_map(|bytes| [long(bytes, "a"), long(bytes, "b")])
        .collect();
    for contact in &contacts {
        put(&directory, contact);
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let mut seen = Vec::new();
    directory.roster("juliet", |item| seen.push(item.contact.to_owned())).unwrap();
    seen.sort();
    let mut expected = contacts.clone();
    expected.sort();
    assert_eq!(seen, expected);
    for contact in &contacts {
        let found = directory.roster_item("juliet", contact).unwrap();
        assert_eq!(found.map(|item| item.contact).as_ref(), Some(contact));
    }
    assert_eq!(directory.roster_item("juliet", &long(2047, "c")).unwrap(), None);
    for contact in &contacts {
        assert!(remove(&directory, contact).is_some(), "{} bytes", contact.len());
    }
    assert_eq!(directory.roster_items("juliet").unwrap(), []);
    for contact in [String::new(), long(CONTACT_BYTES_MAX + 1, "a")] {
        assert_eq!(directory.roster_item("juliet", &contact).unwrap(), None);
        let result = run_inline(&directory, Box::new(move |t| t.put_roster_item("juliet", &item(&contact))));
        assert!(matches!(result, Err(DirectoryError::Size { .. })), "{result:?}");
    }
}

#[test]
fn changes_are_told_in_order_and_the_last_one_of_each_contact() {
    let (_folder, directory) = with_juliet();
    assert_eq!(
        directory.roster_since("juliet", RosterVersion::NEVER_CHANGED).unwrap(),
        RosterChanges::Since(vec![])
    );
    assert_eq!(
        directory.roster_since("juliet", directory.version_made_now(1)).unwrap(),
        RosterChanges::Everything
    );
    for contact in ["c@x", "b@x", "a@x"] {
        put(&directory, contact);
    }
    assert_eq!(remove(&directory, "b@x"), Some(4));
    assert_eq!(remove(&directory, "b@x"), None);
    assert_eq!(put(&directory, "c@x"), 5);
    let named = |number| match number {
        0 => RosterVersion::NEVER_CHANGED,
        number => directory.version_made_now(number),
    };
    let since = |version| match directory.roster_since("juliet", named(version)).unwrap() {
        RosterChanges::Everything => panic!("version {version} is known"),
        RosterChanges::Since(changes) => changes
            .into_iter()
            .map(|(contact, version, item)| {
                assert!(item.as_ref().is_none_or(|i| i.contact == contact && i.version == version.number));
                (contact, version.number, item.is_some())
            })
            .collect::<Vec<_>>(),
    };
    let of = |contact: &str, version, is_there| (contact.to_owned(), version, is_there);
    assert_eq!(since(0), [of("a@x", 3, true), of("b@x", 4, false), of("c@x", 5, true)]);
    assert_eq!(since(3), [of("b@x", 4, false), of("c@x", 5, true)]);
    assert_eq!(since(4), [of("c@x", 5, true)]);
    assert_eq!(since(5), []);
    assert_eq!(
        directory.roster_since("juliet", directory.version_made_now(6)).unwrap(),
        RosterChanges::Everything
    );
    assert_eq!(put(&directory, "b@x"), 6);
    assert_eq!(since(3), [of("c@x", 5, true), of("b@x", 6, true)], "its removal is no longer told");
}

#[test]
fn removals_are_remembered_up_to_a_limit() {
    let (_folder, directory) = with_juliet();
    let count = REMOVALS_MAX as u64 + 3;
    write(&directory, move |t| {
        for n in 0..count {
            t.put_roster_item("juliet", &item(&format!("c{n}@x")))?;
        }
        for n in 0..count {
            t.remove_roster_item("juliet", &format!("c{n}@x"))?;
        }
        Ok(())
    });
    // Removals were versions count + 1 to 2 * count; the first three are forgotten.
    let first_known = count + 3;
    assert_eq!(
        directory.roster_since("juliet", directory.version_made_now(first_known - 1)).unwrap(),
        RosterChanges::Everything
    );
    match directory.roster_since("juliet", directory.version_made_now(first_known)).unwrap() {
        RosterChanges::Since(changes) => assert_eq!(changes.len(), REMOVALS_MAX),
        RosterChanges::Everything => panic!("version {first_known} is known"),
    }
    assert_eq!(rows(&directory, tables::Table::Removals), REMOVALS_MAX as u64);
}

#[test]
fn an_account_made_again_does_not_use_the_old_roster_versions() {
    let (_folder, directory) = with_juliet();
    for contact in ["a@x", "b@x", "c@x"] {
        put(&directory, contact);
    }
    write(&directory, |t| t.delete_account("juliet"));
    add_account(&directory, "juliet");
    assert_eq!(directory.roster_version("juliet").unwrap(), RosterVersion::NEVER_CHANGED);
    assert_eq!(
        directory.roster_since("juliet", directory.version_made_now(2)).unwrap(),
        RosterChanges::Everything
    );
    assert_eq!(put(&directory, "d@x"), 4);
    for version in 0..4 {
        let version = directory.version_made_now(version);
        assert_eq!(directory.roster_since("juliet", version).unwrap(), RosterChanges::Everything);
    }
    let empty = RosterVersion::NEVER_CHANGED;
    assert_eq!(directory.roster_since("juliet", empty).unwrap(), RosterChanges::Everything);
}

/// RFC 6121 §2.6: a version stands for one state. The copy and what went on after it have versions with the same numbers.
#[test]
fn a_version_of_before_a_restore_is_unknown_after_it() {
    let (folder, directory) = with_juliet();
    put(&directory, "before@x");
    let at_copy = directory.roster_version("juliet").unwrap();
    let copy = folder.path().join("copy");
    directory.copy_to(&copy).unwrap();
    put(&directory, "lost@x");
    let after_copy = directory.roster_version("juliet").unwrap();
    drop(directory);

    let restored = open(&copy);
    let since = |version| restored.roster_since("juliet", version).unwrap();
    assert_eq!(since(after_copy), RosterChanges::Everything);
    put(&restored, "new@x");
    assert_eq!(restored.roster_version("juliet").unwrap().number, after_copy.number);
    assert_eq!(since(after_copy), RosterChanges::Everything, "the same number, another state");
    match since(at_copy) {
        RosterChanges::Since(changes) => assert_eq!(changes.len(), 1, "what the copy has is known"),
        RosterChanges::Everything => panic!("the version of the copy is known"),
    }
}

#[test]
fn contacts_of_a_deleted_account_keep_no_subscription_with_it() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo", "nurse", "tybalt", "paris"] {
        add_account(&directory, local);
    }
    let item = |contact: &str, subscription, listed| Item {
        contact: format!("{contact}@{DOMAIN}"),
        name: "J".into(),
        subscription,
        listed,
        ..Item::default()
    };
    write(&directory, move |t| {
        for (contact, subscription) in [
            ("romeo", Subscription::Both),
            ("nurse", Subscription::None),
            ("tybalt", Subscription::None),
            ("paris", Subscription::None),
        ] {
            t.put_roster_item("juliet", &item(contact, subscription, true))?;
        }
        t.put_roster_item("romeo", &item("juliet", Subscription::Both, true))?;
        t.put_roster_item("romeo", &item("nurse", Subscription::Both, true))?;
        t.put_roster_item("nurse", &Item { ask: true, ..item("juliet", Subscription::None, true) })?;
        let request = Some(b"<presence/>".to_vec());
        t.put_roster_item(
            "tybalt",
            &Item { pending_in: request, ..item("juliet", Subscription::None, false) },
        )?;
        t.put_roster_item("paris", &item("juliet", Subscription::None, true))
    });
    let version = directory.roster_version("romeo").unwrap().number;
    let changed = write(&directory, |t| {
        let changed = t.end_subscriptions("juliet", DOMAIN)?;
        t.delete_account("juliet").map(|_| changed)
    });
    assert_eq!(changed, 3, "romeo, nurse, tybalt; nothing was between her and paris");
    let juliet = format!("juliet@{DOMAIN}");
    let of = |local: &str| directory.roster_item(local, &juliet).unwrap();
    let romeo = of("romeo").unwrap();
    assert_eq!((romeo.subscription, romeo.name.as_str()), (Subscription::None, "J"));
    assert!(romeo.version > version, "his client hears of it by the version");
    assert!(!of("nurse").unwrap().ask);
    assert_eq!(of("tybalt"), None);
    let nurse = directory.roster_item("romeo", &format!("nurse@{DOMAIN}")).unwrap().unwrap();
    assert_eq!(nurse.subscription, Subscription::Both, "others stay");
}
