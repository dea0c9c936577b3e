//! Shares of a mailbox: what each sender may have waiting for an account that does not read.
//!
//! Below the share of one stranger nothing is counted, so messages to those who read them cost one look. Past it the
//! messages that wait are counted by sender in a [`Table`], until they are fewer than half of that again. The table
//! needs nothing on disk: it reads the senders of what was there before out of the log, a bounded number for each new
//! message ([`LEARN_RECORDS`]). Until that is done, which after a restart may take some messages, what has not been read counts
//! as if every stranger had sent it; contacts are not held to what is unknown.
//!
//! A stranger is a sender whom the account has neither in its roster nor asked, approved or subscribed to: nobody can
//! make themselves a contact.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::hash::BuildHasher;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{Item, Subscription};
use whimbrel_storage::log::{Backlog, Sequence};

use crate::limits::Limits;
use crate::user::commits::Log;
use crate::user::record;

/// Messages of the past whose senders are read for each new one.
const LEARN_RECORDS: usize = 2048;
/// Bytes of those messages.
const LEARN_BYTES: u64 = 2 << 20;

/// Senders of each kind that a table tells apart. One more stranger is refused; what one more contact sends is not
/// counted.
const SENDERS_MAX: usize = 1024;

/// Bytes of a message in the log beside its payload.
const RECORD_BYTES: u64 = 64;

/// Messages and their bytes in the log.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Load {
    fn of(payload: usize) -> Load {
        Load { messages: 1, bytes: payload as u64 + RECORD_BYTES }
    }

    fn plus(self, other: Load) -> Load {
        Load { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Load) -> Load {
        Load {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn fits(self, most: Load) -> bool {
        self.messages <= most.messages && self.bytes <= most.bytes
    }
}

/// A part of a mailbox, but room for one message at least. The whole is not bounded here: the log sees to that.
fn share(limits: &Limits, percent: u8) -> Load {
    if percent >= 100 {
        return Load { messages: u64::MAX, bytes: u64::MAX };
    }
    let part = |whole: u64| whole / 100 * u64::from(percent) + whole % 100 * u64::from(percent) / 100;
    Load {
        messages: part(limits.offline_messages).max(1),
        bytes: part(limits.offline_bytes).max(2 * u64::from(limits.stanza_bytes)),
    }
}

/// Whom a message comes from, as far as the recipient's mailbox is concerned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// In the recipient's roster by the recipient's own doing.
    Contact,
    /// Anybody else.
    Stranger,
}

impl Sender {
    /// By the recipient's roster item about the sender.
    pub fn of(item: Option<&Item>) -> Sender {
        let known =
            |item: &Item| item.listed || item.ask || item.approved || item.subscription != Subscription::None;
        if item.is_some_and(known) { Sender::Contact } else { Sender::Stranger }
    }
}

/// Why a message does not go into the mailbox.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ShareRefusal {
    /// `limits.offline_percent_per_contact` or `limits.offline_percent_per_stranger`.
    Sender,
    /// `limits.offline_percent_strangers`.
    Strangers,
    /// `limits.offline_strangers_per_minute`.
    Rate,
}

/// A message that wants to go into a mailbox.
#[derive(Copy, Clone, Debug)]
pub struct Request<'a> {
    /// Localpart of its sender.
    pub from: &'a str,
    /// What the recipient's roster says of the sender.
    pub sender: Sender,
    /// Bytes of its payload.
    pub payload: usize,
    /// Nobody is there to read it.
    pub is_absent: bool,
    /// The time, in milliseconds.
    pub now_ms: u64,
}

/// What one sender has waiting.
#[derive(Copy, Clone, Debug)]
struct Counted {
    sender: Sender,
    load: Load,
}

/// Who has sent what waits for one account.
#[derive(Debug)]
struct Table {
    /// By hash of the sender's localpart.
    senders: HashMap<u64, Counted, foldhash::fast::FixedState>,
    /// Senders in it that are strangers.
    strangers: usize,
    /// What all of them have waiting.
    load: Load,
    /// What those that are strangers have waiting.
    load_of_strangers: Load,
    /// Messages up to this one were read out of the log.
    learned: Sequence,
    /// The last message that waited when the table was made: later ones were counted as they came.
    born: Sequence,
    /// When strangers' messages, at their rate, would be through, in microseconds.
    strangers_until_us: u64,
}

