//! Makes the archive of a stopped server as wide as one that has run for a year: segment after segment, with one message in each.
//! On a file system that reserves space without writing to it the rest of each is a hole.
//!
//! ```text
//! cargo run --release -p whimbrel-storage --example wide_archive -- DATA GIB
//! ```
//!
//! What it is for: opening the logs, a live upgrade, and another number of workers beside an archive larger than any disk at hand
//! (docs/performance.md). The messages are of accounts that there never were, so nobody is given them.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Archive, Settings, Tallies};
use whimbrel_storage::data::{DIRECTORY, LOG};
use whimbrel_storage::directory::{self, Directory, Shares, run_inline};
use whimbrel_storage::log::{
    ActorCopy, Body, Flags, Log, LogsAt, Options, Origin, PeerHash, journal_folders, sealed_journals,
};

type Failure = Box<dyn std::error::Error>;

/// The first of the accounts that the messages are of.
const STRANGER: u64 = 0xfff_0000_0000;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(gib)) = (arguments.next(), arguments.next()) else {
        return Err("usage: wide_archive DATA GIB".into());
    };
    let (data, bytes) = (Path::new(&data), gib.parse::<u64>()? << 30);
    let options =
        directory::Options { domain: "localhost".into(), map_bytes_max: 16 << 30, ..Default::default() };
    let directory = Directory::open(&data.join(DIRECTORY), &options)?;
    let path = data.join(LOG);
    let shards = journal_folders(&path)?.len() - sealed_journals(&path)?.len();
    let tallies = Arc::new(Tallies::of(&directory)?);
    let options = Options { now_ms: now_ms(), log_bytes_max: u64::MAX >> 1, ..Options::default() };
    let home = |actor: ActorId| Some(actor.number() as usize % shards);
    let at = LogsAt { path: &path, options: &options, shards, home: &home, progress: &|_| {} };
    let mut opened = at.open(None, &|journal| Archive::new(journal, Settings::default(), tallies.clone()))?;
    let each = bytes / options.segment_bytes / shards as u64;
    for log in &mut opened.logs {
        widen(log, each, &directory, &tallies)?;
    }
    for log in opened.logs {
        log.close()?;
    }
    println!("{} logs, {each} segments of {} MiB more in each", shards, options.segment_bytes >> 20);
    Ok(())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// So many segments more.
fn widen(
    log: &mut Log<Archive>,
    segments: u64,
    directory: &Directory,
    tallies: &Tallies,
) -> Result<(), Failure> {
    for number in 0..segments {
        let body = Body {
            time_ms: now_ms(),
            origin: Origin::default(),
            payload: b"<message><body>once</body></message>",
        };
        let actor = ActorId::user(STRANGER + number % 100);
        let copy = ActorCopy { actor, flags: Flags::ARCHIVED.and(Flags::NOT_QUEUED), peer: PeerHash(7) };
        let mut results = Vec::new();
        log.append_for(&[copy], &body, &mut results);
        results.remove(0)?;
        commit(log)?;
        log.second_mut().seal_all();
        write_rows(log, directory, tallies)?;
        log.seal_segment().ok_or("no room for another segment")?;
        commit(log)?;
    }
    Ok(())
}

fn commit(log: &mut Log<Archive>) -> Result<(), Failure> {
    log.commit_now()?;
    log.maintain(now_ms());
    log.commit_now()?;
    log.keep_files_now();
    log.maintain(now_ms());
    Ok(())
}

/// What the archive has for the directory goes there.
fn write_rows(log: &mut Log<Archive>, directory: &Directory, tallies: &Tallies) -> Result<(), Failure> {
    while let Some(changes) = log.second_mut().take_changes(usize::MAX) {
        let given = changes.clone();
        let applied = run_inline(
            directory,
            Box::new(move |transaction| transaction.apply_archive(&given, Shares::default())),
        )?;
        tallies.apply(&applied.segments);
        log.second_mut().changes_done(&changes, true);
    }
    Ok(())
}
