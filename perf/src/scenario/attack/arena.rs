//! One server on its CPU, the victims on the other, and one kind of flood after another beside them.
//!
//! Calm and flood take turns. In a calm the flooders are connected as well, and use as much of the CPU that they share
//! with the victims as they did in the flood before it, and an occupant uses as much of the server's CPU as the server did,
//! so that what differs is the server alone.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::AttackArgs;
use crate::engine::counters::Latencies;
use crate::peers::{Peer, Running};
use crate::report::Latency;
use crate::sample::process::Process;
use crate::sample::stats;
use crate::scenario::attack::inside::Inside;
use crate::scenario::attack::kinds::{Entrance, FIRST_FLOODER, Kind};
use crate::scenario::attack::process::Helper;
use crate::scenario::attack::table::Row;
use crate::scenario::attack::wire::{Flood, Job, Order, Poured, Role, Talk};
use crate::scenario::client::Door;
use crate::scenario::{poll, rest};

/// How long logins, and what fills the accounts, may take.
const CONNECT_MAX: Duration = Duration::from_secs(300);

/// How long a report may take: what is under way is waited for.
const REPORT_MAX: Duration = Duration::from_secs(120);

/// How long the first flood is, which counts for nothing but the shares of the CPUs.
const TRIAL: Duration = Duration::from_secs(1);

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A server under attack.
pub(super) struct Arena<'a> {
    args: &'a AttackArgs,
    peer: &'a Peer,
    running: Running,
    victim: Helper,
    occupant: Helper,
    door: Door,
    prepared: bool,
    interrupted: Arc<AtomicBool>,
}

/// What came of a calm or a flood.
struct Round {
    talk: Talk,
    poured: Poured,
    inside: (Inside, Inside),
    /// The server's share of its CPU.
    server_share: f64,
    resident_peak: u64,
    anonymous_peak: u64,
    stopped: Option<String>,
}

impl Round {
    /// The flooders' share of their CPU.
    fn share(&self) -> f64 {
        self.poured.cpu_seconds / self.poured.seconds.max(0.001)
    }
}

/// All calms, or all floods, of one kind.
#[derive(Default)]
struct Sum {
    latencies: Latencies,
    inside: Inside,
}

impl Sum {
    fn add(&mut self, round: &Round) {
        self.latencies.add_pairs(&round.talk.latencies);
        self.inside.add(&round.inside.0, &round.inside.1);
    }
}

/// What is summed up while calm and flood take turns.
#[derive(Default)]
struct Sums {
    calm: Sum,
    flooded: Sum,
    /// The first flood, which counts where no other comes about.
    trial: Option<Round>,
}

impl Sums {
    fn finish(mut self, row: &mut Row) {
        if self.flooded.latencies.len() == 0
            && let Some(trial) = self.trial
        {
            self.flooded.add(&trial);
            row.add_flood(&trial.talk, &trial.poured, trial.stopped);
        }
        let none = Inside::default();
        row.calm = Latency::of(&self.calm.latencies);
        row.flooded = Latency::of(&self.flooded.latencies);
        row.calm_inside = self.calm.inside.messages_since(&none);
        row.flooded_inside = self.flooded.inside.messages_since(&none);
        row.flooded_loop = self.flooded.inside.iterations_since(&none);
        row.units = self.flooded.inside.units_a_microsecond();
    }
}

/// Accounts that a server needs for these kinds.
pub(super) fn accounts(kinds: &[&Kind], clients: u32) -> u64 {
    let most = kinds.iter().filter_map(|kind| kind.clients).max().unwrap_or(0);
    FIRST_FLOODER + u64::from(most.max(clients))
}

/// The CPU that was asked for, or the last where there are not so many.
fn core(asked: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.min(cores - 1)
}

fn keys(peer: &Peer) -> PathBuf {
    peer.folder.join("keys")
}

impl<'a> Arena<'a> {
    /// Starts the server and the victims.
    ///
    /// # Errors
    /// One of them does not start.
    pub(super) fn open(
        args: &'a AttackArgs,
        peer: &'a Peer,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Arena<'a>, String> {
        let server_core = core(args.server_core);
        let mut command = (peer.command)();
        // SAFETY: between fork and exec it only makes one system call.
        unsafe { command.pre_exec(move || poll::pin(server_core)) };
        let running = Running::start_as(peer, command)?;
        let door = Door {
            address: SocketAddr::from(([127, 0, 0, 1], peer.port)),
            domain: "localhost".into(),
            keys: keys(peer),
        };
        let role = Role::Victim { rate: args.messages };
        let mut victim =
            Helper::start(&Job { door: door.clone(), core: Some(core(args.client_core)), role })?;
        victim.ready(CONNECT_MAX).map_err(|error| format!("{}: the victims: {error}", peer.name))?;
        let job = Job { door: door.clone(), core: Some(server_core), role: Role::Occupant };
        let mut occupant = Helper::start(&job)?;
        occupant.ready(CONNECT_MAX)?;
        Ok(Arena { args, peer, running, victim, occupant, door, prepared: false, interrupted })
    }

    /// The server's process.
    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    /// Whether the run is to end.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Whether the server still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        self.running.is_alive()
    }

