//! When a message is tried, tried again, and given up. Time is told, chance is handed in: nothing here waits.
//!
//! ```text
//! try ─▶ pause × 1 ─▶ try ─▶ pause × 2 ─▶ try ─▶ pause × 4 … ─▶ the deadline: given up
//! ```

use std::time::{Duration, Instant};

use super::jitter::Jitter;

/// The attempts of one message.
#[derive(Debug)]
pub struct Attempts {
    deadline: Instant,
    pause: Duration,
    /// An attempt was made, and no pause after it yet.
    tried: bool,
}

/// What comes next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An attempt, which takes this long at most.
    Try {
        /// The time until the deadline.
        within: Duration,
    },
    /// A pause, which ends at the deadline at the latest.
    Wait {
        /// Its length.
        pause: Duration,
    },
    /// The deadline is over.
    GiveUp,
}

impl Attempts {
    /// Attempts until `deadline`, with a pause of about `pause_first` after the first.
    pub fn new(deadline: Instant, pause_first: Duration) -> Attempts {
        Attempts { deadline, pause: pause_first, tried: false }
    }

    /// The next step, after the one before it is done.
    pub fn next(&mut self, now: Instant, jitter: &mut Jitter) -> Next {
        let within = self.deadline.saturating_duration_since(now);
        if within.is_zero() {
            return Next::GiveUp;
        }
        if !self.tried {
            self.tried = true;
            return Next::Try { within };
        }
        self.tried = false;
        let pause = jitter.spread(self.pause).min(within);
        self.pause = self.pause.saturating_mul(2);
        Next::Wait { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The pauses of a message whose attempts take `each` and fail, and the time at which it is given up.
    fn play(within: Duration, each: Duration, jitter: &mut Jitter) -> (Vec<Duration>, Duration) {
        let start = Instant::now();
        let (mut now, mut pauses) = (start, Vec::new());
        let mut attempts = Attempts::new(start + within, SECOND / 2);
        loop {
            match attempts.next(now, jitter) {
                Next::Try { within: left } => {
                    assert_eq!(left, within - (now - start), "an attempt may take what is left");
                    now += each.min(left);
                }
                Next::Wait { pause } => {
                    pauses.push(pause);
                    now += pause;
                }
                Next::GiveUp => return (pauses, now - start),
            }
        }
    }

    #[test]
    fn pauses_double_and_stay_between_half_and_one_and_a_half() {
        for seed in 0..1_000 {
            let (pauses, end) = play(60 * SECOND, SECOND / 10, &mut Jitter::seeded(seed));
            assert_eq!(end, 60 * SECOND, "it is given up at its deadline");
            assert!(pauses.len() >= 5, "{seed}: {pauses:?}");
            let (last, whole) = pauses.split_last().unwrap();
            for (n, pause) in whole.iter().enumerate() {
                let middle = SECOND / 2 * (1 << n);
                assert!((middle / 2..=middle * 3 / 2).contains(pause), "{seed}: pause {n} is {pause:?}");
            }
            assert!(*last <= SECOND / 2 * (1 << whole.len()) * 3 / 2);
        }
    }

    #[test]
    fn one_seed_has_one_course_and_another_seed_another() {
        let course = |seed| play(60 * SECOND, SECOND, &mut Jitter::seeded(seed));
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
    }

    #[test]
    fn an_attempt_that_takes_all_the_time_is_the_last() {
        let (pauses, end) = play(5 * SECOND, 10 * SECOND, &mut Jitter::system());
        assert_eq!((pauses.len(), end), (0, 5 * SECOND));
        let mut late = Attempts::new(Instant::now(), SECOND);
        let next = late.next(Instant::now() + SECOND, &mut Jitter::system());
        assert_eq!(next, Next::GiveUp, "it waited too long in the queue");
    }
}
