//! A fixed number of levels that sink with time.
//!
//! Keys are hashes. A key's entry is one of the [`WAYS`] of its bucket; when all are taken, the
//! one with the lowest level gives way, the oldest of those. So a flood of names that fail once
//! drives out others that failed once and not those that are being guessed at. Two keys with the
//! same hash share an entry, which slows both and lets nobody through.

/// Entries of a bucket.
const WAYS: usize = 8;

/// A level that is 0 by now is as good as no entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) level: u32,
    /// When the level was `level`; it sinks from there.
    pub(super) since_ms: u64,
}

#[derive(Debug)]
pub(super) struct Table {
    /// Buckets one after the other; a power of two of them.
    entries: Box<[Entry]>,
    forgive_ms: u64,
    used: u64,
    driven_out: u64,
}

/// From which level on answers are delayed, and at which attempts are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    pub(super) free: u32,
    pub(super) most: u32,
}

impl Table {
    pub(super) fn new(entries: usize, forgive_ms: u64) -> Self {
        let buckets = entries.div_ceil(WAYS).clamp(1, 1 << 24).next_power_of_two();
        Self {
            entries: vec![Entry::default(); buckets * WAYS].into(),
            forgive_ms: forgive_ms.max(1),
            used: 0,
            driven_out: 0,
        }
    }

    /// Entries in use.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Entries that gave way although they were not forgiven yet.
    pub(super) fn driven_out(&self) -> u64 {
        self.driven_out
    }

    pub(super) fn level(&self, key: u64, now_ms: u64) -> u32 {
        let bucket = self.bucket(key);
        self.entries[bucket]
            .iter()
            .find(|entry| entry.key == key)
            .map_or(0, |entry| sink(*entry, now_ms, self.forgive_ms).level)
    }

    /// Raises a level by one, up to `level_max`, and gives it.
    pub(super) fn raise(&mut self, key: u64, level_max: u32, now_ms: u64) -> u32 {
        let (bucket, forgive_ms) = (self.bucket(key), self.forgive_ms);
        let bucket = &mut self.entries[bucket];
        let at = bucket.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            let least = |at: &usize| {
                let entry = sink(bucket[*at], now_ms, forgive_ms);
                (entry.level, entry.since_ms)
            };
            (0..WAYS).min_by_key(least).expect("a bucket has entries")
        });
        let before = match bucket[at] {
            entry if entry.key == key && entry.level > 0 => sink(entry, now_ms, forgive_ms),
            other => {
                self.used += u64::from(other.key == 0);
                let is_live = other.key != key && sink(other, now_ms, forgive_ms).level > 0;
                self.driven_out += u64::from(is_live);
                Entry { key, level: 0, since_ms: now_ms }
            }
        };
        let since_ms = if before.level == 0 { now_ms } else { before.since_ms };
        bucket[at] = Entry { key, level: before.level.saturating_add(1).min(level_max), since_ms };
        bucket[at].level
    }

    /// Forgives one.
    pub(super) fn lower(&mut self, key: u64) {
        if let Some(entry) = self.find(key) {
            entry.level = entry.level.saturating_sub(1);
        }
    }

    /// Forgives all.
    pub(super) fn clear(&mut self, key: u64) {
        if let Some(entry) = self.find(key) {
            entry.level = 0;
        }
    }

    fn find(&mut self, key: u64) -> Option<&mut Entry> {
        let bucket = self.bucket(key);
        self.entries[bucket].iter_mut().find(|entry| entry.key == key)
    }

    /// Entries that are not forgiven.
    pub(super) fn live(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied().filter(|entry| entry.level > 0)
    }

    /// Takes over an entry, if there is room where it belongs.
    pub(super) fn restore(&mut self, entry: Entry) {
        let bucket = self.bucket(entry.key);
        if let Some(place) = self.entries[bucket].iter_mut().find(|entry| entry.key == 0) {
            *place = entry;
            self.used += 1;
        }
    }

    fn bucket(&self, key: u64) -> std::ops::Range<usize> {
        let buckets = self.entries.len() / WAYS;
        // The number of buckets is a power of two that fits memory; the low bits choose.
        let start = usize::try_from(key & (buckets as u64 - 1)).expect("smaller than a length") * WAYS;
        start..start + WAYS
    }
}

/// The entry as it is now: whole forgiven steps taken off, the rest of a step kept.
fn sink(entry: Entry, now_ms: u64, forgive_ms: u64) -> Entry {
    let steps = now_ms.saturating_sub(entry.since_ms) / forgive_ms;
    let level = entry.level.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
    Entry { level, since_ms: entry.since_ms + steps * forgive_ms, ..entry }
}
