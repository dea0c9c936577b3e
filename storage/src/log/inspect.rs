//! What logs hold, seen without opening them: see `journal::inspect`.

use std::path::Path;

use super::{Damage, GatheredStats, LogError, Position, Record, Tail};
use crate::actor::ActorId;
use crate::journal::format::record::Kind;
use crate::journal::inspect::{Look, cut, look_at_all};
use crate::journal::{ReaderSet, What};
use crate::queue::Queue;

/// The id of each log in a folder that is written to, and where its last record ends. Each run of a server makes them longer, if
/// only by a mark. Reads one file of each log; no process may have them open.
///
/// # Errors
/// There are no logs; they cannot be read.
pub fn ends(path: &Path) -> Result<Vec<(u64, u64)>, LogError> {
    cut::ends(path)
}

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
    /// Bytes of their records; those of texts that they share once.
    pub bytes: u64,
    /// Actors for whom they wait.
    pub users: u64,
    /// When the oldest that waits was received, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// End of the last record.
    pub end: Position,
    /// Bytes after it that are in use: what a crash left, or what is being written.
    pub tail_bytes: u64,
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
    /// Messages of archives that lie together.
    pub gathered: GatheredStats,
}

/// A record, as [`dump`] tells it.
#[derive(Clone, Copy, Debug)]
pub struct Dumped<'a> {
    /// Which of the logs.
    pub shard: usize,
    /// Where it begins.
    pub position: Position,
    /// `message`, `trim`, `trim-up-to`, `purge`, `mark`, `seal`, `body` or `reference`.
    pub kind: &'static str,
    /// Whose it is; [`ActorId::NOBODY`] for marks and seals.
    pub actor: ActorId,
    /// Its id, or that of what it is about.
    pub sequence: u64,
    /// The message, or the body, that it is. A reference has its text elsewhere.
    pub message: Option<Record<'a>>,
    /// Position of the actor's message before it, as it was then; 0 for none.
    pub previous: Position,
    /// It is a message, or a reference, and waits.
    pub waits: bool,
    /// Compaction has written it again.
    pub is_moved: bool,
}

/// Reads all records of the logs in a folder and checks them.
///
/// # Errors
/// There are no logs, or they cannot be read at all.
pub fn verify(folder: &Path) -> Result<Verified, LogError> {
    let mut verified = Verified::default();
    look_at_all(folder, Queue::default, &mut |look| {
        let lost = look.readers.take_dangling();
        look.damage.extend(lost.into_iter().map(|(position, bytes)| {
            let segment = look.segments.iter().rfind(|segment| segment.base <= position);
            Damage {
                path: segment.map_or_else(|| folder.to_owned(), |segment| segment.path.clone()),
                offset: position - segment.map_or(0, |segment| segment.base),
                bytes,
                what: crate::queue::TEXT_GONE,
            }
        }));
        verified.logs.push(stats_of(look));
        verified.damage.append(&mut look.damage);
        verified.tails.extend(look.tail());
        Ok(())
    })?;
    let (gathered, damage) = super::gathered::verify(folder)?;
    verified.gathered = gathered;
    verified.damage.extend(damage);
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
    look_at_all(folder, Queue::default, &mut |look| {
        damage.append(&mut look.damage);
        tell_records(look, &mut |dumped| {
            goes_on = goes_on && tell(dumped);
        });
        Ok(())
    })?;
    Ok(damage)
}

fn tell_records(look: &Look<Queue>, tell: &mut dyn FnMut(Dumped<'_>)) {
    look.tell_records(&mut |base, raw| {
        let waits = raw.entry(base.0).is_some_and(|entry| match entry.what {
            What::Message(_) | What::Reference { .. } => {
                look.readers.waits_at(entry.actor, entry.sequence, entry.position)
            }
            _ => false,
        });
        tell(Dumped {
            shard: look.identity.shard as usize,
            position: Position(raw.position),
            kind: raw.kind.name(),
            actor: if matches!(raw.kind, Kind::Mark | Kind::Seal) { ActorId::NOBODY } else { raw.actor },
            sequence: raw.sequence,
            message: raw.text(),
            previous: Position(raw.previous()),
            waits,
            is_moved: raw.moved_for() != ReaderSet::NONE,
        });
    });
}

/// What a log holds.
fn stats_of(look: &Look<Queue>) -> LogStats {
    let mut stats = LogStats {
        shard: look.identity.shard as usize,
        segments: look.segments.len() as u64,
        segment_bytes: look.segments.iter().map(|segment| segment.bytes).sum(),
        records: look.records,
        messages: look.readers.messages(),
        bytes: look.readers.held_bytes(),
        users: look.readers.actors().len() as u64,
        end: Position(look.end.position),
        tail_bytes: look.end.tail_bytes,
        ..LogStats::default()
    };
    look.tell_records(&mut |base, raw| {
        let Some(entry) = raw.entry(base.0) else { return };
        let (What::Message(Record { time_ms, .. }) | What::Reference { time_ms, .. }) = entry.what else {
            return;
        };
        if look.readers.waits_at(entry.actor, entry.sequence, entry.position) {
            stats.oldest_ms = Some(stats.oldest_ms.map_or(time_ms, |oldest| oldest.min(time_ms)));
        }
    });
    stats
}
