//! Following the journal: what an [`Archive`] is told of its records, and what it says of its segments ([`Reader`]).

use super::heads;
use super::moves::Move;
use super::prepare::Wanted;
use super::retractions::Retraction;
use super::saved;
use super::slot::Slot;
use super::tally::SegmentTally;
use super::{Adopted, Archive};
use crate::actor::{ActorId, ActorKind};
use crate::journal::{Blocks, Damage, Entry, Holding, Journal, Reader, ReaderSet, What};
use crate::log::{Flags, PeerHash, Position, Record, Sequence};

/// Blocks that wait for the directory may take so many bytes, however little open ones may.
const SEALED_BYTES_MIN: usize = 64 << 10;

/// An open block is sealed when so much of the journal lies behind its beginning: so much is read again at most, and kept in
/// memory, where there is no checkpoint.
const BEHIND_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// A text that references may refer to: the last one that was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text {
    pub(super) id: Sequence,
    pub(super) position: Position,
    pub(super) words: u32,
}

/// What compaction is to move out of the oldest segment, once that is known.
#[derive(Debug)]
pub(super) enum Preparation {
    /// Of this segment, what is wanted is to be found out.
    Wanted(Position),
    /// It is known, but for what has been moved already.
    Known(Position, Wanted),
    /// All that could be read has been moved: once the directory knows where to, nothing is held there.
    Moved(Position),
}

impl Archive {
    /// The segment of which compaction wants to know what is to be moved: to be told with [`Archive::prepared`].
    #[must_use]
    pub fn to_prepare(&self) -> Option<Position> {
        match self.preparation {
            Some(Preparation::Wanted(segment)) => Some(segment),
            _ => None,
        }
    }

    /// What is wanted of a segment.
    pub fn prepared(&mut self, segment: Position, wanted: Wanted) {
        if self.to_prepare() == Some(segment) {
            self.preparation = Some(Preparation::Known(segment, wanted));
        }
    }

    pub(super) fn finish_preparation(&mut self) {
        if let Some(Preparation::Moved(segment)) = self.preparation
            && self.moves.len() == 0
        {
            // What rows still have there could not be read, and is lost.
            *self.rows.of(segment.0) = SegmentTally::default();
        }
    }

    /// Takes note of a message. `text`: where the record begins that holds its text, and its words.
    #[inline]
    fn note(&mut self, entry: &Entry<'_>, text: (Position, u32), peer: PeerHash, is_reference: bool) {
        let (position, words) = text;
        let slot = Slot { id: entry.sequence, position, words, peer, is_reference };
        if !self.heads.push(entry.actor, &slot, entry.position.0 + entry.bytes) {
            return;
        }
        self.memory.of(entry.segment.0).add(slot.held_bytes(), slot.id.0);
        while self.heads.open_bytes() > self.settings.heads_bytes_max && self.heads.seal_oldest() {}
    }

    fn note_retraction(&mut self, entry: &Entry<'_>, (flags, peer): (Flags, PeerHash), is_reference: bool) {
        let Text { id, position, words } = self.text;
        let slot = Slot { id, position, words, peer, is_reference };
        let end = Position(entry.position.0 + entry.bytes);
        let (journal, actor) = (self.journal, entry.actor);
        // A room has received what its occupants say, although it has no mailbox.
        let is_received = flags.is_queued() || actor.kind() == Some(ActorKind::Room);
        self.retractions.push(Retraction { journal, actor, slot, end, is_received });
        self.memory.of(entry.segment.0).add(slot.text_bytes(), slot.id.0);
    }

    fn moved(&mut self, entry: &Entry<'_>) {
        let words = (entry.bytes / 8) as u32;
        let Entry { actor, sequence: id, position, .. } = *entry;
        self.moves.push(Move { journal: self.journal, actor, id, position, words });
        self.memory.of(entry.segment.0).add(entry.bytes, id.0);
        if let Some(Preparation::Known(_, wanted)) = &mut self.preparation {
            wanted.remove(&(actor, id));
        }
    }

    fn forget(&mut self, actor: ActorId) {
        let Self { heads, memory, handed, .. } = self;
        heads.forget(actor, *handed, |slot| memory.take(slot.position.0, 1, slot.held_bytes()));
        let mut gone = Vec::new();
        self.retractions.forget_all(actor, |retraction| gone.push(*retraction));
        gone.iter().for_each(|retraction| self.release(retraction));
    }
}

impl Reader for Archive {
    #[inline]
    fn record(&mut self, entry: &Entry<'_>) {
        if entry.position < self.indexed_to {
            // Told again at opening, without a checkpoint.
            return;
        }
        let (flags, peer, is_reference) = match entry.what {
            What::Message(Record { flags, peer, .. }) => (flags, peer, false),
            What::Reference { flags, peer, .. } => (flags, peer, true),
            What::Body(_) => (Flags::NONE, PeerHash::NONE, false),
            What::Purge => return self.forget(entry.actor),
            What::Trim | What::TrimUpTo => return,
        };
        if entry.is_moved() {
            if entry.concerns(ReaderSet::SECOND) && flags.has(Flags::ARCHIVED) {
                self.moved(entry);
            }
            return;
        }
        if !is_reference {
            let words = (entry.bytes / 8) as u32;
            self.text = Text { id: entry.sequence, position: entry.position, words };
        }
        if flags.has(Flags::ARCHIVED) && self.text.id == entry.sequence {
            self.note(entry, (self.text.position, self.text.words), peer, is_reference);
        }
        if flags.has(Flags::RETRACTS) && self.text.id == entry.sequence {
            self.note_retraction(entry, (flags, peer), is_reference);
        }
    }

