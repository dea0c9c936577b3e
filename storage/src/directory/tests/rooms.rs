//! Rooms: what goes with what, whose a row is, and what versions tell.

use std::collections::BTreeMap;

use super::*;
use crate::actor::{ActorId, ActorKind};
use crate::directory::rooms::{
    Affiliate, Affiliation, AffiliationChange, AffiliationChanges, AffiliationVersion, Changed,
    HAT_TEXT_BYTES_MAX, HATS_MAX, Hat, LeftRoom, LinkHash, NewRoom, PublicRoom, REMOVALS_MAX, Room,
    RoomConfig, RoomCounts, RoomFlags, RoomLink, Subject,
};
use crate::directory::tables::Table;

/// A room whose only owner is this account, with a reserved nick.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    let mut room = t.create_room(new(&format!("room-of-{local}")))?.expect("a new room");
    let jid = format!("{local}@{DOMAIN}");
    t.affiliate(&mut room, &to_be(&jid, Some(local), Affiliation::Owner))?;
    t.reserve_nick(&room, &jid, "Nick")?;
    Ok(())
}

fn new(name: &str) -> NewRoom<'_> {
    NewRoom { name, config: RoomConfig::default(), secret: [3; 32], now_ms: 5 }
}

fn to_be<'a>(jid: &'a str, localpart: Option<&'a str>, affiliation: Affiliation) -> AffiliationChange<'a> {
    AffiliationChange { jid, localpart, affiliation, reason: "", now_ms: 7 }
}

/// Makes the room `r`.
fn make(directory: &Directory) -> Room {
    write(directory, |t| t.create_room(new("r"))).expect("a new room")
}

fn room(directory: &Directory, name: &str) -> Option<Room> {
    directory.room(name).unwrap()
}

/// Makes somebody something to the room `r`; at a time, so that some have been for longer.
fn affiliate_at(directory: &Directory, jid: &str, affiliation: Affiliation, now_ms: u64) -> Changed {
    let jid = jid.to_owned();
    write(directory, move |t| {
        let mut room = t.rooms().room("r")?.expect("the room is there");
        let localpart = jid.strip_suffix("@example.org");
        let change = AffiliationChange { now_ms, ..to_be(&jid, localpart, affiliation) };
        t.affiliate(&mut room, &change)
    })
}

fn affiliate(directory: &Directory, jid: &str, affiliation: Affiliation) -> Changed {
    affiliate_at(directory, jid, affiliation, 7)
}

fn reserve(directory: &Directory, jid: &str, nick: &str) -> bool {
    let (jid, nick) = (jid.to_owned(), nick.to_owned());
    write(directory, move |t| {
        let room = t.rooms().room("r")?.expect("the room is there");
        t.reserve_nick(&room, &jid, &nick)
    })
}

fn of(directory: &Directory, jid: &str) -> Option<Affiliate> {
    let room = room(directory, "r").unwrap();
    directory.rooms(|rooms| rooms.affiliate(room.actor, jid, jid.strip_suffix("@example.org"))).unwrap()
}

fn since(directory: &Directory, version: AffiliationVersion) -> AffiliationChanges {
    let room = room(directory, "r").unwrap();
    directory.rooms(|rooms| rooms.changes_since(&room, version)).unwrap()
}

/// Names of those who have changed and of those who are gone since a version.
fn told(directory: &Directory, version: AffiliationVersion) -> Option<(Vec<String>, Vec<String>)> {
    match since(directory, version) {
        AffiliationChanges::Everything => None,
        AffiliationChanges::Since(changed, removed) => Some((
            changed.into_iter().map(|affiliate| affiliate.jid).collect(),
            removed.into_iter().map(|removal| removal.jid).collect(),
        )),
    }
}

