//! Answering a query: rows and blocks in memory first, then the texts, those that lie near one another with one read.
//!
//! ```text
//!  rows ─┐                                           one state of the directory │ none
//!        ├─▶ candidates: in range, right peer ──▶ a batch, and what was erased ──▶ reads ──▶ texts ──▶ matches? ──▶ page
//!  memory┘                    ▲                                                                          │
//!                             └──────────────────────── there is room for more ──────────────────────────┘
//! ```
//!
//! A state of the directory is held while rows are looked at, and never while a disk is waited for: when the disk fails a commit, the
//! directory is opened anew as soon as nobody holds one, and every worker waits for that.
//!
//! Rows that the directory has got since the snapshot was taken have the first messages of the snapshot too: those are
//! passed over. So a page has each message once, wherever it was at that moment.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::continuation::Continuation;
use super::query::{End, Order, Page, Query, QueryError};
use super::row::ROW_MESSAGES_MAX;
use super::segments::Source;
use super::slot::Slot;
use super::texts::{BATCH_MESSAGES_MAX, Candidate, Texts};
use crate::actor::ActorId;
use crate::directory::{ArchiveView, Directory, DirectoryError, Erased, RowView};
use crate::log::{Position, Sequence};

/// Answers a query.
pub(crate) fn answer(
    directory: &Directory,
    source: &mut dyn Source,
    query: &Query,
) -> Result<Page, QueryError> {
    let mut page = Page::default();
    let mut is_begun = false;
    loop {
        let Some((batch, texts)) = read(directory, source, query, &mut page, is_begun)? else {
            return Ok(page);
        };
        let Batch { candidates, erased, rest, following } = batch;
        is_begun = true;
        if query.matches.is_none() {
            let bytes: u64 = candidates.iter().map(|candidate| candidate.slot.text_bytes()).sum();
            page.texts.reserve(bytes as usize);
            page.messages.reserve(candidates.len());
        }
        for (at, candidate) in candidates.iter().enumerate() {
            texts.take(at, candidate, query, erased.get(&candidate.slot.id), &mut page);
        }
        texts.give_back(source);
        page.end = match rest {
            Rest::Nothing => End::Complete,
            Rest::Unknown(passed) => {
                page.reached = passed.unwrap_or(page.reached);
                End::Step
            }
            Rest::More if page.messages.len() >= query.messages_max => End::Full,
            Rest::More if is_used_up(query, &page) => End::Step,
            Rest::More => continue,
        };
        if page.end == End::Full && !following.is_empty() {
            page.continuation = Continuation::of(query.actor, page.total, following, source);
        }
        return Ok(page);
    }
}

/// What is next, and its texts. `None`: nothing; the page's end has been written down.
///
/// Between the look at the index and the read, compaction may move a message and delete the file in which it was. By then the
/// index says where it is, so for texts that are gone it is looked at once more: they are gone if it says the same again.
fn read(
    directory: &Directory,
    source: &mut dyn Source,
    query: &Query,
    page: &mut Page,
    is_begun: bool,
) -> Result<Option<(Batch, Texts)>, QueryError> {
    let gather = |page: &mut Page| directory.read_archive(|view| gather(view, query, page, is_begun));
    let (reached, rows) = (page.reached, page.cost.rows);
    let Some(batch) = gather(page)? else { return Ok(None) };
    let texts = Texts::read(source, &batch.candidates, &batch.erased, &mut page.cost)?;
    if !texts.lacks(&batch.candidates, &batch.erased) {
        return Ok(Some((batch, texts)));
    }
    (page.reached, page.cost.rows) = (reached, rows);
    source.look_again();
    let Some(again) = gather(page)? else { return Ok(None) };
    let texts = match again.candidates == batch.candidates {
        true => texts,
        false => Texts::read(source, &again.candidates, &again.erased, &mut page.cost)?,
    };
    Ok(Some((again, texts)))
}

/// What is read next, and what is known of the rest.
struct Batch {
    candidates: Vec<Candidate>,
    /// Those of them that have been erased, and what stands for them.
    erased: HashMap<Sequence, Erased>,
    rest: Rest,
    /// Where a page that is full with them goes on: its last messages, and those behind them. None of them was erased.
    following: Vec<Candidate>,
}

/// What follows a batch.
enum Rest {
    More,
    Nothing,
    /// As many rows as may have been looked at, up to here.
    Unknown(Option<Sequence>),
}

/// Bytes that are read in a step are no more than so many times those that it may give: a predicate may want few of them.
const READ_FACTOR: usize = 16;

fn is_used_up(query: &Query, page: &Page) -> bool {
    page.cost.looks >= query.looks_max
        || page.texts.len() >= query.bytes_max
        || page.cost.bytes >= query.bytes_max.saturating_mul(READ_FACTOR)
}

