//! A chat beside many who read (`--cgroup-mib`): whimbreld alone, in a memory cgroup, with an archive several times as large as
//! what that allows. How long the chat's messages take is measured calm and beside the readers, in turns.
//!
//! ```text
//!   fill ─► server ends ─► server starts ─► log in ─► each round: calm ─► readers ─► … ─► server ends
//! ```
//! The chat has a process of its own that goes before others, and the readers' thread gives way to everybody: they are to be a
//! load of the server and not of the machine, as clients elsewhere are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::read::{Library, Outcome, Reading};
use super::stage::{COUNTED_AFTER, MIB, PAGE, PER_CPU, Stage};
use crate::cli::{ArchiveArgs, ArchiveSwitch, PeerName};
use crate::peers::cgroup::Cgroup;
use crate::peers::lineup::Lineup;
use crate::peers::{Eventing, Rooms};
use crate::report::table::{Comparison, Figure};
use crate::report::{Latency, Phase, Report};
use crate::sample::process::{Process, disk_read_bytes};
use crate::sample::stats;
use crate::scenario::attack::{Chat, Heard, Inside};
use crate::scenario::client::Client;
use crate::scenario::{poll, rest};

/// How many times the memory of its cgroup an archive is at least.
const TIMES: u64 = 4;

/// Bytes that a message is sure to take in the logs beside its text.
const BESIDE_TEXT: u64 = 250;

/// Messages a second of the chat.
const RATE: f64 = 500.0;

/// How long readers read before the chat counts.
const RAMP: Duration = Duration::from_secs(2);

/// How long nothing was gathered when all has been: the server looks every two seconds, and first after five.
const STILL: Duration = Duration::from_secs(15);

/// Time between two looks whether something was.
const SETTLE_LOOK: Duration = Duration::from_millis(500);

/// The readers' resource: the first two accounts chat as well.
const RESOURCE: &str = "reader";

// The phases.
const CALM: &str = "calm";
const BESIDE: &str = "beside readers";

/// The name of the chat's latency.
const CHAT: &str = "chat";

// Figures of both phases.
const INSIDE: &str = "chat inside the server: p99, ms";
const LOOP: &str = "iterations of the event loops: p99, ms";

// Figures of the second phase.
const RATIO: &str = "chat p99 by that of the calm";
const PAGES: &str = "pages a second";
const READS: &str = "reads of files for a page";
const DISK_KIB: &str = "KiB from the disk for a page";
const SIZE: &str = "archive by the memory of the cgroup";
const PEAK: &str = "most memory of the cgroup, MiB";

/// The figures, in the order of the table.
pub(super) const FIGURES: [Figure; 16] = [
    Figure::less("chat, calm: p50, ms", |report| chat(report, CALM, |chat| chat.p50_ns)),
    Figure::less("chat, calm: p99, ms", |report| chat(report, CALM, |chat| chat.p99_ns)),
    Figure::less("chat, calm: p99 inside, ms", |report| figure_of(report, CALM, INSIDE)),
    Figure::less("event loop, calm: p99, ms", |report| figure_of(report, CALM, LOOP)),
    Figure::less("chat, beside readers: p50, ms", |report| chat(report, BESIDE, |chat| chat.p50_ns)),
    Figure::less("chat, beside readers: p99, ms", |report| chat(report, BESIDE, |chat| chat.p99_ns)),
    Figure::less("chat, beside readers: p99 by that of the calm", |report| figure(report, RATIO)),
    Figure::less("chat, beside readers: p99 inside, ms", |report| figure_of(report, BESIDE, INSIDE)),
    Figure::less("event loop, beside readers: p99, ms", |report| figure_of(report, BESIDE, LOOP)),
    Figure::more("readers: pages a second", |report| figure(report, PAGES)),
    Figure::less("readers: page p50, ms", |report| latency(report, BESIDE, PAGE, |page| page.p50_ns)),
    Figure::less("readers: page p99, ms", |report| latency(report, BESIDE, PAGE, |page| page.p99_ns)),
    Figure::less("readers: reads of files for a page", |report| figure(report, READS)),
    Figure::less("readers: KiB from the disk for a page", |report| figure(report, DISK_KIB)),
    Figure::more("readers: messages a second of server CPU", |report| figure(report, PER_CPU)),
    Figure::more("archive by the memory of the cgroup", |report| figure(report, SIZE)),
];

fn phase<'a>(report: &'a Report, name: &str) -> Option<&'a Phase> {
    report.phases.iter().find(|phase| phase.name == name)
}

/// In milliseconds.
fn latency(report: &Report, of: &str, name: &str, quantile: fn(&Latency) -> u64) -> Option<f64> {
    Some(quantile(phase(report, of)?.latencies.get(name)?) as f64 / 1e6)
}

fn chat(report: &Report, of: &str, quantile: fn(&Latency) -> u64) -> Option<f64> {
    latency(report, of, CHAT, quantile)
}

fn figure(report: &Report, name: &str) -> Option<f64> {
    figure_of(report, BESIDE, name)
}

