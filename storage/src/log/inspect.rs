//! Looking at logs without opening them: a copy, or those of a running server. Nothing is locked, nothing is written.
//!
//! The end of a live log moves while one looks; what was being written then counts as its tail.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::error::{Damage, LogError};
use super::files::{Files, System};
use super::layout::Layout;
use super::message::{Position, Record};
use super::record::Kind;
use super::replay::Replay;
use super::scan::{End, FIRST_MISSING, Found, LAST_MISSING, View, scan};
use super::segment::{FORMAT, HEADER_BYTES, Header, HeaderFault, Segment, base_of, likely_bytes};
use super::shard::Identity;
use crate::directory::UserId;

/// What one log holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogStats {
    /// Which of the logs.
    pub shard: usize,
    /// Files of segments.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Valid records of all kinds.
    pub records: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Users for whom they wait.
    pub users: u64,
    /// When the oldest that waits was received, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// End of the last record.
    pub end: Position,
    /// Bytes after it that are in use: what a crash left, or what is being written.
    pub tail_bytes: u64,
}

/// Bytes after the last record that counts. They cannot be told apart: what a crash left unfinished, what a running server
/// is about to commit, or damage in what was committed last, within the tenth of a second before nothing more came.
/// Opening cuts them off.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the log file {} ends at byte {offset}; {bytes} bytes after it, {records} whole records among them, are an unfinished \
     end, or damage in the very last commit: opening cuts them off",
    path.display()
)]
pub struct Tail {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many there are, up to the last that is not zero.
    pub bytes: u64,
    /// Whole records among them.
    pub records: u64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Each log.
    pub logs: Vec<LogStats>,
    /// What was committed and cannot be read: what opening would report, skip and keep aside.
    pub damage: Vec<Damage>,
    /// Ends that are none.
    pub tails: Vec<Tail>,
}

/// A record, as [`dump`] tells it.
#[derive(Clone, Copy, Debug)]
pub struct Dumped<'a> {
    /// Which of the logs.
    pub shard: usize,
    /// Where it begins.
    pub position: Position,
    /// `message`, `trim`, `trim-up-to`, `purge`, `mark` or `seal`.
    pub kind: &'static str,
    /// Whose it is; 0 for marks and seals.
    pub user: UserId,
    /// Its number, or that of what it is about.
    pub sequence: u64,
    /// The message, of a message.
    pub message: Option<Record<'a>>,
    /// Position of the user's message before it, as it was then; 0 for none.
    pub previous: Position,
    /// It is a message and waits.
    pub waits: bool,
}

/// Reads all records of the logs in a folder and checks them.
///
/// # Errors
/// There are no logs, or they cannot be read at all.
pub fn verify(folder: &Path) -> Result<Verified, LogError> {
    let mut verified = Verified::default();
    look_at_all(folder, &mut |look| {
        verified.logs.push(look.stats());
        verified.damage.append(&mut look.damage);
        verified.tails.extend(look.tail());
        Ok(())
    })?;
    Ok(verified)
}

/// What the logs in a folder hold. Reads all of them.
///
/// # Errors
/// There are no logs, or they cannot be read at all.
pub fn stats(folder: &Path) -> Result<Vec<LogStats>, LogError> {
    verify(folder).map(|verified| verified.logs)
}

/// Tells each record of the logs in a folder, in order, until `tell` returns `false`. Returns what cannot be read.
///
/// # Errors
/// There are no logs, or they cannot be read at all.
pub fn dump(folder: &Path, tell: &mut dyn FnMut(Dumped<'_>) -> bool) -> Result<Vec<Damage>, LogError> {
    let mut damage = Vec::new();
    let mut goes_on = true;
    look_at_all(folder, &mut |look| {
        damage.append(&mut look.damage);
        look.tell_records(&mut |dumped| {
            goes_on = goes_on && tell(dumped);
        });
        Ok(())
    })?;
    Ok(damage)
}

/// One log, read.
pub(super) struct Look {
    identity: Identity,
    segments: VecDeque<Segment>,
    damage: Vec<Damage>,
    replay: Replay,
    committed: u64,
    end: End,
}

fn look_at_all(
    folder: &Path,
    each: &mut dyn FnMut(&mut Look) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let files = System;
    let layout = Layout::read(&files, folder)?;
    let layout = layout
        .ok_or_else(|| LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into()))?;
    for (shard, log_id) in layout.log_ids.iter().enumerate() {
        let identity = Identity { log_id: *log_id, shard: shard as u32, shards: layout.log_ids.len() as u32 };
        each(&mut Look::new(&files, &layout.folder(folder, shard), identity)?)?;
    }
    Ok(())
}

