//! One server on its CPU, the victims on the other, and one kind of flood after another beside them.
//!
//! Calm and flood take turns. In a calm the flooders are connected as well, and use as much of the CPU that they share
//! with the victims as they did in the flood before it, so that what differs is the server alone.

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
use crate::scenario::attack::inside::{self, Inside};
use crate::scenario::attack::kinds::{Entrance, Kind, MANY};
use crate::scenario::attack::poll;
use crate::scenario::attack::process::Helper;
use crate::scenario::attack::table::Row;
use crate::scenario::attack::wire::{Door, Flood, Job, Order, Poured, Role, Talk};

/// How long logins, and what fills the accounts, may take.
const CONNECT_MAX: Duration = Duration::from_secs(300);

/// How long a report may take: what is under way is waited for.
const REPORT_MAX: Duration = Duration::from_secs(120);

/// How long the first flood is, which counts for nothing but the flooders' share of the CPU.
const TRIAL: Duration = Duration::from_secs(1);

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long a server may take to come to rest after a flood.
const REST_MAX: Duration = Duration::from_secs(60);

/// A server is at rest when it uses less than this share of a CPU.
const REST_SHARE: f64 = 0.1;

/// A server under attack.
pub(super) struct Arena<'a> {
    args: &'a AttackArgs,
    peer: &'a Peer,
    running: Running,
    victim: Helper,
    door: Door,
    prepared: bool,
    interrupted: Arc<AtomicBool>,
}

/// What came of a calm or a flood.
struct Round {
    talk: Talk,
    poured: Poured,
    inside: (Inside, Inside),
    resident_peak: u64,
    anonymous_peak: u64,
    stopped: Option<String>,
}

/// Accounts that a server needs.
pub(super) fn accounts() -> u64 {
    crate::scenario::attack::kinds::FIRST_FLOODER + u64::from(MANY)
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
        let core = args.server_core;
        let mut command = (peer.command)();
        // SAFETY: between fork and exec it only makes one system call.
        unsafe { command.pre_exec(move || poll::pin(core)) };
        let running = Running::start_as(peer, command)?;
        let door = Door {
            address: SocketAddr::from(([127, 0, 0, 1], peer.port)),
            domain: "localhost".into(),
            keys: keys(peer),
        };
        let role = Role::Victim { rate: args.messages };
        let mut victim = Helper::start(&Job { door: door.clone(), core: Some(args.client_core), role })?;
        victim.ready(CONNECT_MAX).map_err(|error| format!("{}: the victims: {error}", peer.name))?;
        Ok(Arena { args, peer, running, victim, door, prepared: false, interrupted })
    }

    /// The server's process.
    pub(super) fn id(&self) -> u32 {
        self.running.id()
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
        let job = Job { door: self.door.clone(), core: Some(self.args.client_core), role };
        let mut flooder = Helper::start(&job)?;
        flooder.ready(CONNECT_MAX)?;
        self.prepared |= usual && kind.entrance == Entrance::Session;
        Ok(flooder)
    }

    /// Calm and flood of one kind, in turns.
    ///
    /// # Errors
    /// A process is gone, or the run has been interrupted.
    pub(super) fn fight(&mut self, kind: &'static Kind) -> Result<Row, String> {
        let mut row = Row::new(&self.peer.name, kind.name);
        let mut flooder = self.flooder(kind, None)?;
        self.rest()?;
        row.memory_before = self.memory();
        let trial = self.round(&mut flooder, Order::Flood, TRIAL)?;
        let mut share = trial.poured.cpu_seconds / trial.poured.seconds.max(0.001);
        row.add_memory(trial.resident_peak, trial.anonymous_peak);
        let (mut calm, mut flooded) = (Latencies::default(), Latencies::default());
        let (mut calm_inside, mut flooded_inside) = (Inside::default(), Inside::default());
        let time = Duration::from_secs(self.args.seconds);
        for _ in 0..self.args.rounds {
            self.come_anew(&mut flooder)?;
            let round = self.round(&mut flooder, Order::Spin(share), time)?;
            calm.add_pairs(&round.talk.latencies);
            calm_inside.add(&round.inside.0, &round.inside.1);
            row.calm_lost += round.talk.sent - round.talk.arrived;
            let round = self.round(&mut flooder, Order::Flood, time)?;
            flooded.add_pairs(&round.talk.latencies);
            flooded_inside.add(&round.inside.0, &round.inside.1);
            share = round.poured.cpu_seconds / round.poured.seconds.max(0.001);
            row.add_memory(round.resident_peak, round.anonymous_peak);
            row.add_flood(&round.talk, &round.poured, round.stopped);
            if !self.is_alive() {
                row.survived = Err("the server has ended".into());
                break;
            }
        }
        let none = Inside::default();
        row.busy = share;
        row.calm = Latency::of(&calm);
        row.flooded = Latency::of(&flooded);
        row.calm_inside = calm_inside.messages_since(&none);
        row.flooded_inside = flooded_inside.messages_since(&none);
        row.flooded_loop = flooded_inside.iterations_since(&none);
        if self.is_alive() {
            flooder.order(Order::Cut)?;
            flooder.ready(CONNECT_MAX)?;
            row.rest_seconds = self.rest()?;
        }
        Ok(row)
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

    fn round(&mut self, flooder: &mut Helper, order: Order, time: Duration) -> Result<Round, String> {
        let stats = inside::path(&self.peer.folder);
        let before = Inside::read(&stats);
        self.victim.order(Order::Measure)?;
        flooder.order(order)?;
        let end = Instant::now() + time;
        let (mut resident_peak, mut anonymous_peak, mut stopped) = (0, 0, None);
        while Instant::now() < end && stopped.is_none() {
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            let (resident, anonymous) = self.memory();
            resident_peak = resident_peak.max(resident);
            anonymous_peak = anonymous_peak.max(anonymous);
            if resident > self.args.memory_max << 20 {
                stopped = Some(format!("stopped: the server has {} MiB", resident >> 20));
            }
        }
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
        let began = Instant::now();
        let look = Duration::from_millis(200);
        let cpu = |id| Process::glance(id).map_or(0.0, |(cpu, _)| cpu);
        let mut before = cpu(self.id());
        while began.elapsed() < REST_MAX && self.is_alive() {
            std::thread::sleep(look);
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            let now = cpu(self.id());
            if now - before < REST_SHARE * look.as_secs_f64() {
                return Ok((began.elapsed() - look).as_secs_f64());
            }
            before = now;
        }
        Ok(began.elapsed().as_secs_f64())
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
