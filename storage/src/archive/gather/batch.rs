//! What goes into a file of the gathered log, and where: decided before anything is copied, from the rows alone. So texts are read in
//! the order in which they lie in the workers' logs, and written in the order of their actors and ids.

use std::cmp::Reverse;
use std::io;
use std::path::Path;

use super::super::row::Row;
use super::super::segments::Source;
use super::super::slot::{Slot, WORDS_MIN};
use super::super::texts::{BATCH_MESSAGES_MAX, Candidate, each_text};
use super::super::{PackedRow, erase};
use super::is_too_large;
use crate::actor::ActorId;
use crate::directory::{ArchiveView, Directory, DirectoryError, SwitchRow, ToGather};
use crate::file_error::FileError;
use crate::journal::ReaderSet;
use crate::journal::format::record::{Head, Kind, Place, Seed, encode_message, message_bytes};
use crate::journal::format::segment::{HEADER_BYTES, Header};
use crate::journal::live::files::Files;
use crate::journal::live::map::Map;
use crate::journal::options::PAGE_BYTES;
use crate::log::{Flags, LogError, Message, Origin, Position};

/// Bytes that are copied before they go to the disk.
const FLUSH_BYTES: u64 = 4 << 20;
/// Pieces that are copied in one step, of 64 texts at most.
const STEP_PIECES: usize = 8;
/// Bytes that are read before they are written.
const PIECE_BYTES: u64 = 1 << 20;
/// Bytes that go to the disk at once, and in one step.
const SYNC_BYTES: usize = 1 << 20;
const STEP_SYNC_BYTES: usize = 8 << 20;

/// A file that is being written.
pub(super) struct Batch {
    base: u64,
    bytes: u64,
    /// In the order in which they came: their texts lie so, too, more or less.
    rows: Vec<Planned>,
    map: Option<Map>,
    is_begun: bool,
    /// Texts that are to be copied, the last one first.
    texts: Vec<Text>,
    /// Bytes that were copied since the last flush.
    unflushed: u64,
    synced: usize,
    is_published: bool,
    switched: usize,
}

/// A row, and where its texts go.
struct Planned {
    row: PackedRow,
    /// Where the first one is to lie; the others follow.
    start: u64,
    /// Those of its messages that have no text any more: a bit for each.
    textless: u64,
    is_whole: bool,
    /// Those of its messages whose texts were erased or cut meanwhile, and have left the file: the row does not switch, and is
    /// gathered anew later.
    lost: u64,
}

impl Planned {
    fn of(row: PackedRow, textless: u64) -> Self {
        Self { row, start: 0, textless, is_whole: true, lost: 0 }
    }

    /// Its messages, and where they are to lie.
    fn slots(&self) -> Vec<(Slot, Slot)> {
        let mut position = self.start;
        let place = |(at, old): (usize, Slot)| {
            let words = if self.has_text(at) { old.words } else { WORDS_MIN };
            let new = Slot { position: Position(position), words, is_reference: false, ..old };
            position += new.text_bytes();
            (old, new)
        };
        self.row.slots().into_iter().enumerate().map(place).collect()
    }

    fn has_text(&self, at: usize) -> bool {
        self.textless >> at & 1 == 0
    }

    fn bytes(&self) -> u64 {
        self.slots().iter().map(|(_, new)| new.text_bytes()).sum()
    }

    fn switch(&self, journal: u64) -> SwitchRow {
        let slots: Vec<Slot> = self.slots().into_iter().map(|(_, new)| new).collect();
        let all = u64::MAX >> (64 - slots.len().clamp(1, 64));
        let new = Row { actor: self.row.actor, journal, slots }.pack();
        let copied = all & !self.textless & !self.lost;
        SwitchRow { old: self.row.clone(), new, is_whole: self.is_whole, copied, is_hit: self.lost != 0 }
    }
}

/// A text that is to be copied.
struct Text {
    actor: ActorId,
    from: Candidate,
    to: u64,
    row: usize,
}

