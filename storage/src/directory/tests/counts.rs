//! How far streams had come.

use super::*;
use crate::actor::ActorId;
use crate::directory::tables::Table;

const MAX: usize = 3;

fn count(stream: u64, handled: u32, until_ms: u64) -> StreamCount {
    StreamCount { stream, handled, until_ms }
}

fn keep(directory: &Directory, local: &str, count: StreamCount) -> bool {
    let (local, account) = (local.to_owned(), directory.account_id(local).unwrap().unwrap());
    write(directory, move |t| t.keep_stream_count((&local, account), &count, MAX))
}

/// A count of an account.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    let account = t.account_id(local)?.expect("the account is there");
    assert!(t.keep_stream_count((local, account), &count(1, 2, 3), MAX)?);
    Ok(())
}

#[test]
fn a_count_reads_as_it_was_written_and_by_its_account_alone() {
    let (folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    let all = [count(1, 0, 0), count(u64::MAX, u32::MAX, u64::MAX), count(0x0102_0304_0506_0708, 17, 9)];
    for count in all {
        assert!(keep(&directory, "juliet", count));
    }
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    for count in all {
        assert_eq!(directory.stream_count("juliet", count.stream).unwrap(), Some(count));
        assert_eq!(directory.stream_count("romeo", count.stream).unwrap(), None);
        assert_eq!(directory.stream_count("nobody", count.stream).unwrap(), None);
    }
    assert_eq!(directory.stream_count_total().unwrap(), 3);
    let account = directory.account_id("juliet").unwrap().unwrap();
    assert!(write(&directory, move |t| t.forget_stream_count(account, 1)));
    assert!(!write(&directory, move |t| t.forget_stream_count(account, 1)));
    assert_eq!(directory.stream_count("juliet", 1).unwrap(), None);
}

#[test]
fn a_row_lies_as_the_page_says() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    assert!(keep(&directory, "juliet", count(0x0a0b, 7, 9)));
    let account = directory.account_id("juliet").unwrap().unwrap();
    let key = [&account.raw().to_be_bytes()[..], &0x0a0b_u64.to_be_bytes()].concat();
    let mut value = vec![1];
    value.extend_from_slice(&7_u64.to_le_bytes());
    value.extend_from_slice(&9_u64.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &value);
    value.extend_from_slice(&checksum.to_le_bytes());
    let rows = directory.read(|view| {
        let rows = view.all(Table::StreamCounts)?;
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(rows.unwrap(), [(key, value)]);
}

#[test]
fn the_newer_count_of_a_stream_replaces_the_older() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    assert!(keep(&directory, "juliet", count(1, 5, 100)));
    assert!(keep(&directory, "juliet", count(1, 8, 50)));
    assert_eq!(directory.stream_count("juliet", 1).unwrap(), Some(count(1, 8, 50)));
}

#[test]
fn of_too_many_that_which_ends_first_makes_room() {
    let (_folder, directory) = new_directory();
    for local in ["juliet", "romeo"] {
        add_account(&directory, local);
    }
    assert!(keep(&directory, "romeo", count(9, 1, 1)));
    for (stream, until_ms) in [(1, 300), (2, 100), (3, 200), (4, 50), (5, 400)] {
        assert!(keep(&directory, "juliet", count(stream, 1, until_ms)));
    }
    let is_there = |stream| directory.stream_count("juliet", stream).unwrap().is_some();
    assert_eq!((1..=5).filter(|stream| is_there(*stream)).collect::<Vec<u64>>(), [1, 3, 5]);
    assert!(directory.stream_count("romeo", 9).unwrap().is_some());
}

#[test]
fn nothing_is_kept_for_an_account_that_is_gone_or_another_by_its_name() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let account = directory.account_id("juliet").unwrap().unwrap();
    assert!(keep(&directory, "juliet", count(1, 1, 1)));
    assert!(write(&directory, |t| t.delete_account("juliet")));
    assert_eq!(directory.stream_count_total().unwrap(), 0);
    for _ in 0..2 {
        assert!(!write(&directory, move |t| t.keep_stream_count(("juliet", account), &count(1, 1, 1), MAX)));
        let _ = write(&directory, |t| t.create_account("juliet", &keys("secret")));
    }
    assert_eq!(directory.stream_count_total().unwrap(), 0);
}

#[test]
fn those_that_have_ended_are_found_a_part_at_a_time_and_removed() {
    let (_folder, directory) = new_directory();
    for n in 0..4 {
        let local = format!("user{n}");
        add_account(&directory, &local);
        for stream in 0..3 {
            assert!(keep(&directory, &local, count(stream, 1, 10 + stream)));
        }
    }
    // One that does not read back.
    let account = directory.account_id("user3").unwrap().unwrap();
    write(&directory, move |t| t.put(Table::StreamCounts, &StreamCountKeyOf(account, 2).bytes(), b"x"));
    let (mut ended, mut after, mut looks) = (Vec::new(), None, 0);
    loop {
        let (some, next) = directory.ended_stream_counts(after, 11, 5).unwrap();
        assert!(some.len() <= 5);
        ended.extend(some);
        (after, looks) = (next, looks + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((ended.len(), looks), (9, 3));
    // Meanwhile one of them has been written anew.
    assert!(keep(&directory, "user0", count(0, 1, 100)));
    assert_eq!(write(&directory, move |t| t.remove_ended_stream_counts(&ended, 11)), 8);
    assert_eq!(directory.stream_count_total().unwrap(), 4);
    assert_eq!(directory.ended_stream_counts(None, 11, 5).unwrap(), (vec![], None));
}

/// A key by its parts.
struct StreamCountKeyOf(ActorId, u64);

impl StreamCountKeyOf {
    fn bytes(&self) -> [u8; 16] {
        [self.0.key(), self.1.to_be_bytes()].concat().try_into().unwrap()
    }
}
