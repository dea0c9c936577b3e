//! Nodes of the publish-subscribe service: they belong to no account, and accounts belong to them.

use super::*;
use crate::actor::ActorId;
use crate::directory::pubsub::{
    Affiliation, Member, NewItem, Node, NodeConfig, NodeOfAccount, PubsubUsage, SubscriptionState,
};
use crate::directory::tables::Table;

fn found(t: &WriteTransaction<'_>, name: &str) -> Result<Option<Node>, DirectoryError> {
    t.pubsub("")?.expect("the service is there").node(name)
}

/// A node of the service, made if there is none.
fn node_in(t: &mut WriteTransaction<'_>, name: &str) -> Result<Node, DirectoryError> {
    match found(t, name)? {
        Some(node) => Ok(node),
        None => t.create_node(ActorId::NODES, name, NodeConfig::default(), 5),
    }
}

/// The account is subscribed to a node of the service.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    let account = t.account(local)?;
    let mut node = node_in(t, "news")?;
    let member = Member { subscription: SubscriptionState::Subscribed, account, ..Member::default() };
    t.set_member(ActorId::NODES, &mut node, &format!("{local}@example.org"), member)
}

/// Makes somebody something to a node of the service.
fn join(
    directory: &Directory,
    name: &'static str,
    jid: &'static str,
    affiliation: Affiliation,
    subscribed: bool,
) {
    write(directory, move |t| {
        let account = t.account(jid.split('@').next().expect("a localpart"))?;
        let mut node = node_in(t, name)?;
        let subscription = if subscribed { SubscriptionState::Subscribed } else { SubscriptionState::None };
        t.set_member(ActorId::NODES, &mut node, jid, Member { affiliation, subscription, account })
    });
}

fn of_account(directory: &Directory, local: &str) -> Vec<NodeOfAccount> {
    let account = directory.account_id(local).unwrap().unwrap();
    let read = directory.pubsub("", |view| {
        let mut rows = Vec::new();
        view.each_of_account(account, None, |row| {
            rows.push(row);
            true
        })?;
        Ok(rows)
    });
    read.unwrap().unwrap()
}

fn usage(directory: &Directory) -> PubsubUsage {
    directory.pubsub("", |view| view.usage()).unwrap().unwrap()
}

fn owners(directory: &Directory, name: &str) -> Vec<String> {
    let read = directory.pubsub("", |view| {
        let node = view.node(name)?.expect("the node is there");
        view.owners(&node, usize::MAX)
    });
    read.unwrap().unwrap()
}

#[test]
fn the_service_has_nodes_beside_those_of_accounts() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    write(&directory, |t| {
        super::pubsub::fill(t, "juliet")?;
        let mut node = node_in(t, "urn:example")?;
        let item = NewItem { id: "i", publisher: "juliet@example.org", published_ms: 9, payload: b"<a/>" };
        t.publish_item(ActorId::NODES, &mut node, &item)
    });
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let names = |local: &str| {
        let names = |node: Node| (node.name, node.items, node.members);
        directory.pubsub(local, |view| Ok(view.nodes()?.into_iter().map(names).collect::<Vec<_>>())).unwrap()
    };
    assert_eq!(names(""), Some(vec![("urn:example".to_owned(), 1, 0)]));
    assert_eq!(names("juliet"), Some(vec![("urn:example".to_owned(), 1, 1)]));
    assert_eq!(names("romeo"), None);
    let (nodes, items, service) = directory.pubsub_counts().unwrap();
    assert_eq!((nodes, items, service.nodes, service.items), (1, 1, 1, 1));
}

#[test]
fn what_an_account_is_to_nodes_is_found_by_the_account_and_owners_by_the_node() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "romeo");
    join(&directory, "a", "juliet@example.org", Affiliation::Owner, true);
    join(&directory, "b", "juliet@example.org", Affiliation::None, true);
    join(&directory, "b", "juliet@example.org/balcony", Affiliation::None, true);
    join(&directory, "b", "romeo@example.org", Affiliation::Owner, false);
    let rows = |local| -> Vec<(String, String, Affiliation)> {
        of_account(&directory, local).into_iter().map(|row| (row.node, row.jid, row.affiliation)).collect()
    };
    let row = |node: &str, jid: &str, affiliation| (node.to_owned(), jid.to_owned(), affiliation);
    let expected = [
        row("a", "juliet@example.org", Affiliation::Owner),
        row("b", "juliet@example.org", Affiliation::None),
        row("b", "juliet@example.org/balcony", Affiliation::None),
    ];
    assert_eq!(rows("juliet"), expected);
    assert_eq!(rows("romeo"), [row("b", "romeo@example.org", Affiliation::Owner)]);
    assert_eq!(
        (owners(&directory, "a"), owners(&directory, "b")),
        (vec!["juliet@example.org".into()], vec!["romeo@example.org".into()])
    );
    let account = directory.account_id("juliet").unwrap().unwrap();
    let counts = |max| directory.pubsub("", |view| view.counts_of_account(account, max)).unwrap().unwrap();
    assert_eq!((counts(u64::MAX), counts(1)), ((3, 1), (1, 1)));

    join(&directory, "a", "juliet@example.org", Affiliation::Member, true);
    assert_eq!(owners(&directory, "a"), [""; 0]);
    join(&directory, "a", "juliet@example.org", Affiliation::None, false);
    assert_eq!(rows("juliet"), expected[1..]);
    assert_eq!((usage(&directory).members, usage(&directory).nodes), (3, 2));
}

