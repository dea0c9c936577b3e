//! Opening a log that this very process had open a moment ago, before it became another program.
//!
//! The folder was locked all the time, everything is committed, and the checkpoint was written after the last record:
//! so nothing need be scanned, cut or written. The log is what it was, to the byte. Whenever something is not as it
//! should be then, the log is opened like any other.

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::error::LogError;
use super::layout::Lock;
use super::maintain::Upkeep;
use super::options::Options;
use super::record::HEAD_BYTES;
use super::recovery::{Loaded, Recovered, account, load, read_checkpoint};
use super::segment::{HEADER_BYTES, Header, find};
use super::shard::{Identity, Log};
use super::shared::{Shared, Spare};

/// Opens the log in the folder of `shared`; `None` when it is to be opened like any other.
pub(super) fn open(
    shared: &Arc<Shared>,
    identity: Identity,
    options: &Options,
    lock: &Arc<Lock>,
) -> Result<Option<Recovered>, LogError> {
    let mut damage = Vec::new();
    let files = shared.files().clone();
    let mut found = load(&*files, shared.folder(), &identity, &mut damage)?;
    let Some(checkpoint) = read_checkpoint(&*files, shared.folder(), &identity)? else {
        return Ok(None);
    };
    if !damage.is_empty() || !found.headless.is_empty() {
        return Ok(None);
    }
    let Some((spare, offset)) = head(&mut found, checkpoint.position) else { return Ok(None) };
    let Checkpoint { position, next_sequence, times, mut index } = checkpoint;
    let time_of =
        |base: u64| times.iter().find(|(of, _)| *of == base).map_or(u64::MAX, |(_, time_ms)| *time_ms);
    let times: Vec<u64> = found.segments.iter().map(|segment| time_of(segment.base)).collect();
    let segments = account(found.segments, &times, &mut index, None, shared.folder(), &mut damage);
    if !damage.is_empty() {
        return Ok(None);
    }
    shared.start_at(position);
    if let Some(spare) = spare {
        shared.put_spare(spare);
    }
    let mut log = Log {
        seed: identity.seed(),
        identity,
        options: options.clone(),
        segments,
        offset,
        next_sequence,
        index,
        messages_appended: 0,
        upkeep: Upkeep::default(),
        shared: shared.clone(),
        lock: lock.clone(),
    };
    log.upkeep.checkpoint_at = position;
    if let Some(head) = log.segments.back() {
        log.shared.will_write(head.base, head.end(), &head.path, head.map.flusher());
    }
    Ok(Some(Recovered { log, damage, tail_bytes_cut: 0, streams: Default::default() }))
}

/// Finds the segment that is written to and where: nothing has been written behind the checkpoint. A segment behind it
/// that holds nothing yet is taken out: it is the spare one. `None`: there is more behind the checkpoint.
fn head(found: &mut Loaded, position: u64) -> Option<(Option<Spare>, u64)> {
    let at = find(&found.segments, position)?;
    let head = &found.segments[at];
    let offset = position.checked_sub(head.base)?;
    let is_whole = head.map.len() as u64 == head.bytes && offset + HEAD_BYTES as u64 <= head.bytes;
    if !is_whole || !is_blank(head.map.bytes(), offset as usize) {
        return None;
    }
    let end = head.end();
    match found.segments.len() - at {
        1 => Some((None, offset)),
        2 => {
            let last = found.segments.back()?;
            let header = Header::decode(last.map.bytes()).ok()?;
            if last.base != end
                || last.map.len() as u64 != last.bytes
                || !is_blank(last.map.bytes(), HEADER_BYTES)
            {
                return None;
            }
            let last = found.segments.pop_back()?;
            Some((Some(Spare { header, path: last.path, map: last.map }), offset))
        }
        _ => None,
    }
}

/// Whether no record begins at this offset.
fn is_blank(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset..offset + HEAD_BYTES).is_some_and(|head| head.iter().all(|byte| *byte == 0))
}