impl Text {
    /// Writes it to its place in the file; `None`: it cannot be read, and its row stays where it is.
    fn put(&self, found: Option<(u64, &[u8])>, map: &mut Map, file: (u64, u64), rows: &mut [Planned]) {
        let slot = Slot { position: Position(self.to), ..self.from.slot };
        let found = found.filter(|(_, payload)| message_bytes(payload.len()) == slot.text_bytes());
        let mut record = Written { actor: self.actor, slot: &slot, flags: Flags::ARCHIVED, time_ms: None };
        match found {
            Some((time_ms, payload)) => {
                record.time_ms = Some(time_ms);
                record.put(map, file, payload);
            }
            None => {
                // Something has to be here: records follow one another without gaps.
                rows[self.row].is_whole = false;
                record.flags = Flags::ERASED;
                let nothing = vec![0; (slot.text_bytes() - u64::from(WORDS_MIN) * 8) as usize];
                record.put(map, file, &nothing);
            }
        }
    }
}

impl Batch {
    /// A file with the texts of these rows, for the gathered log: it is to begin at this position. Also returns which of them are not
    /// to be gathered any more. `is_due`: whether a row with a text there is to be, which names its journal. `None`: there is nothing to
    /// copy.
    pub(super) fn plan(
        directory: &Directory,
        due: &[ToGather],
        is_due: &dyn Fn(u64, Position) -> bool,
        base: u64,
    ) -> Result<(Option<Self>, Vec<ToGather>), DirectoryError> {
        let mut gone = Vec::new();
        let mut rows = directory.read_archive(|view| {
            let mut rows = Vec::with_capacity(due.len());
            for item in due {
                match planned(view, item, is_due)? {
                    Some(planned) => rows.push(planned),
                    None => gone.push(*item),
                }
            }
            Ok(rows)
        })?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|at| (rows[*at].row.actor, rows[*at].row.first));
        let mut end = base + HEADER_BYTES as u64;
        for at in order {
            rows[at].start = end;
            end += rows[at].bytes();
        }
        let bytes = (end - base).next_multiple_of(PAGE_BYTES);
        let batch = Self {
            base,
            bytes,
            rows,
            map: None,
            is_begun: false,
            texts: Vec::new(),
            unflushed: 0,
            synced: 0,
            is_published: false,
            switched: 0,
        };
        Ok(((!batch.rows.is_empty()).then_some(batch), gone))
    }

    /// Makes the file.
    pub(super) fn create(&mut self, files: &dyn Files, path: &Path, journal: u64) -> io::Result<()> {
        let sequence = self.rows.iter().map(|row| row.row.last.0 + 1).max().unwrap_or(1);
        let (base, bytes) = (self.base, self.bytes);
        let header = Header { shard: 0, shards: 1, log_id: journal, base, bytes, sequence };
        let map = files.create(path, &header.encode(), bytes)?;
        // Texts go to places far apart: where memory is short, one that comes back brings nothing else with it.
        map.expect_touches();
        self.map = Some(map);
        Ok(())
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_copied(&self) -> bool {
        self.is_begun && self.texts.is_empty()
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced as u64 >= self.bytes
    }

    pub(super) fn is_published(&self) -> bool {
        self.is_published
    }

    /// The file has its name, or is about to get it.
    pub(super) fn published(&mut self) {
        self.is_published = true;
    }

    pub(super) fn is_switched(&self) -> bool {
        self.switched >= self.rows.len()
    }

    /// Copies some texts, those of all rows in the order in which they lie: what lies between them is read once. With so many reads at
    /// most, be each of them for one text alone. Returns how many bytes were read, and whether it is time for a flush.
    pub(super) fn copy(&mut self, source: &mut dyn Source, journal: u64) -> Result<(u64, bool), LogError> {
        let Some(mut map) = self.map.take() else { return Ok((0, true)) };
        if self.texts.is_empty() {
            self.texts = self.all_texts(&mut map, journal);
            self.texts.sort_unstable_by_key(|text| Reverse((text.from.journal, text.from.slot.position)));
        }
        let (mut copied, mut read) = (Ok(0), 0);
        for _ in 0..STEP_PIECES {
            let piece = piece_of(&self.texts);
            let mut piece = self.texts.split_off(self.texts.len() - piece);
            piece.reverse();
            self.unflushed += piece.iter().map(|text| text.from.slot.text_bytes()).sum::<u64>();
            copied = self.copy_piece(source, &piece, &mut map, journal);
            read += *copied.as_ref().unwrap_or(&0);
            if copied.is_err() || self.texts.is_empty() {
                break;
            }
        }
        self.map = Some(map);
        copied.map(|_| (read, self.unflushed >= FLUSH_BYTES || self.texts.is_empty()))
    }

    /// All that is to be copied. Records without a text are written at once.
    fn all_texts(&mut self, map: &mut Map, journal: u64) -> Vec<Text> {
        let mut texts = Vec::with_capacity(self.rows.iter().map(|planned| planned.row.messages()).sum());
        self.is_begun = true;
        for (row, planned) in self.rows.iter().enumerate() {
            for (at, (old, new)) in planned.slots().into_iter().enumerate() {
                if planned.has_text(at) {
                    let from = Candidate { journal: planned.row.journal, slot: old };
                    texts.push(Text { actor: planned.row.actor, from, to: new.position.0, row });
                } else {
                    let flags = Flags::ARCHIVED.and(Flags::ERASED);
                    let record = Written { actor: planned.row.actor, slot: &new, flags, time_ms: None };
                    record.put(map, (journal, self.base), &[]);
                }
            }
        }
        texts
    }

    fn copy_piece(
        &mut self,
        source: &mut dyn Source,
        piece: &[Text],
        map: &mut Map,
        journal: u64,
    ) -> Result<u64, LogError> {
        let file = (journal, self.base);
        let actors: Vec<ActorId> = piece.iter().map(|text| text.actor).collect();
        let batch: Vec<Candidate> = piece.iter().map(|text| text.from).collect();
        let rows = &mut self.rows;
        let all =
            each_text(source, (&actors, &batch), &mut |at, found| piece[at].put(found, map, file, rows));
        match all {
            Ok(read) => return Ok(read),
            Err(error) if passes(&error) => return Err(error),
            Err(_) => {}
        }
        // Something cannot be read. That holds up nobody else, so each is read by itself.
        for text in piece {
            let one = (&[text.actor][..], &[text.from][..]);
            match each_text(source, one, &mut |_, found| text.put(found, map, file, rows)) {
                Ok(_) => {}
                Err(error) if passes(&error) => return Err(error),
                Err(_) => text.put(None, map, file, rows),
            }
        }
        Ok(PIECE_BYTES)
    }

    /// Has what was copied on the disk, so that the system can do without it in memory.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.unflushed = 0;
        self.map.as_ref().map_or(Ok(()), |map| map.flusher().sync(0..map.len()))
    }

    /// Has a piece of the file on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        let flusher = map.flusher();
        for _ in 0..STEP_SYNC_BYTES / SYNC_BYTES {
            let end = (self.synced + SYNC_BYTES).min(map.len());
            flusher.sync(self.synced..end)?;
            self.synced = end;
            if end >= map.len() {
                break;
            }
        }
        Ok(())
    }

    /// What was erased or cut since this was asked last: where those texts lie, which must leave the file. Their rows do not switch.
    pub(super) fn lost(&mut self, directory: &Directory) -> Result<Vec<Slot>, DirectoryError> {
        let rows = &self.rows;
        let lost = directory.read_archive(|view| {
            let mut lost = Vec::new();
            for (at, planned) in rows.iter().enumerate() {
                let all = u64::MAX >> (64 - planned.row.messages().clamp(1, 64));
                let now = textless(view, &planned.row)?.unwrap_or(all) & !planned.textless & !planned.lost;
                if now != 0 {
                    lost.push((at, now));
                }
            }
            Ok(lost)
        })?;
        let mut texts = Vec::new();
        for (row, now) in lost {
            self.rows[row].lost |= now;
            let slots = self.rows[row].slots().into_iter().enumerate();
            texts.extend(slots.filter(|(at, _)| now >> at & 1 == 1).map(|(_, (_, new))| new));
        }
        Ok(texts)
    }

    /// Takes texts out of the file before it has its name. Returns how many were there.
    pub(super) fn wipe(&mut self, texts: &[Slot], journal: u64) -> u64 {
        let Some(map) = &mut self.map else { return 0 };
        let mut wiped = 0;
        for text in texts {
            let from = (text.position.0 - self.base) as usize;
            let mut record = map.bytes()[from..from + text.text_bytes() as usize].to_vec();
            wiped += erase::wipe(&mut record, journal, text.position, &[text.position]) as u64;
            map.write(from, &record);
            let from = from as u64 / PAGE_BYTES * PAGE_BYTES;
            self.synced = self.synced.min(from as usize);
        }
        wiped
    }

    /// The file is on the disk, and nothing is written to it any more.
    pub(super) fn close(&mut self) -> io::Result<()> {
        while !self.is_synced() {
            self.sync()?;
        }
        self.map = None;
        Ok(())
    }

    /// The rows that switch next.
    pub(super) fn to_switch(&self, journal: u64, max: usize) -> Vec<SwitchRow> {
        self.rows.iter().skip(self.switched).take(max).map(|planned| planned.switch(journal)).collect()
    }

    pub(super) fn advance_switched(&mut self, rows: usize) {
        self.switched += rows;
    }
}

