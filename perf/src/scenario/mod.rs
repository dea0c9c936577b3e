//! The scenarios, and what they share: making a run from arguments, watching it, ending it.
//!
//! A scenario never loses its figures: whatever ends it early becomes a problem of the report, and the report is
//! delivered all the same.

pub(crate) mod archive;
pub(crate) mod attack;
pub(crate) mod broker;
pub(crate) mod chat;
pub(crate) mod client;
pub(crate) mod group;
pub(crate) mod hold;
pub(crate) mod life;
pub(crate) mod offline;
pub(crate) mod pep;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod poll;
pub(crate) mod presence;
pub(crate) mod storm;
pub(crate) mod upgrade;
pub(crate) mod upload;
mod waiting;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::cli::{TargetArgs, Tls};
use crate::engine::counters::{Counters, Recorder};
use crate::engine::target::{Hint, Protocol, SESSIONS_PER_ROUTE_MAX, Target, TlsStart, loopback_sources};
use crate::fleet::coordinator::{DESCRIPTORS_RESERVED, Ended, Fleet, Layout, Moment};
use crate::fleet::{Done, Run, Start, Until};
use crate::report::{Latency, Phase, Report, TRANSPORT, Tick};
use crate::sample::find;
use crate::sample::process::Process;
use crate::sample::{Sample, Server};
pub(crate) use waiting::rest;
use waiting::{unix_now, wait_until};

/// Time between two entries of the timeline.
const TICK: Duration = Duration::from_millis(500);

/// Entries of the timeline at most.
const TICKS_MAX: usize = 20_000;

/// A run under way.
pub(crate) struct Session {
    /// The workers.
    pub(crate) fleet: Fleet,
    /// The server.
    server: Server,
    /// What has been found out.
    pub(crate) report: Report,
    began: Instant,
    last_tick: Option<Instant>,
    cpu_at: (Option<Process>, Option<Process>),
    login_limit: Duration,
}

/// Descriptors that a process may have at most.
#[allow(clippy::unnecessary_cast, reason = "the limit is signed on FreeBSD")]
#[expect(unsafe_code, reason = "a system call")]
pub(crate) fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if outcome == 0 { limit.rlim_max as u64 } else { 1024 }
}

/// A number that tells runs apart, so that messages of an earlier one are not taken for this one's.
pub(crate) fn run_number() -> u32 {
    let now = unix_now();
    (now.as_nanos() as u64 >> 10) as u32
}

impl Session {
    /// Checks the arguments and starts the workers.
    ///
    /// # Errors
    /// The arguments ask for what is not possible.
    pub(crate) fn start(
        scenario: &str,
        args: &TargetArgs,
        sessions: u64,
        ping_interval_ms: u64,
    ) -> Result<Session, String> {
        Session::start_hinting(scenario, args, sessions, ping_interval_ms, Hint::None)
    }

    /// The same with messages that say whether they are to be kept.
    ///
    /// # Errors
    /// The arguments ask for what is not possible.
    pub(crate) fn start_hinting(
        scenario: &str,
        args: &TargetArgs,
        sessions: u64,
        ping_interval_ms: u64,
        hint: Hint,
    ) -> Result<Session, String> {
        let addresses = args.addresses()?;
        let ports = addresses.len() as u64;
        let sources = sources(args, sessions, ports);
        let routes = (sources.len() as u64).max(1) * ports;
        if sessions > routes * SESSIONS_PER_ROUTE_MAX {
            return Err(format!(
                "{sessions} sessions need more than {routes} pairs of source address and server port, each good for \
                 {SESSIONS_PER_ROUTE_MAX}: use more --source or --port"
            ));
        }
        let keys = args.keys.clone().unwrap_or_else(|| {
            let seed: String = args.seed.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
            std::env::temp_dir().join(format!("whimbrel-perf-keys-{seed}"))
        });
        let target = Target {
            addresses: addresses.clone(),
            sources,
            domain: args.domain.clone(),
            transport: args.transport,
            path: args.path.clone(),
            tls: match args.tls {
                Tls::None => None,
                Tls::Starttls => Some(TlsStart::StartTls),
                Tls::Direct => Some(TlsStart::Direct),
            },
            sasl: args.sasl,
            seed: args.seed.clone(),
            one_password: args.one_password,
            pipeline: args.pipeline,
            keys: Some(keys),
            sessions_per_account: args.sessions_per_account,
            first_account: args.first,
            hint,
            stream_management: !args.no_sm,
            protocol: Protocol::Xmpp,
        };
        let layout = layout(args.workers, sessions, args.rate, args.in_flight, ping_interval_ms);
        let server = match &args.metrics {
            Some(metrics) => {
                // Better now than after an hour without figures.
                metrics.fetch()?;
                Server::There(metrics.clone())
            }
            None => {
                Server::Here(args.pid.or_else(|| find::listener(addresses[0].port())).into_iter().collect())
            }
        };
        let label = args.output.label.clone().unwrap_or_else(|| scenario.to_owned());
        let mut session = Session::with(scenario, label, &target, layout, server, args.output.quiet)?;
        session.login_limit = Duration::from_secs(args.login_limit);
        session.report.facts.insert("server".into(), addresses[0].to_string());
        if let Some(pid) = session.report.server_pid
            && let Ok(program) = std::fs::read_link(format!("/proc/{pid}/exe"))
        {
            session.report.facts.insert("program".into(), program.display().to_string());
        }
        session.report.facts.insert(TRANSPORT.into(), args.transport.name().into());
        session.report.facts.insert("TLS".into(), format!("{:?}", args.tls).to_lowercase());
        if let Some(at) = args.start_at {
            wait_until(at)?;
        }
        session.report.started_unix = unix_now().as_secs();
        session.began = Instant::now();
        Ok(session)
    }

