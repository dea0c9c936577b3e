//! A damaged file is an error in words: no signal, no panic, no wrong answer.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;

const ACCOUNTS: usize = 120;

/// A directory with branches, long values, long keys and free pages.
fn make() -> (TempDir, PathBuf) {
    let (folder, directory) = new_directory();
    write(&directory, |t| {
        let keys = keys("x");
        for n in 0..ACCOUNTS {
            let local = if n % 50 == 0 { long(600, &n.to_string()) } else { format!("u{n:03}") };
            t.create_account(&local, &keys)?;
            t.put_roster_item(&local, &Item { contact: format!("c{n}@x"), ..Item::default() })?;
            t.set_vcard(&local, &vec![b'v'; if n % 40 == 0 { 9000 } else { 20 }])?;
        }
        Ok(())
    });
    write(&directory, |t| {
        for n in (1..ACCOUNTS).step_by(3) {
            t.delete_account(&format!("u{n:03}"))?;
        }
        Ok(())
    });
    write(&directory, |t| t.set_private("u002", "a", "b", &[b'p'; 20_000]));
    drop(directory);
    let file = folder.path().join("directory").join("data.mdb");
    (folder, file)
}

type Everything = Vec<(String, Vec<Item>, Option<Vec<u8>>, Option<Vec<u8>>)>;

fn read_all(directory: &Directory) -> Result<Everything, DirectoryError> {
    let mut found = Vec::new();
    for local in directory.accounts(None, usize::MAX)? {
        directory.credentials(&local)?;
        let items = directory.roster_items(&local)?;
        found.push((local.clone(), items, directory.vcard(&local)?, directory.private(&local, "a", "b")?));
    }
    Ok(found)
}

/// Touches many pages, so that LMDB takes free ones and splits.
fn write_much(directory: &Directory, keys: Credentials) -> Result<(), DirectoryError> {
    let job: Job<()> = Box::new(move |t| {
        for n in 0..30 {
            t.create_account(&format!("u{n:03}x"), &keys)?;
            t.set_vcard(&format!("u{n:03}x"), &[b'v'; 3000])?;
            t.delete_account(&format!("u{:03}", n + 80))?;
        }
        Ok(())
    });
    run_inline(directory, job)
}

fn is_about_damage(error: &DirectoryError) -> bool {
    use DirectoryError as E;
    matches!(
        error,
        E::DamagedFile { .. }
            | E::Damaged { .. }
            | E::Foreign { .. }
            | E::UnknownFormat { .. }
            | E::OtherDomain { .. }
    )
}

#[test]
fn a_changed_byte_is_found_or_does_no_harm() {
    let (folder, file) = make();
    let whole = fs::read(&file).unwrap();
    let path = folder.path().join("directory");
    let new_keys = keys("x");
    let expected = read_all(&open(&path)).unwrap();
    // A fixed sequence, over the page headers and nodes as well as anywhere; each byte is changed in one bit or in all.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let pages = whole.len() / 4096;
    let (mut refused, mut found_later) = (0, 0);
    for round in 0..150 {
        let page = next() as usize % pages;
        let within = if round % 2 == 0 { next() as usize % 64 } else { next() as usize % 4096 };
        let at = page * 4096 + within;
        let change = if round % 3 == 0 { 0xff } else { 1 << (next() % 8) };
        let mut bytes = whole.clone();
        bytes[at] ^= change;
        // Not `fs::write`: some file systems flush a file that was emptied and written anew.
        let rewritten = OpenOptions::new().write(true).open(&file).unwrap();
        rewritten.write_all_at(&bytes, 0).unwrap();
        rewritten.set_len(bytes.len() as u64).unwrap();
        match Directory::open(&path, &options()) {
            Err(error) => {
                assert!(is_about_damage(&error), "byte {at} ^ {change:#x}: {error}");
                refused += 1;
            }
            Ok(directory) => {
                match read_all(&directory) {
                    // A changed key is told by its row's checksum when the row is read; a row read by its key alone
                    // is not found.
                    Ok(found) => {
                        assert!(
                            found == expected || found.len() == expected.len(),
                            "byte {at} ^ {change:#x}"
                        );
                    }
                    Err(error) => {
                        assert!(is_about_damage(&error), "byte {at} ^ {change:#x}: {error}");
                        found_later += 1;
                    }
                }
                if let Err(error) = write_much(&directory, new_keys.clone()) {
                    assert!(is_about_damage(&error), "byte {at} ^ {change:#x}: {error}");
                }
            }
        }
    }
    assert!(refused > 8, "only {refused} changes were found at the start");
    assert!(found_later > 8, "only {found_later} changes were found in values");
}

#[test]
fn a_file_cut_short_is_refused() {
    let (folder, file) = make();
    let whole = fs::metadata(&file).unwrap().len();
    let path = folder.path().join("directory");
    let copy = fs::read(&file).unwrap();
    for length in [1, 100, 4095, 4096, 5000, 8191, 8192, 20_000, whole / 2, whole - 8192] {
        fs::write(&file, &copy[..length as usize]).unwrap();
        let error = Directory::open(&path, &options()).expect_err("a directory with a part missing");
        assert!(is_about_damage(&error), "{length} bytes: {error}");
    }
    fs::write(&file, &copy).unwrap();
    read_all(&open(&path)).unwrap();
}

#[test]
fn a_damaged_value_names_its_table_and_key() {
    let (folder, file) = make();
    let whole = fs::read(&file).unwrap();
    let vcard = [b'v'; 5000];
    let at = whole.windows(vcard.len()).position(|window| window == vcard).expect("the long vCard") + 2000;
    OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"!", at as u64).unwrap();
    let directory = open(&folder.path().join("directory"));
    let errors: Vec<_> = directory
        .accounts(None, usize::MAX)
        .unwrap()
        .iter()
        .filter_map(|local| directory.vcard(local).err())
        .collect();
    let [DirectoryError::Damaged { table: "vcards", key, .. }] = &errors[..] else { panic!("{errors:?}") };
    assert!(key.starts_with("\\x01"), "of a user: {key}");
}