impl Table {
    fn new(backlog: &Backlog) -> Table {
        Table {
            senders: HashMap::default(),
            strangers: 0,
            load: Load::default(),
            load_of_strangers: Load::default(),
            learned: Sequence::ZERO,
            born: backlog.last,
            strangers_until_us: 0,
        }
    }

    /// Whether there is a place for a sender.
    fn has_place(&self, hash: u64, sender: Sender) -> bool {
        let taken = match sender {
            Sender::Stranger => self.strangers,
            Sender::Contact => self.senders.len() - self.strangers,
        };
        taken < SENDERS_MAX || self.senders.contains_key(&hash)
    }

    /// Counts a message.
    fn add(&mut self, hash: u64, sender: Sender, load: Load) {
        if !self.has_place(hash, sender) {
            return;
        }
        let counted = match self.senders.entry(hash) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.strangers += usize::from(sender == Sender::Stranger);
                new.insert(Counted { sender, load: Load::default() })
            }
        };
        counted.load = counted.load.plus(load);
        self.load = self.load.plus(load);
        if counted.sender == Sender::Stranger {
            self.load_of_strangers = self.load_of_strangers.plus(load);
        }
    }

    /// A message waits no longer.
    fn remove(&mut self, hash: u64, load: Load) {
        let Some(counted) = self.senders.get_mut(&hash) else { return };
        counted.load = counted.load.minus(load);
        let Counted { sender, load: left } = *counted;
        self.load = self.load.minus(load);
        if sender == Sender::Stranger {
            self.load_of_strangers = self.load_of_strangers.minus(load);
        }
        if left.messages == 0 {
            self.senders.remove(&hash);
            self.strangers -= usize::from(sender == Sender::Stranger);
        }
    }

    /// What a sender has waiting. One who has become a contact, or is one no longer, is counted as such from now on.
    fn of(&mut self, hash: u64, sender: Sender) -> Load {
        let Some(counted) = self.senders.get_mut(&hash) else { return Load::default() };
        let load = counted.load;
        if counted.sender != sender {
            counted.sender = sender;
            match sender {
                Sender::Contact => {
                    self.strangers -= 1;
                    self.load_of_strangers = self.load_of_strangers.minus(load);
                }
                Sender::Stranger => {
                    self.strangers += 1;
                    self.load_of_strangers = self.load_of_strangers.plus(load);
                }
            }
        }
        load
    }

    /// Whether a message was counted.
    fn covers(&self, sequence: Sequence) -> bool {
        sequence <= self.learned || sequence > self.born
    }

    /// Takes a place in the strangers' rate, when there is one.
    fn take_turn(&mut self, now_ms: u64, per_minute: u32) -> bool {
        let interval_us = 60_000_000 / u64::from(per_minute.max(1));
        let now_us = now_ms * 1000;
        // As many as in a minute may come at once.
        if self.strangers_until_us > now_us + 60_000_000 - interval_us {
            return false;
        }
        self.strangers_until_us = self.strangers_until_us.max(now_us) + interval_us;
        true
    }
}

/// The tables of a worker's accounts.
#[derive(Debug, Default)]
pub struct Shares {
    // Nobody chooses an account's number.
    tables: HashMap<ActorId, Box<Table>, foldhash::fast::FixedState>,
    // What two names have in common here they share as strangers only, and as contacts only.
    hasher: foldhash::fast::FixedState,
}

impl Shares {
    /// Accounts whose messages are counted by sender.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Bytes of memory of an account's table.
    pub fn bytes_of(&self, user: ActorId) -> usize {
        self.tables.get(&user).map_or(0, |table| size_of::<Table>() + table.senders.allocation_size())
    }

    /// Whether so much waits for an account that senders are told apart, once a message of this payload is added.
    pub fn are_counted(limits: &Limits, waiting: Load, payload: usize) -> bool {
        !waiting.plus(Load::of(payload)).fits(share(limits, limits.offline_percent_per_stranger))
    }