/// The room's counts, the index of accounts and the counts of rooms made are what the rows come to.
fn is_in_step(directory: &Directory) {
    let mut makers = BTreeMap::<ActorId, u64>::new();
    let read = directory.rooms(|rooms| {
        let (mut indexed, mut nicks) = (0, 0);
        for room in rooms.page(None, usize::MAX)? {
            let mut counts = RoomCounts::default();
            let mut rows = Vec::new();
            rooms.each_affiliate(room.actor, |affiliate| {
                rows.push(affiliate);
                true
            })?;
            for row in rows {
                match row.affiliation {
                    Affiliation::Owner => counts.owners += 1,
                    Affiliation::Admin => counts.admins += 1,
                    Affiliation::Member => counts.members += 1,
                    Affiliation::Outcast => counts.outcasts += 1,
                    Affiliation::None => panic!("a row of nothing: {row:?}"),
                }
                if !row.nick.is_empty() {
                    nicks += 1;
                    assert_eq!(rooms.nick_owner(room.actor, &row.nick)?.as_ref(), Some(&row.jid));
                }
                if row.account != ActorId::NOBODY {
                    indexed += 1;
                    if row.affiliation == Affiliation::Owner && row.version == 1 {
                        *makers.entry(row.account).or_default() += 1;
                    }
                    let found = rooms.of_account(row.account, usize::MAX)?;
                    let found: Vec<_> = found.iter().filter(|found| found.room == room.actor).collect();
                    assert_eq!(found.len(), 1, "{row:?}");
                    assert_eq!((found[0].affiliation, &found[0].jid), (row.affiliation, &row.jid));
                }
            }
            assert_eq!(room.counts, counts);
            assert_eq!(rooms.name(room.actor)?.as_deref(), Some(&*room.name));
        }
        Ok((indexed, nicks))
    });
    assert_eq!(rooms_made(directory), makers);
    let indices = (rows(directory, Table::RoomsOfAccounts), rows(directory, Table::RoomNicks));
    assert_eq!(read.unwrap(), indices, "no row of an index is left over");
    assert_eq!(rows(directory, Table::Rooms), rows(directory, Table::RoomNames));
}

#[test]
fn a_room_is_there_after_reopening_with_all_that_it_has() {
    let (folder, directory) = new_directory();
    let made = make(&directory);
    assert_eq!((made.actor.kind(), made.actor.count()), (Some(ActorKind::Room), 1));
    let config = RoomConfig {
        title: "Coven".into(),
        description: "d".into(),
        language: "en".into(),
        password: "cauldron".into(),
        users_max: 30,
        history_max: 7,
        ..RoomConfig::private_group()
    };
    let subject =
        Subject { text: "Fire".into(), nick: "hag".into(), jid: "hag@example.org".into(), set_ms: 9 };
    let (wanted, said) = (config.clone(), subject.clone());
    write(&directory, move |t| {
        let mut room = t.rooms().room("r")?.expect("the room is there");
        t.configure_room(&mut room, wanted)?;
        t.set_room_subject(&mut room, said)?;
        t.set_room_vcard(&room, b"<vCard/>")
    });
    affiliate(&directory, "juliet@example.org", Affiliation::Owner);
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let found = room(&directory, "r").unwrap();
    assert_eq!((&found.config, found.subject.as_deref()), (&config, Some(&subject)));
    assert_eq!((found.actor, found.created_ms, found.secret), (made.actor, 5, [3; 32]));
    assert_eq!(directory.room_vcard(found.actor).unwrap().as_deref(), Some(&b"<vCard/>"[..]));
    assert_eq!(found.counts.owners, 1);
    assert_eq!(room(&directory, "s"), None);
    is_in_step(&directory);
}

