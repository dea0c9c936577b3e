//! One server: it is started for each part of the run, and its figures are taken.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::account::Accounts;
use crate::cli::ArchiveArgs;
use crate::engine::counters::Counters;
use crate::engine::sasl::Sasl;
use crate::engine::target::loopback_sources;
use crate::peers::{Peer, Running};
use crate::report::{Latency, Phase, Report};
use crate::sample::find;
use crate::sample::process::Process;
use crate::sample::stats;
use crate::scenario::archive::fill::fill;
use crate::scenario::archive::plan::{Plan, Said};
use crate::scenario::archive::query;
use crate::scenario::archive::read::{Library, Outcome, Reading};
use crate::scenario::client::{Client, Door, Entry, RESOURCE};
use crate::scenario::rest;

/// The name of the phase that fills.
pub(super) const FILL: &str = "fill";

/// The name of a page's latency.
pub(super) const PAGE: &str = "page";

// The figures of a phase.
pub(super) const RATE: &str = "messages a second";
pub(super) const PER_CPU: &str = "messages a second of server CPU";
pub(super) const MEMORY_BEFORE: &str = "server memory before, anonymous MiB";
pub(super) const MEMORY_AFTER: &str = "server memory after, anonymous MiB";
pub(super) const PSS_AFTER: &str = "server memory after, PSS MiB";
pub(super) const DISK: &str = "bytes on disk for each archived copy";
pub(super) const INDEX: &str = "MiB of the index for each million copies";

/// How long Whimbrel takes at most to put what it counts into its stats file.
pub(super) const COUNTED_AFTER: Duration = Duration::from_secs(3);

/// Bytes of a MiB.
pub(super) const MIB: f64 = (1 << 20) as f64;

/// A server, and how far it is.
pub(super) struct Stage<'a> {
    /// Its name.
    pub(super) label: String,
    pub(super) args: &'a ArchiveArgs,
    plan: &'a Plan,
    /// Started and ended for each part; `None`: it is there already.
    pub(super) peer: Option<&'a Peer>,
    pub(super) servers: Vec<u32>,
    pub(super) entry: Entry,
    /// What each account has sent; `None` until the archives are filled.
    sent: Option<Vec<Vec<Said>>>,
}

impl<'a> Stage<'a> {
    /// A server of our own.
    pub(super) fn of(args: &'a ArchiveArgs, plan: &'a Plan, peer: &'a Peer) -> Stage<'a> {
        let keys = peer.folder.join("keys");
        let entry = Entry::new(&door(peer.port, keys));
        let servers = Vec::new();
        Stage { label: peer.name.clone(), args, plan, peer: Some(peer), servers, entry, sent: None }
    }

    /// A server that listens on a port of this machine.
    pub(super) fn at(args: &'a ArchiveArgs, plan: &'a Plan, label: String, port: u16) -> Stage<'a> {
        let servers: Vec<u32> = find::listener(port).into_iter().collect();
        let mut entry = Entry::new(&door(port, std::env::temp_dir().join("whimbrel-perf-keys-whimbrel")));
        entry.sasl = Sasl::Auto;
        Stage { label, args, plan, peer: None, servers, entry, sent: None }
    }

    /// Whether there is something to read.
    pub(super) fn is_filled(&self) -> bool {
        self.sent.is_some()
    }

    /// Fills the archives; whatever prevents it is a problem of the report.
    pub(super) fn fill(&mut self, interrupted: &AtomicBool) -> Report {
        let mut report = self.report();
        if let Err(problem) = self.try_fill(interrupted, &mut report) {
            report.problems.push(problem);
        }
        report
    }

    /// Reads them, in every way; whatever prevents it is a problem of the report.
    pub(super) fn read(&mut self, interrupted: &AtomicBool) -> Report {
        let mut report = self.report();
        if let Err(problem) = self.try_read(interrupted, &mut report) {
            report.problems.push(problem);
        }
        report
    }

