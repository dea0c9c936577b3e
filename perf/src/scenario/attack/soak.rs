//! `attack --soak`: all kinds in turn at a bounded rate, for as long as is asked, and what the server's memory does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sample::process::Process;
use crate::scenario::attack::arena::Arena;
use crate::scenario::attack::kinds::Kind;
use crate::scenario::attack::wire::{Order, Talk};

/// How long each kind has its turn.
const TURN: Duration = Duration::from_secs(10);

/// How often the server's memory is looked at, and how often it is printed.
const LOOK: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(60);

/// Problems after which nothing is learnt from more.
const PROBLEMS_MAX: usize = 200;

/// Part of the run, at its beginning, that the slope leaves out: caches and tables grow to their size in it.
const WARM_UP: f64 = 0.25;

/// Memory over a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Soak {
    /// The server.
    pub(super) server: String,
    /// Seconds since the beginning, resident and anonymous bytes at that time.
    pub(super) samples: Vec<(f64, u64, u64)>,
    /// The most resident and anonymous bytes at any time.
    pub(super) peak: (u64, u64),
    /// MiB of anonymous memory an hour, after the first quarter.
    pub(super) slope: Option<f64>,
    /// Turns of the kinds.
    pub(super) turns: u64,
    /// Stanzas of the floods that were taken.
    pub(super) stanzas: u64,
    /// Messages of the victim: sent, arrived.
    pub(super) messages: (u64, u64),
    /// What went wrong for the victims.
    pub(super) problems: Vec<String>,
}

impl Soak {
    /// Runs it. Anything that goes wrong is one of the findings.
    pub(super) fn run(
        arena: &mut Arena<'_>,
        server: &str,
        kinds: &[&'static Kind],
        time: Duration,
        rate: f64,
    ) -> Soak {
        let mut soak = Soak { server: server.into(), ..Soak::default() };
        let began = Instant::now();
        let mut next_line = began;
        for kind in kinds.iter().cycle() {
            let over = began.elapsed() >= time || soak.problems.len() >= PROBLEMS_MAX;
            if over || !arena.is_alive() || arena.is_interrupted() {
                break;
            }
            let turn = TURN.min(time.saturating_sub(began.elapsed()));
            let outcome = arena.beside(|arena| {
                let mut flooder = arena.flooder(kind, Some(rate))?;
                flooder.order(Order::Flood)?;
                let end = Instant::now() + turn;
                while Instant::now() < end {
                    std::thread::sleep(LOOK);
                    soak.look(arena.id(), began, &mut next_line);
                }
                let poured = flooder.poured(TURN * 6)?;
                Ok(poured.stanzas)
            });
            soak.turns += 1;
            match outcome {
                Ok((stanzas, talk)) => {
                    soak.stanzas += stanzas;
                    soak.add(kind.name, &talk);
                }
                Err(reason) => {
                    soak.problems.push(format!("{server}, {}: {reason}", kind.name));
                    std::thread::sleep(LOOK);
                }
            }
        }
        if !arena.is_alive() {
            soak.problems.push("the server has ended".into());
        }
        next_line = began;
        soak.look(arena.id(), began, &mut next_line);
        soak.slope = slope(&soak.samples);
        soak
    }

    fn look(&mut self, id: u32, began: Instant, next_line: &mut Instant) {
        let Some((resident, anonymous)) = Process::memory(id) else { return };
        self.peak = (self.peak.0.max(resident), self.peak.1.max(anonymous));
        let now = Instant::now();
        if now < *next_line {
            return;
        }
        *next_line = now + LINE;
        let seconds = began.elapsed().as_secs_f64();
        self.samples.push((seconds, resident, anonymous));
        let (mib, peak) = (|bytes: u64| bytes >> 20, self.peak);
        // A closed standard output ends no run.
        let _ = writeln!(
            std::io::stdout().lock(),
            "{seconds:>6.0} s: {} MiB resident, {} MiB anonymous; most so far {} and {}",
            mib(resident),
            mib(anonymous),
            mib(peak.0),
            mib(peak.1)
        );
    }

    fn add(&mut self, kind: &str, talk: &Talk) {
        self.messages.0 += talk.sent;
        self.messages.1 += talk.arrived;
        let mut problem = |text: String| self.problems.push(format!("{}, {kind}: {text}", self.server));
        if talk.arrived < talk.sent {
            problem(format!("{} messages of the victim did not arrive", talk.sent - talk.arrived));
        }
        if let Some(reason) = &talk.ended {
            problem(format!("the victim's session ended: {reason}"));
        }
        if let Some(Err(reason)) = &talk.login {
            problem(format!("the victim could not log in: {reason}"));
        }
    }

    /// The end of what is printed.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {} turns, {} stanzas of floods; most {} MiB resident, {} MiB anonymous; {} after the first quarter; \
             victim: {} of {} messages arrived",
            self.server,
            self.turns,
            self.stanzas,
            self.peak.0 >> 20,
            self.peak.1 >> 20,
            self.slope.map_or("too short for a slope".into(), |slope| format!("{slope:+.1} MiB an hour")),
            self.messages.1,
            self.messages.0
        );
        out
    }
}

/// MiB of anonymous memory an hour after the warm-up, by least squares; `None` with fewer than three samples.
fn slope(samples: &[(f64, u64, u64)]) -> Option<f64> {
    let from = samples.last()?.0 * WARM_UP;
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.0 >= from)
        .map(|sample| (sample.0 / 3600.0, sample.2 as f64 / f64::from(1 << 20)))
        .collect();
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_the_warm_up_out() {
        let mib = 1 << 20;
        let mut samples: Vec<_> = (0..60).map(|minute| (f64::from(minute) * 60.0, 0, 100 * mib)).collect();
        samples[0].2 = 0;
        samples[5].2 = 10 * mib;
        assert!(slope(&samples).is_some_and(|slope| slope.abs() < 1e-9));
        samples.iter_mut().for_each(|sample| sample.2 += (sample.0 / 3600.0 * 64.0 * mib as f64) as u64);
        assert!(slope(&samples).is_some_and(|slope| (slope - 64.0).abs() < 0.01));
        assert_eq!(slope(&samples[..2]), None);
    }
}
