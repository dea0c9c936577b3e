//! Many rooms at once: what one costs in memory with an occupant in it, what each further occupant costs, and what is left of a room
//! when nobody is in it.
//!
//! All memory is anonymous memory of the server's processes at rest: what it maps from files comes and goes with the system's page
//! cache.

use std::time::Instant;

use super::crowd::Crowd;
use super::stage::{DOMAIN, Stage};
use super::wire;
use crate::cli::HOLDERS;
use crate::report::{Phase, Report, slope};
use crate::scenario::{rest, run_number};

/// The phase.
pub(super) const HELD: &str = "held rooms";

// Its figures.
pub(super) const OF_ROOM: &str = "bytes of a room with one occupant";
pub(super) const OF_OCCUPANT: &str = "bytes of another occupant";
pub(super) const OF_EMPTY: &str = "bytes of a room in which nobody is";
pub(super) const MADE: &str = "rooms made a second";

/// Rooms that are asked for before all of them are waited for.
const BATCH: u64 = 5 * HOLDERS;

/// The rooms of a run, each of which has a client that makes it and others that come later.
struct Held {
    run: u64,
}

impl Held {
    fn room(&self, number: u64) -> String {
        wire::room(DOMAIN, &format!("h{number}-{}", self.run))
    }

    /// Makes the rooms from one number up to another.
    fn make(&self, crowd: &mut Crowd<'_>, from: u64, to: u64) -> Result<(), String> {
        let before = u64::from(crowd.opened);
        for number in from..to {
            let (owner, room) = (number % HOLDERS, self.room(number));
            crowd.push(owner as usize, &wire::join(&room, owner));
            crowd.push(owner as usize, &wire::open_for_good(&room));
        }
        crowd.until(|crowd| u64::from(crowd.opened) >= before + to - from, |_| {})
    }

    /// Another client enters them, the first, second, and so on.
    fn enter(&self, crowd: &mut Crowd<'_>, which: u64, (from, to): (u64, u64)) -> Result<(), String> {
        let before: u32 = crowd.entered.iter().sum();
        for number in from..to {
            let guest = (number + which) % HOLDERS;
            crowd.push(guest as usize, &wire::join(&self.room(number), guest));
        }
        let wanted = u64::from(before) + to - from;
        crowd.until(|crowd| u64::from(crowd.entered.iter().sum::<u32>()) >= wanted, |_| {})
    }
}

/// Does something with all numbers from one up to another, a batch at a time.
fn in_batches(from: u64, to: u64, mut act: impl FnMut(u64, u64) -> Result<(), String>) -> Result<(), String> {
    let mut done = from;
    while done < to {
        let next = (done + BATCH).min(to);
        act(done, next)?;
        done = next;
    }
    Ok(())
}

impl Stage<'_> {
    /// More and more rooms; whatever prevents a part of it is a problem of the report.
    pub(super) fn held(mut self) -> Report {
        let mut report = self.report("rooms that are held".into());
        if let Err(problem) = self.try_held(&mut report) {
            report.problems.push(problem);
        }
        report
    }

    /// The server's memory once it does nothing any more, in bytes.
    fn memory_at_rest(&self) -> Result<f64, String> {
        rest(&self.servers, self.interrupted)?;
        let process = self.process().ok_or("the memory of the server cannot be read")?;
        Ok(process.anon_bytes as f64)
    }

    fn try_held(&mut self, report: &mut Report) -> Result<(), String> {
        let running = self.start(report)?;
        let without = self.memory_at_rest()?;
        let mut crowd = self.crowd(HOLDERS)?;
        let held = Held { run: u64::from(run_number()) };
        let mut points = vec![(0.0, self.memory_at_rest()?)];
        let (mut made, mut seconds) = (0, 0.0);
        for count in self.args.held() {
            let began = Instant::now();
            in_batches(made, count, |from, to| held.make(&mut crowd, from, to))?;
            seconds += began.elapsed().as_secs_f64();
            made = made.max(count);
            points.push((made as f64, self.memory_at_rest()?));
        }
        let alone = points.last().map_or(0.0, |(_, bytes)| *bytes);
        let guests = self.args.guests;
        for which in 1..=guests {
            in_batches(0, made, |from, to| held.enter(&mut crowd, which, (from, to)))?;
        }
        let together = self.memory_at_rest()?;
        crowd.cut();
        drop(running);
        let _running = self.start(report)?;
        let empty = self.memory_at_rest()?;
        let mut phase = Phase { name: HELD.into(), seconds, ..Phase::default() };
        let each = |bytes: f64| bytes / made.max(1) as f64;
        phase.figures.extend(slope(&points).map(|slope| (OF_ROOM.to_owned(), slope)));
        phase.figures.insert(OF_OCCUPANT.into(), each(together - alone) / guests as f64);
        phase.figures.insert(OF_EMPTY.into(), each(empty - without));
        phase.figures.insert(MADE.into(), made as f64 / seconds.max(0.001));
        for (count, bytes) in &points {
            phase.figures.insert(format!("anonymous MiB with {count} rooms"), bytes / f64::from(1 << 20));
        }
        report.phases.push(phase);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_everything_once() {
        let mut seen = Vec::new();
        in_batches(3, 2 * BATCH + 7, |from, to| {
            assert!(to - from <= BATCH);
            seen.extend(from..to);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (3..2 * BATCH + 7).collect::<Vec<_>>());
        assert_eq!(in_batches(5, 5, |_, _| Err("never".into())), Ok(()));
    }
}
