//! Retractions (XEP-0424) that have been appended and have not taken effect: what they retract is still to be found.
//!
//! A retraction is a message like any other; its effect is made of it afterwards, and can be made of it again. So it stays
//! here until the directory knows what it has erased: its segment is kept, checkpoints have it, and rows are said to have
//! everything only up to it, so that a crash at any moment has it told again.

use std::collections::{HashMap, VecDeque};

use super::Archive;
use super::slot::Slot;
use crate::actor::ActorId;
use crate::log::{PeerHash, Position, Sequence};

/// A message of an actor that retracts others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retraction {
    /// Id of its journal.
    pub journal: u64,
    /// In whose archive and mailbox it is to take effect.
    pub actor: ActorId,
    /// Its own id, and where it lies.
    pub slot: Slot,
    /// End of its record: it is durable once the journal is committed up to here.
    pub end: Position,
    /// The actor has received it, as a room has all that is said in it; otherwise the actor has sent it.
    pub is_received: bool,
}

/// How many retractions wait that an account, or the author of one, has to do with: what they may have is bounded, so that none
/// takes another's place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RetractionLoad {
    /// All, whoever's they are.
    pub all: usize,
    /// Of these, those that accounts have received.
    pub received: usize,
    /// Those that the account has sent.
    pub sent_by_account: usize,
    /// Those that the account has received.
    pub received_by_account: usize,
    /// Those that accounts have received from the author.
    pub of_author: usize,
    /// Those that the account has received from the author.
    pub of_author_by_account: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retractions {
    /// In the order in which they were appended; those of other journals first.
    waiting: VecDeque<Retraction>,
    actors: HashMap<ActorId, Of, foldhash::fast::FixedState>,
    /// Received ones, by their authors.
    authors: HashMap<PeerHash, usize, foldhash::fast::FixedState>,
    received: usize,
}

/// Those of an actor.
#[derive(Debug, Default)]
struct Of {
    sent: usize,
    received: usize,
    /// Their ids.
    ids: VecDeque<Sequence>,
}

impl Retractions {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Retraction> {
        self.waiting.iter()
    }

    /// How many of them are an actor's.
    pub(super) fn of(&self, actor: ActorId) -> usize {
        let (sent, received) = self.count(actor);
        sent + received
    }

    /// How many an actor has sent and received.
    fn count(&self, actor: ActorId) -> (usize, usize) {
        if self.actors.is_empty() {
            return (0, 0);
        }
        self.actors.get(&actor).map_or((0, 0), |of| (of.sent, of.received))
    }

    /// The id of an actor's first one.
    pub(super) fn first_of(&self, actor: ActorId) -> Option<Sequence> {
        self.actors.get(&actor)?.ids.iter().min().copied()
    }

    /// What waits that has to do with an actor and an author. Costs a walk over all if the actor has received some.
    pub(super) fn load(&self, actor: ActorId, author: PeerHash) -> RetractionLoad {
        let (sent, received) = self.count(actor);
        let is_theirs = |one: &&Retraction| one.is_received && one.actor == actor && one.slot.peer == author;
        RetractionLoad {
            all: self.waiting.len(),
            received: self.received,
            sent_by_account: sent,
            received_by_account: received,
            of_author: self.authors.get(&author).copied().unwrap_or_default(),
            of_author_by_account: match received {
                0 => 0,
                _ => self.waiting.iter().filter(is_theirs).count(),
            },
        }
    }

    pub(super) fn push(&mut self, retraction: Retraction) {
        let of = self.actors.entry(retraction.actor).or_default();
        of.ids.push_back(retraction.slot.id);
        if retraction.is_received {
            of.received += 1;
            self.received += 1;
            *self.authors.entry(retraction.slot.peer).or_default() += 1;
        } else {
            of.sent += 1;
        }
        self.waiting.push_back(retraction);
    }

    /// Takes one out. `false`: it is not there any more.
    pub(super) fn remove(&mut self, retraction: &Retraction) -> bool {
        let is_it = |other: &Retraction| other == retraction;
        let Some(at) = self.waiting.iter().position(is_it) else { return false };
        self.waiting.remove(at);
        self.forget(retraction);
        true
    }

    /// Takes all of an actor's out, and tells each.
    pub(super) fn forget_all(&mut self, actor: ActorId, mut gone: impl FnMut(&Retraction)) {
        if self.of(actor) == 0 {
            return;
        }
        let (theirs, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|one| one.actor == actor);
        self.waiting = others;
        let theirs: VecDeque<Retraction> = theirs;
        for retraction in theirs {
            self.forget(&retraction);
            gone(&retraction);
        }
    }

    fn forget(&mut self, retraction: &Retraction) {
        if let Some(of) = self.actors.get_mut(&retraction.actor) {
            if let Some(at) = of.ids.iter().position(|id| *id == retraction.slot.id) {
                of.ids.remove(at);
            }
            match retraction.is_received {
                true => of.received -= 1,
                false => of.sent -= 1,
            }
            if of.sent + of.received == 0 {
                self.actors.remove(&retraction.actor);
            }
        }
        if retraction.is_received {
            self.received -= 1;
            if let Some(left) = self.authors.get_mut(&retraction.slot.peer) {
                *left -= 1;
                if *left == 0 {
                    self.authors.remove(&retraction.slot.peer);
                }
            }
        }
    }

    /// Where the first text of one begins that lies in this journal.
    pub(super) fn first_position(&self, journal: u64) -> Option<Position> {
        self.waiting
            .iter()
            .filter(|retraction| retraction.journal == journal)
            .map(|retraction| retraction.slot.position)
            .min()
    }
}

impl Archive {
    /// The retractions that have not taken effect yet and are durable, the oldest first.
    pub fn retractions(&self) -> impl Iterator<Item = &Retraction> {
        let committed = self.committed;
        let is_due =
            move |retraction: &&Retraction| retraction.journal != self.journal || retraction.end <= committed;
        self.retractions.all().filter(is_due)
    }

    /// How many retractions of an actor have not taken effect yet: what they are about is not to be shown.
    #[inline]
    #[must_use]
    pub fn retractions_of(&self, actor: ActorId) -> usize {
        self.retractions.of(actor)
    }

    /// The id of the first retraction of an actor that has not taken effect yet.
    #[must_use]
    pub fn first_retraction_of(&self, actor: ActorId) -> Option<Sequence> {
        self.retractions.first_of(actor)
    }

    /// What waits of retractions that has to do with an actor and an author. Costs a walk over all that wait, if the actor has
    /// received some of them.
    #[must_use]
    pub fn retraction_load(&self, actor: ActorId, author: PeerHash) -> RetractionLoad {
        self.retractions.load(actor, author)
    }

    /// An actor's retractions that have not taken effect yet, durable or not.
    pub fn open_retractions_of(&self, actor: ActorId) -> impl Iterator<Item = &Retraction> {
        self.retractions.all().filter(move |retraction| retraction.actor == actor)
    }

    /// A retraction has taken effect: the directory knows what it has erased, or there was nothing.
    pub fn retracted(&mut self, retraction: &Retraction) {
        if self.retractions.remove(retraction) {
            self.release(retraction);
        }
    }

    /// A retraction is needed no longer.
    pub(super) fn release(&mut self, retraction: &Retraction) {
        if retraction.journal == self.journal {
            self.memory.take(retraction.slot.position.0, 1, retraction.slot.text_bytes());
        } else {
            self.tallies.answer(retraction.journal);
        }
    }
}
