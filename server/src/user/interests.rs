//! Of which nodes each client of this worker wants to hear: what its capabilities (XEP-0115) stand for.
//!
//! ```text
//! resource ─► 4 bytes: number of a hash ─► hash: nodes of interest, shared by all clients of that software
//! ```
//! A hash that nobody knows is asked for, of a few of those who announce it; an answer counts when its own hash is that
//! one, whoever gives it. One that lies, or does not answer, only costs itself: another is asked. What is known stays when
//! its last session has gone, until there is no room (`limits.caps_hashes`). Room is shared out among accounts ([`room`]).

mod room;
pub mod saved;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::proto::caps::{Announced, HASH_BYTES};
use crate::user::tables::ResourceKey;

/// Clients that are asked for one hash at a time.
const ASKED_MAX: usize = 3;

/// Milliseconds after which clients that have not answered count as silent.
const ANSWER_MS: u64 = 10_000;

/// Clients that wait for one hash, and get the last items when it is known. More of them are only told of what comes.
const WAITING_MAX: usize = 1024;

/// What is known of a hash.
#[derive(Debug)]
enum State {
    /// The nodes of interest, sorted.
    Known(Box<[Box<str>]>),
    /// It is asked for.
    Unknown {
        /// Who was asked, and has not answered.
        asked: Vec<ResourceKey>,
        /// When somebody was asked last.
        asked_ms: u64,
        /// Who waits for it.
        waiting: Vec<ResourceKey>,
    },
}

#[derive(Debug)]
struct Entry {
    hash: [u8; HASH_BYTES],
    state: State,
    /// Resources that announce it.
    sessions: u32,
    /// Whose clients announce it.
    holder: Holder,
    /// When a resource last began or ceased to announce it, in such moments.
    used: u64,
}

/// Whose clients have announced a hash.
#[derive(Debug)]
enum Holder {
    /// Nobody's yet: another program knew it.
    Nobody,
    /// Those of one account.
    One(Box<str>),
    /// Those of several.
    Many,
}

/// What is to be done about what a resource has announced.
#[derive(Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nothing: it has said so before, or there is nothing to know.
    Same,
    /// It announces something else than before, whose nodes of interest are known.
    Changed,
    /// It is to be asked.
    Ask,
    /// Others have been asked.
    Wait,
    /// There is no room for another hash.
    Full,
}

/// Nodes of interest of the clients of one worker.
#[derive(Debug, Default)]
pub struct Interests {
    /// By the number of the resource: 0 for nothing, else the number of the hash and 1.
    of: Vec<u32>,
    entries: Slab<Entry>,
    by_hash: HashMap<[u8; HASH_BYTES], u32, FixedState>,
    /// How many hashes only clients of this account have announced.
    held: HashMap<Box<str>, u32, FixedState>,
    /// Moments so far at which a resource began or ceased to announce something.
    moments: u64,
    /// Units of work for making room, and sessions that have lost their hash to others, since somebody asked.
    due_work: u64,
    lost: u64,
    /// Resources that are to be asked in the stead of others.
    due: Vec<ResourceKey>,
}

impl Interests {
    /// Hashes, known or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a client wants to hear of a node.
    #[inline]
    pub fn wants(&self, key: ResourceKey, node: &str) -> bool {
        self.nodes_of(key).binary_search_by(|interest| (**interest).cmp(node)).is_ok()
    }

    /// The nodes of which a client wants to hear, as far as that is known.
    pub fn nodes_of(&self, key: ResourceKey) -> &[Box<str>] {
        match self.entry_of(key).map(|number| &self.entries[number].state) {
            Some(State::Known(nodes)) => nodes,
            _ => &[],
        }
    }

    fn entry_of(&self, key: ResourceKey) -> Option<usize> {
        let number = *self.of.get(key.0 as usize)?;
        (number > 0).then(|| number as usize - 1)
    }

    /// Notes what a resource of an account announces in its presence.
    pub fn note(
        &mut self,
        (key, account): (ResourceKey, &str),
        announced: Option<&Announced>,
        hashes_max: usize,
        now_ms: u64,
    ) -> Noted {
        let Some(announced) = announced else {
            self.forget(key);
            return Noted::Same;
        };
        let before = self.entry_of(key);
        if before.is_some_and(|number| self.entries[number].hash == announced.hash) {
            return Noted::Same;
        }
        self.forget(key);
        let Some(number) = self.enter(announced.hash, account, hashes_max) else { return Noted::Full };
        self.set((key, account), number);
        match &mut self.entries[number].state {
            State::Known(_) => Noted::Changed,
            State::Unknown { asked, asked_ms, waiting } => {
                if waiting.len() < WAITING_MAX {
                    waiting.push(key);
                }
                if asked.len() >= ASKED_MAX && now_ms < *asked_ms + ANSWER_MS {
                    return Noted::Wait;
                }
                if now_ms >= *asked_ms + ANSWER_MS {
                    asked.clear();
                }
                asked.push(key);
                *asked_ms = now_ms;
                Noted::Ask
            }
        }
    }

