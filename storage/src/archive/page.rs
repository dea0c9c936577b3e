//! Answering a query: rows and blocks in memory first, then the texts, those that lie near one another with one read.
//!
//! ```text
//!  rows ─┐
//!        ├─▶ candidates: in range, right peer ──▶ a batch ──▶ reads, in the order of positions ──▶ texts ──▶ matches? ──▶ page
//!  memory┘
//! ```
//!
//! Rows that the directory has got since the snapshot was taken have the first messages of the snapshot too: those are
//! passed over. So a page has each message once, wherever it was at that moment.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::query::{Cost, End, Found, Order, Page, Query, QueryError};
use super::segments::Source;
use super::slot::Slot;
use crate::actor::ActorId;
use crate::directory::{ArchiveView, DirectoryError, Erased, RowView};
use crate::journal::format::record::{Raw, Seed};
use crate::log::{LogError, Position, Record, Sequence};

/// Messages that are read at once.
const BATCH_MESSAGES_MAX: usize = 64;
/// What lies between two texts is read with them if it is no more than this.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// Most bytes of one read, but for a text that is longer.
const READ_BYTES_MAX: u64 = 64 << 10;

/// A message that may be asked for, and its journal.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    journal: u64,
    slot: Slot,
}

/// Answers a query in one state of the directory.
pub(crate) fn answer(
    view: ArchiveView<'_>,
    source: &mut dyn Source,
    query: &Query,
) -> Result<Page, QueryError> {
    let state = view.state(query.actor)?;
    let mut page = Page { total: state.messages, ..Page::default() };
    if state.is_purged {
        page.end =
            query.must_exist.first().or(query.ids.first()).map_or(End::Complete, |id| End::NotFound(*id));
        return Ok(page);
    }
    // What the directory has by now is read from there.
    let parts = query.snapshot.parts.iter();
    let memory = parts
        .flat_map(|(journal, slots)| slots.iter().map(|slot| Candidate { journal: *journal, slot: *slot }));
    let memory: Vec<Candidate> = memory.filter(|candidate| candidate.slot.id > state.last).collect();
    let range = query.range(state.first_kept);
    page.reached =
        if query.order == Order::Forwards { Sequence(range.0.0.saturating_sub(1)) } else { range.1 };
    let kept = (state.first_kept.max(query.not_before), Sequence::MAX);
    for id in query.must_exist.iter().chain(&query.ids) {
        if !exists(view, query, &memory, kept, *id)? {
            page.end = End::NotFound(*id);
            return Ok(page);
        }
    }
    let mut candidates = Candidates {
        view,
        query,
        range,
        blocks: Blocks::new(view, query, &memory, range)?,
        cost: Cost::default(),
        passed: None,
        has_stopped: false,
    };
    let mut ready = Vec::new().into_iter().peekable();
    fill(&mut candidates, &mut ready, source, &mut page)?;
    page.cost.rows = candidates.cost.rows;
    Ok(page)
}

/// Whether an actor's archive has a message with this id, in a segment that is there.
fn exists(
    view: ArchiveView<'_>,
    query: &Query,
    memory: &[Candidate],
    kept: (Sequence, Sequence),
    id: Sequence,
) -> Result<bool, DirectoryError> {
    if id < kept.0 || id > kept.1 {
        return Ok(false);
    }
    if memory.binary_search_by_key(&id, |candidate| candidate.slot.id).is_ok() {
        return Ok(true);
    }
    let Some(row) = view.rows_back_from(query.actor, id)?.next().transpose()? else { return Ok(false) };
    let slots = row.slots()?;
    let Ok(at) = slots.binary_search_by_key(&id, |slot| slot.id) else { return Ok(false) };
    // An erased one has kept its place; its text may be gone.
    Ok(view.is_there(row.journal, slots[at].position)? || !view.erased(query.actor, id, id)?.is_empty())
}