    /// Flooders of a kind, connected.
    ///
    /// # Errors
    /// They cannot come in.
    pub(super) fn flooder(&mut self, kind: &Kind, rate_max: Option<f64>) -> Result<Helper, String> {
        let usual = kind.clients.is_none();
        let flood = Flood {
            kind: kind.name.into(),
            clients: kind.clients.unwrap_or(self.args.clients),
            prepare: usual && !self.prepared,
            bytes_max: self.args.bytes << 20,
            rate_max,
        };
        let role = Role::Flooder(flood);
        let job = Job { door: self.door.clone(), core: Some(core(self.args.client_core)), role };
        let mut flooder = Helper::start(&job)?;
        flooder.ready(CONNECT_MAX)?;
        self.prepared |= usual && kind.entrance == Entrance::Session;
        Ok(flooder)
    }

    /// Calm and flood of one kind, in turns. The row has what was measured also where that ends early.
    pub(super) fn fight(&mut self, kind: &'static Kind) -> (Row, Result<(), String>) {
        let mut row = Row::new(&self.peer.name, kind.name);
        let mut sums = Sums::default();
        let outcome = self.take_turns(kind, &mut row, &mut sums);
        sums.finish(&mut row);
        (row, outcome)
    }

    fn take_turns(&mut self, kind: &'static Kind, row: &mut Row, sums: &mut Sums) -> Result<(), String> {
        let mut flooder = self.flooder(kind, None)?;
        self.rest()?;
        row.memory_before = self.memory();
        let trial = self.round(&mut flooder, Order::Flood, TRIAL)?;
        (row.busy, row.server_busy) = (trial.share(), trial.server_share);
        row.add_memory(trial.resident_peak, trial.anonymous_peak);
        sums.trial = Some(trial);
        let time = Duration::from_secs(self.args.seconds);
        for _ in 0..self.args.rounds {
            self.come_anew(&mut flooder)?;
            self.occupant.order(Order::Spin(row.server_busy))?;
            let calm = self.round(&mut flooder, Order::Spin(row.busy), time)?;
            self.occupant.order(Order::Report)?;
            self.occupant.ready(REPORT_MAX)?;
            row.calm_lost += calm.talk.sent - calm.talk.arrived;
            sums.calm.add(&calm);
            let flood = self.round(&mut flooder, Order::Flood, time)?;
            sums.flooded.add(&flood);
            (row.busy, row.server_busy) = (flood.share(), flood.server_share);
            row.add_memory(flood.resident_peak, flood.anonymous_peak);
            row.add_flood(&flood.talk, &flood.poured, flood.stopped);
            if !self.is_alive() {
                return Err("the server has ended".into());
            }
        }
        flooder.order(Order::Cut)?;
        flooder.ready(CONNECT_MAX)?;
        row.rest_seconds = self.rest()?;
        Ok(())
    }

    /// Cuts the flooders, waits until the server has dealt with what they sent, and lets them in again.
    fn come_anew(&mut self, flooder: &mut Helper) -> Result<(), String> {
        flooder.order(Order::Cut)?;
        flooder.ready(CONNECT_MAX)?;
        self.rest()?;
        flooder.order(Order::Connect)?;
        flooder.ready(CONNECT_MAX)?;
        self.rest().map(drop)
    }

    fn memory(&self) -> (u64, u64) {
        Process::memory(self.id()).unwrap_or_default()
    }

    /// CPU time of the server's processes so far, in seconds.
    fn server_cpu(&self) -> f64 {
        Process::glance(&self.running.ids()).map_or(0.0, |(cpu, _)| cpu)
    }

    fn round(&mut self, flooder: &mut Helper, order: Order, time: Duration) -> Result<Round, String> {
        let stats = stats::path(&self.peer.folder);
        let before = Inside::read(&stats);
        self.victim.order(Order::Measure)?;
        flooder.order(order)?;
        let (began, used) = (Instant::now(), self.server_cpu());
        let end = began + time;
        let (mut resident_peak, mut anonymous_peak, mut stopped) = (0, 0, None);
        while Instant::now() < end && stopped.is_none() {
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
            if self.is_interrupted() {
                return Err("interrupted".into());
            }
            let (resident, anonymous) = self.memory();
            resident_peak = resident_peak.max(resident);
            anonymous_peak = anonymous_peak.max(anonymous);
            if resident > self.args.memory_max << 20 {
                stopped = Some(format!("stopped: the server has {} MiB", resident >> 20));
            }
        }
        let server_share = (self.server_cpu() - used) / began.elapsed().as_secs_f64();
        let poured = flooder.poured(REPORT_MAX)?;
        if stopped.is_some() {
            // What it holds goes with the connections.
            flooder.order(Order::Cut)?;
            flooder.ready(CONNECT_MAX)?;
        }
        let talk = self.victim.talk(REPORT_MAX)?;
        let (resident, anonymous) = self.memory();
        Ok(Round {
            talk,
            poured,
            inside: (before, Inside::read(&stats)),
            server_share,
            resident_peak: resident_peak.max(resident),
            anonymous_peak: anonymous_peak.max(anonymous),
            stopped,
        })
    }

    /// Waits until the server does nothing; returns how long that took, in seconds.
    ///
    /// # Errors
    /// The run has been interrupted.
    pub(super) fn rest(&mut self) -> Result<f64, String> {
        rest(&self.running.ids(), &self.interrupted)
    }

    /// Lets the victims send, for as long as `body` runs.
    ///
    /// # Errors
    /// They are gone, or the body fails.
    pub(super) fn beside<T>(
        &mut self,
        body: impl FnOnce(&mut Arena<'a>) -> Result<T, String>,
    ) -> Result<(T, Talk), String> {
        self.victim.order(Order::Measure)?;
        let outcome = body(self)?;
        let talk = self.victim.talk(REPORT_MAX)?;
        Ok((outcome, talk))
    }
}
