//! Addresses from which an account was logged in to.
//!
//! The places of an account are the [`WAYS`] of the bucket that its name chooses, and at most [`PER_ACCOUNT_MAX`] of
//! them are its own: a new address takes the place of the one that was used longest ago, of the same account once it has
//! that many. So an account that logs in from thousands of addresses drives out its own addresses, and not more than a
//! few of a few others.

use crate::upgrade::StateError;
use crate::upgrade::codec::{Decoder, Encoder};

/// Places of a bucket.
const WAYS: usize = 8;

/// Places of one account.
const PER_ACCOUNT_MAX: usize = 4;

/// 0 is no address.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    pair: u64,
    /// Tells the accounts of a bucket apart.
    account: u32,
    /// Seconds of the server's clock.
    used: u32,
}

#[derive(Debug)]
pub(super) struct Known {
    places: Box<[Place]>,
    count: u64,
}

impl Known {
    pub(super) fn new(places: usize) -> Self {
        let buckets = places.div_ceil(WAYS).clamp(1, 1 << 24).next_power_of_two();
        Self { places: vec![Place::default(); buckets * WAYS].into(), count: 0 }
    }

    pub(super) fn contains(&self, account: u64, pair: u64) -> bool {
        self.places[self.bucket(account)].iter().any(|place| place.pair == pair)
    }

    /// Remembers an address of an account, or that it was used again.
    pub(super) fn learn(&mut self, account: u64, pair: u64, now_ms: u64) {
        let tag = tag(account);
        let range = self.bucket(account);
        let bucket = &mut self.places[range];
        let own = bucket.iter().filter(|place| place.pair != 0 && place.account == tag).count();
        let oldest_of = |bucket: &[Place], own_only: bool| {
            let mut places: Vec<usize> = (0..WAYS).collect();
            places.retain(|&at| !own_only || (bucket[at].pair != 0 && bucket[at].account == tag));
            places.into_iter().min_by_key(|&at| (bucket[at].pair != 0, bucket[at].used))
        };
        let at = bucket
            .iter()
            .position(|place| place.pair == pair)
            .or_else(|| oldest_of(bucket, own >= PER_ACCOUNT_MAX))
            .unwrap_or(0);
        self.count += u64::from(bucket[at].pair == 0);
        bucket[at] = Place { pair, account: tag, used: u32::try_from(now_ms / 1000).unwrap_or(u32::MAX) };
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn save(&self, to: &mut Encoder) {
        to.count(self.places.len());
        to.number(self.count);
        let buckets = self.places.chunks_exact(WAYS).enumerate();
        for (bucket, places) in buckets {
            for place in places.iter().filter(|place| place.pair != 0) {
                to.number(bucket as u64);
                to.raw(&place.pair.to_le_bytes());
                to.raw(&place.account.to_le_bytes());
                to.number(place.used);
            }
        }
    }

    /// Of a table of another size all is forgotten: only the name of its account tells where in this one an address
    /// belongs.
    pub(super) fn restore(&mut self, from: &mut Decoder<'_>) -> Result<(), StateError> {
        let same = from.number::<u64>()? == self.places.len() as u64;
        for _ in 0..from.number::<u64>()? {
            let bucket: u64 = from.number()?;
            let pair = u64::from_le_bytes(*from.array()?);
            let account = u32::from_le_bytes(*from.array()?);
            let used = from.number()?;
            if !same {
                continue;
            }
            let first = usize::try_from(bucket).ok().and_then(|bucket| bucket.checked_mul(WAYS));
            let places = first.and_then(|first| self.places.get_mut(first..first.checked_add(WAYS)?));
            if let Some(place) = places.and_then(|places| places.iter_mut().find(|place| place.pair == 0)) {
                *place = Place { pair, account, used };
                self.count += u64::from(pair != 0);
            }
        }
        Ok(())
    }

    fn bucket(&self, account: u64) -> std::ops::Range<usize> {
        let buckets = self.places.len() / WAYS;
        // The number of buckets is a power of two that fits memory; the low bits choose.
        let start = usize::try_from(account & (buckets as u64 - 1)).expect("smaller than a length") * WAYS;
        start..start + WAYS
    }
}

/// The bits of a hash that do not choose the bucket.
fn tag(account: u64) -> u32 {
    (account >> 32) as u32
}