/// Blocks of messages in the order of a query.
enum Blocks<'t> {
    Forwards {
        rows: Box<dyn Iterator<Item = Result<RowView<'t>, DirectoryError>> + 't>,
        memory: Option<Vec<Candidate>>,
    },
    Backwards {
        memory: Option<Vec<Candidate>>,
        rows: Box<dyn Iterator<Item = Result<RowView<'t>, DirectoryError>> + 't>,
    },
}

impl<'t> Blocks<'t> {
    fn new(
        view: ArchiveView<'t>,
        query: &Query,
        memory: &[Candidate],
        range: (Sequence, Sequence),
    ) -> Result<Self, DirectoryError> {
        let memory = Some(memory.to_vec());
        Ok(match query.order {
            Order::Forwards => {
                Self::Forwards { rows: Box::new(view.rows_from(query.actor, range.0)?), memory }
            }
            Order::Backwards => {
                Self::Backwards { memory, rows: Box::new(view.rows_back_from(query.actor, range.1)?) }
            }
        })
    }
}

struct Candidates<'t, 'q> {
    view: ArchiveView<'t>,
    query: &'q Query,
    range: (Sequence, Sequence),
    blocks: Blocks<'t>,
    cost: Cost,
    /// The end of the row that was looked at last.
    passed: Option<Sequence>,
    /// As many rows as may have been looked at, and there may be more.
    has_stopped: bool,
}

impl Candidates<'_, '_> {
    /// What may be asked for of the next block that has any; `None`: there is none.
    fn next_block(&mut self) -> Result<Option<Vec<Candidate>>, DirectoryError> {
        loop {
            if self.cost.rows >= self.query.rows_max {
                self.has_stopped = true;
                return Ok(None);
            }
            let (row, memory) = match &mut self.blocks {
                Blocks::Forwards { rows, memory } => match rows.next().transpose()? {
                    Some(row) => (Some(row), None),
                    None => (None, memory.take()),
                },
                Blocks::Backwards { memory, rows } => match memory.take() {
                    Some(slots) => (None, Some(slots)),
                    None => (rows.next().transpose()?, None),
                },
            };
            let mut found = match (row, memory) {
                (Some(row), _) => {
                    self.cost.rows += 1;
                    if self.is_behind(&row) {
                        return Ok(None);
                    }
                    self.passed = Some(match self.query.order {
                        Order::Forwards => row.last,
                        Order::Backwards => row.first,
                    });
                    if self.query.peer.is_some_and(|peer| !row.packed.has_peer(peer)) {
                        continue;
                    }
                    let slots = row.slots()?;
                    self.choose(slots.into_iter().map(|slot| Candidate { journal: row.journal, slot }))
                }
                (None, Some(memory)) => self.choose(memory.into_iter()),
                (None, None) => return Ok(None),
            };
            if found.is_empty() {
                continue;
            }
            if self.query.order == Order::Backwards {
                found.reverse();
            }
            return Ok(Some(found));
        }
    }

    /// Whether a row, and all that follow it, lie outside of the range.
    fn is_behind(&self, row: &RowView<'_>) -> bool {
        match self.query.order {
            // Memory has nothing older than a row.
            Order::Forwards => row.first > self.range.1,
            Order::Backwards => row.last < self.range.0,
        }
    }

    fn choose(&self, all: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
        let Query { peer, ids, .. } = self.query;
        let is_meant = |Candidate { slot, .. }: &Candidate| {
            slot.id >= self.range.0
                && slot.id <= self.range.1
                && peer.is_none_or(|peer| slot.peer == peer)
                && (ids.is_empty() || ids.contains(&slot.id))
        };
        all.filter(is_meant).collect()
    }

    /// What has been erased of a batch.
    fn erased(&self, batch: &[Candidate]) -> Result<HashMap<Sequence, Erased>, DirectoryError> {
        let ids = || batch.iter().map(|candidate| candidate.slot.id);
        let (Some(first), Some(last)) = (ids().min(), ids().max()) else { return Ok(HashMap::new()) };
        Ok(self.view.erased(self.query.actor, first, last)?.into_iter().collect())
    }
}

