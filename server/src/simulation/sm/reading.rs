//! How far a peer is with reading an archive, and what it knows of it.

use std::collections::BTreeSet;

/// Ids that a peer remembers, to ask for them by name.
pub(super) const REMEMBERED_MAX: usize = 50;

/// Whose archive.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Room(usize),
}

/// In which order pages are asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forwards,
    Backwards,
}

/// What a peer reads.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) whose: Whose,
    /// Only what was exchanged with this one.
    pub(super) with: Option<(usize, bool)>,
    /// Only these.
    pub(super) ids: Vec<u64>,
    pub(super) way: Way,
    pub(super) is_flipped: bool,
    pub(super) max: usize,
    /// The id behind which it goes on, or before which, and in which step the peer heard of it.
    pub(super) at: Option<(u64, u64)>,
    /// What it must have found in the end.
    pub(super) must: BTreeSet<u32>,
    /// What it has found, in order.
    pub(super) found: Vec<(u64, u32)>,
    /// What has come of the page that it has asked for.
    pub(super) page: Vec<(u64, u32)>,
    /// The number of the query of that page and when it was asked for; `None`: it waits for none.
    pub(super) query: Option<(u32, u64)>,
    /// The stream was resumed since: what was forgotten meanwhile is not in the page.
    pub(super) is_resumed: bool,
    /// The same, since it was begun.
    pub(super) was_resumed: bool,
    /// What has come from the mailbox since then.
    pub(super) came: BTreeSet<u32>,
}

/// What a peer knows of archives.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    pub(super) reading: Option<Reading>,
    /// Ids of its own archive that it has heard of, with the steps.
    pub(super) remembered: Vec<(u64, u32, u64)>,
    /// It has read all that there is, in the end.
    pub(super) has_read: bool,
}

impl Reader {
    /// A message comes that is no page's.
    pub(super) fn comes(&mut self, n: u32) {
        if let Some(reading) = &mut self.reading {
            reading.came.insert(n);
        }
    }

    /// The stream goes on with another connection.
    pub(super) fn resume(&mut self) {
        if let Some(reading) = &mut self.reading {
            (reading.is_resumed, reading.was_resumed) = (true, true);
        }
    }

    /// The stream is over: nothing comes of what was asked for.
    pub(super) fn begin_anew(&mut self) {
        if let Some(reading) = &mut self.reading {
            (reading.query, reading.is_resumed) = (None, false);
            reading.page.clear();
        }
    }

    /// A power cut has taken what came into the archive since a step.
    pub(super) fn forget_since(&mut self, step: u64) {
        self.remembered.retain(|(_, _, of)| *of < step);
        let is_lost = |reading: &Reading| {
            let named = reading.ids.iter().any(|id| !self.remembered.iter().any(|(known, _, _)| known == id));
            reading.whose != Whose::Own || named || reading.at.is_some_and(|(_, of)| of >= step)
        };
        if self.reading.as_ref().is_some_and(is_lost) {
            self.reading = None;
        }
    }
}
