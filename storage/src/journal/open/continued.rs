//! Opening a journal that this very process had open a moment ago, before it became another program.
//!
//! The folder was locked all the time, everything is committed, and the checkpoint was written after the last record:
//! so nothing need be scanned, cut or written. The journal is what it was, to the byte. Whenever something is not as it
//! should be then, it is opened like any other.

use super::super::error::LogError;
use super::super::format::record::HEAD_BYTES;
use super::super::format::segment::{HEADER_BYTES, Header};
use super::super::live::Journal;
use super::super::live::ids::Ids;
use super::super::live::maintain::Upkeep;
use super::super::live::segment::find;
use super::super::live::shared::Spare;
use super::super::reader::Reader;
use super::load::{Access, Loaded, load};
use super::{Opening, Recovered, read_checkpoint};

/// Opens the journal with readers that have been told nothing; `None` when it is to be opened like any other.
pub(crate) fn open<R: Reader>(
    opening: &Opening<'_>,
    mut readers: R,
) -> Result<Option<Recovered<R>>, LogError> {
    let Opening { shared, identity, options, lock, now_ms, .. } = opening;
    let mut damage = Vec::new();
    let files = shared.files().clone();
    let mut found = load(&*files, shared.folder(), identity, Access::Continue, &mut damage)?;
    let Some(checkpoint) = read_checkpoint(&*files, shared.folder(), identity)? else {
        return Ok(None);
    };
    if !damage.is_empty() || !found.headless.is_empty() || !readers.restore(&checkpoint.blocks) {
        return Ok(None);
    }
    let position = checkpoint.position;
    let Some((spare, offset)) = head(&mut found, position) else { return Ok(None) };
    let mut journal = Journal {
        seed: identity.seed(),
        identity: *identity,
        options: (*options).clone(),
        segments: found.segments,
        offset,
        ids: Ids::resumed(checkpoint.next_id, checkpoint.ceiling, *now_ms),
        messages_appended: 0,
        upkeep: Upkeep::default(),
        shared: shared.clone(),
        lock: lock.clone(),
        kept: None,
    };
    readers.recovered(&journal, &mut damage);
    if !damage.is_empty() {
        return Ok(None);
    }
    shared.start_at(position);
    if let Some(spare) = spare {
        shared.put_spare(spare);
    }
    journal.upkeep.checkpoint_at = position;
    journal.will_write_head();
    readers.committed(journal.committed());
    Ok(Some(Recovered { journal, readers, damage, tail_bytes_cut: 0, streams: Default::default() }))
}

/// Finds the segment that is written to and where: nothing has been written behind the checkpoint. A segment behind it
/// that holds nothing yet is taken out: it is the spare one. `None`: there is more behind the checkpoint.
fn head(found: &mut Loaded, position: u64) -> Option<(Option<Spare>, u64)> {
    let at = find(&found.segments, position)?;
    let head = &found.segments[at];
    let offset = position.checked_sub(head.base)?;
    head.map.expect_touches();
    let header = Header::decode(head.map.bytes()).ok()?;
    let is_whole = header.base == head.base && header.bytes == head.bytes;
    let is_whole = is_whole && offset + HEAD_BYTES as u64 <= head.bytes;
    if !is_whole || !is_blank(head.map.bytes(), offset as usize) {
        return None;
    }
    let end = head.end();
    match found.segments.len() - at {
        1 => Some((None, offset)),
        2 => {
            let last = found.segments.back()?;
            last.map.expect_touches();
            let header = Header::decode(last.map.bytes()).ok()?;
            if last.base != end
                || header.base != last.base
                || header.bytes != last.bytes
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