fn figure_of(report: &Report, of: &str, name: &str) -> Option<f64> {
    phase(report, of)?.figures.get(name).copied()
}

/// A plan whose archives are large enough, of at least as many accounts as read.
fn plan(plan: &Plan, readers: u64, limit_mib: u64) -> Plan {
    let accounts = plan.accounts.max(readers);
    let bytes = TIMES * (limit_mib << 20);
    let each = bytes.div_ceil(accounts * plan.contacts * (BESIDE_TEXT + u64::from(plan.body_bytes)));
    Plan { accounts, each: u32::try_from(each).unwrap_or(u32::MAX), ..*plan }
}

/// Each way to run whimbreld after another.
///
/// # Errors
/// There can be no cgroup, or the server cannot be made ready; what prevents a measurement is a problem of its report.
pub(super) fn run(
    args: &ArchiveArgs,
    (small, limit_mib): (&Plan, u64),
    folder: &Path,
    interrupted: &AtomicBool,
    comparison: &mut Comparison,
) -> Result<(), String> {
    let plan = plan(small, args.readers.into(), limit_mib);
    let lineup = Lineup {
        programs: &args.programs,
        servers: &[PeerName::Whimbrel],
        variants: &args.whimbrel,
        accounts: plan.accounts,
        archive: Some(ArchiveSwitch::On),
        rooms: Rooms::Off,
        eventing: Eventing::Off,
        what: "archives",
    };
    // Before anything is made ready: where there are none, nothing else can be.
    drop(Cgroup::new(limit_mib << 20)?);
    for mut peer in lineup.prepare(folder)? {
        let cgroup = Cgroup::new(limit_mib << 20)?;
        peer.command = cgroup.within(peer.command);
        super::note(args, &format!("{}: {} messages", peer.name, plan.messages()));
        let mut stage = Stage::of(args, &plan, &peer);
        comparison.runs.push(stage.fill(interrupted));
        if stage.is_filled() {
            comparison.runs.extend(stage.beside((&cgroup, limit_mib), interrupted));
        }
    }
    Ok(())
}

