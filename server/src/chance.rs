//! Random bytes: the system's, or made up from a seed in the simulation.

use std::sync::Mutex;

use ring::rand::{SecureRandom, SystemRandom};

/// Where random bytes come from.
#[derive(Debug)]
pub enum Chance {
    /// The system's source.
    System(SystemRandom),
    /// A sequence that a seed decides: for a world in which nobody guesses.
    Seeded(Mutex<u64>),
}

impl Chance {
    /// The system's.
    pub fn system() -> Chance {
        Chance::System(SystemRandom::new())
    }

    /// That of a seed.
    pub fn seeded(seed: u64) -> Chance {
        Chance::Seeded(Mutex::new(seed))
    }

    /// Random bytes.
    ///
    /// # Panics
    /// If the system's source does not answer.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match self {
            Chance::System(source) => source.fill(&mut bytes).expect("the system's random source answers"),
            Chance::Seeded(state) => {
                let mut state = state.lock().expect("nothing panics while it holds this lock");
                for chunk in bytes.chunks_mut(8) {
                    let word = split_mix(&mut state).to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
        bytes
    }
}

/// SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_the_system_repeats_nothing() {
        let of = |seed| {
            let chance = Chance::seeded(seed);
            (chance.bytes::<16>(), chance.bytes::<5>())
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let system = Chance::system();
        assert_ne!(system.bytes::<16>(), system.bytes::<16>());
    }
}
