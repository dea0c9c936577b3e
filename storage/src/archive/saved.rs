//! What an archive keeps in a checkpoint: docs/log-format.md, "Checkpoint".

use super::retractions::Retraction;
use super::row::{Packed, Row};
use super::slot::Slot;
use super::tally::{SegmentTally, Tally};
use super::{Adopted, Archive};
use crate::actor::ActorId;
use crate::archive::moves::Move;
use crate::journal::format::checkpoint::Numbers;
use crate::log::{PeerHash, Position, Sequence};

/// Number of the block: "archive".
pub(super) const KIND: u64 = u64::from_le_bytes(*b"archive\0");

/// The block of an archive.
pub(super) fn encode(archive: &Archive) -> Vec<u8> {
    let mut to = Vec::with_capacity(64 + 256 * archive.heads.blocks());
    let mut put = |numbers: &[u64]| numbers.iter().for_each(|n| to.extend_from_slice(&n.to_le_bytes()));
    put(&[archive.text.id.0, archive.text.position.0, u64::from(archive.text.words)]);
    put(&[archive.memory.0.len() as u64]);
    for (base, SegmentTally { records, bytes, newest }) in &archive.memory.0 {
        put(&[*base, *records, *bytes, *newest]);
    }
    put(&[archive.moves.len() as u64]);
    for Move { journal, actor, id, position, words } in archive.moves.all() {
        put(&[*journal, actor.raw(), id.0, position.0, u64::from(*words)]);
    }
    put(&[archive.heads.blocks() as u64]);
    archive.heads.for_each(|is_open, row, end| {
        let length = row.content.len() as u64;
        for number in [row.actor.raw(), u64::from(is_open), row.first.0, end, length] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.extend_from_slice(&row.content);
    });
    to.extend_from_slice(&(archive.adopted.len() as u64).to_le_bytes());
    for Adopted { row, segments } in &archive.adopted {
        let (length, segments_count) = (row.content.len() as u64, segments.len() as u64);
        let numbers = [row.actor.raw(), row.journal, row.first.0, length, segments_count];
        let segments = segments.iter().map(|segment| segment.0);
        for number in numbers.into_iter().chain(segments) {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.extend_from_slice(&row.content);
    }
    to.extend_from_slice(&(archive.retractions.len() as u64).to_le_bytes());
    for Retraction { journal, actor, slot, end, is_received } in archive.retractions.all() {
        let shape = u64::from(slot.words) << 2 | u64::from(*is_received) << 1 | u64::from(slot.is_reference);
        let numbers =
            [*journal, actor.raw(), slot.id.0, slot.position.0, shape, u64::from(slot.peer.0), end.0];
        numbers.iter().for_each(|number| to.extend_from_slice(&number.to_le_bytes()));
    }
    if !archive.moves_adopted.is_empty() {
        to.extend_from_slice(&(archive.moves_adopted.len() as u64).to_le_bytes());
        for (journal, segment) in &archive.moves_adopted {
            to.extend_from_slice(&journal.to_le_bytes());
            to.extend_from_slice(&segment.0.to_le_bytes());
        }
    }
    to
}

/// Reads a block into an archive that has been told nothing. `None`: it is none.
pub(super) fn decode(archive: &mut Archive, content: &[u8]) -> Option<()> {
    let mut numbers = Numbers(content);
    archive.text.id = Sequence(numbers.take()?);
    archive.text.position = Position(numbers.take()?);
    archive.text.words = u32::try_from(numbers.take()?).ok()?;
    let mut memory = Tally::default();
    for _ in 0..numbers.take()? {
        let base = numbers.take()?;
        let (records, bytes, newest) = (numbers.take()?, numbers.take()?, numbers.take()?);
        memory.0.push_back((base, SegmentTally { records, bytes, newest }));
    }
    if !memory.0.iter().is_sorted_by(|a, b| a.0 < b.0) {
        return None;
    }
    for _ in 0..numbers.take()? {
        let journal = numbers.take()?;
        let (actor, id) = (ActorId::from_raw(numbers.take()?), Sequence(numbers.take()?));
        let (position, words) = (Position(numbers.take()?), u32::try_from(numbers.take()?).ok()?);
        if journal != archive.journal {
            archive.tallies.expect(journal);
        }
        archive.moves.push(Move { journal, actor, id, position, words });
    }
    for _ in 0..numbers.take()? {
        let actor = ActorId::from_raw(numbers.take()?);
        let is_open = numbers.take()? == 1;
        let (first, end, length) = (Sequence(numbers.take()?), numbers.take()?, numbers.take()?);
        let slots = Packed::open(first, numbers.bytes(length)?).ok()?.slots().ok()?;
        if !slots.iter().all(|slot| archive.heads.push(actor, slot, end)) {
            return None;
        }
        if !is_open {
            archive.heads.seal(actor);
        }
    }
    for _ in 0..numbers.take()? {
        let (actor, journal) = (ActorId::from_raw(numbers.take()?), numbers.take()?);
        let (first, length) = (Sequence(numbers.take()?), numbers.take()?);
        let segments = (0..numbers.take()?).map(|_| numbers.take().map(Position)).collect::<Option<_>>()?;
        let slots = Packed::open(first, numbers.bytes(length)?).ok()?.slots().ok()?;
        archive.tallies.expect(journal);
        archive.adopted.push_back(Adopted { row: Row { actor, journal, slots }.pack(), segments });
    }
    for _ in 0..numbers.take()? {
        let retraction = take_retraction(&mut numbers)?;
        if retraction.journal != archive.journal {
            archive.tallies.expect(retraction.journal);
        }
        archive.retractions.push(retraction);
    }
    if !numbers.0.is_empty() {
        for _ in 0..numbers.take()? {
            archive.moves_adopted.insert((numbers.take()?, Position(numbers.take()?)));
        }
    }
    archive.memory = memory;
    numbers.0.is_empty().then_some(())
}

fn take_retraction(numbers: &mut Numbers<'_>) -> Option<Retraction> {
    let (journal, actor) = (numbers.take()?, ActorId::from_raw(numbers.take()?));
    let (id, position) = (Sequence(numbers.take()?), Position(numbers.take()?));
    let shape = numbers.take()?;
    let (words, is_received, is_reference) =
        (u32::try_from(shape >> 2).ok()?, shape & 2 != 0, shape & 1 != 0);
    let peer = PeerHash(u32::try_from(numbers.take()?).ok()?);
    let slot = Slot { id, position, words, peer, is_reference };
    Some(Retraction { journal, actor, slot, end: Position(numbers.take()?), is_received })
}