    /// The same with everything known.
    ///
    /// # Errors
    /// There are too few descriptors, or processes cannot be started.
    pub(crate) fn with(
        scenario: &str,
        label: String,
        target: &Target,
        layout: Layout,
        server: Server,
        quiet: bool,
    ) -> Result<Session, String> {
        layout.check(descriptor_limit())?;
        let fleet = Fleet::start(target, layout, quiet)?;
        let report = Report { server_pid: server.pid(), ..Report::begin(scenario, label) };
        Ok(Session {
            fleet,
            server,
            report,
            began: Instant::now(),
            last_tick: None,
            cpu_at: (None, None),
            login_limit: Duration::from_secs(600),
        })
    }

    /// Logs in, up to so many sessions, as a phase of its own.
    ///
    /// # Errors
    /// The run has to end.
    pub(crate) fn reach(&mut self, sessions: u64, rate: Option<f64>) -> Result<(), Ended> {
        self.fleet.now_doing("login");
        let before = self.fleet.counters();
        let cpu_before = self.process();
        let started = Instant::now();
        let limit = self.login_limit;
        let outcome = self.watched(|fleet, watch| fleet.reach(sessions, rate, limit, watch));
        let seconds = started.elapsed().as_secs_f64();
        let counted = self.fleet.counters().since(&before);
        let mut phase =
            self.phase(&format!("login to {sessions}"), seconds, counted.clone(), counted.clone());
        phase.figures.insert("logins a second".into(), counted.logins as f64 / seconds);
        if let Some((before, after)) = cpu_before.zip(self.process()) {
            let cpu =
                (after.user_seconds - before.user_seconds, after.system_seconds - before.system_seconds);
            phase.figures.insert(
                "logins a second of server CPU".into(),
                counted.logins as f64 / (cpu.0 + cpu.1).max(0.01),
            );
            phase.server_cpu = Some(cpu);
        }
        if let Ok(recorder) = &outcome {
            add_latencies(&mut phase, recorder);
        }
        self.report.phases.push(phase);
        outcome.map(|_| ())
    }

    /// Runs a load, as a phase.
    ///
    /// # Errors
    /// The run has to end.
    pub(crate) fn run(&mut self, name: &str, run: &Run) -> Result<(), Ended> {
        self.fleet.now_doing(name);
        let before = self.fleet.counters();
        self.cpu_at = (None, None);
        let outcome = self.watched(|fleet, watch| fleet.run(|| run.clone(), watch));
        let (done, recorder, ended) = match outcome {
            Ok((done, recorder)) => (done, recorder, None),
            Err(ended) => {
                // What was counted still stands, without the exact time.
                let counted = self.fleet.counters().since(&before);
                let done =
                    Done { measured_ns: 0, measured: counted.clone(), whole: counted, ..Done::default() };
                (done, Recorder::default(), Some(ended))
            }
        };
        let seconds = done.measured_ns as f64 / 1e9;
        let mut phase = self.phase(name, seconds, done.measured, done.whole);
        add_latencies(&mut phase, &recorder);
        if let (Some(from), Some(to)) = (&self.cpu_at.0, &self.cpu_at.1) {
            phase.server_cpu =
                Some((to.user_seconds - from.user_seconds, to.system_seconds - from.system_seconds));
            phase.server_switches = Some(to.context_switches.saturating_sub(from.context_switches));
        }
        self.report.phases.push(phase);
        ended.map_or(Ok(()), Err)
    }

    /// Lets time pass, watching.
    ///
    /// # Errors
    /// The run has to end.
    pub(crate) fn pause(&mut self, what: &str, time: Duration) -> Result<(), Ended> {
        self.fleet.now_doing(what);
        self.watched(|fleet, watch| fleet.pause(time, watch))
    }