#[test]
fn a_name_is_taken_once_and_a_number_never_again() {
    let (_folder, directory) = new_directory();
    let first = make(&directory);
    assert_eq!(write(&directory, |t| t.create_room(new("r"))), None);
    affiliate(&directory, "juliet@example.org", Affiliation::Owner);
    assert!(reserve(&directory, "juliet@example.org", "J"));
    write(&directory, |t| {
        let room = t.rooms().room("r")?.expect("the room is there");
        t.set_room_vcard(&room, b"<vCard/>")?;
        t.destroy_room(&room)
    });
    assert_eq!(room(&directory, "r"), None);
    let tables = [Table::Rooms, Table::RoomsPublic, Table::RoomsOfAccounts, Table::RoomsMade];
    for table in tables.into_iter().chain(Table::OF_A_ROOM) {
        assert_eq!(rows(&directory, table), 0, "{}", table.name());
    }
    let second = make(&directory);
    assert_ne!(first.actor, second.actor);
    assert_eq!((second.actor.count(), second.counts), (2, RoomCounts::default()));
    assert!(directory.archive_state(first.actor).unwrap().is_purged);
    assert_eq!(directory.rooms(|rooms| rooms.by_number(first.actor)).unwrap(), None);
    assert_eq!(directory.rooms(|rooms| rooms.by_number(second.actor)).unwrap(), Some(second));
}

#[test]
fn two_copies_of_a_directory_give_rooms_different_numbers() {
    let numbers: Vec<ActorId> = [[1; 32], [2; 32]]
        .into_iter()
        .map(|secret| {
            let (_folder, directory) = new_directory();
            write(&directory, move |t| t.create_room(NewRoom { secret, ..new("r") })).unwrap().actor
        })
        .collect();
    assert_ne!(numbers[0], numbers[1], "a log that knows one does not take the other for it");
}

#[test]
fn the_list_of_public_rooms_has_those_and_no_other() {
    let (_folder, directory) = new_directory();
    for (name, is_public) in [("b", true), ("a", true), ("hidden", false), ("c", true)] {
        write(&directory, move |t| {
            let config = if is_public { RoomConfig::default() } else { RoomConfig::private_group() };
            t.create_room(NewRoom {
                config: RoomConfig { title: format!("T {name}").into(), ..config },
                ..new(name)
            })
        });
    }
    let page = |after: Option<&str>, max| directory.rooms(|rooms| rooms.public(after, max)).unwrap();
    let expected = |name: &str| PublicRoom { name: name.into(), title: format!("T {name}") };
    assert_eq!(page(None, 2), [expected("a"), expected("b")]);
    assert_eq!(page(Some("b"), 2), [expected("c")]);
    write(&directory, |t| {
        let mut room = t.rooms().room("a")?.expect("the room is there");
        let config =
            RoomConfig { flags: room.config.flags.without(RoomFlags::PUBLIC), ..room.config.clone() };
        t.configure_room(&mut room, config)
    });
    assert_eq!(page(None, 9), [expected("b"), expected("c")]);
    assert_eq!(directory.rooms(|rooms| rooms.counts()).unwrap(), (4, 2));
    let all: Vec<String> = directory
        .rooms(|rooms| rooms.page(Some("a"), 9))
        .unwrap()
        .into_iter()
        .map(|room| room.name.into())
        .collect();
    assert_eq!(all, ["b", "c", "hidden"]);
}

#[test]
fn affiliations_change_with_their_counts_and_their_index() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    make(&directory);
    let changed = |before, after| Changed { before, after };
    let nothing = Affiliation::None;
    let (juliet, romeo, away) = ("juliet@example.org", "romeo@example.org", "tybalt@example.com");
    assert_eq!(affiliate(&directory, juliet, Affiliation::Owner), changed(nothing, Affiliation::Owner));
    assert_eq!(affiliate(&directory, romeo, Affiliation::Member), changed(nothing, Affiliation::Member));
    assert_eq!(affiliate(&directory, away, Affiliation::Outcast), changed(nothing, Affiliation::Outcast));
    is_in_step(&directory);
    let before = room(&directory, "r").unwrap().version();
    assert_eq!(
        affiliate(&directory, romeo, Affiliation::Member),
        changed(Affiliation::Member, Affiliation::Member)
    );
    assert_eq!(affiliate(&directory, "x@example.com", nothing), changed(nothing, nothing));
    assert_eq!(room(&directory, "r").unwrap().version(), before, "nothing was changed");
    assert_eq!(
        affiliate(&directory, romeo, Affiliation::Admin),
        changed(Affiliation::Member, Affiliation::Admin)
    );
    assert_eq!(affiliate(&directory, away, nothing), changed(Affiliation::Outcast, nothing));
    is_in_step(&directory);
    let counts = room(&directory, "r").unwrap().counts;
    assert_eq!(counts, RoomCounts { owners: 1, admins: 1, members: 0, outcasts: 0 });
    assert_eq!((counts.belonging(), of(&directory, away)), (2, None));
    let admins =
        |room: &Room| directory.rooms(|rooms| rooms.affiliates(room.actor, Affiliation::Admin)).unwrap();
    assert_eq!(admins(&room(&directory, "r").unwrap())[0].jid, romeo);
}

