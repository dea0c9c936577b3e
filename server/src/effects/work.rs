//! Work, measured in units that are the same on every machine and in every run, so that the simulation deals out turns
//! as a real server does.
//!
//! A unit is about a microsecond of one core. Those who do work count it, after a measure that they know anyway:
//! stanzas, bytes, items read, recipients. It decides whose turn it is and who has asked for too much, and a coarse
//! measure is enough for both: `whimbrel-perf attack` shows for each kind of request how many units a microsecond of
//! the event loop comes to, which is to be neither far below 1 (too much is done in one turn) nor far above.

use std::cell::Cell;

/// Units for a frame of a client, whatever becomes of it.
pub const STANZA: u64 = 2;

/// Units for taking bytes from a driver, beside those for the bytes.
pub const RECEIVE: u64 = 2;

/// Units for a recipient of a presence that goes to many.
pub const RECIPIENT: u64 = 2;

/// Units for an address that is brought into its normal form.
pub const ADDRESS: u64 = 1;

/// Units for a stanza that is written to a client.
pub const WRITE: u64 = 1;

/// Units for the first of what an iteration writes to a connection: all of it goes to the kernel in one piece, which costs more
/// than what is in it.
pub const SEND: u64 = 4;

/// Units for a look into the directory.
pub const LOOK: u64 = 2;

/// Units for a flight of a TLS handshake that the server has answered: a key exchange and a signature.
pub const HANDSHAKE: u64 = 300;

/// Units for a request that the server answers itself, beside its bytes.
pub const REQUEST: u64 = 2;

/// Units for handing a job to the directory's writer, and for what follows when it comes back.
pub const JOB: u64 = 4;

/// Units for an envelope of another worker, beside what it leads to.
pub const LETTER: u64 = 1;

/// Units for a message that is written to the log.
pub const LOGGED: u64 = 2;

/// Units for a row of the archive's index, which has up to 64 messages.
pub const ROW: u64 = 5;

/// Units for a retraction: threads beside the worker look through `archive.retract_messages` messages for it, at both ends.
pub const RETRACTION: u64 = 1_000;

/// Units for a retraction in a room: threads beside the worker look at the one message that it names, twice, and what stands for it
/// is written.
pub const RETRACTION_IN_ROOM: u64 = 50;

/// Units for a probe that is answered, which reads an item of a roster.
pub const PROBE: u64 = 8;

/// Units for a row that is read out of the directory and made into an object.
pub const ITEM: u64 = 1;

/// Items of a roster that cost a unit, where they are read as they lie.
const ITEMS_PER_UNIT: usize = 4;

/// Bytes that cost a unit where they are decrypted, parsed or copied.
const BYTES_PER_UNIT: usize = 1024;

/// Bytes of a file that cost a unit, where the system has them in memory.
const READ_BYTES_PER_UNIT: usize = 4096;

/// Bytes of trees of elements that cost a unit, where they are built or written.
const TREE_BYTES_PER_UNIT: usize = 256;

/// Elements and attributes that cost a unit, where a stanza is only checked and passed on.
const NODES_PER_UNIT: usize = 32;

/// Bytes of an address with letters beyond ASCII that cost a unit: each letter is looked for in many tables.
const LETTERS_PER_UNIT: usize = 8;

/// Acknowledged messages that cost a unit.
const ACKNOWLEDGED_PER_UNIT: usize = 8;

/// The work of one worker since it began.
#[derive(Debug, Default)]
pub struct Work {
    spent: Cell<u64>,
    stanzas: Cell<u64>,
    handshakes: Cell<u64>,
    /// Up to here the work of the completion at hand has been charged; `None` while there is none.
    charged: Cell<Option<u64>>,
}

impl Work {
    /// Counts work that has been done.
    pub fn add(&self, units: u64) {
        self.spent.set(self.spent.get() + units);
    }

    /// Counts a frame of a client.
    pub fn add_stanza(&self, bytes: usize) {
        self.stanzas.set(self.stanzas.get() + 1);
        self.add(STANZA);
        self.add_bytes(bytes);
    }

    /// Counts a flight of a TLS handshake.
    pub fn add_handshake(&self) {
        self.handshakes.set(self.handshakes.get() + 1);
        self.add(HANDSHAKE);
    }

    /// Flights of TLS handshakes so far.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.get()
    }

    /// Counts bytes that were decrypted, parsed or copied.
    pub fn add_bytes(&self, bytes: usize) {
        self.add((bytes / BYTES_PER_UNIT) as u64);
    }

    /// Counts bytes of which a tree of elements was made, or that were made of one.
    pub fn add_tree(&self, bytes: usize) {
        self.add((bytes / TREE_BYTES_PER_UNIT) as u64);
    }

    /// Counts bytes that were read out of the system's memory of a file, and looked through.
    pub fn add_read(&self, bytes: usize) {
        self.add((bytes / READ_BYTES_PER_UNIT) as u64);
    }

    /// Counts elements and attributes of a client's stanza.
    pub fn add_nodes(&self, count: usize) {
        self.add((count / NODES_PER_UNIT) as u64);
    }

    /// Counts bytes of addresses with letters beyond ASCII that are brought into their normal form.
    pub fn add_letters(&self, bytes: usize) {
        self.add((bytes / LETTERS_PER_UNIT) as u64);
    }

    /// Counts messages that a client has acknowledged, each of which is taken out of what waits for it.
    pub fn add_acknowledged(&self, count: usize) {
        self.add((count / ACKNOWLEDGED_PER_UNIT) as u64);
    }

    /// Counts items of a roster that were read where they lie.
    pub fn add_items(&self, count: usize) {
        self.add((count / ITEMS_PER_UNIT) as u64);
    }

    /// Counts contacts or recipients that were gone through in memory.
    pub fn add_contacts(&self, count: usize) {
        self.add((count / 16) as u64);
    }

    /// Goes on with something that has come back: what that takes is charged to those who began it.
    pub fn begin_completion(&self) {
        self.charged.set(Some(self.spent.get()));
    }

    /// It is done.
    pub fn end_completion(&self) {
        self.charged.set(None);
    }

    /// Units for the completion at hand since this was last asked.
    pub fn charge_completion(&self) -> u64 {
        let Some(charged) = self.charged.get() else { return 0 };
        self.begin_completion();
        self.spent.get() - charged
    }

    /// Units so far.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// Frames of clients so far.
    pub fn stanzas(&self) -> u64 {
        self.stanzas.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_completion_is_charged_once() {
        let work = Work::default();
        work.add(5);
        assert_eq!(work.charge_completion(), 0, "nothing has come back");
        work.begin_completion();
        work.add(7);
        assert_eq!((work.charge_completion(), work.charge_completion()), (7, 0));
        work.add(2);
        assert_eq!(work.charge_completion(), 2);
        work.end_completion();
        work.add(3);
        assert_eq!((work.charge_completion(), work.spent()), (0, 17));
    }
}
