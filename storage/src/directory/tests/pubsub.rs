//! Nodes, items and members: what is counted, in which order items lie, and what goes with what.

use super::*;
use crate::actor::ActorId;
use crate::directory::pubsub::{
    AccessModel, Affiliation, ITEM_ROW_BYTES, Item, Member, NODE_ROW_BYTES, NewItem, Node, NodeConfig,
    PubsubUsage, SubscriptionState,
};
use crate::directory::tables::Table;

/// A node with an item and a member.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    let account = t.account(local)?;
    let mut node = t.create_node(account, "urn:example", NodeConfig::default(), 5)?;
    t.publish_item(account, &mut node, &item("one", b"<a xmlns='urn:a'/>"))?;
    let member = Member { affiliation: Affiliation::Member, ..Member::default() };
    t.set_member(account, &mut node, "nurse@example.org", member)
}

fn item<'a>(id: &'a str, payload: &'a [u8]) -> NewItem<'a> {
    NewItem { id, publisher: "juliet@example.org", published_ms: 9, payload }
}

fn account(directory: &Directory) -> ActorId {
    directory.account_id("juliet").unwrap().unwrap()
}

/// Changes a node of juliet's.
fn change(
    directory: &Directory,
    name: &'static str,
    job: impl FnOnce(&mut WriteTransaction<'_>, ActorId, &mut Node) -> Result<(), DirectoryError> + Send + 'static,
) {
    write(directory, move |t| {
        let account = t.account("juliet")?;
        let found = t.pubsub("juliet")?.expect("juliet is there").node(name)?;
        let mut node = match found {
            Some(node) => node,
            None => t.create_node(account, name, NodeConfig::default(), 5)?,
        };
        job(t, account, &mut node)
    });
}

fn node(directory: &Directory, name: &str) -> Option<Node> {
    directory.pubsub("juliet", |view| view.node(name)).unwrap().unwrap()
}

fn ids(directory: &Directory, name: &str, (after, before): (u64, u64), newest_first: bool) -> Vec<String> {
    let read = directory.pubsub("juliet", |view| {
        let node = view.node(name)?.expect("the node is there");
        let mut ids = Vec::new();
        view.each_item(&node, (after, before), newest_first, |item| {
            ids.push(item.id.to_owned());
            true
        })?;
        Ok(ids)
    });
    read.unwrap().unwrap()
}

fn last(directory: &Directory, name: &str) -> Option<Item> {
    let read = directory.pubsub("juliet", |view| {
        let node = view.node(name)?.expect("the node is there");
        Ok(view.last_item(&node)?.map(|item| item.to_item()))
    });
    read.unwrap().unwrap()
}

fn usage(directory: &Directory) -> PubsubUsage {
    directory.pubsub("juliet", |view| view.usage()).unwrap().unwrap()
}

/// What the rows themselves come to.
fn counted(directory: &Directory) -> PubsubUsage {
    let read = directory.pubsub("juliet", |view| {
        let mut sum = PubsubUsage::default();
        for node in view.nodes()? {
            let mut bytes = NODE_ROW_BYTES + (node.name.len() + node.config.title.len()) as u64;
            view.each_item(&node, (0, u64::MAX), false, |item| {
                bytes += ITEM_ROW_BYTES + (item.id.len() + item.publisher.len() + item.payload.len()) as u64;
                true
            })?;
            assert_eq!((node.bytes, node.members), (bytes, view.members(&node)?.len() as u64), "{node:?}");
            sum.nodes += 1;
            sum.items += node.items;
            sum.bytes += bytes;
            sum.members += node.members;
        }
        Ok(sum)
    });
    read.unwrap().unwrap()
}

#[test]
fn items_lie_in_the_order_of_publishing_and_a_new_one_of_an_id_is_the_newest() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    for id in ["a", "b", "c", "a"] {
        change(&directory, "n", move |t, account, node| t.publish_item(account, node, &item(id, b"x")));
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(ids(&directory, "n", (0, u64::MAX), false), ["b", "c", "a"]);
    assert_eq!(ids(&directory, "n", (0, u64::MAX), true), ["a", "c", "b"]);
    assert_eq!(ids(&directory, "n", (2, 4), true), ["c"], "both bounds are left out");
    assert_eq!(ids(&directory, "n", (4, 4), true), [""; 0]);
    assert_eq!(last(&directory, "n").unwrap().id, "a");
    change(&directory, "n", |t, account, node| {
        assert!(t.retract_item(account, node, "a")?);
        assert!(!t.retract_item(account, node, "a")?);
        Ok(())
    });
    assert_eq!(last(&directory, "n").unwrap().id, "c", "the newest that is left");
    change(&directory, "n", |t, account, node| t.purge_node(account, node));
    assert_eq!((last(&directory, "n"), node(&directory, "n").unwrap().items), (None, 0));
    assert_eq!(rows(&directory, Table::PubsubItems) + rows(&directory, Table::PubsubItemIds), 0);
    assert_eq!(usage(&directory), counted(&directory));
}

#[test]
fn the_oldest_items_go_when_there_are_too_many() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    change(&directory, "n", |t, account, node| {
        for number in 0..10 {
            t.publish_item(account, node, &item(&format!("i{number}"), b"x"))?;
        }
        t.trim_node(account, node, 3)
    });
    assert_eq!(ids(&directory, "n", (0, u64::MAX), false), ["i7", "i8", "i9"]);
    assert_eq!(usage(&directory), counted(&directory));
}