#[test]
fn a_nick_is_reserved_for_one_who_belongs_to_the_room() {
    let (_folder, directory) = new_directory();
    make(&directory);
    let (a, b) = ("a@example.org", "b@example.org");
    assert!(!reserve(&directory, a, "N"), "nobody in particular");
    affiliate(&directory, a, Affiliation::Member);
    affiliate(&directory, b, Affiliation::Owner);
    assert!(reserve(&directory, a, "N"));
    assert!(!reserve(&directory, b, "N"), "it is taken");
    assert!(reserve(&directory, a, "M") && reserve(&directory, b, "N"));
    affiliate(&directory, a, Affiliation::Admin);
    assert_eq!(of(&directory, a).unwrap().nick, "M", "another affiliation, the same nick");
    is_in_step(&directory);
    assert_eq!(rows(&directory, Table::RoomNicks), 2);
    affiliate(&directory, a, Affiliation::Outcast);
    assert_eq!(of(&directory, a).unwrap().nick, "");
    assert!(reserve(&directory, b, ""));
    assert_eq!(rows(&directory, Table::RoomNicks), 0);
    is_in_step(&directory);
    let long = long(crate::jid::PART_BYTES_MAX, "n");
    assert!(reserve(&directory, b, &long));
    is_in_step(&directory);
    let too_long = run_inline(
        &directory,
        Box::new(|t: &mut WriteTransaction<'_>| {
            let room = t.rooms().room("r")?.expect("the room is there");
            t.reserve_nick(&room, "b@example.org", &super::long(crate::jid::PART_BYTES_MAX + 1, "n"))
        }),
    );
    assert!(matches!(too_long, Err(DirectoryError::Size { .. })), "{too_long:?}");
}

#[test]
fn a_room_counts_for_whoever_has_made_it_and_for_no_other_owner() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    make(&directory);
    let made = |local: &str| {
        let account = directory.account_id(local).unwrap().unwrap();
        directory.rooms(|rooms| rooms.made_by(account)).unwrap()
    };
    let (juliet, romeo) = ("juliet@example.org", "romeo@example.org");
    affiliate(&directory, juliet, Affiliation::Owner);
    affiliate(&directory, romeo, Affiliation::Owner);
    assert_eq!((made("juliet"), made("romeo")), (1, 0));
    assert!(reserve(&directory, juliet, "jule"));
    assert_eq!(made("juliet"), 1, "also with a nick");
    affiliate(&directory, juliet, Affiliation::Member);
    assert_eq!((made("juliet"), made("romeo")), (0, 0), "she owns it no more");
}

/// Rooms that accounts have made, as they are counted.
fn rooms_made(directory: &Directory) -> BTreeMap<ActorId, u64> {
    let accounts = directory.read(|view| {
        let rows = view.all(Table::RoomsMade)?;
        rows.map(|row| row.map(|(key, _)| ActorId::from_raw(u64::from_be_bytes(key.try_into().unwrap()))))
            .collect::<Result<Vec<_>, _>>()
    });
    let made = |account| directory.rooms(|rooms| rooms.made_by(account)).unwrap();
    accounts.unwrap().into_iter().map(|account| (account, made(account))).collect()
}

/// A room with the name, made by the account.
fn made_by(directory: &Directory, local: &'static str, name: &'static str) {
    write(directory, move |t| {
        let mut room = t.create_room(new(name))?.expect("a new room");
        t.affiliate(&mut room, &to_be(&format!("{local}@{DOMAIN}"), Some(local), Affiliation::Owner))
    });
}