/// Whether what could not be read can be once others have given back what was wanting: it says nothing of the text.
pub(super) fn passes(error: &LogError) -> bool {
    match error {
        LogError::File(FileError::Descriptors { .. }) => true,
        LogError::File(FileError::Io { source, .. }) => source.kind() == io::ErrorKind::OutOfMemory,
        _ => false,
    }
}

/// How many of some texts are read at once.
fn piece_of(texts: &[Text]) -> usize {
    let mut bytes = 0;
    let fits = |text: &&Text| {
        bytes += text.from.slot.text_bytes();
        bytes <= PIECE_BYTES
    };
    texts.iter().rev().take(BATCH_MESSAGES_MAX).take_while(fits).count().max(texts.len().min(1))
}

/// A row that is due, as it is now. `None`: it is not to be gathered any more.
fn planned(
    view: ArchiveView<'_>,
    item: &ToGather,
    is_due: &dyn Fn(u64, Position) -> bool,
) -> Result<Option<Planned>, DirectoryError> {
    let row = match view.row(item.actor, item.first) {
        Ok(row) => row.map(|row| (row.actor, row.journal, row.slots())),
        Err(error) => Some((item.actor, 0, Err(error))),
    };
    let (actor, journal, slots) = match row {
        Some((actor, journal, Ok(slots))) => (actor, journal, slots),
        // What cannot be read holds nobody else up.
        None | Some((_, _, Err(DirectoryError::Damaged { .. }))) => return Ok(None),
        Some((_, _, Err(error))) => return Err(error),
    };
    if !slots.iter().any(|slot| is_due(journal, slot.position)) {
        return Ok(None);
    }
    let row = Row { actor, journal, slots }.pack();
    let all = u64::MAX >> (64 - row.messages().clamp(1, 64));
    let textless = textless(view, &row)?.filter(|textless| *textless != all);
    let planned = textless.map(|textless| Planned::of(row, textless));
    Ok(planned.filter(|planned| !is_too_large(planned.bytes())))
}