    /// Whether a message fits its sender's share of a mailbox for which [`Shares::are_counted`]. `sender_of` tells what
    /// the recipient's roster says of other senders, by localpart.
    ///
    /// # Errors
    /// It does not, and nothing was counted.
    pub fn admit(
        &mut self,
        log: &Log,
        limits: &Limits,
        (account, backlog): (ActorId, &Backlog),
        request: &Request<'_>,
        sender_of: impl Fn(&str) -> Sender,
    ) -> Result<(), ShareRefusal> {
        let Shares { tables, hasher } = self;
        let hash = hasher.hash_one(request.from);
        let table = tables.entry(account).or_insert_with(|| Box::new(Table::new(backlog)));
        if table.load.messages > backlog.messages {
            // Some have expired, and nobody has told.
            **table = Table { strangers_until_us: table.strangers_until_us, ..Table::new(backlog) };
        }
        learn(table, log, account, |table, local| {
            let hash = hasher.hash_one(local);
            let known = table.senders.get(&hash).map(|counted| counted.sender);
            (hash, known.unwrap_or_else(|| sender_of(local)))
        });
        let waiting = Load { messages: backlog.messages, bytes: backlog.bytes };
        let unknown = if table.learned < table.born { waiting.minus(table.load) } else { Load::default() };
        let new = Load::of(request.payload);
        let own = table.of(hash, request.sender).plus(new);
        if request.sender == Sender::Contact {
            let most = share(limits, limits.offline_percent_per_contact);
            return if own.fits(most) { Ok(()) } else { Err(ShareRefusal::Sender) };
        }
        if !own.plus(unknown).fits(share(limits, limits.offline_percent_per_stranger)) {
            return Err(ShareRefusal::Sender);
        }
        let all = table.load_of_strangers.plus(unknown).plus(new);
        let most = share(limits, limits.offline_percent_strangers);
        if !all.fits(most) || !table.has_place(hash, Sender::Stranger) {
            return Err(ShareRefusal::Strangers);
        }
        if request.is_absent && !table.take_turn(request.now_ms, limits.offline_strangers_per_minute) {
            return Err(ShareRefusal::Rate);
        }
        Ok(())
    }

    /// A message that was admitted is in the log.
    pub fn added(&mut self, account: ActorId, from: &str, sender: Sender, payload: usize) {
        if let Some(table) = self.tables.get_mut(&account) {
            table.add(self.hasher.hash_one(from), sender, Load::of(payload));
        }
    }

    /// A message is about to leave the log.
    pub fn removing(&mut self, log: &Log, account: ActorId, sequence: Sequence) {
        let Some(table) = self.tables.get_mut(&account).filter(|table| table.covers(sequence)) else {
            return;
        };
        let before = Sequence(sequence.0.saturating_sub(1));
        if let Some(Ok(found)) = log.read(account, before, 1).next()
            && found.sequence == sequence
            && let Some(local) = record::sender_of(found.payload)
        {
            table.remove(self.hasher.hash_one(local), Load::of(found.payload.len()));
        }
    }

    /// Messages have left the log: so few are left, perhaps, that nobody need be counted.
    pub fn removed(&mut self, limits: &Limits, account: ActorId, left: Option<Backlog>) {
        let most = share(limits, limits.offline_percent_per_stranger);
        let few = |left: &Backlog| left.messages <= most.messages / 2 && left.bytes <= most.bytes / 2;
        if self.tables.contains_key(&account) && left.as_ref().is_none_or(few) {
            self.tables.remove(&account);
        }
    }

    /// An account is gone.
    pub fn forget(&mut self, account: ActorId) {
        self.tables.remove(&account);
    }

    /// The log was opened anew, and may be shorter than it was.
    pub fn clear(&mut self) {
        self.tables.clear();
    }
}

/// Reads the senders of some more messages that were there before the table.
fn learn(table: &mut Table, log: &Log, account: ActorId, sender_of: impl Fn(&Table, &str) -> (u64, Sender)) {
    if table.learned >= table.born {
        return;
    }
    let mut records = log.read(account, table.learned, LEARN_BYTES);
    for _ in 0..LEARN_RECORDS {
        let Some(read) = records.next() else {
            // At the end of the log, or of the bytes: the next message goes on from there.
            return finish(table, log, account);
        };
        let Ok(found) = read else { continue };
        if found.sequence > table.born {
            table.learned = table.born;
            return;
        }
        table.learned = found.sequence;
        if let Some(local) = record::sender_of(found.payload) {
            let (hash, sender) = sender_of(table, local);
            table.add(hash, sender, Load::of(found.payload.len()));
        }
    }
}

/// Whether all was read: then nothing is unknown, though some may be without a sender.
fn finish(table: &mut Table, log: &Log, account: ActorId) {
    if log
        .read(account, table.learned, 1)
        .next()
        .is_none_or(|next| next.is_ok_and(|n| n.sequence > table.born))
    {
        table.learned = table.born;
    }
}

#[cfg(test)]
mod tests;
