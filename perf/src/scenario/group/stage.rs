//! One server: it is started for each part of the run, and its figures are taken.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::rejoin::{enter, enter_all, rejoin};
use super::talk::{Outcome, Talk};
use super::{FLOOR, PAIR, wire};
use crate::account::Accounts;
use crate::cli::GroupArgs;
use crate::engine::counters::{Counters, Latencies};
use crate::engine::target::loopback_sources;
use crate::floor::Router;
use crate::peers::{Peer, Running};
use crate::report::{Latency, Phase, Report};
use crate::sample::process::Process;
use crate::scenario::client::{Client, Door, Entry, RESOURCE};
use crate::scenario::{rest, run_number};

// The phases.
pub(super) const REJOIN: &str = "leaving and joining";
pub(super) const CLOSED: &str = "closed loop";
pub(super) const OPEN: &str = "open loop";
pub(super) const RETURN: &str = "coming back";

// Their figures and latencies.
pub(super) const RATE: &str = "deliveries a second";
pub(super) const PER_CPU: &str = "deliveries a second of server CPU";
pub(super) const CPU_EACH: &str = "server CPU milliseconds each";
pub(super) const LAST: &str = "last occupant";
pub(super) const BESIDE: &str = "one to one beside it";
pub(super) const JOIN: &str = "join";

pub(super) const DOMAIN: &str = "localhost";

/// A server that takes part, and the run that it takes part in.
pub(super) struct Stage<'a> {
    pub(super) args: &'a GroupArgs,
    /// `None`: the bare fan-out.
    peer: Option<&'a Peer>,
    router: Option<&'a Router>,
    pub(super) interrupted: &'a AtomicBool,
    pub(super) servers: Vec<u32>,
}