/// Which messages of a row were erased or cut: a bit for each. `None`: the actor is gone.
fn textless(view: ArchiveView<'_>, row: &PackedRow) -> Result<Option<u64>, DirectoryError> {
    let state = view.state(row.actor)?;
    if state.is_purged {
        return Ok(None);
    }
    let erased = view.erased(row.actor, row.first, row.last)?;
    if erased.is_empty() && row.first >= state.first_kept {
        return Ok(Some(0));
    }
    let is_lost =
        |slot: &Slot| slot.id < state.first_kept || erased.iter().any(|(erased, _)| *erased == slot.id);
    let lost = row.slots().into_iter().enumerate().filter(|(_, slot)| is_lost(slot));
    Ok(Some(lost.fold(0, |lost, (at, _)| lost | 1 << at)))
}

/// A record of the file.
struct Written<'a> {
    actor: ActorId,
    /// Where it lies.
    slot: &'a Slot,
    /// Besides that it waits for nobody.
    flags: Flags,
    /// When it was received; `None`: its id says about when.
    time_ms: Option<u64>,
}

impl Written<'_> {
    /// Writes it, as compaction writes what it moves for an archive.
    fn put(&self, map: &mut Map, (journal, base): (u64, u64), payload: &[u8]) {
        let Self { actor, slot, flags, time_ms } = *self;
        let flags = flags.and(Flags::NOT_QUEUED);
        let time_ms = time_ms.unwrap_or(slot.id.time_ms());
        let message = Message { actor, time_ms, flags, origin: Origin::default(), peer: slot.peer, payload };
        let head =
            Head { flags, moved_for: ReaderSet::SECOND, ..Head::note(Kind::Message, actor, slot.id.0) };
        let place = Place { position: slot.position.0, committed: base };
        let head = encode_message(Seed::new(journal), place, head, &message, 0);
        let offset = (slot.position.0 - base) as usize;
        map.write(offset, &head);
        map.write(offset + head.len(), payload);
    }
}