/// What is to be read next for a page. `None`: nothing; its end has been written down.
fn gather(
    view: ArchiveView<'_>,
    query: &Query,
    page: &mut Page,
    is_begun: bool,
) -> Result<Option<Batch>, DirectoryError> {
    let state = view.state(query.actor)?;
    if state.is_purged {
        let missing = query.must_exist.first().or(query.ids.first());
        let end = missing.map_or(End::Complete, |id| End::NotFound(*id));
        *page = Page { total: state.messages, end, ..Page::default() };
        return Ok(None);
    }
    // What the directory has by now is read from there.
    let parts = query.snapshot.parts.iter();
    let memory = parts
        .flat_map(|(journal, slots)| slots.iter().map(|slot| Candidate { journal: *journal, slot: *slot }));
    let memory: Vec<Candidate> = memory.filter(|candidate| candidate.slot.id > state.last).collect();
    let range = match is_begun {
        true => left_of(query.range(state.first_kept), query.order, page.reached),
        false => query.range(state.first_kept),
    };
    if !is_begun {
        page.total = state.messages;
        page.reached =
            if query.order == Order::Forwards { Sequence(range.0.0.saturating_sub(1)) } else { range.1 };
        let kept = (state.first_kept.max(query.not_before), Sequence::MAX);
        for id in query.must_exist.iter().chain(&query.ids) {
            if !exists(view, query, &memory, kept, *id)? {
                page.end = End::NotFound(*id);
                return Ok(None);
            }
        }
    }
    let blocks = Blocks::new(view, query, &memory, range)?;
    let rows = page.cost.rows;
    let ids = (!query.ids.is_empty()).then(|| sorted_ids(query, range));
    let candidates = Candidates {
        view,
        query,
        range,
        ids,
        blocks,
        rows,
        passed: None,
        has_stopped: false,
        first_segments: HashMap::new(),
    };
    next_batch(candidates, page)
}

/// What is left of a range behind an id.
fn left_of(range: (Sequence, Sequence), order: Order, reached: Sequence) -> (Sequence, Sequence) {
    match order {
        Order::Forwards => (range.0.max(Sequence(reached.0.saturating_add(1))), range.1),
        Order::Backwards => (range.0, range.1.min(Sequence(reached.0.saturating_sub(1)))),
    }
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
        let has_ids = !query.ids.is_empty();
        Ok(match query.order {
            Order::Forwards if has_ids => {
                let ids = sorted_ids(query, range);
                Self::Forwards { rows: Box::new(rows_of(view, query.actor, ids)), memory }
            }
            Order::Backwards if has_ids => {
                let ids = sorted_ids(query, range).into_iter().rev().collect();
                Self::Backwards { memory, rows: Box::new(rows_of(view, query.actor, ids)) }
            }
            Order::Forwards => {
                Self::Forwards { rows: Box::new(view.rows_from(query.actor, range.0)?), memory }
            }
            Order::Backwards => {
                Self::Backwards { memory, rows: Box::new(view.rows_back_from(query.actor, range.1)?) }
            }
        })
    }
}

