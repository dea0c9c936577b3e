//! What a client has not acknowledged, oldest first.
//!
//! Every stanza sent has its number, so every one has its place here until the client acknowledges it. What the place
//! costs is another matter: a message of the log is a reference, and so is what rooms have said to a session without a connection
//! once much of it is unacknowledged; what there is no room to keep becomes a few bytes that tell the client to ask again, or nothing
//! but a count ([`Unacked::Forgotten`]; neighbours are one entry).

use std::collections::VecDeque;
use std::mem::offset_of;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use whimbrel_storage::log::{PeerHash, Sequence};

use crate::stanza::Kind;

/// Room for so many unacknowledged stanzas stays with a stream until it rests.
const KEPT_STANZAS_MAX: usize = 16;

/// Bytes that a queued stanza costs beside its own.
pub const ENTRY_BYTES: usize = size_of::<Unacked>();

// A connected session may have thousands of them.
const _: () = assert!(ENTRY_BYTES <= 24);

/// A stanza, or several in a row, that the client has not acknowledged.
#[derive(Debug)]
pub enum Unacked {
    /// One that is kept here.
    Stanza {
        /// Kind.
        kind: Kind,
        /// Not 0: a presence, and what its sender hashes to. A later one of the same sender replaces it.
        sender: u32,
        /// The stanza.
        bytes: Box<[u8]>,
    },
    /// A message that is in the log.
    Record {
        /// Its number there.
        sequence: Sequence,
        /// Its bytes when it is sent again.
        length: u32,
    },
    /// What was said in a room, in whose archive it is.
    Archived {
        /// Where it is.
        reference: Reference,
        /// Its bytes when it is sent again.
        length: u32,
    },
    /// What was said in a room, of which the log has the text for all who have no connection.
    Spooled {
        /// Its number in the spool of the account.
        sequence: Sequence,
        /// Its bytes when it is sent again.
        length: u32,
    },
    /// The server's answer to a request of the client, not kept. A resumed stream gets an error in its place, so that the
    /// client asks again.
    Answer(Box<AnswerTo>),
    /// So many stanzas that are not kept; a resumed stream goes without them.
    Forgotten(u32),
}

/// A message in the archive of a room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its id there.
    pub id: Sequence,
    /// Tells the room's address among those of the rooms in which the session is.
    pub room: PeerHash,
    /// A device is told of it.
    pub wakes: bool,
}

/// Which request an answer was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerTo {
    /// The address that the request was sent to; `None` when it had none.
    pub from: Option<Box<str>>,
    /// The request's id.
    pub id: Box<str>,
}

impl AnswerTo {
    fn len(&self) -> usize {
        size_of::<AnswerTo>() + self.id.len() + self.from.as_ref().map_or(0, |from| from.len())
    }
}

impl Unacked {
    /// Stanzas that it stands for.
    fn count(&self) -> u32 {
        match self {
            Unacked::Forgotten(count) => *count,
            _ => 1,
        }
    }

    /// Bytes of memory beside the entry's own.
    fn content(&self) -> usize {
        match self {
            Unacked::Stanza { bytes, .. } => bytes.len(),
            Unacked::Answer(answer) => answer.len(),
            Unacked::Record { .. }
            | Unacked::Archived { .. }
            | Unacked::Spooled { .. }
            | Unacked::Forgotten(_) => 0,
        }
    }

    /// Bytes that are sent again, and those of the entry.
    pub(super) fn cost(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Unacked::Record { length, .. }
                | Unacked::Archived { length, .. }
                | Unacked::Spooled { length, .. } => *length as usize,
                other => other.content(),
            }
    }

    fn replaceable(&self) -> usize {
        match self {
            Unacked::Stanza { sender: 1.., .. } => self.cost(),
            _ => 0,
        }
    }
}

/// The queue. Its counters follow what is in it.
///
/// What a message changes comes first, in one cache line of [`super::InFlight`]: the queues of thousands of sessions are
/// seldom in a cache when a message comes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct UnackedQueue {
    entries: VecDeque<Unacked>,
    /// Bytes that would be sent again, entries included.
    bytes: usize,
    /// Bytes of stanzas that are kept here.
    content: usize,
    /// Stanzas that the entries stand for.
    count: u32,
    /// Of the entries, the oldest, at which [`UnackedQueue::refer`] has looked.
    looked_at: u32,
    /// Of the entries, references into archives of rooms.
    archived: u32,
    /// Of the entries, references into the spool.
    spooled: u32,
    /// Of the entries, those of presence that a later one replaces.
    replaceable_entries: u32,
    /// Of [`UnackedQueue::bytes`], theirs.
    replaceable_bytes: usize,
}

