//! Imports and copies.

use std::num::NonZeroU32;

use super::*;

const ONCE: NonZeroU32 = NonZeroU32::new(1).unwrap();

fn entry(line: u64, local: &str, password: &str) -> NewAccount {
    NewAccount { line, local: local.into(), password: password.to_owned().into() }
}

#[test]
fn an_import_makes_accounts_that_can_log_in_and_reports_what_it_could_not_use() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "u00007");
    let lines = (1..=5000).map(|n| match n {
        100 => entry(n, "bad", "\u{7}"),
        200 => entry(n, "u00001", "again"),
        _ => entry(n, &format!("u{:05}", n * 7919 % 5003), &format!("pw{n}")),
    });
    let mut refused = Vec::new();
    let mut progress = Vec::new();
    let imported = directory
        .import(lines, ONCE, 3, |event| match event {
            ImportEvent::Progress(imported) => progress.push(imported),
            ImportEvent::Refused { line, local, .. } => refused.push((line, local)),
        })
        .unwrap();
    assert_eq!(refused, [(100, "bad".to_owned())]);
    assert_eq!(imported.refused, 1);
    assert_eq!(imported.created + imported.skipped, 4999);
    assert_eq!(directory.account_count().unwrap(), imported.created + 1);
    assert!(progress.len() >= 2 && progress.is_sorted_by_key(|p| p.created), "{progress:?}");
    assert_eq!(progress.last().unwrap().created, imported.created);
    let local = format!("u{:05}", 3000 * 7919 % 5003);
    assert!(directory.credentials(&local).unwrap().unwrap().verify_plain("pw3000"));
    assert_eq!(directory.credentials("u00007").unwrap(), Some(keys("secret")), "what existed is left alone");
}

#[test]
fn an_interrupted_import_goes_on_where_it_was() {
    let (folder, directory) = new_directory();
    let lines = |count: u64| (0..count).map(|n| entry(n, &format!("u{n}"), "secret"));
    let first = directory.import(lines(700), ONCE, 2, |_| {}).unwrap();
    assert_eq!(first, Imported { created: 700, ..Imported::default() });
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let before = directory.credentials("u0").unwrap();
    let second = directory.import(lines(1000), ONCE, 2, |_| {}).unwrap();
    assert_eq!(second, Imported { created: 300, skipped: 700, refused: 0 });
    assert_eq!(directory.credentials("u0").unwrap(), before);
}

#[test]
fn an_import_that_cannot_be_written_ends_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options { map_bytes_max: 1 << 20, ..options() };
    let directory = Directory::open(folder.path(), &small).unwrap();
    let lines = (0..30_000).map(|n| entry(n, &format!("u{n}"), "secret"));
    let result = directory.import(lines, ONCE, 2, |_| {});
    assert!(matches!(result, Err(DirectoryError::Full { .. })), "{result:?}");
    let (_folder, directory) = new_directory();
    let result = directory.import([entry(1, &long(2000, "a"), "secret")], ONCE, 2, |_| {});
    assert!(matches!(result, Err(DirectoryError::Size { .. })), "{result:?}");
}

#[test]
fn a_copy_is_a_directory_of_the_moment() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    write(&directory, |t| t.set_vcard("juliet", &[b'v'; 10_000]));
    let path = folder.path().join("copy");
    directory.copy_to(&path).unwrap();
    add_account(&directory, "romeo");
    let copy = open(&path);
    assert_eq!(copy.accounts(None, 9).unwrap(), ["juliet"]);
    assert_eq!(copy.vcard("juliet").unwrap(), directory.vcard("juliet").unwrap());
    assert_eq!(copy.server_secret(), directory.server_secret());
    add_account(&copy, "tybalt");
    let again = directory.copy_to(&path);
    assert!(again.is_err(), "a copy does not overwrite");
    drop(copy);
    assert_eq!(open(&path).accounts(None, 9).unwrap(), ["juliet", "tybalt"]);
}