type Ready = Peekable<IntoIter<Candidate>>;

/// Whether there is another candidate.
fn has_next(candidates: &mut Candidates<'_, '_>, ready: &mut Ready) -> Result<bool, DirectoryError> {
    while ready.peek().is_none() {
        let Some(block) = candidates.next_block()? else { return Ok(false) };
        *ready = block.into_iter().peekable();
    }
    Ok(true)
}

fn fill(
    candidates: &mut Candidates<'_, '_>,
    ready: &mut Ready,
    source: &mut dyn Source,
    page: &mut Page,
) -> Result<(), QueryError> {
    let query = candidates.query;
    loop {
        if !has_next(candidates, ready)? {
            page.end = if candidates.has_stopped { End::Step } else { End::Complete };
            if let Some(passed) = candidates.passed.filter(|_| candidates.has_stopped) {
                page.reached = passed;
            }
            return Ok(());
        }
        if page.messages.len() >= query.messages_max {
            page.end = End::Full;
            return Ok(());
        }
        let is_used_up = page.cost.looks >= query.looks_max || page.texts.len() >= query.bytes_max;
        let batch = next_batch(candidates, ready, page)?;
        if is_used_up || batch.is_empty() {
            page.end = End::Step;
            return Ok(());
        }
        let erased = candidates.erased(&batch)?;
        let texts = Texts::read(source, &batch, &erased, &mut page.cost)?;
        for (at, candidate) in batch.iter().enumerate() {
            texts.take(at, candidate, query, erased.get(&candidate.slot.id), page);
        }
    }
}

/// The candidates that are read next: so many as the page may still have. Empty: the next one is too much for the step.
fn next_batch(
    candidates: &mut Candidates<'_, '_>,
    ready: &mut Ready,
    page: &Page,
) -> Result<Vec<Candidate>, DirectoryError> {
    let query = candidates.query;
    let looks = query.looks_max.saturating_sub(page.cost.looks);
    let most = BATCH_MESSAGES_MAX.min(query.messages_max - page.messages.len()).min(looks);
    let room = query.bytes_max.saturating_sub(page.texts.len()) as u64;
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < most && has_next(candidates, ready)? {
        let Some(next) = ready.next_if(|next| {
            let is_first = batch.is_empty() && page.messages.is_empty();
            is_first || bytes + next.slot.text_bytes() <= room
        }) else {
            break;
        };
        bytes += next.slot.text_bytes();
        batch.push(next);
    }
    Ok(batch)
}

/// Records of a batch, as they were read.
struct Texts {
    bytes: Vec<u8>,
    /// For each of the batch, where its record begins; `None`: it is gone.
    places: Vec<Option<usize>>,
}

/// Texts that are read at once.
struct Run {
    journal: u64,
    segment: Position,
    from: u64,
    to: u64,
    members: Vec<usize>,
}

impl Texts {
    fn read(
        source: &mut dyn Source,
        batch: &[Candidate],
        erased: &HashMap<Sequence, Erased>,
        cost: &mut Cost,
    ) -> Result<Self, LogError> {
        let mut texts = Self { bytes: Vec::new(), places: vec![None; batch.len()] };
        for run in runs(source, batch, erased)? {
            let at = texts.bytes.len();
            texts.bytes.resize(at + (run.to - run.from) as usize, 0);
            cost.reads += 1;
            cost.bytes += (run.to - run.from) as usize;
            if source.read(run.journal, run.segment, Position(run.from), &mut texts.bytes[at..])? {
                for member in run.members {
                    texts.places[member] = Some(at + (batch[member].slot.position.0 - run.from) as usize);
                }
            } else {
                texts.bytes.truncate(at);
            }
        }
        Ok(texts)
    }

