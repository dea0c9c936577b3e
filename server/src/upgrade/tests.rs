//! The state as a whole: what is written is read, and everything that a release ever wrote.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::rehearse::{read_all, write_samples};
use super::{KINDS, StateError};
use crate::saved::Row;
use crate::saved::counts::Counts;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Versions;
use crate::saved::state::Block;
use crate::takeover::outcome::sessions;

/// The examples of all owners as one state, and what is in it.
fn sample() -> (Vec<u8>, Counts) {
    let file = tempfile::tempfile().unwrap();
    let state = StateWriter::new(file.try_clone().unwrap(), Versions::own(KINDS));
    write_samples(&state, KINDS).unwrap();
    (contents(&file), state.counts())
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upgrade/golden")
}

/// The golden file with this name. `WHIMBREL_WRITE_DOCS=1` makes one that is missing; none is ever changed or taken away.
fn golden_file(name: &str, made: &[u8]) -> Vec<u8> {
    let path = golden().join(name);
    if std::env::var_os("WHIMBREL_WRITE_DOCS").is_some() && !path.exists() {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn names_of_kinds_are_unique() {
    let mut names: Vec<&str> = KINDS.iter().map(|row| row.kind.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KINDS.len());
}

#[test]
fn all_that_is_written_is_found_again() {
    let (bytes, written) = sample();
    assert_eq!(read_all(&bytes, KINDS).unwrap(), written);
    assert!(sessions(&written) > 10, "{written:?}");
    assert!(KINDS.iter().all(|row| written.of(row.kind.name) > 0), "each owner has examples: {written:?}");
}

/// A file for each kind and each version of it, with the records one after another: their number, then for each its
/// length and its bytes.
#[test]
fn blocks_of_all_released_versions_are_read() {
    for row in KINDS {
        let samples = row.samples();
        for version in row.kind.oldest..=row.kind.newest {
            let name = format!("{}-{version}.block", row.kind.name);
            let bytes = golden_file(&name, &packed(&samples));
            let records = unpacked(&bytes);
            for record in &records {
                let block = Block { kind: row.kind.name, version, worker: 0, records: 1, content: record };
                row.read(&block, &mut Counts::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            assert!(
                version < row.kind.newest || records == samples,
                "{name}: what is written has changed: raise the kind's newest version, and go on reading what was \
                 written before"
            );
        }
    }
}

fn packed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

fn unpacked(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record.to_vec());
        bytes = rest;
    }
    records
}

/// A whole state that each release leaves.
#[test]
fn states_of_all_releases_are_read() {
    let (made, _) = sample();
    golden_file("release-1.state", &made);
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "state") {
            let counts = read_all(&std::fs::read(&path).unwrap(), KINDS);
            let counts = counts.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(sessions(&counts) > 10, "{}: {counts:?}", path.display());
        }
    }
}

#[test]
fn a_record_that_is_cut_anywhere_is_an_error_and_nothing_worse() {
    let read = |row: &Row, content: &[u8]| {
        let block = Block { kind: row.kind.name, version: row.kind.newest, worker: 0, records: 1, content };
        row.read(&block, &mut Counts::default())
    };
    for row in KINDS {
        for record in row.samples() {
            assert_eq!(read(row, &record), Ok(()), "{}", row.kind.name);
            for length in 0..record.len() {
                let error = read(row, &record[..length]);
                let name = row.kind.name;
                assert!(matches!(error, Err(StateError::Damaged(_))), "{name}, {length}: {error:?}");
            }
        }
    }
}

#[test]
fn bytes_that_are_changed_are_read_as_something_else_or_refused() {
    for row in KINDS {
        let bytes = row.samples().concat();
        // Each record was written for itself, so what repeats in them is there in full.
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let _ = row.round_trip(&changed);
            }
        }
        assert!(row.samples().iter().all(|record| row.round_trip(record).is_ok()), "{}", row.kind.name);
    }
}