    /// One with nothing in it yet.
    pub(super) fn report(&self) -> Report {
        let facts = self.peer.map(|peer| peer.facts.clone()).unwrap_or_default();
        Report { facts, ..Report::begin("archive", self.label.clone()) }
    }

    /// Starts it, unless it is there already.
    pub(super) fn start(&mut self, report: &mut Report) -> Result<Option<Running>, String> {
        let running = self.peer.map(Running::start).transpose()?;
        if let Some(running) = &running {
            self.servers = running.ids();
        }
        report.server_pid = self.servers.last().copied();
        Ok(running)
    }

    fn try_fill(&mut self, interrupted: &AtomicBool, report: &mut Report) -> Result<(), String> {
        let running = self.start(report)?;
        let mut people = vec![self.log_in(0, true)?];
        if !self.has_archive(&mut people[0])? {
            let account = Accounts::name(0);
            return Err(format!(
                "has no archive: {} is not among the features of {account}@{}",
                query::NAMESPACE,
                self.entry.door.domain
            ));
        }
        for account in 1..self.plan.accounts {
            people.push(self.log_in(account, true)?);
        }
        rest(&self.servers, interrupted)?;
        let (before, disk) = (self.process(), self.disk());
        let began = Instant::now();
        let limit = Duration::from_secs(self.args.limit);
        let plan = (self.plan, self.args.at_once.unwrap_or(u64::MAX));
        let sent = fill(plan, &mut people, &self.entry.door.domain, limit, interrupted)?;
        let seconds = began.elapsed().as_secs_f64();
        // What is written behind the messages belongs to them.
        rest(&self.servers, interrupted)?;
        let mut phase = self.phase(FILL, seconds, self.plan.messages(), before.as_ref());
        phase.figures.extend(self.index().map(|mib| (INDEX.to_owned(), mib)));
        people.into_iter().for_each(Client::cut);
        drop(running);
        if let (Some(before), Some(after)) = (disk, self.disk()) {
            let copies = 2 * self.plan.messages();
            phase.figures.insert(DISK.into(), after.saturating_sub(before) as f64 / copies as f64);
        }
        report.phases.push(phase);
        self.sent = Some(sent);
        Ok(())
    }

    fn try_read(&mut self, interrupted: &AtomicBool, report: &mut Report) -> Result<(), String> {
        let running = self.start(report)?;
        let mut people = Vec::new();
        for account in 0..self.plan.accounts {
            people.push(self.log_in(account, false)?);
        }
        rest(&self.servers, interrupted)?;
        let library = self.library(interrupted)?;
        for reading in Reading::ALL {
            let mut outcome = Outcome::default();
            let (before, began) = (self.process(), Instant::now());
            let ended = library.read(reading, &mut people, &mut outcome);
            let seconds = began.elapsed().as_secs_f64();
            let mut phase = self.phase(reading.name(), seconds, outcome.messages, before.as_ref());
            phase.latencies.extend(Latency::of(&outcome.pages).map(|latency| (PAGE.to_owned(), latency)));
            phase.figures.insert("pages a second".into(), outcome.pages.len() as f64 / seconds);
            phase.figures.insert("passes over all accounts".into(), outcome.passes as f64);
            if outcome.others > 0 {
                phase.figures.insert("messages of earlier fills".into(), outcome.others as f64);
            }
            report.phases.push(phase);
            report.problems.extend(outcome.faults.problems(reading.name()));
            ended.map_err(|reason| format!("{}: {reason}", reading.name()))?;
        }
        people.into_iter().for_each(Client::cut);
        drop(running);
        Ok(())
    }

    /// What is read, and how it was asked for.
    ///
    /// # Errors
    /// There is nothing to read.
    pub(super) fn library<'s>(&'s self, interrupted: &'s AtomicBool) -> Result<Library<'s>, String> {
        Ok(Library {
            plan: self.plan,
            sent: self.sent.as_ref().ok_or("the archives are not filled")?,
            domain: &self.entry.door.domain,
            page: self.args.page,
            readers: self.args.readers as usize,
            time: Duration::from_secs(self.args.seconds),
            limit: Duration::from_secs(self.args.limit),
            ends: None,
            interrupted,
        })
    }