    /// The phase that was last.
    pub(crate) fn last_phase(&mut self) -> Option<&mut Phase> {
        self.report.phases.last_mut()
    }

    /// A look at process and kernel.
    pub(crate) fn sample(&self) -> Sample {
        Sample::take(&self.server)
    }

    fn process(&self) -> Option<Process> {
        self.server.read()
    }

    fn phase(&self, name: &str, seconds: f64, counted: Counters, whole: Counters) -> Phase {
        Phase { name: name.to_owned(), seconds, counted, whole, ..Phase::default() }
    }

    fn watched<T>(&mut self, body: impl FnOnce(&mut Fleet, &mut dyn FnMut(&Moment<'_>)) -> T) -> T {
        let (server, began) = (self.server.clone(), self.began);
        let (timeline, last_tick, cpu_at) =
            (&mut self.report.timeline, &mut self.last_tick, &mut self.cpu_at);
        body(&mut self.fleet, &mut |moment| match moment {
            Moment::Measuring => cpu_at.0 = server.read(),
            Moment::Measured => cpu_at.1 = server.read(),
            Moment::Tick(counters) => {
                if last_tick.is_some_and(|last| last.elapsed() < TICK) || timeline.len() >= TICKS_MAX {
                    return;
                }
                *last_tick = Some(Instant::now());
                let glance = server.glance();
                timeline.push(Tick {
                    at_seconds: began.elapsed().as_secs_f64(),
                    ready: counters.ready,
                    logins: counters.logins,
                    delivered: counters.delivered + counters.presence_received,
                    anon_bytes: glance.map(|(_, anon)| anon),
                    cpu_seconds: glance.map(|(cpu, _)| cpu),
                });
            }
        })
    }

    /// Ends the workers and completes the report.
    pub(crate) fn finish(mut self, outcome: Result<(), Ended>) -> Report {
        let up = self.fleet.counters().ready;
        let mut totals = self.fleet.finish();
        totals.ready = up;
        let problems = &mut self.report.problems;
        if let Err(ended) = outcome {
            problems.push(format!("{ended}; the figures are partial"));
        }
        for (count, text) in [
            (totals.lost, "messages or presences were lost"),
            (totals.group_lost, "copies of messages to groups were lost"),
            (totals.group_bounced, "messages to groups came back as errors"),
            (totals.duplicated, "messages arrived more than once"),
            (totals.out_of_order, "messages arrived out of order"),
            (totals.bounced, "messages came back as errors"),
            (totals.dropped, "sessions were ended by the server"),
            (totals.pings_unanswered, "pings were not answered"),
        ] {
            if count > 0 {
                problems.push(format!("{count} {text}"));
            }
        }
        self.report.totals = totals;
        self.report
    }
}

/// Workers enough for cores and descriptors.
pub(crate) fn layout(
    workers: Option<u32>,
    sessions: u64,
    rate: f64,
    in_flight_max: u32,
    ping_interval_ms: u64,
) -> Layout {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let of_one = descriptor_limit().saturating_sub(DESCRIPTORS_RESERVED + 2).max(2) / 2 * 2;
    let needed = sessions.div_ceil(of_one);
    let chosen = workers.map_or(cores.max(needed), u64::from).min(1000);
    Layout { workers: chosen as u32, sessions_max: sessions, rate, in_flight_max, ping_interval_ms }
}

/// A run that ends after a time and accounts for what was sent.
pub(crate) fn timed_run(warmup_s: u64, duration_s: u64, drain_s: u64) -> Run {
    Run {
        load: None,
        body_bytes: 0,
        warmup_ms: warmup_s * 1000,
        at_start: Start::Nothing,
        until: Until::Limit,
        limit_ms: duration_s * 1000,
        drain_ms: drain_s * 1000,
        settle: true,
        run: run_number(),
    }
}

/// The name of the latency of messages to groups.
const GROUP_MESSAGE: &str = "group message";

fn add_latencies(phase: &mut Phase, recorder: &Recorder) {
    for (name, latencies) in [
        ("login", &recorder.login),
        ("message", &recorder.message),
        (GROUP_MESSAGE, &recorder.group),
        ("ping", &recorder.ping),
    ] {
        if let Some(latency) = Latency::of(latencies) {
            phase.latencies.insert(name.to_owned(), latency);
        }
    }
}

/// The source addresses of a run: those that were asked for, or as many of this machine's own as so many sessions need.
fn sources(args: &TargetArgs, sessions: u64, ports: u64) -> Vec<IpAddr> {
    if !args.source.is_empty() || !args.host.is_loopback() {
        args.source.clone()
    } else if args.host.is_ipv4() {
        loopback_sources(sessions, ports)
    } else {
        Vec::new()
    }
}