#[test]
fn names_ids_and_addresses_of_any_length_are_told_apart() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let names: Vec<String> = [462, 463, 464, 471, 472, 1023]
        .into_iter()
        .flat_map(|bytes| [long(bytes, "a"), long(bytes, "b")])
        .collect();
    let made = names.clone();
    write(&directory, move |t| {
        let account = t.account("juliet")?;
        for name in &made {
            let mut node = t.create_node(account, name, NodeConfig::default(), 5)?;
            for id in &made {
                t.publish_item(account, &mut node, &item(id, id.as_bytes()))?;
                let member = Member { subscription: SubscriptionState::Subscribed, ..Member::default() };
                t.set_member(account, &mut node, id, member)?;
            }
        }
        Ok(())
    });
    let read = directory.pubsub("juliet", |view| {
        for name in &names {
            let node = view.node(name)?.expect("it was made");
            for id in &names {
                assert_eq!(view.item(&node, id)?.expect("it was published").payload, id.as_bytes());
                assert_eq!(view.member(&node, id, None)?.subscription, SubscriptionState::Subscribed);
            }
            assert_eq!(view.item(&node, &long(1023, "c"))?.map(|item| item.sequence), None);
            assert_eq!(view.members(&node)?.len(), names.len());
        }
        let mut found: Vec<String> = view.nodes()?.into_iter().map(|node| node.name).collect();
        found.sort();
        Ok(found)
    });
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(read.unwrap().unwrap(), expected);
    assert_eq!(usage(&directory), counted(&directory));
    for text in [String::new(), long(1024, "a")] {
        let made = run_inline(
            &directory,
            Box::new(move |t| {
                let account = t.account("juliet")?;
                t.create_node(account, &text, NodeConfig::default(), 5)
            }),
        );
        assert!(matches!(made, Err(DirectoryError::Size { .. })), "{made:?}");
    }
}

#[test]
fn a_deleted_node_leaves_nothing_and_a_new_one_of_its_name_begins_empty() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    write(&directory, |t| fill(t, "juliet"));
    let before = node(&directory, "urn:example").unwrap();
    change(&directory, "urn:example", |t, account, node| t.delete_node(account, node));
    assert_eq!((node(&directory, "urn:example"), usage(&directory)), (None, PubsubUsage::default()));
    for table in [Table::PubsubNodes, Table::PubsubItems, Table::PubsubItemIds, Table::PubsubMembers] {
        assert_eq!(rows(&directory, table), 0, "{table:?}");
    }
    change(&directory, "urn:example", |t, account, node| {
        t.configure_node(account, node, NodeConfig { title: "T".into(), ..NodeConfig::default() })
    });
    let after = node(&directory, "urn:example").unwrap();
    assert_eq!((after.items, after.members), (0, 0));
    assert!(after.number > before.number, "a number is never used twice");
    assert_eq!(usage(&directory), counted(&directory));
}

#[test]
fn a_configuration_reads_back_as_it_was_set() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let config = NodeConfig {
        access: AccessModel::Roster,
        max_items: u32::MAX,
        title: "Title".into(),
        payload_type: "urn:a".into(),
        groups: vec!["Friends".into(), String::new()],
        ..NodeConfig::default()
    };
    let wanted = config.clone();
    change(&directory, "n", |t, account, node| t.configure_node(account, node, wanted));
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(node(&directory, "n").unwrap().config, config);
}

/// Whoever gets a name that somebody else had has nothing of what was granted to that other.
#[test]
fn what_was_granted_to_an_account_that_is_gone_counts_for_nothing() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "nurse");
    let nurse = directory.account_id("nurse").unwrap().unwrap();
    change(&directory, "n", move |t, account, node| {
        let member = Member { affiliation: Affiliation::Publisher, account: nurse, ..Member::default() };
        t.set_member(account, node, "nurse@example.org", member)?;
        let nobody = Member { affiliation: Affiliation::Member, ..Member::default() };
        t.set_member(account, node, "paris@example.org", nobody)
    });
    let affiliation = |local: &str| {
        let jid = format!("{local}@example.org");
        let read = directory.pubsub("juliet", |view| {
            let node = view.node("n")?.expect("the node is there");
            Ok(view.member(&node, &jid, Some(local))?.affiliation)
        });
        read.unwrap().unwrap()
    };
    assert_eq!((affiliation("nurse"), affiliation("paris")), (Affiliation::Publisher, Affiliation::Member));
    write(&directory, |t| t.delete_account("nurse"));
    assert_eq!(affiliation("nurse"), Affiliation::None);
    add_account(&directory, "nurse");
    add_account(&directory, "paris");
    assert_eq!(affiliation("nurse"), Affiliation::None, "another account of the same name");
    assert_eq!(affiliation("paris"), Affiliation::Member, "the name was listed before there was an account");
    assert_eq!(account(&directory).count(), 1);
}

/// Random changes; after each of them the counts are those of the rows.
#[test]
fn counts_follow_whatever_is_done() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let mut state: u64 = 0x9e37_79b9;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..400 {
        let name = ["m", "n", "o"][next(3) as usize];
        let (what, id, length) = (next(7), format!("i{}", next(6)), next(200) as usize);
        change(&directory, name, move |t, account, node| match what {
            0 | 1 => t.publish_item(account, node, &item(&id, &vec![b'x'; length])),
            2 => t.retract_item(account, node, &id).map(|_| ()),
            3 => t.trim_node(account, node, 2),
            4 => {
                let title = "t".repeat(length);
                t.configure_node(account, node, NodeConfig { title, ..NodeConfig::default() })
            }
            5 => {
                let affiliation =
                    if length.is_multiple_of(2) { Affiliation::Member } else { Affiliation::None };
                t.set_member(account, node, &format!("{id}@x"), Member { affiliation, ..Member::default() })
            }
            _ => t.delete_node(account, node),
        });
        assert_eq!(usage(&directory), counted(&directory));
    }
}