#[test]
fn rooms_made_are_counted_through_destruction_inheritance_and_removal() {
    let (folder, directory) = new_directory();
    for local in ["juliet", "romeo", "nurse"] {
        add_account(&directory, local);
    }
    for (local, name) in [("juliet", "r"), ("juliet", "a"), ("juliet", "b"), ("romeo", "c")] {
        made_by(&directory, local, name);
    }
    let made = |directory: &Directory| {
        ["juliet", "romeo", "nurse"].map(|local| {
            let account = directory.account_id(local).unwrap();
            account.map_or(0, |account| directory.rooms(|rooms| rooms.made_by(account)).unwrap())
        })
    };
    assert_eq!(made(&directory), [3, 1, 0]);
    let destroy = |name: &'static str| {
        write(&directory, move |t| {
            let room = t.rooms().room(name)?.expect("the room is there");
            t.destroy_room(&room)
        });
    };
    destroy("a");
    assert_eq!(made(&directory), [2, 1, 0], "a room that is gone counts no more");
    affiliate(&directory, "nurse@example.org", Affiliation::Admin);
    affiliate(&directory, "juliet@example.org", Affiliation::None);
    assert_eq!(made(&directory), [1, 1, 0]);
    write(&directory, |t| {
        let mut room = t.rooms().room("r")?.expect("the room is there");
        t.pass_ownership(&mut room)
    });
    assert_eq!(of(&directory, "nurse@example.org").unwrap().affiliation, Affiliation::Owner);
    assert_eq!(made(&directory), [1, 1, 0], "an heir has made nothing");
    affiliate(&directory, "juliet@example.org", Affiliation::Owner);
    assert_eq!(made(&directory), [1, 1, 0], "who comes back as an owner, neither");
    is_in_step(&directory);
    let copy = folder.path().join("copy");
    directory.copy_to(&copy).unwrap();
    assert_eq!(made(&open(&copy)), [1, 1, 0], "a backup has what was counted");
    assert!(write(&directory, |t| t.delete_account("juliet")));
    is_in_step(&directory);
    add_account(&directory, "juliet");
    assert_eq!(made(&directory), [0, 1, 0], "a new account of the name has made none");
    assert_eq!(rows(&directory, Table::RoomsMade), 1);
    destroy("c");
    assert_eq!(rows(&directory, Table::RoomsMade), 0);
}

/// A directory that was made before anything was counted.
#[test]
fn what_was_not_counted_is_counted_once() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    for (local, name) in [("juliet", "r"), ("juliet", "a"), ("romeo", "b")] {
        made_by(&directory, local, name);
    }
    affiliate(&directory, "romeo@example.org", Affiliation::Owner);
    let counted = rooms_made(&directory);
    assert_eq!(counted.values().copied().collect::<Vec<_>>(), [2, 1]);
    let accounts: Vec<ActorId> = counted.keys().copied().collect();
    write(&directory, move |t| {
        accounts.iter().try_for_each(|account| t.delete(Table::RoomsMade, &account.key()).map(|_| ()))
    });
    assert!(rooms_made(&directory).is_empty());
    write(&directory, |t| {
        t.inner.tables.count_rooms_made(&mut t.txn).map_err(|error| t.inner.failed("count", error))
    });
    assert_eq!(rooms_made(&directory), counted);
    let imported = NewAccount { line: 1, local: "juliet".into(), password: "other".to_owned().into() };
    directory.import([imported], std::num::NonZeroU32::MIN, 1, |_| {}).unwrap();
    assert_eq!(rooms_made(&directory), counted, "an import leaves alone what is there");
}

