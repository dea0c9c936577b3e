//! Messages to a room: as many under way as a window allows, or so many a second whatever becomes of them.

use std::time::{Duration, Instant};

use super::crowd::{Crowd, Timed};
use crate::sample::process::Process;

/// What is said, and where.
#[derive(Clone, Copy)]
pub(super) struct Talk<'a> {
    /// The room.
    pub(super) room: &'a str,
    /// Address of the other of the pair.
    pub(super) other: &'a str,
    /// Bytes of a message's text.
    pub(super) body_bytes: usize,
    /// Time that counts.
    pub(super) time: Duration,
    /// The server's processes.
    pub(super) servers: &'a [u32],
}

/// How often one of the pair says something.
const BESIDE_EVERY: Duration = Duration::from_millis(20);

/// How long to wait for what is still on its way at the end.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What a loop has come to.
pub(super) struct Outcome {
    /// The time that counted.
    pub(super) seconds: f64,
    /// Deliveries in it.
    pub(super) deliveries: u64,
    /// CPU seconds of the server in it: user, system.
    pub(super) server_cpu: Option<(f64, f64)>,
    /// What was timed.
    pub(super) timed: Timed,
}

/// When the next message of the pair is due.
struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    fn new(every: Duration) -> Pace {
        Pace { next: Instant::now(), every }
    }

    /// How many are due now. One that is late is not left out.
    fn due(&mut self) -> u32 {
        let mut due = 0;
        while self.next <= Instant::now() {
            self.next += self.every;
            due += 1;
        }
        due
    }
}

impl Talk<'_> {
    /// So many messages under way at any time.
    ///
    /// # Errors
    /// As [`Crowd::until`].
    pub(super) fn closed(&self, crowd: &mut Crowd<'_>, window: u64) -> Result<Outcome, String> {
        let fill = |crowd: &mut Crowd<'_>| {
            while crowd.under_way() < window {
                crowd.say(self.room, self.body_bytes);
            }
        };
        self.run(crowd, fill)
    }

    /// So many messages a second.
    ///
    /// # Errors
    /// As [`Crowd::until`].
    pub(super) fn open(&self, crowd: &mut Crowd<'_>, rate: f64) -> Result<Outcome, String> {
        let mut pace = Pace::new(Duration::from_secs_f64(1.0 / rate));
        let fill = move |crowd: &mut Crowd<'_>| {
            (0..pace.due()).for_each(|_| crowd.say(self.room, self.body_bytes));
        };
        self.run(crowd, fill)
    }

    fn run(&self, crowd: &mut Crowd<'_>, mut fill: impl FnMut(&mut Crowd<'_>)) -> Result<Outcome, String> {
        let mut pace = Pace::new(BESIDE_EVERY);
        let mut step = |crowd: &mut Crowd<'_>| {
            fill(crowd);
            (0..pace.due()).for_each(|_| crowd.say_beside(self.other));
        };
        // What does not count, first.
        let began = Instant::now();
        crowd.until(|_| began.elapsed() >= self.time / 4, &mut step)?;
        let sampled = Process::read_all(self.servers);
        let (from, before) = (Instant::now(), crowd.deliveries);
        crowd.timed = Some(Timed::default());
        crowd.until(|_| from.elapsed() >= self.time, &mut step)?;
        let (seconds, deliveries) = (from.elapsed().as_secs_f64(), crowd.deliveries - before);
        let server_cpu = sampled.zip(Process::read_all(self.servers)).map(|(before, after)| {
            (after.user_seconds - before.user_seconds, after.system_seconds - before.system_seconds)
        });
        let stopped = Instant::now();
        // Those that were sent in the time that counts belong to it, however late they come.
        crowd.until(|crowd| crowd.under_way() == 0 || stopped.elapsed() > DRAIN_MAX, |_| {})?;
        let timed = crowd.timed.take().unwrap_or_default();
        if crowd.under_way() > 0 {
            return Err(format!("{} messages did not reach everybody", crowd.under_way()));
        }
        Ok(Outcome { seconds, deliveries, server_cpu, timed })
    }
}