impl Look {
    /// Reads the log in a folder.
    pub(super) fn new(files: &dyn Files, folder: &Path, identity: Identity) -> Result<Self, LogError> {
        let mut damage = Vec::new();
        let segments = view_segments(files, folder, &identity, &mut damage)?;
        let mut replay = Replay { streams_since_ms: u64::MAX, ..Replay::default() };
        let views = views(&segments);
        let from = views.first().map_or(0, |view| view.base);
        // A checkpoint is written when all before it is committed; whatever the records themselves say.
        let path = folder.join(checkpoint::FILE);
        let content = files.read(&path).map_err(|error| LogError::io("read", &path, error))?;
        let known = content.and_then(|content| checkpoint::decode(&content, &identity));
        let committed = known.as_ref().map_or(0, |checkpoint| checkpoint.position);
        replay.first = known.and_then(|checkpoint| checkpoint.first());
        if committed > views.last().map_or(0, |view| view.base + view.nominal) {
            let path = folder.to_owned();
            damage.push(Damage { path, offset: committed, bytes: 0, what: LAST_MISSING });
        }
        let end = scan(&views, identity.seed(), from, committed, &mut |found| match found {
            Found::Record(raw) => {
                replay.apply(&raw);
            }
            Found::Damage { segment, offset, bytes, what } => {
                damage.push(Damage { path: segments[segment].path.clone(), offset, bytes, what });
            }
            Found::Gap { segment, bytes } => {
                let what = "the segment before this one is missing";
                damage.push(Damage { path: segments[segment].path.clone(), offset: 0, bytes, what });
            }
        });
        if let Some(segment) = segments.front()
            && let bytes @ 1.. = replay.missing_before(segment.base)
        {
            damage.push(Damage { path: segment.path.clone(), offset: 0, bytes, what: FIRST_MISSING });
        }
        drop(views);
        Ok(Self { identity, segments, damage, replay, committed, end })
    }

    /// What lies after its end.
    fn tail(&self) -> Option<Tail> {
        let End { position, tail_bytes: bytes, tail_records: records, .. } = self.end;
        let segment = self.segments.iter().find(|segment| position < segment.end())?;
        let offset = position.saturating_sub(segment.base);
        (bytes > 0).then(|| Tail { path: segment.path.clone(), offset, bytes, records })
    }

    fn tell_records(&self, tell: &mut dyn FnMut(Dumped<'_>)) {
        let views = views(&self.segments);
        let from = views.first().map_or(0, |view| view.base);
        scan(&views, self.identity.seed(), from, self.committed, &mut |found| {
            let Found::Record(raw) = found else { return };
            let message = raw.message();
            let slot = self.replay.index.get(raw.user, raw.sequence);
            tell(Dumped {
                shard: self.identity.shard as usize,
                position: Position(raw.position),
                kind: raw.kind.name(),
                user: raw.user,
                sequence: raw.sequence,
                message,
                previous: Position(if raw.kind == Kind::Message { raw.previous() } else { 0 }),
                waits: message.is_some() && slot.is_some_and(|slot| slot.position == raw.position),
            });
        });
    }

    /// What it holds.
    pub(super) fn stats(&self) -> LogStats {
        let mut stats = LogStats {
            shard: self.identity.shard as usize,
            segments: self.segments.len() as u64,
            segment_bytes: self.segments.iter().map(|segment| segment.bytes).sum(),
            records: self.replay.records,
            messages: self.replay.index.messages(),
            users: self.replay.index.users().len() as u64,
            end: Position(self.end.position),
            tail_bytes: self.end.tail_bytes,
            ..LogStats::default()
        };
        self.tell_records(&mut |dumped| {
            if let Some(record) = dumped.message.filter(|_| dumped.waits) {
                stats.bytes += super::record::message_bytes(record.payload.len());
                stats.oldest_ms =
                    Some(stats.oldest_ms.map_or(record.time_ms, |oldest| oldest.min(record.time_ms)));
            }
        });
        stats
    }
}

fn views(segments: &VecDeque<Segment>) -> Vec<View<'_>> {
    segments
        .iter()
        .map(|segment| {
            let present = segment.map.len().min(segment.bytes as usize);
            View { base: segment.base, nominal: segment.bytes, bytes: &segment.map.bytes()[..present] }
        })
        .collect()
}

/// Maps the segments of a log for reading. What opening would move away is reported and left out.
fn view_segments(
    files: &dyn Files,
    folder: &Path,
    identity: &Identity,
    damage: &mut Vec<Damage>,
) -> Result<VecDeque<Segment>, LogError> {
    let mut segments: Vec<Segment> = Vec::new();
    for name in files.list(folder).map_err(|error| LogError::io("read", folder, error))? {
        let Some(named) = base_of(&name) else { continue };
        let path = folder.join(&name);
        let mut report = |bytes, what| damage.push(Damage { path: path.clone(), offset: 0, bytes, what });
        let map = match files.view(&path) {
            Ok(map) => map,
            // The server has deleted it since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                report(0, "the file is empty");
                continue;
            }
            Err(error) => return Err(LogError::io("read", &path, error)),
        };
        match Header::decode(map.bytes()) {
            Ok(header) if header.log_id != identity.log_id => {
                report(map.len() as u64, "it is a segment of another log");
            }
            Ok(header) => {
                if header.base != named {
                    report(0, "it holds another segment than its name tells; it is read as what it is");
                }
                segments.push(Segment::new(header.base, header.bytes, &path, map));
            }
            Err(HeaderFault::Format(found)) => {
                return Err(LogError::UnknownFormat { path, found, known: FORMAT });
            }
            Err(HeaderFault::Bad(what)) => {
                report(HEADER_BYTES as u64, what);
                segments.push(Segment::new(named, likely_bytes(map.len()), &path, map));
            }
        }
    }
    segments.sort_by_key(|segment| segment.base);
    segments.dedup_by(|later, first| later.base < first.end());
    Ok(segments.into())
}
