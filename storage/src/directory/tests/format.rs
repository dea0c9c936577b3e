//! docs/directory-format.md against what is written.

use std::collections::BTreeSet;

use super::*;
use crate::actor::{ActorId, ActorKind};
use crate::directory::tables::Table;

const PAGE: &str = include_str!("../../../../docs/directory-format.md");

/// What the page says of a table.
fn section(table: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("\n### `{table}`\n"))?;
    Some(rest.split("\n### ").next().unwrap_or(rest))
}

/// All rows of a table: key and value.
fn rows(directory: &Directory, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    directory
        .read(|view| {
            view.all(table)?.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
        .expect("the table can be read")
}

#[test]
fn the_page_describes_every_table_and_no_other() {
    for table in Table::ALL {
        let said =
            section(table.name()).unwrap_or_else(|| panic!("the page lacks the table {}", table.name()));
        assert!(said.contains("| field"), "the fields of {}", table.name());
        let of_actor = Table::OF_AN_ACCOUNT.contains(&table) || Table::SWEPT.contains(&table);
        assert_eq!(said.contains("Key: actor"), of_actor, "the key of {}", table.name());
    }
    let known: BTreeSet<&str> = Table::ALL.iter().map(|table| table.name()).collect();
    let said = PAGE.split("\n### `").skip(1).filter_map(|rest| rest.split('`').next());
    assert_eq!(said.collect::<BTreeSet<_>>(), known);
    assert!(PAGE.contains(&format!("This is format {}.", env::FORMAT)));
}

#[test]
fn the_page_names_every_key_of_meta() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    write(&directory, |t| super::pubsub::fill(t, "juliet"));
    write(&directory, |t| super::rooms::fill(t, "juliet"));
    write(&directory, |t| {
        t.set_data_set(7, true)?;
        t.put_roster_item(
            "juliet",
            &Item { contact: "romeo@example.org".into(), listed: true, ..Item::default() },
        )?;
        t.delete_account("juliet")
    });
    let keys: Vec<String> =
        rows(&directory, Table::Meta).into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect();
    assert_eq!(keys.len(), 9, "{keys:?}");
    for key in keys {
        assert!(section("meta").unwrap().contains(&format!("| `{key}` |")), "the page lacks {key}");
    }
}

#[test]
fn rows_lie_as_the_page_says() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let actor = directory.account_id("juliet").unwrap().unwrap();
    assert_eq!((actor.kind(), actor.count()), (Some(ActorKind::User), 1));
    write(&directory, |t| {
        let item =
            Item { contact: "romeo@example.org".into(), name: "R".into(), listed: true, ..Item::default() };
        t.put_roster_item("juliet", &item)
    });
    let sealed = |key: &[u8], fields: &[&[u8]]| {
        let mut value = vec![1];
        fields.iter().for_each(|field| value.extend_from_slice(field));
        let checksum = crc32c::crc32c_append(crc32c::crc32c(key), &value);
        value.extend_from_slice(&checksum.to_le_bytes());
        value
    };
    let credentials = keys("secret").encode().to_vec();
    let length = (credentials.len() as u32).to_le_bytes();
    let expected = sealed(b"juliet", &[&actor.raw().to_le_bytes(), &length, &credentials]);
    assert_eq!(rows(&directory, Table::Accounts), [(b"juliet".to_vec(), expected)]);

    let key = [&actor.raw().to_be_bytes()[..], b"romeo@example.org"].concat();
    let fields: [&[u8]; 5] = [&[32], &1_u64.to_le_bytes(), &1_u32.to_le_bytes(), b"R", &0_u32.to_le_bytes()];
    assert_eq!(rows(&directory, Table::Rosters), [(key.clone(), sealed(&key, &fields))]);
    assert_eq!(key[0], 1, "the kind of a user");
    assert_eq!(ActorId::from_raw(u64::from_be_bytes(key[..8].try_into().unwrap())), actor);
}