impl<'a> Stage<'a> {
    /// An XMPP server of our own.
    pub(super) fn new(args: &'a GroupArgs, peer: Option<&'a Peer>, interrupted: &'a AtomicBool) -> Stage<'a> {
        Stage { args, peer, router: None, interrupted, servers: Vec::new() }
    }

    /// The bare fan-out, which runs already.
    pub(super) fn fan_out(args: &'a GroupArgs, router: &'a Router, interrupted: &'a AtomicBool) -> Stage<'a> {
        Stage { args, peer: None, router: Some(router), interrupted, servers: vec![router.pid()] }
    }

    /// One room of a size; whatever prevents a part of it is a problem of the report.
    pub(super) fn room(mut self, size: u64) -> Report {
        let mut report = self.report(format!("room of {size}"));
        if let Err(problem) = self.try_room(size, &mut report) {
            report.problems.push(problem);
        }
        report
    }

    /// Many small rooms, to which one client comes back.
    pub(super) fn many(mut self) -> Report {
        let mut report = self.report(format!("{} rooms of {}", self.args.rooms, self.args.of));
        if let Err(problem) = self.try_many(&mut report) {
            report.problems.push(problem);
        }
        report
    }

    /// A report with nothing in it yet.
    pub(super) fn report(&self, scenario: String) -> Report {
        let label = self.peer.map_or(FLOOR, |peer| peer.name.as_str());
        let facts = self.peer.map(|peer| peer.facts.clone()).unwrap_or_default();
        Report { facts, ..Report::begin(&scenario, label.to_owned()) }
    }

    /// Starts the server, if it is one.
    pub(super) fn start(&mut self, report: &mut Report) -> Result<Option<Running>, String> {
        let running = self.peer.map(Running::start).transpose()?;
        if let Some(running) = &running {
            self.servers = running.ids();
        }
        report.server_pid = self.servers.last().copied();
        Ok(running)
    }

    fn try_room(&mut self, size: u64, report: &mut Report) -> Result<(), String> {
        let running = self.start(report)?;
        let mut crowd = self.crowd(size)?;
        let room = wire::room(DOMAIN, &format!("r{size}-{}", run_number()));
        if self.router.is_none() {
            enter(&mut crowd, &room)?;
            rest(&self.servers, self.interrupted)?;
            let (before, began) = (self.process(), Instant::now());
            let latencies = rejoin(&mut crowd, &room, self.args.rejoins)?;
            let each = u64::from(self.args.rejoins);
            report.phases.push(self.phase(REJOIN, began.elapsed().as_secs_f64(), each, &before));
            add(report, JOIN, &latencies);
        }
        let other = format!("{}@{DOMAIN}", Accounts::name(size + 1));
        let time = Duration::from_secs(self.args.duration);
        let talk = Talk {
            room: &room,
            other: &other,
            body_bytes: self.args.body as usize,
            time,
            servers: &self.servers,
        };
        rest(&self.servers, self.interrupted)?;
        let outcome = talk.closed(&mut crowd, u64::from(self.args.window))?;
        Self::talked(CLOSED, &outcome, &crowd, report);
        rest(&self.servers, self.interrupted)?;
        let rate = (self.args.deliveries / size as f64).max(1.0);
        let outcome = talk.open(&mut crowd, rate)?;
        Self::talked(OPEN, &outcome, &crowd, report);
        crowd.cut();
        drop(running);
        Ok(())
    }

    fn try_many(&mut self, report: &mut Report) -> Result<(), String> {
        let running = self.start(report)?;
        let mut crowd = self.crowd(self.args.of)?;
        let run = run_number();
        let rooms: Vec<String> =
            (0..self.args.rooms).map(|number| wire::room(DOMAIN, &format!("m{number}-{run}"))).collect();
        for room in &rooms {
            crowd.inside.fill(false);
            enter(&mut crowd, room)?;
        }
        let mut latencies = Latencies::default();
        let last = crowd.occupants() - 1;
        rest(&self.servers, self.interrupted)?;
        let (before, began) = (self.process(), Instant::now());
        for _ in 0..self.args.returns {
            let mut entry = self.entry();
            let from = self.source(last as u64);
            let came = Instant::now();
            let mut client = Client::log_in(&mut entry, last as u64, from, RESOURCE, false)?;
            client.push("<presence/>");
            crowd.replace(last, client);
            enter_all(&mut crowd, last, &rooms)?;
            latencies.record(came.elapsed().as_nanos() as u64);
        }
        let returns = u64::from(self.args.returns);
        report.phases.push(self.phase(RETURN, began.elapsed().as_secs_f64(), returns, &before));
        add(report, JOIN, &latencies);
        crowd.cut();
        drop(running);
        Ok(())
    }

    /// A phase that has just ended, with what `each` of so many things cost since `before`.
    fn phase(&self, name: &str, seconds: f64, each: u64, before: &Option<Process>) -> Phase {
        let mut phase = Phase { name: name.into(), seconds, ..Phase::default() };
        if let (Some(before), Some(after)) = (before, self.process()) {
            let user = after.user_seconds - before.user_seconds;
            let system = after.system_seconds - before.system_seconds;
            phase.server_cpu = Some((user, system));
            // The system counts in hundredths of a second.
            let cpu = (user + system).max(0.01);
            phase.figures.insert(CPU_EACH.into(), cpu * 1e3 / each.max(1) as f64);
        }
        phase
    }

    /// A loop that has just ended.
    fn talked(name: &str, outcome: &Outcome, crowd: &Crowd<'_>, report: &mut Report) {
        let mut phase = Phase { name: name.into(), seconds: outcome.seconds, ..Phase::default() };
        phase.counted = Counters { delivered: outcome.deliveries, ..Counters::default() };
        phase.whole = Counters { delivered: crowd.deliveries, ..Counters::default() };
        phase.server_cpu = outcome.server_cpu;
        phase.figures.insert(RATE.into(), outcome.deliveries as f64 / outcome.seconds);
        if let Some((user, system)) = outcome.server_cpu {
            // The system counts in hundredths of a second.
            let cpu = (user + system).max(0.01);
            phase.figures.insert(PER_CPU.into(), outcome.deliveries as f64 / cpu);
        }
        report.phases.push(phase);
        let timed = &outcome.timed;
        for (name, latencies) in
            [(LAST, &timed.last), ("each occupant", &timed.each), (BESIDE, &timed.beside)]
        {
            add(report, name, latencies);
        }
    }

    /// What the server's processes have used so far.
    pub(super) fn process(&self) -> Option<Process> {
        Process::read_all(&self.servers)
    }

    fn door(&self) -> Door {
        let (port, keys) = match (self.peer, self.router) {
            (Some(peer), _) => (peer.port, peer.folder.join("keys")),
            (None, router) => {
                (router.map_or(0, Router::port), std::env::temp_dir().join("whimbrel-perf-keys"))
            }
        };
        Door { address: SocketAddr::from(([127, 0, 0, 1], port)), domain: DOMAIN.into(), keys }
    }

    fn entry(&self) -> Entry {
        Entry::new(&self.door())
    }

    fn source(&self, account: u64) -> Option<IpAddr> {
        let sources = loopback_sources(self.args.accounts() + PAIR, 1);
        (!sources.is_empty()).then(|| sources[account as usize % sources.len()])
    }

    /// So many occupants, and the pair, logged in and present.
    pub(super) fn crowd(&self, occupants: u64) -> Result<Crowd<'a>, String> {
        let mut entry = self.entry();
        let mut clients = Vec::new();
        for account in 0..occupants + PAIR {
            let from = self.source(account);
            let client = match self.router {
                Some(_) => Client::hello(&entry.door, account)?,
                None => {
                    let mut client = Client::log_in(&mut entry, account, from, RESOURCE, false)?;
                    client.push("<presence/>");
                    client.flush();
                    client
                }
            };
            clients.push(client);
        }
        Ok(Crowd::new(clients, occupants as usize, self.interrupted))
    }
}

/// Adds a latency to the report's last phase.
fn add(report: &mut Report, name: &str, latencies: &Latencies) {
    if let (Some(phase), Some(latency)) = (report.phases.last_mut(), Latency::of(latencies)) {
        phase.latencies.insert(name.to_owned(), latency);
    }
}
