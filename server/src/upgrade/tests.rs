//! The state as a whole: what is written is read, and every state that a release ever wrote.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{STATE_VERSION_NEWEST, StateError, sample};
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::file::StateFile;
use crate::saved::record::SessionRecord;
use crate::saved::state::ServerState;
use crate::takeover::rehearse::{Contents, read_all, server_of, sessions_of};

fn sample_bytes() -> Vec<u8> {
    let file = tempfile::tempfile().unwrap();
    sample::write(file.try_clone().unwrap(), STATE_VERSION_NEWEST).unwrap();
    contents(&file)
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upgrade/golden")
}

/// What the state of the first version holds.
const FIRST: Contents = Contents { bound: 8, waiting: 1, negotiating: 3, tls: 6, unacked: 12 };

#[test]
fn every_session_and_the_server_read_as_they_were_written() {
    let bytes = sample_bytes();
    let state = StateFile::read(&bytes).unwrap();
    assert_eq!(server_of(&state).unwrap(), sample::server());
    let mut sessions = Vec::new();
    for block in state.blocks.iter().filter(|block| block.records > 1) {
        sessions_of(block, |session| {
            sessions.push(session);
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(sessions, sample::sessions());
    assert_eq!(read_all(&bytes).unwrap().1, FIRST);
}

/// Each released version leaves a file here (`WHIMBREL_WRITE_DOCS=1` makes that of the newest), and none is ever
/// changed or taken away.
#[test]
fn states_of_all_released_versions_are_read() {
    let newest = golden().join(format!("v{STATE_VERSION_NEWEST}.state"));
    if std::env::var_os("WHIMBREL_WRITE_DOCS").is_some() && !newest.exists() {
        std::fs::write(&newest, sample_bytes()).unwrap();
    }
    for version in 1..=STATE_VERSION_NEWEST {
        let path = golden().join(format!("v{version}.state"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (server, found) = read_all(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(found, FIRST, "{}", path.display());
        assert_eq!((server.domain.as_str(), server.listeners.len()), ("example.org", 3));
    }
    assert_eq!(
        std::fs::read(&newest).unwrap(),
        sample_bytes(),
        "what is written has changed: raise STATE_VERSION_NEWEST, and go on reading what was written before"
    );
}

#[test]
fn a_record_that_is_cut_anywhere_is_an_error_and_nothing_worse() {
    let mut encoder = Encoder::default();
    for session in sample::sessions() {
        encoder.clear();
        session.write(&mut encoder);
        let bytes = encoder.bytes();
        for length in 0..bytes.len() {
            let read = SessionRecord::read(&mut Decoder::new(&bytes[..length]));
            assert!(matches!(read, Err(StateError::Damaged(_))), "{length} of {}: {read:?}", bytes.len());
        }
    }
    encoder.clear();
    sample::server().write(&mut encoder);
    for length in 0..encoder.bytes().len() {
        assert!(ServerState::read(&mut Decoder::new(&encoder.bytes()[..length])).is_err(), "{length}");
    }
}

#[test]
fn bytes_that_are_changed_are_read_as_something_else_or_refused() {
    let mut encoder = Encoder::default();
    for session in sample::sessions() {
        session.write(&mut encoder);
    }
    let bytes = encoder.bytes().to_vec();
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let mut decoder = Decoder::new(&changed);
            while !decoder.is_empty() && SessionRecord::read(&mut decoder).is_ok() {}
        }
    }
}

#[test]
fn an_idle_session_takes_less_than_300_bytes() {
    let sessions = sample::sessions();
    let mut encoder = Encoder::default();
    // A plain one, and the largest keys there are under TLS 1.3.
    for (session, most) in [(&sessions[0], 100), (&sessions[1], 300)] {
        encoder.clear();
        session.write(&mut encoder);
        let bytes = encoder.bytes().len();
        assert!(bytes < most, "{bytes} bytes");
    }
}