/// The ids of a query that lie in a range, in order.
fn sorted_ids(query: &Query, range: (Sequence, Sequence)) -> Vec<Sequence> {
    let mut ids: Vec<_> = query.ids.iter().copied().filter(|id| (range.0..=range.1).contains(id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The rows that may have some of these messages, which rise or fall, each once: looked up, however much lies between them.
fn rows_of(
    view: ArchiveView<'_>,
    actor: ActorId,
    ids: Vec<Sequence>,
) -> impl Iterator<Item = Result<RowView<'_>, DirectoryError>> {
    let mut last: Option<(Sequence, Sequence)> = None;
    ids.into_iter().filter_map(move |id| {
        if last.is_some_and(|(first, last)| (first..=last).contains(&id)) {
            return None;
        }
        let row = match view.rows_back_from(actor, id) {
            Ok(mut rows) => rows.next()?,
            Err(error) => Err(error),
        };
        match row {
            Ok(row) if row.last < id => None,
            Ok(row) => {
                last = Some((row.first, row.last));
                Some(Ok(row))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

struct Candidates<'t, 'q> {
    view: ArchiveView<'t>,
    query: &'q Query,
    range: (Sequence, Sequence),
    /// If there are some, only these, in order.
    ids: Option<Vec<Sequence>>,
    blocks: Blocks<'t>,
    /// Rows that have been looked at for the page.
    rows: usize,
    /// The end of the row that was looked at last.
    passed: Option<Sequence>,
    /// As many rows as may have been looked at, and there may be more.
    has_stopped: bool,
    /// The first segment of each journal of which rows hold something.
    first_segments: HashMap<u64, Option<Position>>,
}

impl Candidates<'_, '_> {
    /// What may be asked for of the next block that has any; `None`: there is none.
    fn next_block(&mut self) -> Result<Option<Vec<Candidate>>, DirectoryError> {
        loop {
            if self.rows >= self.query.rows_max {
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
                    self.rows += 1;
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
                    let slots = self.slots_there(&row)?;
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

    /// The messages of a row, but for those that are gone. Files go from the oldest on, and rows of them some time later: what lies
    /// before the first file of its journal is passed over without a look. What was erased has kept its place.
    fn slots_there(&mut self, row: &RowView<'_>) -> Result<Vec<Slot>, DirectoryError> {
        let mut slots = row.slots()?;
        let first = match self.first_segments.get(&row.journal) {
            Some(first) => *first,
            None => {
                let first = self.view.first_segment(row.journal)?;
                self.first_segments.insert(row.journal, first);
                first
            }
        };
        let is_gone = |slot: &Slot| first.is_none_or(|first| slot.position < first);
        if slots.iter().any(is_gone) {
            let erased = self.view.erased(self.query.actor, row.first, row.last)?;
            let is_erased = |slot: &Slot| erased.iter().any(|(id, _)| *id == slot.id);
            slots.retain(|slot| !is_gone(slot) || is_erased(slot));
        }
        Ok(slots)
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
        let Query { peer, .. } = self.query;
        let is_meant = |Candidate { slot, .. }: &Candidate| {
            slot.id >= self.range.0
                && slot.id <= self.range.1
                && peer.is_none_or(|peer| slot.peer == peer)
                && self.ids.as_ref().is_none_or(|ids| ids.binary_search(&slot.id).is_ok())
        };
        let mut meant = Vec::with_capacity(ROW_MESSAGES_MAX);
        meant.extend(all.filter(is_meant));
        meant
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

/// The candidates that are read next: so many as the page may still have.
fn next_batch(mut candidates: Candidates<'_, '_>, page: &mut Page) -> Result<Option<Batch>, DirectoryError> {
    let query = candidates.query;
    let mut ready = Vec::new().into_iter().peekable();
    let has_any = has_next(&mut candidates, &mut ready)?;
    let chosen = match has_any && page.messages.len() < query.messages_max && !is_used_up(query, page) {
        true => choose(&mut candidates, &mut ready, page)?,
        false => Vec::new(),
    };
    let mut following = match page.messages.len() + chosen.len() >= query.messages_max {
        true => follow(&mut candidates, &mut ready, &chosen)?,
        false => Vec::new(),
    };
    let erased = candidates.erased(if following.is_empty() { &chosen } else { &following })?;
    let has_more = following.len() > chosen.len() || has_next(&mut candidates, &mut ready)?;
    leave_out(&erased, &mut following, chosen.len());
    let rest = match has_more {
        true => Rest::More,
        false if candidates.has_stopped => Rest::Unknown(candidates.passed),
        false => Rest::Nothing,
    };
    page.cost.rows = candidates.rows;
    if !chosen.is_empty() {
        return Ok(Some(Batch { candidates: chosen, erased, rest, following }));
    }
    page.end = match rest {
        Rest::Nothing => End::Complete,
        Rest::Unknown(passed) => {
            page.reached = passed.unwrap_or(page.reached);
            End::Step
        }
        Rest::More if page.messages.len() >= query.messages_max => End::Full,
        // The next one is too much for the step.
        Rest::More => End::Step,
    };
    Ok(None)
}

/// Takes candidates as long as the page has room for their texts.
fn choose(
    candidates: &mut Candidates<'_, '_>,
    ready: &mut Ready,
    page: &Page,
) -> Result<Vec<Candidate>, DirectoryError> {
    let query = candidates.query;
    let looks = query.looks_max.saturating_sub(page.cost.looks);
    let most = BATCH_MESSAGES_MAX.min(query.messages_max - page.messages.len()).min(looks);
    let room = query.bytes_max.saturating_sub(page.texts.len()) as u64;
    let mut batch = Vec::with_capacity(most);
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

/// Those that have been chosen, and what lies behind them; nothing unless that is wanted.
fn follow(
    candidates: &mut Candidates<'_, '_>,
    ready: &mut Ready,
    chosen: &[Candidate],
) -> Result<Vec<Candidate>, DirectoryError> {
    let query = candidates.query;
    // A page asks for one message more than it gives: who goes on does so behind the last but one, which has to be among them.
    if query.following == 0 || chosen.len() < 2 || !query.is_plain() {
        return Ok(Vec::new());
    }
    let mut all = Vec::with_capacity(chosen.len() + query.following);
    all.extend_from_slice(chosen);
    let most = chosen.len() + query.following;
    while all.len() < most && has_next(candidates, ready)? {
        all.extend(ready.by_ref().take(most - all.len()));
    }
    Ok(all)
}

/// Takes erased ones out of what follows, so that it has no hole: what comes before the last of them that was chosen, and what
/// comes behind the first of the others.
fn leave_out(erased: &HashMap<Sequence, Erased>, following: &mut Vec<Candidate>, chosen: usize) {
    if erased.is_empty() || following.is_empty() {
        return;
    }
    let is_erased = |candidate: &Candidate| erased.contains_key(&candidate.slot.id);
    if let Some(first) = following[chosen..].iter().position(is_erased) {
        following.truncate(chosen + first);
    }
    if let Some(last) = following[..chosen].iter().rposition(is_erased) {
        following.drain(..=last);
    }
}
