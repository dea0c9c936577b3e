//! Addresses from which an account was logged in to.
//!
//! The places of an account are the [`WAYS`] of the bucket that its name chooses, and at most [`PER_ACCOUNT_MAX`] of
//! them are its own: a new address takes the place of the one that was used longest ago, of the same account once it has
//! that many. So an account that logs in from thousands of addresses drives out its own addresses, and not more than a
//! few of a few others.

use super::saved::KnownEntry;

/// Places of a bucket.
const WAYS: usize = 8;

/// Places of one account.
const PER_ACCOUNT_MAX: usize = 4;

/// Three columns, so that the system gives memory only for what is in use: zeros are not written.
#[derive(Debug)]
pub(super) struct Known {
    /// Account and address; 0 is none.
    pairs: Box<[u64]>,
    /// Tells the accounts of a bucket apart.
    accounts: Box<[u32]>,
    /// When it was last used, in seconds of the server's clock.
    used: Box<[u32]>,
    count: u64,
}

impl Known {
    pub(super) fn new(places: usize) -> Self {
        let places = places.div_ceil(WAYS).clamp(1, 1 << 24).next_power_of_two() * WAYS;
        Self {
            pairs: vec![0; places].into(),
            accounts: vec![0; places].into(),
            used: vec![0; places].into(),
            count: 0,
        }
    }

    pub(super) fn contains(&self, account: u64, pair: u64) -> bool {
        self.pairs[self.bucket(account)].contains(&pair)
    }

    /// Remembers an address of an account, or that it was used again.
    pub(super) fn learn(&mut self, account: u64, pair: u64, now_ms: u64) {
        let tag = tag(account);
        let is_own = |at: &usize| self.pairs[*at] != 0 && self.accounts[*at] == tag;
        let full = self.bucket(account).filter(is_own).count() >= PER_ACCOUNT_MAX;
        let known = self.bucket(account).find(|&at| self.pairs[at] == pair);
        let candidates = self.bucket(account).filter(|at| !full || is_own(at));
        let oldest = candidates.min_by_key(|&at| (self.pairs[at] != 0, self.used[at]));
        let Some(at) = known.or(oldest) else { return };
        self.put(at, pair, tag, u32::try_from(now_ms / 1000).unwrap_or(u32::MAX));
    }

    fn put(&mut self, at: usize, pair: u64, account: u32, used: u32) {
        self.count += u64::from(self.pairs[at] == 0);
        self.pairs[at] = pair;
        self.accounts[at] = account;
        self.used[at] = used;
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Places of the table.
    pub(super) fn places(&self) -> u64 {
        self.pairs.len() as u64
    }

    /// What is known: the place, the pair, the tag of the account, and when it was used.
    pub(super) fn entries(&self) -> impl Iterator<Item = KnownEntry> {
        let known = self.pairs.iter().enumerate().filter(|(_, pair)| **pair != 0);
        known.map(|(at, pair)| (at as u64, *pair, self.accounts[at], self.used[at]))
    }

    /// Takes over what another program knew; its table had as many places.
    pub(super) fn restore(&mut self, (at, pair, account, used): KnownEntry) {
        if let Some(at) = usize::try_from(at).ok().filter(|at| *at < self.pairs.len()) {
            self.put(at, pair, account, used);
        }
    }

    /// The places of an account.
    fn bucket(&self, account: u64) -> std::ops::Range<usize> {
        let buckets = self.pairs.len() / WAYS;
        // The number of buckets is a power of two that fits memory; the low bits choose.
        let start = usize::try_from(account & (buckets as u64 - 1)).expect("smaller than a length") * WAYS;
        start..start + WAYS
    }
}

/// The bits of a hash that do not choose the bucket.
fn tag(account: u64) -> u32 {
    (account >> 32) as u32
}
