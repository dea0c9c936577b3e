//! Accounts and what belongs to them.

use super::*;

#[test]
fn an_account_is_there_after_it_was_made_and_after_reopening() {
    let (folder, directory) = new_directory();
    assert_eq!(directory.credentials("juliet").unwrap(), None);
    add_account(&directory, "juliet");
    assert_eq!(directory.credentials("juliet").unwrap(), Some(keys("secret")));
    assert!(directory.account_exists("juliet").unwrap());
    assert!(!directory.account_exists("julie").unwrap());
    assert!(!directory.account_exists("juliets").unwrap());
    let secret = directory.server_secret();
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(directory.credentials("juliet").unwrap(), Some(keys("secret")));
    assert_eq!(directory.account_count().unwrap(), 1);
    assert_eq!(directory.server_secret(), secret);
    assert_ne!(secret, [0; 32]);
}

#[test]
fn an_account_is_made_once_and_its_credentials_can_be_changed() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "romeo");
    assert!(!write(&directory, |t| t.create_account("romeo", &keys("other"))));
    assert_eq!(directory.credentials("romeo").unwrap(), Some(keys("secret")));
    assert!(write(&directory, |t| t.set_credentials("romeo", &keys("other"))));
    assert!(!write(&directory, |t| t.set_credentials("nobody", &keys("other"))));
    assert_eq!(directory.credentials("romeo").unwrap(), Some(keys("other")));
    assert_eq!(directory.credentials("nobody").unwrap(), None);
}

#[test]
fn accounts_are_listed_in_pages_in_order() {
    let (_folder, directory) = new_directory();
    for local in ["nurse", "b", "ä", "a", "aa"] {
        add_account(&directory, local);
    }
    assert_eq!(directory.accounts(None, 2).unwrap(), ["a", "aa"]);
    assert_eq!(directory.accounts(Some("aa"), 2).unwrap(), ["b", "nurse"]);
    assert_eq!(directory.accounts(Some("nurse"), 2).unwrap(), ["ä"]);
    assert_eq!(directory.accounts(Some("c"), 9).unwrap(), ["nurse", "ä"], "after one that is not there");
    assert_eq!(directory.accounts(Some("ä"), 2).unwrap(), [""; 0]);
    assert_eq!(directory.accounts(None, 0).unwrap(), [""; 0]);
    assert_eq!(directory.account_count().unwrap(), 5);
}

