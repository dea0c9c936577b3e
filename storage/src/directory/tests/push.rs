//! Devices for push.

use super::*;
use crate::directory::tables::Table;
use crate::directory::{PUSH_NODE_BYTES_MAX, PushDevice, PushEnabled};

const MAX: usize = 3;

fn device(node: &str, token: &str) -> PushDevice {
    PushDevice {
        node: node.into(),
        service: 1,
        token: token.into(),
        keys: vec![0, 255, 7],
        topic: "org.example".into(),
        resource: "phone".into(),
        flags: 5,
        time_to_live: 86_400,
        sound: "bell".into(),
        click_action: "open".into(),
        enabled_ms: 17,
    }
}

/// A device of an account.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    assert_eq!(t.enable_push(local, &device("a", local), MAX)?, DONE);
    Ok(())
}

fn enable(directory: &Directory, local: &str, device: PushDevice) -> PushEnabled {
    let local = local.to_owned();
    write(directory, move |t| t.enable_push(&local, &device, MAX))
}

fn nodes(directory: &Directory, local: &str) -> Vec<String> {
    let account = directory.account_id(local).unwrap().unwrap();
    directory.push_devices(account).unwrap().into_iter().map(|device| device.node).collect()
}

fn rows(directory: &Directory, table: Table) -> u64 {
    directory.read(|view| view.len(table)).unwrap()
}

const DONE: PushEnabled = PushEnabled::Done { from: None, resources: Vec::new() };

#[test]
fn a_device_reads_as_it_was_written() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let account = directory.account_id("juliet").unwrap().unwrap();
    let long = "n".repeat(PUSH_NODE_BYTES_MAX);
    for device in
        [device("a", "one"), device(&long, "two"), PushDevice { node: "z".into(), ..Default::default() }]
    {
        assert_eq!(enable(&directory, "juliet", device.clone()), DONE);
        assert!(directory.push_devices(account).unwrap().contains(&device));
    }
    assert_eq!(directory.push_device_count().unwrap(), 3);
    let mut told = Vec::new();
    directory.each_push_account(|account| told.push(account)).unwrap();
    assert_eq!(told, [account; 3]);
}

#[test]
fn a_node_has_one_device_and_an_account_a_few() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    for (node, token) in [("a", "one"), ("a", "two"), ("b", "three"), ("c", "four")] {
        assert_eq!(enable(&directory, "juliet", device(node, token)), DONE, "{node}");
    }
    assert_eq!(enable(&directory, "juliet", device("d", "five")), PushEnabled::TooMany);
    assert_eq!(nodes(&directory, "juliet"), ["a", "b", "c"]);
    assert_eq!(enable(&directory, "juliet", device("d", "four")), DONE, "in place of c, whose token it is");
    assert_eq!(nodes(&directory, "juliet"), ["a", "b", "d"]);
    assert_eq!((rows(&directory, Table::PushDevices), rows(&directory, Table::PushTokens)), (3, 3));
}

#[test]
fn a_device_that_changes_hands_is_the_new_ones_only() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "romeo");
    assert_eq!(enable(&directory, "juliet", device("a", "one")), DONE);
    let other_service = PushDevice { service: 2, ..device("b", "one") };
    assert_eq!(enable(&directory, "juliet", other_service), DONE);
    let taken = PushEnabled::Done { from: Some("juliet".into()), resources: Vec::new() };
    assert_eq!(enable(&directory, "romeo", device("x", "one")), taken);
    assert_eq!(nodes(&directory, "juliet"), ["b"]);
    assert_eq!(nodes(&directory, "romeo"), ["x"]);
    assert_eq!(write(&directory, |t| t.disable_push("juliet", Some("a"))), 0);
    assert_eq!(nodes(&directory, "romeo"), ["x"]);
}

#[test]
fn devices_end_one_by_one_all_at_once_and_with_their_account() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "romeo");
    for (node, token) in [("a", "one"), ("b", "two"), ("c", "three")] {
        enable(&directory, "juliet", device(node, token));
    }
    enable(&directory, "romeo", device("a", "four"));
    assert_eq!(write(&directory, |t| t.disable_push("juliet", Some("a"))), 1);
    assert_eq!(write(&directory, |t| t.disable_push("juliet", Some("a"))), 0);
    assert!(!write(&directory, |t| t.push_device_gone("juliet", "b", "older")));
    assert!(write(&directory, |t| t.push_device_gone("juliet", "b", "two")));
    enable(&directory, "juliet", device("d", "five"));
    assert_eq!(write(&directory, |t| t.disable_push("juliet", None)), 2);
    assert_eq!((rows(&directory, Table::PushDevices), rows(&directory, Table::PushTokens)), (1, 1));
    assert!(write(&directory, |t| t.delete_account("romeo")));
    assert_eq!((rows(&directory, Table::PushDevices), rows(&directory, Table::PushTokens)), (0, 0));
    assert_eq!(write(&directory, |t| t.disable_push("nobody", None)), 0);
}
