//! `floor`: the same load against a router that does nothing but route ([`router`]), for the ratio to what the machine
//! can do at all.

pub(crate) mod router;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use crate::cli::FloorArgs;
use crate::engine::sasl::Sasl;
use crate::engine::target::{Hint, Protocol, Target, Transport, loopback_sources};
use crate::engine::traffic::Load;
use crate::fleet::Run;
use crate::report::Report;
use crate::sample::Server;
use crate::scenario::{Session, chat, hold, layout, timed_run};

/// A router process; it ends with this.
pub(crate) struct Router {
    child: Child,
    port: u16,
}

impl Router {
    /// Starts one.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(crate) fn start(users: u64) -> Result<Router, String> {
        let failed = |error: std::io::Error| format!("cannot start the router: {error}");
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["floor-serve", "--users", &users.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(failed)?;
        }
        let port = line.trim().parse().map_err(|_| "the router did not say where it listens".to_owned())?;
        Ok(Router { child, port })
    }

    /// How to speak to it.
    pub(crate) fn target(&self, sessions: u64) -> Target {
        Target {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], self.port))],
            sources: loopback_sources(sessions, 1),
            domain: "localhost".into(),
            transport: Transport::Tcp,
            path: String::new(),
            tls: None,
            sasl: Sasl::Auto,
            seed: String::new(),
            one_password: false,
            pipeline: false,
            keys: None,
            sessions_per_account: 1,
            first_account: 0,
            hint: Hint::None,
            stream_management: false,
            protocol: Protocol::Floor,
        }
    }

    /// Where it listens on this machine.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &FloorArgs) -> Result<ExitCode, String> {
    let label = args.output.label.clone().unwrap_or_else(|| "floor".into());
    let mut held = memory(args, &label)?;
    let talk = traffic(args, &label)?;
    held.phases.extend(talk.phases);
    held.problems.extend(talk.problems);
    held.totals.add(&talk.totals);
    held.deliver(&args.output)
}

/// Memory of a connection, in a router of its own.
fn memory(args: &FloorArgs, label: &str) -> Result<Report, String> {
    let most = args.hold.iter().max().copied().unwrap_or(0);
    let router = Router::start(most + 2)?;
    let layout = layout(args.workers, most, 10_000.0, 500, 0);
    let target = router.target(most);
    let mut session = Session::with(
        "floor",
        label.to_owned(),
        &target,
        layout,
        Server::Here(vec![router.pid()]),
        args.output.quiet,
    )?;
    let outcome = hold::steps(&mut session, &args.hold, Duration::from_secs(1));
    if let Some(memory) = &mut session.report.memory {
        memory.compute();
    }
    Ok(session.finish(outcome))
}

/// Messages a second, in another.
pub(crate) fn traffic(args: &FloorArgs, label: &str) -> Result<Report, String> {
    let router = Router::start(args.sessions + 2)?;
    let layout = layout(args.workers, args.sessions, 10_000.0, 500, 0);
    let target = router.target(args.sessions);
    let mut session = Session::with(
        "floor",
        label.to_owned(),
        &target,
        layout,
        Server::Here(vec![router.pid()]),
        args.output.quiet,
    )?;
    let run = Run {
        load: Some(Load::Closed { window: args.window }),
        body_bytes: args.body as usize,
        ..timed_run(2, args.duration, 5)
    };
    let outcome = session.reach(args.sessions, None).and_then(|()| session.run("chat", &run));
    if let Some(phase) = session.last_phase() {
        chat::add_figures(phase);
    }
    Ok(session.finish(outcome))
}