    /// MiB of the index in Whimbrel's directory for each million of archived copies.
    fn index(&self) -> Option<f64> {
        let file = stats::path(&self.peer?.folder);
        if !file.is_file() {
            return None;
        }
        std::thread::sleep(COUNTED_AFTER);
        let numbers = stats::numbers(&file);
        let (bytes, kept) = (*numbers.get("archive.index_bytes")?, *numbers.get("archive.kept")?);
        (kept > 0).then(|| bytes as f64 / MIB / (kept as f64 / 1e6))
    }

    /// A phase that has just ended, with what it cost since `before`.
    fn phase(&self, name: &str, seconds: f64, messages: u64, before: Option<&Process>) -> Phase {
        let counted = Counters { delivered: messages, ..Counters::default() };
        let mut phase = Phase { name: name.into(), seconds, counted, ..Phase::default() };
        let figures = &mut phase.figures;
        figures.insert(RATE.into(), messages as f64 / seconds);
        if let (Some(before), Some(after)) = (before, self.process()) {
            let user = after.user_seconds - before.user_seconds;
            let system = after.system_seconds - before.system_seconds;
            // The system counts in hundredths of a second.
            let cpu = (user + system).max(0.01);
            figures.insert(PER_CPU.into(), messages as f64 / cpu);
            figures.insert("server CPU microseconds each".into(), cpu * 1e6 / messages.max(1) as f64);
            for (name, bytes) in [
                (MEMORY_BEFORE, before.anon_bytes),
                (MEMORY_AFTER, after.anon_bytes),
                ("server memory before, PSS MiB", before.pss_bytes),
                (PSS_AFTER, after.pss_bytes),
            ] {
                figures.insert(name.into(), bytes as f64 / MIB);
            }
            phase.server_cpu = Some((user, system));
        }
        phase
    }

    fn process(&self) -> Option<Process> {
        Process::read_all(&self.servers)
    }

    /// Bytes that the server and its database have on disk.
    pub(super) fn disk(&self) -> Option<u64> {
        let peer = self.peer?;
        let database = peer.database.as_ref().map(|database| database.data());
        Some(occupied(&peer.folder) + database.as_deref().map_or(0, occupied))
    }

    /// Logs an account in with a resource.
    pub(super) fn log_in_as(&mut self, account: u64, resource: &str) -> Result<Client, String> {
        let sources = loopback_sources(self.plan.accounts, 1);
        let from = (!sources.is_empty()).then(|| sources[account as usize % sources.len()]);
        Client::log_in(&mut self.entry, account, from, resource, false)
    }

    fn log_in(&mut self, account: u64, present: bool) -> Result<Client, String> {
        let mut client = self.log_in_as(account, RESOURCE)?;
        if present {
            client.push("<presence/>");
            client.flush();
        }
        Ok(client)
    }

    fn has_archive(&self, client: &mut Client) -> Result<bool, String> {
        let own = format!("{}@{}", Accounts::name(0), self.entry.door.domain);
        client.ask(&query::discovery(&own), "disco", query::names_archive)
    }
}

fn door(port: u16, keys: PathBuf) -> Door {
    Door { address: SocketAddr::from(([127, 0, 0, 1], port)), domain: "localhost".into(), keys }
}

/// Bytes that the files below a folder have on disk: holes do not count.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| if metadata.is_dir() { occupied(&path) } else { metadata.blocks() * 512 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_no_disk_and_files_of_subfolders_do() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let empty = occupied(folder.path());
        std::fs::File::create(inner.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        let sparse = occupied(folder.path());
        assert!(sparse - empty < 1 << 20, "{sparse}");
        let full = std::fs::File::create(inner.join("full")).unwrap();
        std::io::Write::write_all(&mut &full, &vec![7; 1 << 20]).unwrap();
        full.sync_all().unwrap();
        assert!(occupied(folder.path()) - sparse >= 1 << 20);
    }
}
