//! Chance for pauses, so that what failed together is not tried again together.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// SplitMix64: nothing here is secret.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// From a seed, or from the system's chance.
    pub(crate) fn new(seed: Option<u64>) -> Jitter {
        Jitter(seed.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            // Without random bytes there is no jitter, which is no reason not to go on.
            let _ = SystemRandom::new().fill(&mut bytes);
            u64::from_le_bytes(bytes)
        }))
    }

    /// Between a half and one and a half of a pause of our own choice.
    pub(crate) fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + self.fraction())
    }

    /// A pause that somebody else has named, and up to a quarter more: never less.
    pub(crate) fn extend(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + self.fraction() / 4.0)
    }

    /// A number that others are unlikely to draw.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In `0.0..1.0`.
    fn fraction(&mut self) -> f64 {
        f64::from((self.number() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_fill_their_range_and_do_not_leave_it() {
        let second = Duration::from_secs(1);
        let mut jitter = Jitter::new(None);
        let spread: Vec<Duration> = (0..10_000).map(|_| jitter.spread(second)).collect();
        assert!(spread.iter().all(|pause| (second / 2..second * 3 / 2).contains(pause)));
        assert!(spread.iter().any(|pause| *pause < second * 6 / 10));
        assert!(spread.iter().any(|pause| *pause > second * 14 / 10));
        let extended: Vec<Duration> = (0..10_000).map(|_| jitter.extend(second)).collect();
        assert!(extended.iter().all(|pause| (second..second * 5 / 4).contains(pause)));
    }

    #[test]
    fn a_seed_has_one_course() {
        let course = |seed| (0..8).map(|_| Jitter::new(Some(seed)).number()).collect::<Vec<_>>();
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
    }
}