    fn committed(&mut self, position: Position) {
        self.committed = position;
        // A machine that stopped may have taken away what was committed for the process alone.
        self.indexed_to = self.indexed_to.min(position);
        self.heads.seal_before(position.0.saturating_sub(BEHIND_BYTES_MAX));
        self.look_at_tallies();
        self.finish_preparation();
    }

    fn wants(&self, entry: &Entry<'_>) -> ReaderSet {
        let Some(Preparation::Known(segment, wanted)) = &self.preparation else { return ReaderSet::NONE };
        let is_wanted = *segment == entry.segment
            && entry.concerns(ReaderSet::SECOND)
            && matches!(entry.what, What::Message(_) | What::Reference { .. })
            && wanted.contains(&(entry.actor, entry.sequence));
        ReaderSet::SECOND.when(is_wanted)
    }

    fn held(&self, segment: Position) -> Holding {
        // What has expired is held by neither: a directory that cannot be written must not keep a full disk full.
        let live =
            |tally: SegmentTally| if tally.newest < self.expired { SegmentTally::default() } else { tally };
        let SegmentTally { records, bytes, .. } =
            live(self.memory.get(segment.0)).and(live(self.rows.get(segment.0)));
        Holding { records, bytes }
    }

    /// It keeps the segment: what was moved is held there until the directory knows where to.
    fn unreadable(&mut self, segment: Position, _: &mut Vec<(ActorId, Sequence)>) {
        if matches!(self.preparation, Some(Preparation::Known(known, _)) if known == segment) {
            self.preparation = Some(Preparation::Moved(segment));
            self.finish_preparation();
        }
    }

    fn dropped(&mut self, before: Position) {
        self.memory.drop_before(before.0);
        self.rows.drop_before(before.0);
        self.gone_before = self.gone_before.max(Some(before));
        self.preparation.take_if(|preparation| match preparation {
            Preparation::Wanted(segment) | Preparation::Known(segment, _) | Preparation::Moved(segment) => {
                *segment < before
            }
        });
    }

    fn prepare(&mut self, segment: Position) -> bool {
        match &self.preparation {
            Some(Preparation::Known(known, _) | Preparation::Moved(known)) if *known == segment => {
                return true;
            }
            Some(Preparation::Wanted(known)) if *known == segment => return false,
            _ if self.held(segment).records == 0 => return true,
            _ => {}
        }
        if self.memory.get(segment.0).records > 0 {
            // Blocks in memory move only as rows.
            let memory = &self.memory;
            let lies_there =
                |block: &heads::Block| memory.segment_of(block.first_position) == Some(segment.0);
            self.heads.seal_where(lies_there);
            return false;
        }
        if self.moves.len() == 0 {
            self.preparation = Some(Preparation::Wanted(segment));
        }
        false
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.heads.sealed_bytes() <= self.settings.heads_bytes_max.max(SEALED_BYTES_MIN)
    }

    fn wants_purges(&self) -> bool {
        true
    }

    fn keeps_journal(&self) -> bool {
        let is_held = |base: &u64| self.held(Position(*base)).records > 0;
        self.memory.0.iter().chain(&self.rows.0).any(|(base, _)| is_held(base))
    }

    fn needs_checkpoint(&self) -> bool {
        let is_foreign = |journal: u64| journal != self.journal;
        !self.adopted.is_empty()
            || self.moves.all().any(|moved| is_foreign(moved.journal))
            || self.retractions.all().any(|retraction| is_foreign(retraction.journal))
    }

    fn adopt(&mut self, old: &Self, is_here: &dyn Fn(ActorId) -> bool) {
        for adopted in old.adopted.iter().filter(|adopted| is_here(adopted.row.actor)) {
            self.tallies.expect(adopted.row.journal);
            self.adopted.push_back(adopted.clone());
        }
        old.heads.for_each(|_, row, _| {
            if !is_here(row.actor) {
                return;
            }
            let slots = row.slots();
            let positions = slots.iter().filter_map(|slot| old.memory.segment_of(slot.position.0));
            let mut segments: Vec<Position> = positions.map(Position).collect();
            segments.dedup();
            self.tallies.expect(old.journal);
            self.adopted.push_back(Adopted { row: row.clone(), segments });
        });
        for moved in old.moves.all().filter(|moved| is_here(moved.actor)) {
            let own =
                (moved.journal == old.journal).then(|| old.memory.segment_of(moved.position.0)).flatten();
            self.moves_adopted.extend(own.map(|segment| (moved.journal, Position(segment))));
            self.tallies.expect(moved.journal);
            self.moves.push(*moved);
        }
        if self.moves.len() > 0 {
            self.moves_adopted.extend(&old.moves_adopted);
        }
        for retraction in old.retractions.all().filter(|retraction| is_here(retraction.actor)) {
            self.tallies.expect(retraction.journal);
            self.retractions.push(*retraction);
        }
    }

    fn save(&self, blocks: &mut Blocks) {
        blocks.put(saved::KIND, saved::encode(self));
    }

    fn restore(&mut self, blocks: &Blocks) -> bool {
        let Some(content) = blocks.get(saved::KIND) else { return false };
        let mut restored = self.fresh();
        let is_whole = saved::decode(&mut restored, content).is_some();
        if is_whole {
            *self = restored;
        }
        is_whole
    }

    fn recovered(&mut self, journal: &Journal, _: &mut Vec<Damage>) {
        // What the directory has heard of by now is passed over there; what lies in segments that are gone is passed over by
        // queries.
        self.memory.drop_before(journal.first());
        self.rows.drop_before(journal.first());
        self.gone_before = Some(Position(journal.first())).filter(|first| first.0 > 0);
    }

    fn fresh(&self) -> Self {
        Self {
            expired: self.expired,
            taken: self.taken,
            ..Self::new(self.journal, self.settings, self.tallies.clone())
        }
    }
}
