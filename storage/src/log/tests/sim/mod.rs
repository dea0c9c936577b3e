//! The log over a simulated disk, with faults at any step, against a list.
//!
//! Each seed is a run of a few lives of a server: it appends, trims, purges, expires, commits, compacts, makes
//! checkpoints, changes the number of logs; between any two of these, and in the middle of any call to the disk, the
//! process is killed or the power is cut; syncs fail; the disk is full; the clock is set back by up to an hour. After each
//! restart what waits must be what the operations up to some moment come to, exactly and in order, and that moment must
//! not be before the last commit. Ids rise for each actor, also above those that a crash took away, and do not change. A
//! second reader (`mirror`) keeps messages of its own choice over all of this. With the archive in its place, `archive` does
//! the same again.
//!
//! `WHIMBREL_SEEDS=N` runs N seeds, `WHIMBREL_SEED=N` one, telling what happens.

mod archive;
mod disk;
mod mirror;
mod model;
mod run;

/// A small generator (SplitMix64), so that a seed means the same run for ever.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tally(first: u64, step: u64, seeds: u64) -> run::Tally {
    let mut total = run::Tally::default();
    for seed in (first..seeds).step_by(step as usize) {
        match std::panic::catch_unwind(|| run::run(seed, false)) {
            Ok(tally) => total.add(&tally),
            Err(_) => panic!("seed {seed} fails; WHIMBREL_SEED={seed} replays it"),
        }
    }
    total
}

#[test]
fn whatever_happens_what_was_committed_waits_until_it_is_trimmed() {
    if let Some(seed) = number("WHIMBREL_SEED") {
        run::run(seed, true);
        return;
    }
    let seeds = number("WHIMBREL_SEEDS").unwrap_or(10_000);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let total = std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || tally(first, threads, seeds))).collect();
        let mut total = run::Tally::default();
        for part in parts {
            total.add(&part.join().expect("the failing seed is told above"));
        }
        total
    });
    println!("{seeds} seeds: {total:?}");
    // A run in which nothing happens proves nothing.
    if seeds >= 1000 {
        total.assert_all_happened();
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..50 {
        assert_eq!(run::run(seed, false), run::run(seed, false));
    }
}