impl Stage<'_> {
    /// The chat, calm and beside readers, a report for each round; whatever prevents one is its problem, and it is the last.
    fn beside(&mut self, cgroup: (&Cgroup, u64), interrupted: &AtomicBool) -> Vec<Report> {
        let mut reports = Vec::new();
        if let Err(problem) = self.try_beside(cgroup, interrupted, &mut reports) {
            let mut report = reports.pop().unwrap_or_else(|| self.report());
            report.problems.push(problem);
            reports.push(report);
        }
        reports
    }

    fn try_beside(
        &mut self,
        (cgroup, limit_mib): (&Cgroup, u64),
        interrupted: &AtomicBool,
        reports: &mut Vec<Report>,
    ) -> Result<(), String> {
        let size = self.disk().unwrap_or(0) as f64 / (limit_mib << 20) as f64;
        if size < TIMES as f64 {
            return Err(format!("the archives are {size:.1} times the memory of the cgroup, not {TIMES}"));
        }
        let running = self.start(&mut self.report())?;
        self.settle(interrupted)?;
        let mut people = Vec::new();
        for account in 0..u64::from(self.args.readers) {
            people.push(self.log_in_as(account, RESOURCE)?);
        }
        let mut chat = Chat::start(&self.entry.door, RATE)?;
        for _ in 0..self.args.rounds {
            rest(&self.servers, interrupted)?;
            reports.push(Report { server_pid: self.servers.last().copied(), ..self.report() });
            let Some(report) = reports.last_mut() else { break };
            let calm = self.calm(&mut chat, report)?;
            let (mut phase, p99) = self.read_beside(&mut chat, &mut people, interrupted, report)?;
            phase.figures.insert(RATIO.into(), p99 / calm);
            phase.figures.insert(SIZE.into(), size);
            phase.figures.extend(cgroup.peak_bytes().map(|bytes| (PEAK.into(), bytes as f64 / MIB)));
            report.phases.push(phase);
        }
        drop(chat);
        people.into_iter().for_each(Client::cut);
        drop(running);
        Ok(())
    }

    /// Waits until the server has gathered what lies far apart, `--settle` at most.
    fn settle(&self, interrupted: &AtomicBool) -> Result<(), String> {
        let peer = self.peer.ok_or("a server of our own is measured")?;
        let file = stats::path(&peer.folder);
        let gathered = || stats::numbers(&file).get("archive.gathered").copied().unwrap_or_default();
        let (began, limit) = (Instant::now(), Duration::from_secs(self.args.settle));
        let (mut last, mut moved) = (gathered(), Instant::now());
        while began.elapsed() < limit && (moved.elapsed() < STILL || last == 0) {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            std::thread::sleep(SETTLE_LOOK);
            let now = gathered();
            if now != last {
                (last, moved) = (now, Instant::now());
            }
        }
        if self.args.settle > 0 {
            super::note(self.args, &format!("{}: {last} messages gathered", peer.name));
        }
        Ok(())
    }

    /// Lets them chat for as long as it is to be measured; also returns what the server has measured meanwhile.
    fn hear(&self, chat: &mut Chat) -> Result<(Heard, BTreeMap<String, f64>), String> {
        let file = stats::path(&self.peer.ok_or("a server of our own is measured")?.folder);
        let before = Inside::read(&file);
        chat.begin()?;
        std::thread::sleep(Duration::from_secs(self.args.seconds));
        let heard = chat.end()?;
        let after = Inside::read(&file);
        let both = [(INSIDE, after.messages_since(&before)), (LOOP, after.iterations_since(&before))];
        let found = both.into_iter().filter_map(|(name, found)| Some((name.to_owned(), found?.p99 / 1000.0)));
        Ok((heard, found.collect()))
    }

    /// Nobody but the chat; returns its p99, in nanoseconds.
    fn calm(&self, chat: &mut Chat, report: &mut Report) -> Result<f64, String> {
        let began = Instant::now();
        let (heard, figures) = self.hear(chat)?;
        let seconds = began.elapsed().as_secs_f64();
        let mut phase = Phase { name: CALM.into(), seconds, figures, ..Phase::default() };
        let p99 = enter(&heard, &mut phase, report);
        report.phases.push(phase);
        Ok(p99)
    }

    /// The chat and the readers; also returns the chat's p99, in nanoseconds.
    fn read_beside(
        &self,
        chat: &mut Chat,
        people: &mut [Client],
        interrupted: &AtomicBool,
        report: &mut Report,
    ) -> Result<(Phase, f64), String> {
        let peer = self.peer.ok_or("a server of our own is measured")?;
        let file = stats::path(&peer.folder);
        let (ends, mut outcome) = (AtomicBool::new(false), Outcome::default());
        let library = Library {
            readers: people.len(),
            time: Duration::MAX,
            ends: Some(&ends),
            ..self.library(interrupted)?
        };
        let (before, disk) = (stats::numbers(&file), disk_read_bytes(&self.servers));
        let (began, sampled) = (Instant::now(), Process::glance(&self.servers));
        let (heard, read) = std::thread::scope(|scope| {
            let readers = scope.spawn(|| {
                // Without such a class of threads they are as all others are.
                let _ = poll::give_way();
                library.read(Reading::CatchUp, people, &mut outcome)
            });
            std::thread::sleep(RAMP);
            let heard = self.hear(chat);
            ends.store(true, Ordering::Relaxed);
            (heard, readers.join())
        });
        let seconds = began.elapsed().as_secs_f64();
        let cpu = sampled.zip(Process::glance(&self.servers)).map(|(before, after)| after.0 - before.0);
        read.map_err(|_| "the readers panicked")??;
        let (heard, inside) = heard?;
        std::thread::sleep(COUNTED_AFTER);
        let after = stats::numbers(&file);
        let since = |name: &str| Some(after.get(name)?.saturating_sub(*before.get(name)?) as f64);
        let mut phase = Phase { name: BESIDE.into(), seconds, figures: inside, ..Phase::default() };
        phase.counted.delivered = outcome.messages;
        phase.latencies.extend(Latency::of(&outcome.pages).map(|latency| (PAGE.to_owned(), latency)));
        let pages = outcome.pages.len().max(1) as f64;
        let figures = [
            (PAGES, Some(pages / seconds)),
            (READS, since("archive.reads").map(|reads| reads / pages)),
            (
                DISK_KIB,
                disk.zip(disk_read_bytes(&self.servers))
                    .map(|(before, after)| (after - before) as f64 / 1024.0 / pages),
            ),
            // The system counts in hundredths of a second.
            (PER_CPU, cpu.map(|cpu| outcome.messages as f64 / cpu.max(0.01))),
        ];
        phase.figures.extend(figures.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
        report.problems.extend(outcome.faults.problems(BESIDE));
        let p99 = enter(&heard, &mut phase, report);
        Ok((phase, p99))
    }
}

/// Enters what became of the chat; returns its p99, in nanoseconds.
fn enter(heard: &Heard, phase: &mut Phase, report: &mut Report) -> f64 {
    phase.latencies.extend(Latency::of(&heard.latencies).map(|latency| (CHAT.to_owned(), latency)));
    phase.counted.sent = heard.sent;
    if heard.arrived < heard.sent {
        let lost = heard.sent - heard.arrived;
        report.problems.push(format!("{}: {lost} messages of the chat did not arrive", phase.name));
    }
    if let Some(reason) = &heard.ended {
        report.problems.push(format!("{}: the server ended a session of the chat: {reason}", phase.name));
    }
    heard.latencies.at(0.99) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archives_are_large_enough_for_the_cgroup() {
        let small = Plan { accounts: 20, contacts: 4, each: 100, body_bytes: 100, run: 1 };
        let large = plan(&small, 1000, 96);
        assert_eq!((large.accounts, large.contacts), (1000, 4));
        assert!(large.messages() * (BESIDE_TEXT + 100) >= 4 * (96 << 20));
    }
}
