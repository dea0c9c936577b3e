//! Work, measured in units that are the same on every machine and in every run, so that the simulation deals out turns
//! as a real server does.
//!
//! A unit is about a microsecond of one core; docs/performance.md says on which. Those who do work count it, after a
//! measure that they know anyway: stanzas, bytes, items read, recipients. What is counted decides whose turn it is, so a
//! coarse measure is enough.

/// Units for a stanza of a client, whatever becomes of it.
pub const STANZA: u64 = 3;

/// Bytes that cost a unit where they are read, parsed or written.
pub const BYTES_PER_UNIT: usize = 1024;

/// The work of one worker since it began.
#[derive(Debug, Default)]
pub struct Work {
    spent: u64,
}

impl Work {
    /// Counts work that has been done.
    pub fn add(&mut self, units: u64) {
        self.spent += units;
    }

    /// Counts bytes that were read, parsed or written beyond what a small stanza has.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.spent += (bytes / BYTES_PER_UNIT) as u64;
    }

    /// Everything so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }
}