    fn set(&mut self, (key, account): (ResourceKey, &str), number: usize) {
        self.claim(number, account);
        self.entries[number].sessions += 1;
        let at = key.0 as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, 0);
        }
        self.of[at] = u32::try_from(number + 1).expect("there are at most limits.caps_hashes");
    }

    /// The entry of a hash, made when there is room for it.
    fn enter(&mut self, hash: [u8; HASH_BYTES], account: &str, hashes_max: usize) -> Option<usize> {
        if let Some(number) = self.by_hash.get(&hash) {
            return Some(*number as usize);
        }
        if self.entries.len() >= hashes_max && !self.make_room(account) {
            return None;
        }
        let state = State::Unknown { asked: Vec::new(), asked_ms: 0, waiting: Vec::new() };
        let entry = Entry { hash, state, sessions: 0, holder: Holder::Nobody, used: self.moments };
        let number = self.entries.insert(entry);
        self.by_hash.insert(hash, u32::try_from(number).expect("there are at most limits.caps_hashes"));
        Some(number)
    }

    /// A resource announces nothing any more, is gone, or has answered with something else: what it announces stands for
    /// nothing. If it was to tell what its hash stands for, another is to.
    pub fn forget(&mut self, key: ResourceKey) {
        let Some(number) = self.entry_of(key) else { return };
        self.of[key.0 as usize] = 0;
        self.moments += 1;
        let entry = &mut self.entries[number];
        entry.used = self.moments;
        entry.sessions -= 1;
        let State::Unknown { asked, waiting, .. } = &mut entry.state else { return };
        if entry.sessions == 0 {
            return self.remove(number);
        }
        let was_asked = asked.contains(&key);
        asked.retain(|other| *other != key);
        waiting.retain(|other| *other != key);
        if was_asked && let Some(next) = waiting.iter().copied().find(|other| !asked.contains(other)) {
            asked.push(next);
            self.due.push(next);
        }
    }

    /// The resources that are to be asked since the last call, in the stead of others.
    pub fn take_due(&mut self) -> Vec<ResourceKey> {
        std::mem::take(&mut self.due)
    }

    /// The hash that a resource was asked for, if it was.
    pub fn asked_of(&self, key: ResourceKey) -> Option<[u8; HASH_BYTES]> {
        let entry = &self.entries[self.entry_of(key)?];
        match &entry.state {
            State::Unknown { .. } => Some(entry.hash),
            State::Known(_) => None,
        }
    }

    /// A resource has told what its hash stands for, and it is true. Returns those who wait for that.
    pub fn learn(&mut self, key: ResourceKey, nodes: Vec<Box<str>>) -> Vec<ResourceKey> {
        let Some(number) = self.entry_of(key) else { return Vec::new() };
        let known = State::Known(nodes.into_boxed_slice());
        match std::mem::replace(&mut self.entries[number].state, known) {
            State::Unknown { waiting, .. } => waiting,
            before @ State::Known(_) => {
                self.entries[number].state = before;
                Vec::new()
            }
        }
    }

    /// The hash that a resource announces.
    pub fn hash_of(&self, key: ResourceKey) -> Option<&[u8; HASH_BYTES]> {
        self.entry_of(key).map(|number| &self.entries[number].hash)
    }

    /// A resource of an account announced this hash to another program.
    pub fn restore_of(
        &mut self,
        (key, account): (ResourceKey, &str),
        hash: [u8; HASH_BYTES],
        hashes_max: usize,
    ) {
        let Some(number) = self.enter(hash, account, hashes_max) else { return };
        self.set((key, account), number);
        if let State::Unknown { waiting, .. } = &mut self.entries[number].state
            && waiting.len() < WAITING_MAX
        {
            waiting.push(key);
        }
    }

    /// Everything is taken over: of each hash that is not known somebody is to be asked.
    pub fn ask_anew(&mut self) {
        for (_, entry) in &mut self.entries {
            if let State::Unknown { asked, waiting, .. } = &mut entry.state
                && let (true, Some(first)) = (asked.is_empty(), waiting.first())
            {
                asked.push(*first);
                self.due.push(*first);
            }
        }
    }

    /// What is known, for another program: hashes and nodes.
    pub fn known(&self) -> impl Iterator<Item = (&[u8; HASH_BYTES], &[Box<str>])> {
        self.entries.iter().filter_map(|(_, entry)| match &entry.state {
            State::Known(nodes) => Some((&entry.hash, &**nodes)),
            State::Unknown { .. } => None,
        })
    }

    /// Takes over what another program knew.
    pub fn restore(&mut self, hash: [u8; HASH_BYTES], nodes: Vec<Box<str>>, hashes_max: usize) {
        if self.entries.len() < hashes_max
            && let Some(number) = self.enter(hash, "", hashes_max)
        {
            self.entries[number].state = State::Known(nodes.into_boxed_slice());
        }
    }
}

#[cfg(test)]
mod tests;