const _: () = assert!(offset_of!(UnackedQueue, replaceable_entries) == 64);

impl UnackedQueue {
    /// A queue of entries that were saved.
    pub fn of(entries: impl Iterator<Item = Unacked>) -> UnackedQueue {
        let mut queue = UnackedQueue::default();
        entries.for_each(|entry| queue.push(entry));
        queue
    }

    /// Adds the newest.
    pub fn push(&mut self, entry: Unacked) {
        if let (Unacked::Forgotten(count), Some(Unacked::Forgotten(before))) =
            (&entry, self.entries.back_mut())
        {
            self.count = self.count.saturating_add(*count);
            *before = before.saturating_add(*count);
            return;
        }
        self.count = self.count.saturating_add(entry.count());
        self.bytes += entry.cost();
        self.content += entry.content();
        self.archived += u32::from(matches!(entry, Unacked::Archived { .. }));
        self.spooled += u32::from(matches!(entry, Unacked::Spooled { .. }));
        if entry.replaceable() > 0 {
            self.replaceable_bytes += entry.replaceable();
            self.replaceable_entries += 1;
        }
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Unacked> {
        let entry = self.entries.pop_front()?;
        self.count -= entry.count();
        self.bytes -= entry.cost();
        self.content -= entry.content();
        self.archived -= u32::from(matches!(entry, Unacked::Archived { .. }));
        self.spooled -= u32::from(matches!(entry, Unacked::Spooled { .. }));
        if entry.replaceable() > 0 {
            self.replaceable_bytes -= entry.replaceable();
            self.replaceable_entries -= 1;
        }
        self.looked_at = self.looked_at.saturating_sub(1);
        Some(entry)
    }

    /// Takes the oldest `count` stanzas out and gives them to `gone`; there are as many.
    pub fn acknowledge(&mut self, mut count: u32, mut gone: impl FnMut(Unacked)) {
        while count > 0 {
            if let Some(Unacked::Forgotten(forgotten)) = self.entries.front_mut()
                && *forgotten > count
            {
                *forgotten -= count;
                self.count -= count;
                return;
            }
            let Some(entry) = self.pop() else { return };
            count -= entry.count();
            gone(entry);
        }
        if !self.entries.is_empty() {
            return;
        }
        match self.entries.capacity() > KEPT_STANZAS_MAX {
            // What a burst has needed is given back; what a conversation needs is kept until it rests.
            true => self.entries = VecDeque::new(),
            // The next one goes to the first place again, which is still in a cache, and not all round the ring.
            false => self.entries.clear(),
        }
    }

    /// Makes the queue anew of what `keep` makes of each entry, oldest first; `None`: it has never been sent.
    pub fn rebuild(&mut self, keep: impl FnMut(Unacked) -> Option<Unacked>) {
        let entries = std::mem::take(&mut self.entries);
        *self = UnackedQueue::of(entries.into_iter().filter_map(keep));
    }

    /// Forgets presence that a later one has replaced, if there is more presence than a quarter of what may be in the
    /// queue; or all of it, if it is more than an eighth even then. So at least an eighth goes each time, and the work is
    /// shared by many stanzas.
    pub fn thin(&mut self, entries_max: usize, bytes_max: usize) {
        if self.replaceable_entries as usize <= entries_max / 4 && self.replaceable_bytes <= bytes_max / 4 {
            return;
        }
        let mut newest: HashSet<u32, FixedState> = HashSet::default();
        let mut left = 0;
        for entry in self.entries.iter_mut().rev() {
            let Unacked::Stanza { sender: sender @ 1.., .. } = *entry else { continue };
            match newest.insert(sender) {
                true => left += entry.cost(),
                false => *entry = Unacked::Forgotten(1),
            }
        }
        let too_much = newest.len() > entries_max / 8 || left > bytes_max / 8;
        self.rebuild(|entry| match entry.replaceable() {
            1.. if too_much => Some(Unacked::Forgotten(1)),
            _ => Some(entry),
        });
    }

    /// Keeps the content of stanzas, up to `bytes_max` of it: that of essential ones first, then that of the oldest. What is no
    /// longer kept it gives to `shed`, which says what stays in its place.
    pub fn shed(
        &mut self,
        bytes_max: usize,
        is_essential: impl Fn(&Unacked) -> bool,
        mut shed: impl FnMut(Unacked) -> Unacked,
    ) {
        if self.content <= bytes_max {
            return;
        }
        let essential = self.entries.iter().filter(|entry| is_essential(entry)).map(Unacked::content).sum();
        let mut left = bytes_max.saturating_sub(essential);
        let mut left_for_essential = bytes_max - left;
        self.rebuild(|entry| {
            let content = entry.content();
            if content == 0 {
                return Some(entry);
            }
            let left = if is_essential(&entry) { &mut left_for_essential } else { &mut left };
            if content <= *left {
                *left -= content;
                return Some(entry);
            }
            Some(shed(entry))
        });
    }

    /// Keeps of messages nothing but where they are, as far as `reference` tells that. It is asked of each once.
    pub fn refer(&mut self, reference: impl Fn(&[u8]) -> Option<Reference>) {
        for entry in self.entries.iter_mut().skip(self.looked_at as usize) {
            if let Unacked::Stanza { kind: Kind::Message, bytes, .. } = entry
                && let Ok(length) = u32::try_from(bytes.len())
                && let Some(reference) = reference(bytes)
            {
                self.content -= bytes.len();
                self.archived += 1;
                *entry = Unacked::Archived { reference, length };
            }
        }
        self.looked_at = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
    }

    /// Keeps the messages themselves again that are in archives of rooms. Those of which `text` knows none are forgotten.
    pub fn recall(&mut self, mut text: impl FnMut(Reference) -> Option<Box<[u8]>>) {
        self.rebuild(|entry| match entry {
            Unacked::Archived { reference, .. } => Some(match text(reference) {
                Some(bytes) => Unacked::Stanza { kind: Kind::Message, sender: 0, bytes },
                None => Unacked::Forgotten(1),
            }),
            entry => Some(entry),
        });
    }

    /// References into archives of rooms.
    pub fn archived(&self) -> impl Iterator<Item = Reference> {
        let entries = if self.archived == 0 { 0 } else { self.entries.len() };
        self.entries.iter().take(entries).filter_map(|entry| match entry {
            Unacked::Archived { reference, .. } => Some(*reference),
            _ => None,
        })
    }

    /// How many of them there are.
    pub fn archived_count(&self) -> usize {
        self.archived as usize
    }

    /// References into the spool, oldest first.
    pub fn spooled(&self) -> impl Iterator<Item = Sequence> {
        let entries = if self.spooled == 0 { 0 } else { self.entries.len() };
        self.entries.iter().take(entries).filter_map(|entry| match entry {
            Unacked::Spooled { sequence, .. } => Some(*sequence),
            _ => None,
        })
    }

    /// How many of them there are.
    pub fn spooled_count(&self) -> usize {
        self.spooled as usize
    }

    /// Forgets the stanzas that are kept here of which this is true, by kind and content. Returns how many there were.
    pub fn forget_where(&mut self, is_meant: impl Fn(Kind, &[u8]) -> bool) -> u64 {
        let is_one =
            |entry: &Unacked| matches!(entry, Unacked::Stanza { kind, bytes, .. } if is_meant(*kind, bytes));
        let mut forgotten = 0;
        for entry in &mut self.entries {
            if is_one(entry) {
                *entry = Unacked::Forgotten(1);
                forgotten += 1;
            }
        }
        if forgotten > 0 {
            // The counters are to follow.
            self.rebuild(Some);
        }
        forgotten
    }

    /// Forgets presence that a later one of its sender replaces, but for that of senders who have gone.
    pub fn forget_arrivals(&mut self, is_departure: impl Fn(&[u8]) -> bool) {
        self.rebuild(|entry| match &entry {
            Unacked::Stanza { sender: 1.., bytes, .. } if !is_departure(bytes) => Some(Unacked::Forgotten(1)),
            _ => Some(entry),
        });
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.entries.iter()
    }

    /// All entries, oldest first: the stream is over.
    pub fn into_entries(self) -> VecDeque<Unacked> {
        self.entries
    }

    /// Whether nothing is unacknowledged.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Stanzas that are unacknowledged.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Entries, and the bytes that they stand for when everything is sent again.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Bytes of stanzas that are kept here.
    pub fn content(&self) -> usize {
        self.content
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.content + self.entries.capacity() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests;
