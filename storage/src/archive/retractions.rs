//! Retractions (XEP-0424) that have been appended and have not taken effect: what they retract is still to be found.
//!
//! A retraction is a message like any other; its effect is made of it afterwards, and can be made of it again. So it stays
//! here until the directory knows what it has erased: its segment is kept, checkpoints have it, and rows are said to have
//! everything only up to it, so that a crash at any moment has it told again.

use std::collections::{HashMap, VecDeque};

use super::slot::Slot;
use crate::actor::ActorId;
use crate::log::Position;

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
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retractions {
    /// In the order in which they were appended; those of other journals first.
    waiting: VecDeque<Retraction>,
    actors: HashMap<ActorId, usize, foldhash::fast::FixedState>,
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
        if self.actors.is_empty() { 0 } else { self.actors.get(&actor).copied().unwrap_or_default() }
    }

    pub(super) fn push(&mut self, retraction: Retraction) {
        *self.actors.entry(retraction.actor).or_default() += 1;
        self.waiting.push_back(retraction);
    }

    /// Takes one out. `false`: it is not there any more.
    pub(super) fn remove(&mut self, retraction: &Retraction) -> bool {
        let is_it = |other: &Retraction| other == retraction;
        let Some(at) = self.waiting.iter().position(is_it) else { return false };
        self.waiting.remove(at);
        self.forget(retraction.actor, 1);
        true
    }

    /// Takes all of an actor's out, and tells each.
    pub(super) fn forget_all(&mut self, actor: ActorId, mut gone: impl FnMut(&Retraction)) {
        let count = self.of(actor);
        if count > 0 {
            self.waiting.iter().filter(|retraction| retraction.actor == actor).for_each(&mut gone);
            self.waiting.retain(|retraction| retraction.actor != actor);
            self.forget(actor, count);
        }
    }

    fn forget(&mut self, actor: ActorId, count: usize) {
        if let Some(left) = self.actors.get_mut(&actor) {
            *left -= count;
            if *left == 0 {
                self.actors.remove(&actor);
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
