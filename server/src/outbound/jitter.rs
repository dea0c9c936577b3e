//! Chance for pauses, so that messages which failed together are not tried again together.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// Where chance comes from.
#[derive(Clone, Debug)]
pub struct Jitter(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Seeded(u64),
}

impl Jitter {
    /// From the system's random source.
    pub fn system() -> Jitter {
        Jitter(Source::System)
    }

    /// From a seed: the same pauses in each run, for the simulation and for tests.
    pub fn seeded(seed: u64) -> Jitter {
        Jitter(Source::Seeded(seed))
    }

    /// For one of several threads: of one seed each has a course of its own.
    #[must_use]
    pub fn for_thread(&self, n: u32) -> Jitter {
        match self.0 {
            Source::System => Jitter::system(),
            Source::Seeded(seed) => Jitter::seeded(mix(seed ^ (u64::from(n) << 32))),
        }
    }

    /// Between a half and one and a half of a pause.
    pub fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.5 + f64::from(self.byte()) / 256.0)
    }

    fn byte(&mut self) -> u8 {
        match &mut self.0 {
            Source::System => {
                let mut byte = [128];
                // Without random bytes there is no jitter, which is no reason not to go on.
                let _ = SystemRandom::new().fill(&mut byte);
                byte[0]
            }
            Source::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                (mix(*state) >> 56) as u8
            }
        }
    }
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_fill_the_range_and_do_not_leave_it() {
        let second = Duration::from_secs(1);
        for mut jitter in [Jitter::system(), Jitter::seeded(7)] {
            let mut drawn: Vec<Duration> = (0..10_000).map(|_| jitter.spread(second)).collect();
            drawn.sort_unstable();
            assert!(drawn[0] >= second / 2 && drawn[9_999] < second * 3 / 2, "{:?}", drawn[9_999]);
            drawn.dedup();
            assert!(drawn.len() > 200, "{} different pauses", drawn.len());
        }
    }

    #[test]
    fn threads_of_one_seed_differ_and_repeat() {
        let course = |n| {
            let mut jitter = Jitter::seeded(1).for_thread(n);
            (0..16).map(|_| jitter.byte()).collect::<Vec<_>>()
        };
        assert_eq!(course(0), course(0));
        assert_ne!(course(0), course(1));
    }
}