#[test]
fn versions_tell_what_has_changed_since() {
    let (folder, directory) = new_directory();
    make(&directory);
    let version = || room(&directory, "r").unwrap().version();
    assert_eq!(told(&directory, AffiliationVersion::NEVER_CHANGED), Some((vec![], vec![])));
    affiliate(&directory, "a@example.org", Affiliation::Member);
    let first = version();
    affiliate(&directory, "b@example.org", Affiliation::Member);
    affiliate(&directory, "a@example.org", Affiliation::None);
    let names = |names: &[&str]| names.iter().map(|name| format!("{name}@example.org")).collect::<Vec<_>>();
    assert_eq!(told(&directory, first), Some((names(&["b"]), names(&["a"]))));
    assert_eq!(told(&directory, version()), Some((vec![], vec![])));
    affiliate(&directory, "a@example.org", Affiliation::Owner);
    assert_eq!(told(&directory, first), Some((names(&["a", "b"]), vec![])), "only the last change is told");
    let second = version();
    reserve(&directory, "b@example.org", "B");
    assert_eq!(version(), second, "a nick is no affiliation");
    affiliate(&directory, "b@example.org", Affiliation::Admin);
    assert_eq!(told(&directory, second), Some((names(&["b"]), vec![])));
    let unknown = AffiliationVersion { incarnation: 1, ..second };
    assert_eq!(told(&directory, unknown), None);
    let future = AffiliationVersion { number: second.number + 9, ..second };
    assert_eq!(told(&directory, future), None);
    assert_eq!(second.to_string().parse(), Ok(second));
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(told(&directory, second), Some((names(&["b"]), vec![])), "also when it was opened again");
    affiliate(&directory, "c@example.org", Affiliation::Member);
    let other =
        AffiliationVersion { incarnation: second.incarnation, ..room(&directory, "r").unwrap().version() };
    assert_eq!(told(&directory, other), None, "a version of another time line");
}

#[test]
fn hats_belong_to_those_who_belong_to_the_room() {
    let (_folder, directory) = new_directory();
    make(&directory);
    let jid = "a@example.org";
    let hat = |n: usize| Hat { uri: format!("urn:x:{n}"), title: format!("Hat {n}") };
    let set = |hats: Vec<Hat>| {
        let job = move |t: &mut WriteTransaction<'_>| {
            let room = t.rooms().room("r")?.expect("the room is there");
            t.set_hats(&room, jid, hats)
        };
        run_inline(&directory, Box::new(job))
    };
    assert!(!set(vec![hat(1)]).unwrap(), "nobody is there to have one");
    affiliate(&directory, jid, Affiliation::Member);
    reserve(&directory, jid, "A");
    let before = room(&directory, "r").unwrap().version();
    let all: Vec<Hat> = (0..HATS_MAX).map(hat).collect();
    assert!(set(all.clone()).unwrap());
    assert_eq!(room(&directory, "r").unwrap().version(), before, "a hat is no affiliation");
    let found = of(&directory, jid).unwrap();
    assert_eq!((found.hats, found.nick.as_str()), (all.clone(), "A"));
    affiliate(&directory, jid, Affiliation::Admin);
    assert_eq!(of(&directory, jid).unwrap().hats, all, "it keeps them with another affiliation");
    assert!(set((0..=HATS_MAX).map(hat).collect()).is_err());
    assert!(set(vec![Hat { title: "x".repeat(HAT_TEXT_BYTES_MAX + 1), ..hat(1) }]).is_err());
    affiliate(&directory, jid, Affiliation::Outcast);
    assert_eq!(of(&directory, jid).unwrap().hats, []);
    assert!(!set(vec![hat(1)]).unwrap());
    affiliate(&directory, jid, Affiliation::None);
    affiliate(&directory, jid, Affiliation::Member);
    assert_eq!(of(&directory, jid).unwrap().hats, []);
}

#[test]
fn removals_are_forgotten_when_there_are_too_many() {
    let (_folder, directory) = new_directory();
    make(&directory);
    affiliate(&directory, "stays@example.org", Affiliation::Member);
    let old = room(&directory, "r").unwrap().version();
    for number in 0..REMOVALS_MAX {
        let jid = format!("u{number}@example.org");
        affiliate(&directory, &jid, Affiliation::Member);
        affiliate(&directory, &jid, Affiliation::None);
    }
    let (changed, removed) = told(&directory, old).expect("all of them are known");
    assert_eq!((changed.len(), removed.len() as u64), (0, REMOVALS_MAX));
    let recent = room(&directory, "r").unwrap().version();
    affiliate(&directory, "one@example.org", Affiliation::Member);
    affiliate(&directory, "one@example.org", Affiliation::None);
    assert_eq!(told(&directory, old), None);
    assert_eq!(told(&directory, recent).unwrap().1, ["one@example.org"]);
    assert_eq!(rows(&directory, Table::RoomRemovals), REMOVALS_MAX);
}