    /// Puts a message into the page, if it is asked for.
    fn take(
        &self,
        at: usize,
        candidate: &Candidate,
        query: &Query,
        erased: Option<&Erased>,
        page: &mut Page,
    ) {
        let Slot { id, peer, .. } = candidate.slot;
        page.reached = id;
        page.cost.looks += 1;
        let (time_ms, payload, erased_ms) = match erased {
            Some(erased) => (erased.received_ms, &*erased.tombstone, Some(erased.at_ms)),
            None => {
                let Some(place) = self.places[at] else {
                    page.cost.gone += 1;
                    return;
                };
                let Some(record) = record_at(&self.bytes, place, candidate, query.actor) else {
                    page.cost.damaged += 1;
                    return;
                };
                (record.time_ms, record.payload, None)
            }
        };
        if query.is_in_window(time_ms) && query.matches.as_ref().is_none_or(|matches| matches(payload)) {
            let from = page.texts.len();
            page.texts.extend_from_slice(payload);
            let text = from..page.texts.len();
            page.messages.push(Found { id, time_ms, peer, text, erased_ms });
        }
    }
}

/// When a message was received, in milliseconds since 1970, and its text.
type ReadText = (u64, Vec<u8>);

/// When the messages of an actor were received that lie at these places of a journal, and their texts; `None` for one that is
/// gone, or that the disk gives back otherwise than it was written.
pub(super) fn texts_at(
    source: &mut dyn Source,
    (actor, journal): (ActorId, u64),
    slots: &[Slot],
) -> Result<Vec<Option<ReadText>>, LogError> {
    let mut found = Vec::with_capacity(slots.len());
    for part in slots.chunks(BATCH_MESSAGES_MAX) {
        let batch: Vec<Candidate> = part.iter().map(|slot| Candidate { journal, slot: *slot }).collect();
        let texts = Texts::read(source, &batch, &HashMap::new(), &mut Cost::default())?;
        found.extend(batch.iter().zip(&texts.places).map(|(candidate, place)| {
            let record = record_at(&texts.bytes, (*place)?, candidate, actor)?;
            Some((record.time_ms, record.payload.to_vec()))
        }));
    }
    Ok(found)
}

/// The record with the text of a message, if it is that.
fn record_at<'a>(bytes: &'a [u8], place: usize, candidate: &Candidate, actor: ActorId) -> Option<Record<'a>> {
    let Candidate { journal, slot } = candidate;
    let here = bytes.get(place..place + slot.text_bytes() as usize)?;
    let record = Raw::parse(here, Seed::new(*journal), slot.position.0).ok()?.text()?;
    let is_own = slot.is_reference || record.actor == actor;
    (record.sequence == slot.id && is_own).then_some(record)
}

/// Puts together what lies close to one another.
fn runs(
    source: &mut dyn Source,
    batch: &[Candidate],
    erased: &HashMap<Sequence, Erased>,
) -> Result<Vec<Run>, LogError> {
    let mut order: Vec<usize> =
        (0..batch.len()).filter(|at| !erased.contains_key(&batch[*at].slot.id)).collect();
    order.sort_unstable_by_key(|at| (batch[*at].journal, batch[*at].slot.position));
    let mut runs: Vec<Run> = Vec::new();
    for at in order {
        let Candidate { journal, slot } = batch[at];
        let Some(segment) = source.segment(journal, slot.position)? else { continue };
        let (from, to) = (slot.position.0, slot.position.0 + slot.text_bytes());
        match runs.last_mut() {
            Some(run)
                if (run.journal, run.segment) == (journal, segment)
                    && from <= run.to + GAP_BYTES_MAX
                    && to.max(run.to) - run.from <= READ_BYTES_MAX =>
            {
                run.to = run.to.max(to);
                run.members.push(at);
            }
            _ => runs.push(Run { journal, segment, from, to, members: vec![at] }),
        }
    }
    Ok(runs)
}