#[test]
fn an_account_that_is_removed_is_nothing_to_any_node_and_they_stay() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    join(&directory, "a", "juliet@example.org", Affiliation::Owner, true);
    join(&directory, "b", "juliet@example.org/balcony", Affiliation::None, true);
    join(&directory, "b", "romeo@example.org", Affiliation::None, true);
    assert!(write(&directory, |t| t.delete_account("juliet")));
    add_account(&directory, "juliet");
    assert_eq!(of_account(&directory, "juliet"), []);
    assert_eq!(owners(&directory, "a"), [""; 0]);
    let left = directory.pubsub("", |view| {
        let counted = |name: &str| Ok::<_, DirectoryError>(view.node(name)?.map(|node| node.members));
        Ok((counted("a")?, counted("b")?))
    });
    assert_eq!(left.unwrap().unwrap(), (Some(0), Some(1)));
    assert_eq!((usage(&directory).members, rows(&directory, Table::PubsubMembers)), (1, 1));
    assert_eq!(rows(&directory, Table::NodesOfAccounts), 1);
}

#[test]
fn a_deleted_node_of_the_service_leaves_nothing() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    join(&directory, "a", "juliet@example.org", Affiliation::Owner, true);
    write(&directory, |t| {
        let node = found(t, "a")?.expect("it is there");
        t.delete_node(ActorId::NODES, &node)
    });
    assert_eq!((usage(&directory), of_account(&directory, "juliet")), (PubsubUsage::default(), vec![]));
    for table in [Table::PubsubNodes, Table::PubsubMembers, Table::NodesOfAccounts] {
        assert_eq!(rows(&directory, table), 0, "{table:?}");
    }
}

/// Names, addresses and pages of them, also of those that are too long for a key.
#[test]
fn pages_of_nodes_and_members_miss_nobody() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let names: Vec<String> =
        [3, 471, 472, 1023].into_iter().flat_map(|bytes| [long(bytes, "a"), long(bytes, "b")]).collect();
    let (made, count) = (names.clone(), names.len());
    write(&directory, move |t| {
        let account = t.account("juliet")?;
        let mut node = node_in(t, &made[0])?;
        for name in &made {
            node_in(t, name)?;
            let jid = format!("juliet@example.org/{name}");
            let member = Member { subscription: SubscriptionState::Subscribed, account, ..Member::default() };
            t.set_member(ActorId::NODES, &mut node, &jid, member)?;
        }
        Ok(())
    });
    let account = directory.account_id("juliet").unwrap().unwrap();
    let (mut listed, mut members, mut of_account) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=count {
        let read = directory.pubsub("", |view| {
            let next = view.nodes_after(listed.last().map(String::as_str), 1)?;
            listed.extend(next.into_iter().map(|node| node.name));
            let node = view.node(&names[0])?.expect("it is there");
            let (last, mut next) = (members.last().cloned(), None::<String>);
            view.each_member(&node, last.as_deref(), |row| {
                next = Some(row.jid);
                false
            })?;
            members.extend(next);
            let last: Option<(u64, String)> = of_account.last().cloned();
            let mut next = None;
            view.each_of_account(
                account,
                last.as_ref().map(|(number, jid)| (*number, jid.as_str())),
                |row| {
                    next = Some((row.number, row.jid));
                    false
                },
            )?;
            of_account.extend(next);
            Ok(())
        });
        read.unwrap().unwrap();
    }
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let jids: Vec<String> = names.iter().map(|name| format!("juliet@example.org/{name}")).collect();
    assert_eq!(sorted(listed), sorted(names.clone()));
    assert_eq!(sorted(members), sorted(jids.clone()));
    assert_eq!(sorted(of_account.into_iter().map(|(_, jid)| jid).collect()), sorted(jids));
}