#[test]
fn a_removed_account_leaves_its_rooms_and_the_last_owner_an_heir() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo", "nurse", "tybalt", "paris"] {
        add_account(&directory, local);
    }
    make(&directory);
    let jid = |local: &str| format!("{local}@example.org");
    affiliate_at(&directory, &jid("juliet"), Affiliation::Owner, 1);
    affiliate_at(&directory, &jid("romeo"), Affiliation::Member, 2);
    affiliate_at(&directory, &jid("nurse"), Affiliation::Admin, 4);
    affiliate_at(&directory, &jid("paris"), Affiliation::Admin, 3);
    affiliate_at(&directory, &jid("tybalt"), Affiliation::Outcast, 0);
    assert!(reserve(&directory, &jid("juliet"), "J"));
    let leave = |local: &'static str| {
        write(&directory, move |t| {
            let account = t.account(local)?;
            let left = t.leave_rooms(account)?;
            t.delete_account(local)?;
            Ok(left)
        })
    };
    let expected = |was, heir: Option<&str>, is_deserted| {
        let heir = heir.map(jid);
        vec![LeftRoom {
            room: room(&directory, "r").unwrap().actor,
            name: "r".into(),
            was,
            heir,
            is_deserted,
        }]
    };
    assert_eq!(leave("juliet"), expected(Affiliation::Owner, Some("paris"), false));
    is_in_step(&directory);
    assert_eq!(rows(&directory, Table::RoomNicks), 0);
    assert_eq!(of(&directory, &jid("paris")).unwrap().affiliation, Affiliation::Owner);
    assert_eq!(leave("nurse"), expected(Affiliation::Admin, None, false));
    assert_eq!(leave("paris"), expected(Affiliation::Owner, Some("romeo"), false));
    assert_eq!(leave("romeo"), expected(Affiliation::Owner, None, true));
    assert_eq!(leave("tybalt"), expected(Affiliation::Outcast, None, true));
    is_in_step(&directory);
    assert_eq!(room(&directory, "r").unwrap().counts, RoomCounts::default());
}

/// `delete_account` alone leaves nothing behind either.
#[test]
fn a_new_account_of_the_name_has_nothing_of_the_old_ones() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    make(&directory);
    affiliate(&directory, "juliet@example.org", Affiliation::Owner);
    assert!(write(&directory, |t| t.delete_account("juliet")));
    is_in_step(&directory);
    add_account(&directory, "juliet");
    assert_eq!(of(&directory, "juliet@example.org"), None);
    affiliate(&directory, "juliet@example.org", Affiliation::Member);
    assert_eq!(of(&directory, "juliet@example.org").unwrap().affiliation, Affiliation::Member);
}

#[test]
fn what_a_name_without_an_account_is_to_a_room_is_nobodys() {
    let (_folder, directory) = new_directory();
    let ghost = "ghost@example.org";
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    make(&directory);
    affiliate_at(&directory, "juliet@example.org", Affiliation::Owner, 5);
    affiliate_at(&directory, "romeo@example.org", Affiliation::Member, 6);
    assert_eq!(affiliate_at(&directory, ghost, Affiliation::Owner, 1).after, Affiliation::Owner);
    is_in_step(&directory);
    assert_eq!(of(&directory, ghost).unwrap().affiliation, Affiliation::Owner, "as long as there is none");
    let leave = |local: &'static str| {
        let left = write(&directory, move |t| {
            let account = t.account(local)?;
            let left = t.leave_rooms(account)?;
            t.delete_account(local)?;
            Ok(left)
        });
        (left[0].heir.clone(), left[0].is_deserted)
    };
    assert_eq!(leave("juliet"), (Some("romeo@example.org".to_owned()), false), "a ghost owns nothing");
    add_account(&directory, "ghost");
    assert_eq!(of(&directory, ghost), None, "the name is another's now");
    assert_eq!(leave("romeo"), (None, true), "and its account does not belong to the room");
    let made = affiliate(&directory, ghost, Affiliation::Member);
    assert_eq!(made, Changed { before: Affiliation::None, after: Affiliation::Member });
    assert_eq!(of(&directory, ghost).unwrap().affiliation, Affiliation::Member);
    is_in_step(&directory);
}

