//! A second reader of the journal, as an archive would be one: it keeps some messages whether they were acknowledged or
//! not, for as long as it likes, and finds them again after whatever happened.

use std::collections::BTreeMap;

use crate::actor::ActorId;
use crate::journal::{Blocks, Damage, Entry, Holding, Journal, Reader, ReaderSet, What};
use crate::log::{Log, Position, Record, Sequence};

/// Messages that are kept; the oldest go first.
pub(super) const KEPT_MAX: usize = 8;

const BLOCK: u64 = 7;

type Key = (ActorId, Sequence);

/// A message that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    position: Position,
    segment: Position,
    bytes: u64,
    /// End of the record that it was told of first; 0 where that is not known.
    pub(super) first_end: u64,
    is_reference: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) kept: BTreeMap<Key, Kept>,
    bodies: BTreeMap<Sequence, Kept>,
    newest: BTreeMap<ActorId, Sequence>,
    told_to: u64,
    committed: u64,
}

/// Every third millisecond's.
fn is_interesting(sequence: Sequence) -> bool {
    sequence.time_ms().is_multiple_of(3)
}

impl Mirror {
    /// Lets the oldest go.
    pub(super) fn retire(&mut self) {
        while self.kept.len() > KEPT_MAX {
            let oldest = self.kept.keys().min_by_key(|(_, sequence)| *sequence).copied();
            self.kept.remove(&oldest.expect("there are some"));
        }
        let kept = &self.kept;
        self.bodies.retain(|id, _| kept.iter().any(|((_, of), kept)| of == id && kept.is_reference));
    }

    fn all(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values().chain(self.bodies.values())
    }

    /// What is kept, read from the journal.
    pub(super) fn texts(log: &Log<Self>) -> BTreeMap<Key, Vec<u8>> {
        let read = |kept: &Kept| log.entry_at(kept.position, kept.bytes).expect("what is held can be read");
        let texts = log.second().kept.iter().map(|((actor, sequence), kept)| {
            let entry = read(kept);
            assert_eq!((entry.actor, entry.sequence), (*actor, *sequence), "it is where it was said to be");
            let text = match entry.what {
                What::Message(Record { payload, .. }) => payload,
                What::Reference { .. } => {
                    let body = read(log.second().bodies.get(sequence).expect("its body is held"));
                    let What::Body(Record { payload, .. }) = body.what else { panic!("no body: {body:?}") };
                    assert_eq!(body.sequence, *sequence);
                    payload
                }
                other => panic!("no message: {other:?}"),
            };
            ((*actor, *sequence), text.to_vec())
        });
        texts.collect()
    }
}

impl Reader for Mirror {
    fn record(&mut self, entry: &Entry<'_>) {
        assert!(entry.position.0 >= self.told_to, "records are told in the order of their positions");
        assert!(entry.segment <= entry.position);
        self.told_to = entry.position.0 + entry.bytes;
        if !entry.concerns(ReaderSet::SECOND) {
            return;
        }
        let key = (entry.actor, entry.sequence);
        let is_reference = matches!(entry.what, What::Reference { .. });
        let kept = Kept {
            position: entry.position,
            segment: entry.segment,
            bytes: entry.bytes,
            first_end: if entry.is_moved() { 0 } else { self.told_to },
            is_reference,
        };
        match entry.what {
            What::Message(_) | What::Reference { .. } => {
                let newest = self.newest.entry(entry.actor).or_default();
                assert!(entry.is_moved() || *newest < entry.sequence, "ids of {} rise", entry.actor);
                *newest = (*newest).max(entry.sequence);
                if let Some(known) = self.kept.get_mut(&key) {
                    assert!(entry.is_moved(), "a message is told of once");
                    *known = Kept { first_end: known.first_end, ..kept };
                } else if is_interesting(entry.sequence) {
                    self.kept.insert(key, kept);
                }
            }
            What::Body(_) if is_interesting(entry.sequence) => _ = self.bodies.insert(entry.sequence, kept),
            _ => {}
        }
    }

    fn committed(&mut self, position: Position) {
        assert!(position.0 >= self.committed, "what is durable stays durable");
        self.committed = position.0;
    }

    fn wants(&self, entry: &Entry<'_>) -> ReaderSet {
        let known = match entry.what {
            What::Message(_) | What::Reference { .. } => self.kept.get(&(entry.actor, entry.sequence)),
            What::Body(_) => self.bodies.get(&entry.sequence),
            _ => None,
        };
        ReaderSet::SECOND.when(known.is_some_and(|kept| kept.position == entry.position))
    }

    fn held(&self, segment: Position) -> Holding {
        let there = self.all().filter(|kept| kept.segment == segment);
        there.fold(Holding::default(), |all, kept| Holding {
            records: all.records + 1,
            bytes: all.bytes + kept.bytes,
        })
    }

    fn unreadable(&mut self, _: Position, _: &mut Vec<(ActorId, Sequence)>) {
        panic!("a crash is no damage");
    }

    fn dropped(&mut self, before: Position) {
        assert!(self.all().all(|kept| kept.position >= before), "nothing that is held is deleted");
    }

    fn save(&self, blocks: &mut Blocks) {
        let mut to = Vec::new();
        let mut put = |number: u64| to.extend_from_slice(&number.to_le_bytes());
        put(self.told_to);
        let bodies = self.bodies.iter().map(|(sequence, kept)| (ActorId::NOBODY, *sequence, kept));
        let all: Vec<_> = self.kept.iter().map(|((a, s), kept)| (*a, *s, kept)).chain(bodies).collect();
        for (actor, sequence, kept) in all {
            let numbers =
                [actor.raw(), sequence.0, kept.position.0, kept.segment.0, kept.bytes, kept.first_end];
            numbers.into_iter().for_each(&mut put);
            put(u64::from(kept.is_reference));
        }
        blocks.put(BLOCK, to);
    }

    fn restore(&mut self, blocks: &Blocks) -> bool {
        let Some(content) = blocks.get(BLOCK) else { return false };
        let numbers: Vec<u64> =
            content.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let (told_to, rest) = numbers.split_first().expect("the block is whole");
        self.told_to = *told_to;
        for row in rest.chunks_exact(7) {
            let (actor, sequence) = (ActorId::from_raw(row[0]), Sequence(row[1]));
            let kept = Kept {
                position: Position(row[2]),
                segment: Position(row[3]),
                bytes: row[4],
                first_end: row[5],
                is_reference: row[6] == 1,
            };
            match actor {
                ActorId::NOBODY => _ = self.bodies.insert(sequence, kept),
                _ => _ = self.kept.insert((actor, sequence), kept),
            }
        }
        true
    }

    fn recovered(&mut self, journal: &Journal, _: &mut Vec<Damage>) {
        // What it had let go of since it was saved is gone; that nothing else is, `Held` sees to.
        self.kept.retain(|_, kept| journal.holds(kept.position));
        self.committed = 0;
        self.retire();
    }

    fn fresh(&self) -> Self {
        Self::default()
    }
}
