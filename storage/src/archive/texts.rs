//! Reading the texts of messages where they lie, those that lie near one another with one read.

use std::collections::HashMap;
use std::ops::Range;

use super::query::{Cost, Found, Page, Query};
use super::segments::Source;
use super::slot::Slot;
use crate::actor::ActorId;
use crate::directory::Erased;
use crate::journal::format::record::{Raw, Seed};
use crate::log::{Flags, LogError, Position, Record, Sequence};

/// Messages that are read at once.
pub(super) const BATCH_MESSAGES_MAX: usize = 64;
/// What lies between two texts is read with them if it is no more than this.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// Most bytes of one read, but for a text that is longer. What lies between is bounded for each text, so longer reads are fewer and
/// read no more than shorter ones.
const READ_BYTES_MAX: u64 = 256 << 10;

/// Reads beyond so many are begun together: a disk that is asked for all of them takes little longer than for one.
const AT_ONCE_MIN: usize = 2;

/// A message that may be asked for, and its journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Candidate {
    pub(super) journal: u64,
    pub(super) slot: Slot,
}

/// Records of a batch, as they were read.
pub(super) struct Texts {
    /// With whatever was in this memory before behind them.
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
    /// Which of those that are read, in the order of their places.
    members: Range<usize>,
}

impl Texts {
    pub(super) fn read(
        source: &mut dyn Source,
        batch: &[Candidate],
        erased: &HashMap<Sequence, Erased>,
        cost: &mut Cost,
    ) -> Result<Self, LogError> {
        let mut texts = Self { bytes: source.lend(), places: vec![None; batch.len()] };
        let (order, runs) = runs(source, batch, erased)?;
        if runs.len() > AT_ONCE_MIN {
            for run in &runs[1..] {
                source.will_need(run.journal, run.segment, Position(run.from)..Position(run.to));
            }
        }
        let mut at = 0;
        for run in runs {
            let end = at + (run.to - run.from) as usize;
            if texts.bytes.len() < end {
                texts.bytes.resize(end, 0);
            }
            cost.reads += 1;
            cost.bytes += end - at;
            let to = &mut texts.bytes[at..end];
            if source.read(run.journal, run.segment, Position(run.from), to)? {
                for &member in &order[run.members] {
                    texts.places[member] = Some(at + (batch[member].slot.position.0 - run.from) as usize);
                }
                at = end;
            }
        }
        Ok(texts)
    }

    /// Nothing is taken out of them any more.
    pub(super) fn give_back(self, source: &mut dyn Source) {
        source.give_back(self.bytes);
    }

    /// Whether the text of one of the batch is gone that was not erased.
    pub(super) fn lacks(&self, batch: &[Candidate], erased: &HashMap<Sequence, Erased>) -> bool {
        let mut places = self.places.iter().zip(batch);
        places.any(|(place, candidate)| place.is_none() && !erased.contains_key(&candidate.slot.id))
    }

    /// Puts a message into the page, if it is asked for.
    pub(super) fn take(
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
                if record.flags.has(Flags::ERASED) {
                    // The directory knows of no erasure: not yet, when this was begun, or no longer, when it is an older one. Zeros
                    // are no text.
                    page.cost.gone += 1;
                    return;
                }
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
        texts.give_back(source);
    }
    Ok(found)
}

/// Told which of some messages it is, when it was received, and its text.
pub(super) type TellText<'a> = dyn FnMut(usize, Option<(u64, &[u8])>) + 'a;

/// Tells of each of some messages of any actors when it was received, and its text; `None` for one that is gone, that was erased,
/// or that the disk gives back otherwise than it was written. Those that lie near one another are best given together.
pub(super) fn each_text(
    source: &mut dyn Source,
    (actors, batch): (&[ActorId], &[Candidate]),
    tell: &mut TellText<'_>,
) -> Result<u64, LogError> {
    let mut cost = Cost::default();
    let texts = Texts::read(source, batch, &HashMap::new(), &mut cost)?;
    for (at, (candidate, actor)) in batch.iter().zip(actors).enumerate() {
        let record = texts.places[at].and_then(|place| record_at(&texts.bytes, place, candidate, *actor));
        let record = record.filter(|record| !record.flags.has(Flags::ERASED));
        tell(at, record.map(|record| (record.time_ms, record.payload)));
    }
    texts.give_back(source);
    Ok(cost.bytes as u64)
}

/// The record with the text of a message, if it is that.
fn record_at<'a>(bytes: &'a [u8], place: usize, candidate: &Candidate, actor: ActorId) -> Option<Record<'a>> {
    let Candidate { journal, slot } = candidate;
    let here = bytes.get(place..place + slot.text_bytes() as usize)?;
    let record = Raw::parse(here, Seed::new(*journal), slot.position.0).ok()?.text()?;
    let is_own = slot.is_reference || record.actor == actor;
    (record.sequence == slot.id && is_own).then_some(record)
}

/// Puts together what lies close to one another; also returns those of the batch that are read, in the order of their places.
fn runs(
    source: &mut dyn Source,
    batch: &[Candidate],
    erased: &HashMap<Sequence, Erased>,
) -> Result<(Vec<usize>, Vec<Run>), LogError> {
    let mut order = Vec::with_capacity(batch.len());
    order.extend((0..batch.len()).filter(|at| !erased.contains_key(&batch[*at].slot.id)));
    order.sort_unstable_by_key(|at| (batch[*at].journal, batch[*at].slot.position));
    let mut runs: Vec<Run> = Vec::new();
    // Those that follow one another mostly lie in one segment.
    let mut known: Option<(u64, Range<Position>)> = None;
    for (number, at) in order.iter().enumerate() {
        let Candidate { journal, slot } = batch[*at];
        if !known.as_ref().is_some_and(|(of, known)| *of == journal && known.contains(&slot.position)) {
            known = source.segment(journal, slot.position)?.map(|segment| (journal, segment));
        }
        let Some(segment) = known.as_ref().map(|(_, known)| known.start) else { continue };
        let (from, to) = (slot.position.0, slot.position.0 + slot.text_bytes());
        match runs.last_mut() {
            Some(run)
                if (run.journal, run.segment) == (journal, segment)
                    && from <= run.to + GAP_BYTES_MAX
                    && to.max(run.to) - run.from <= READ_BYTES_MAX =>
            {
                run.to = run.to.max(to);
                run.members.end = number + 1;
            }
            _ => runs.push(Run { journal, segment, from, to, members: number..number + 1 }),
        }
    }
    Ok((order, runs))
}