#[test]
fn rooms_with_the_longest_names_are_told_apart() {
    let (_folder, directory) = new_directory();
    let names: Vec<String> =
        [478, 479, 480, 1023].into_iter().flat_map(|bytes| [long(bytes, "a"), long(bytes, "b")]).collect();
    for name in &names {
        let name = name.clone();
        write(&directory, move |t| {
            let mut room = t.create_room(new(&name))?.expect("a new room");
            t.affiliate(&mut room, &to_be(&name, None, Affiliation::Member))
        });
    }
    for name in &names {
        let found = room(&directory, name).unwrap();
        assert_eq!((&*found.name, found.counts.members), (&**name, 1));
        let member = directory.rooms(|rooms| rooms.affiliate(found.actor, name, None)).unwrap();
        assert_eq!(member.map(|member| member.jid).as_ref(), Some(name));
    }
    let mut listed: Vec<String> =
        directory.rooms(|rooms| rooms.public(None, 99)).unwrap().into_iter().map(|room| room.name).collect();
    listed.sort();
    let mut expected = names;
    expected.sort();
    assert_eq!(listed, expected);
}

fn link(token: &str, expires_ms: u64, uses_max: u64) -> RoomLink {
    let (hash, note) = (LinkHash::of(token), token.to_owned());
    RoomLink { hash, created_ms: 10, expires_ms, uses_max, uses: 0, note }
}

#[test]
fn a_link_is_used_until_it_is_used_up_expires_or_is_revoked() {
    let (_folder, directory) = new_directory();
    let room = make(&directory).actor;
    let add = |link: RoomLink| write(&directory, move |t| t.add_room_link(room, &link, 2));
    let use_at = |token: &'static str, now_ms| {
        write(&directory, move |t| t.use_room_link(room, LinkHash::of(token), now_ms))
    };
    let notes = || {
        let links = directory.rooms(|rooms| rooms.links(room)).unwrap();
        links.into_iter().map(|link| (link.note, link.uses)).collect::<Vec<_>>()
    };
    assert!(add(link("two", 0, 2)) && add(link("short", 15, 0)) && !add(link("more", 0, 0)));
    assert_eq!(use_at("other", 10), None);
    assert_eq!(use_at("two", 10).map(|link| link.uses), Some(1));
    assert_eq!(use_at("short", 14).map(|link| link.uses), Some(1));
    assert_eq!(use_at("short", 15), None, "it has expired");
    assert_eq!(use_at("two", 10).map(|link| link.uses), Some(2));
    assert_eq!(use_at("two", 10), None, "it is used up, and gone");
    assert_eq!(notes(), [("short".to_owned(), 1)]);
    assert!(add(RoomLink { created_ms: 20, ..link("late", 0, 0) }));
    assert_eq!(notes(), [("late".to_owned(), 0)], "those that have expired go when one is made");
    assert!(add(link("one", 0, 0)));
    let id = LinkHash::of("late").id();
    assert_eq!(write(&directory, move |t| t.revoke_room_links(room, Some(&id))), 1);
    assert_eq!(write(&directory, move |t| t.revoke_room_links(room, Some("none"))), 0);
    assert_eq!(notes(), [("one".to_owned(), 0)]);
    write(&directory, |t| {
        let found = t.rooms().room("r")?.expect("the room is there");
        t.destroy_room(&found)
    });
    assert_eq!(rows(&directory, Table::RoomLinks), 0, "they go with their room");
}
