//! Another number of logs: the waiting messages of each user move to his new home.
//!
//! The new logs are made beside the old ones, as another generation. They count once the layout says so, in one step;
//! a crash before that leaves the old ones as they were, and what there is of the new ones is removed at the next
//! opening. So nothing is lost or twice there, however often it is begun.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::directory::UserId;

use super::error::{AppendError, LogError};
use super::layout::Layout;
use super::message::{Message, Record};
use super::opening::Report;
use super::options::Options;
use super::record::message_bytes;
use super::recovery;
use super::shard::{Identity, Log, Purpose};
use super::shared::Shared;

/// Moves what waits in `old` to `shards` new logs.
#[allow(clippy::too_many_arguments)]
pub(super) fn reshard(
    old: Vec<Log>,
    layout: &Layout,
    root: &Path,
    options: &Options,
    shards: usize,
    home: &(dyn Fn(UserId) -> Option<usize> + Sync),
    random_id: &dyn Fn() -> Result<u64, LogError>,
    report: &mut Report,
) -> Result<Vec<Log>, LogError> {
    let Some(first) = old.first() else { return Ok(old) };
    let (files, lock) = (first.shared.files().clone(), first.lock.clone());
    let log_ids = (0..shards).map(|_| random_id()).collect::<Result<_, _>>()?;
    let target = Layout { owner: layout.owner, generation: layout.generation + 1, log_ids };
    target.make_folders(&*files, root)?;
    // What waits is kept whole, whatever the limits.
    let unlimited = Options { log_bytes_max: u64::MAX / 4, ..options.clone() };
    let next_sequence = old.iter().map(|log| log.next_sequence).max().unwrap_or(1);
    let mut new = Vec::new();
    for (shard, log_id) in target.log_ids.iter().enumerate() {
        let shared = Arc::new(Shared::new(files.clone(), &target.folder(root, shard)));
        let identity = Identity { log_id: *log_id, shard: shard as u32, shards: shards as u32 };
        let mut log = recovery::open(shared, identity, &unlimited, lock.clone(), 0, &|_, _, _| {})?.log;
        log.next_sequence = next_sequence;
        new.push(log);
    }
    let mut places: BTreeMap<UserId, Vec<usize>> = BTreeMap::new();
    for (shard, log) in old.iter().enumerate() {
        for user in log.users() {
            places.entry(user).or_default().push(shard);
        }
    }
    for (user, shards_of_user) in places {
        let Some(shard) = home(user) else {
            report.users -= shards_of_user.len() as u64;
            for shard in shards_of_user {
                let dropped = old[shard].backlog(user).map_or(0, |backlog| backlog.messages);
                report.orphans += dropped;
                report.messages -= dropped;
            }
            continue;
        };
        move_user(&old, &shards_of_user, user, &mut new[shard % shards], report)?;
    }
    for log in &mut new {
        log.options.log_bytes_max = options.log_bytes_max;
        log.sync_all()?;
    }
    target.write(&*files, root)?;
    // The old maps must be gone before their files are.
    drop(old);
    target.remove_others(&*files, root)?;
    Ok(new)
}

/// Copies a user's messages in order. He has them in several logs only if his home was not always the same: then the
/// order is that of their times.
fn move_user(
    old: &[Log],
    shards: &[usize],
    user: UserId,
    to: &mut Log,
    report: &mut Report,
) -> Result<(), LogError> {
    let mut sources: Vec<_> = shards.iter().map(|shard| old[*shard].pending(user).peekable()).collect();
    loop {
        for source in &mut sources {
            while let Some(Err(damage)) = source.next_if(Result::is_err) {
                report.messages -= 1;
                report.damage.push(damage);
            }
        }
        let times =
            sources.iter_mut().map(|source| source.peek()?.as_ref().ok().map(|record| record.time_ms));
        let oldest = times.enumerate().filter_map(|(at, time_ms)| Some((time_ms?, at))).min();
        let Some((_, at)) = oldest else { return Ok(()) };
        if let Some(Ok(record)) = sources[at].next() {
            copy(to, &record)?;
        }
    }
}

fn copy(to: &mut Log, record: &Record<'_>) -> Result<(), LogError> {
    let Record { user, time_ms, flags, origin, payload, .. } = *record;
    let message = Message { user, time_ms, flags, origin, payload };
    to.make_room(message_bytes(payload.len()), Purpose::Upkeep).map_err(|error| no_room(to, error))?;
    let (sequence, previous) = (to.next_sequence, to.index.load(user).2);
    to.next_sequence += 1;
    to.write_message(&message, sequence, previous);
    Ok(())
}

fn no_room(log: &Log, error: AppendError) -> LogError {
    log.no_room().unwrap_or_else(|| LogError::Damaged {
        path: log.shared.folder().to_owned(),
        what: format!("what waits cannot be moved to another number of logs: {error}"),
    })
}

impl Log {
    /// Has all of it on the disk, and counts it as committed.
    fn sync_all(&self) -> Result<(), LogError> {
        for segment in &self.segments {
            let synced = segment.map.flusher().sync(0..segment.map.len());
            synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
        }
        self.commit_now()
    }
}