#[test]
fn the_longest_names_are_told_apart() {
    let (folder, directory) = new_directory();
    let names: Vec<String> = [471, 478, 479, 480, 511, 512, 1023]
        .into_iter()
        .flat_map(|bytes| [long(bytes, "a"), long(bytes, "b")])
        .collect();
    for local in &names {
        add_account(&directory, local);
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    for local in &names {
        assert!(directory.credentials(local).unwrap().is_some(), "{} bytes", local.len());
    }
    assert_eq!(directory.credentials(&long(1023, "c")).unwrap(), None);
    let mut listed = Vec::new();
    while listed.len() < names.len() {
        let page = directory.accounts(listed.last().map(String::as_str), 3).unwrap();
        assert!(!page.is_empty(), "{} of {} were listed", listed.len(), names.len());
        listed.extend(page);
    }
    listed.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn what_can_be_no_localpart_is_refused_and_not_found() {
    let (_folder, directory) = new_directory();
    for local in [String::new(), long(1024, "a")] {
        assert_eq!(directory.credentials(&local).unwrap(), None);
        let bytes = local.len();
        let made = run_inline(&directory, Box::new(move |t| t.create_account(&local, &keys("secret"))));
        assert!(matches!(made, Err(DirectoryError::Size { bytes: found, .. }) if found == bytes), "{made:?}");
    }
    assert_eq!(directory.account_count().unwrap(), 0);
}

/// Gives an account something of everything.
fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    t.set_vcard(local, local.as_bytes())?;
    t.set_private(local, "a", "urn:b", b"<a xmlns='urn:b'/>")?;
    t.set_private(local, "a", &long(2000, "c"), b"long")?;
    t.set_blocked(local, &["romeo@example.org".into(), "example.com".into()])?;
    t.set_last_activity(local, &LastActivity { at_seconds: 17, status: "gone".into() })?;
    t.set_settings(local, Settings { groups_add: Some(MayAdd::Nobody) })?;
    super::pubsub::fill(t, local)?;
    super::nodes::fill(t, local)?;
    super::rooms::fill(t, local)?;
    super::push::fill(t, local)?;
    super::counts::fill(t, local)?;
    super::uploads::fill(t, local)?;
    t.put_roster_item(local, &Item { contact: "nurse@example.org".into(), ..Item::default() })?;
    t.put_roster_item(local, &Item { contact: "romeo@example.org".into(), ..Item::default() })?;
    t.remove_roster_item(local, "nurse@example.org")?;
    Ok(())
}

#[test]
fn what_belongs_to_an_account_is_kept_and_goes_with_it() {
    let (folder, directory) = new_directory();
    for local in ["mercutio", "tybalt"] {
        add_account(&directory, local);
        write(&directory, move |t| fill(t, local));
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let kept = |local: &str| {
        (
            directory.vcard(local).unwrap(),
            directory.private(local, "a", "urn:b").unwrap(),
            directory.private(local, "a", &long(2000, "c")).unwrap(),
            directory.blocked(local).unwrap(),
            directory.last_activity(local).unwrap(),
            directory.settings(local).unwrap().groups_add,
            directory.roster_items(local).unwrap().len(),
            directory.roster_version(local).unwrap().number,
        )
    };
    let of_tybalt = (
        Some(b"tybalt".to_vec()),
        Some(b"<a xmlns='urn:b'/>".to_vec()),
        Some(b"long".to_vec()),
        vec!["romeo@example.org".to_owned(), "example.com".to_owned()],
        Some(LastActivity { at_seconds: 17, status: "gone".into() }),
        Some(MayAdd::Nobody),
        1,
        3,
    );
    let nothing = (None, None, None, vec![], None, None, 0, 0);
    assert_eq!(kept("tybalt"), of_tybalt);
    assert_eq!(directory.private("tybalt", "b", "urn:a").unwrap(), None);
    assert_eq!(directory.private("tybalt", "a", &long(2000, "d")).unwrap(), None);
    assert!(write(&directory, |t| t.delete_account("mercutio")));
    assert!(!write(&directory, |t| t.delete_account("mercutio")));
    assert_eq!(kept("mercutio"), nothing);
    assert_eq!(kept("tybalt"), of_tybalt);
    add_account(&directory, "mercutio");
    assert_eq!(kept("mercutio"), nothing, "a new account of the name has nothing of the old");
    for (table, expected) in [
        (tables::Table::Rosters, 1),
        (tables::Table::RosterStates, 1),
        (tables::Table::Removals, 1),
        (tables::Table::Blocked, 1),
        (tables::Table::Vcards, 1),
        (tables::Table::Private, 2),
        (tables::Table::Activity, 1),
        (tables::Table::AccountSettings, 1),
        // The node of the service stays, without the account.
        (tables::Table::PubsubNodes, 2),
        (tables::Table::PubsubItems, 1),
        (tables::Table::PubsubItemIds, 1),
        (tables::Table::PubsubMembers, 2),
        (tables::Table::PubsubUsage, 2),
        (tables::Table::NodesOfAccounts, 1),
        (tables::Table::RoomsOfAccounts, 1),
        (tables::Table::RoomsMade, 1),
        (tables::Table::PushDevices, 1),
        (tables::Table::PushTokens, 1),
        (tables::Table::StreamCounts, 1),
        (tables::Table::UploadSlots, 1),
        (tables::Table::Uploads, 1),
        (tables::Table::UploadsOfAccounts, 2),
        // All together, too.
        (tables::Table::UploadUsage, 2),
        // Those of the account that has gone are on the disk still.
        (tables::Table::UploadErasures, 2),
        (tables::Table::RoomAffiliations, 1),
        (tables::Table::RoomNicks, 1),
        (tables::Table::Accounts, 2),
    ] {
        assert_eq!(rows(&directory, table), expected, "{table:?}");
    }
}

#[test]
fn nothing_is_written_for_an_account_that_does_not_exist() {
    let (_folder, directory) = new_directory();
    let item = Item { contact: "nurse@example.org".into(), ..Item::default() };
    let jobs: Vec<Job<()>> = vec![
        Box::new(|t| t.set_vcard("paris", b"x")),
        Box::new(|t| t.set_private("paris", "a", "b", b"x")),
        Box::new(|t| t.set_blocked("paris", &["a".into()])),
        Box::new(|t| t.set_last_activity("paris", &LastActivity::default())),
        Box::new(move |t| t.put_roster_item("paris", &item).map(|_| ())),
    ];
    for job in jobs {
        let result = run_inline(&directory, job);
        assert!(
            matches!(result, Err(DirectoryError::NoAccount { ref local }) if local == "paris"),
            "{result:?}"
        );
    }
    assert!(!write(&directory, |t| t.set_settings("paris", Settings { groups_add: Some(MayAdd::Nobody) })));
    assert_eq!(write(&directory, |t| t.remove_roster_item("paris", "nurse@example.org")), None);
    assert_eq!(directory.roster_items("paris").unwrap(), []);
    assert_eq!(directory.roster_version("paris").unwrap(), RosterVersion::NEVER_CHANGED);
}

#[test]
fn an_account_keeps_its_number_and_a_new_one_of_the_same_name_gets_another() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "romeo");
    let first = directory.account_id("romeo").unwrap().unwrap();
    write(&directory, move |t| {
        t.set_credentials("romeo", &keys("other"))?;
        assert_eq!(t.account_id("romeo")?, Some(first));
        t.delete_account("romeo")?;
        assert_eq!(t.account_id("romeo")?, None);
        Ok(())
    });
    assert_eq!(directory.account_id("romeo").unwrap(), None);
    add_account(&directory, "romeo");
    assert!(directory.account_id("romeo").unwrap().unwrap() > first);
}

/// Two copies that both go on count alike, and must not give one number to two people.
#[test]
fn copies_of_a_directory_give_other_numbers() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let copy = folder.path().join("copy");
    directory.copy_to(&copy).unwrap();
    let copy = open(&copy);
    add_account(&directory, "romeo");
    add_account(&copy, "tybalt");
    let number = |directory: &Directory, local| directory.account_id(local).unwrap().unwrap();
    let (romeo, tybalt) = (number(&directory, "romeo"), number(&copy, "tybalt"));
    assert_eq!((romeo.count(), tybalt.count()), (2, 2));
    assert_ne!(romeo, tybalt);
    assert_eq!(number(&copy, "juliet"), number(&directory, "juliet"));
    write(&copy, |t| t.raise_accounts_ever(40));
    write(&copy, |t| t.raise_accounts_ever(7));
    add_account(&copy, "paris");
    assert_eq!(number(&copy, "paris").count(), 41);
    let mut told = Vec::new();
    copy.for_each_account(|number| told.push(number.count())).unwrap();
    assert_eq!(told, [1, 41, 2], "juliet, paris, tybalt");
}
