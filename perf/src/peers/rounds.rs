//! The rounds of `peers`: each server is started for its memory, and anew for its chat.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::{FloorArgs, OutputArgs, PeersArgs};
use crate::engine::sasl::Sasl;
use crate::engine::target::{Hint, Protocol, Target, TlsStart, WEBSOCKET_PATH, loopback_sources};
use crate::engine::traffic::Load;
use crate::fleet::Run;
use crate::fleet::coordinator::{Ended, interruption};
use crate::floor;
use crate::peers::{Peer, Running, figures, note};
use crate::report::Report;
use crate::report::table::Comparison;
use crate::sample::Server;
use crate::scenario::broker::{self, Room, Speech};
use crate::scenario::{Session, chat, hold, layout, timed_run};

/// Bytes of a message's text.
const BODY_BYTES: usize = 40;

/// Runs them; what has been run by then is in `comparison`, however it ends.
///
/// # Errors
/// A server does not start, or somebody interrupts.
pub(super) fn rounds(args: &PeersArgs, peers: &[Peer], comparison: &mut Comparison) -> Result<(), String> {
    let interrupted = interruption()?;
    for round in 1..=args.rounds {
        for peer in peers {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted; the table is of the runs so far".into());
            }
            note(args, &format!("round {round} of {}: {}", args.rounds, peer.name));
            if let Some(speech) = peer.broker {
                brokered(args, peer, speech, comparison)?;
                continue;
            }
            let running = Running::start(peer)?;
            comparison.runs.push(held(args, peer, &running)?);
            drop(running);
            let running = Running::start(peer)?;
            comparison.runs.push(talked(args, peer, &running)?);
        }
        note(args, &format!("round {round} of {}: floor", args.rounds));
        let floor_args = FloorArgs {
            hold: Vec::new(),
            sessions: args.sessions,
            window: args.window,
            body: BODY_BYTES as u32,
            duration: args.duration,
            workers: None,
            output: OutputArgs { quiet: true, ..OutputArgs::default() },
        };
        comparison.runs.push(floor::traffic(&floor_args, figures::FLOOR)?);
    }
    Ok(())
}

/// How to speak to a peer.
fn target(peer: &Peer, sessions: u64) -> Target {
    Target {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], peer.port))],
        sources: loopback_sources(sessions, 1),
        domain: "localhost".into(),
        transport: peer.transport,
        path: WEBSOCKET_PATH.into(),
        tls: peer.tls.then_some(TlsStart::Direct),
        sasl: Sasl::ScramSha1,
        seed: "whimbrel".into(),
        one_password: false,
        pipeline: false,
        keys: Some(peer.folder.join("keys")),
        sessions_per_account: 1,
        first_account: 0,
        // Not every one of them has it.
        stream_management: peer.hint != Hint::None,
        hint: peer.hint,
        protocol: Protocol::Xmpp,
    }
}

fn session(scenario: &str, peer: &Peer, running: &Running, sessions: u64) -> Result<Session, String> {
    let layout = layout(None, sessions, 2_000.0, 100, 0);
    let target = target(peer, sessions);
    let mut session =
        Session::with(scenario, peer.name.clone(), &target, layout, Server::Here(running.ids()), true)?;
    session.report.facts = peer.facts.clone();
    Ok(session)
}

/// A report of a part of the run without a fleet.
fn bare_report(scenario: &str, peer: &Peer, running: &Running) -> Report {
    Report {
        server_pid: Some(running.id()),
        facts: peer.facts.clone(),
        ..Report::begin(scenario, peer.name.clone())
    }
}

fn room<'a>(speech: Speech, peer: &Peer, running: &Running, interrupted: &'a AtomicBool) -> Room<'a> {
    let address = SocketAddr::from(([127, 0, 0, 1], peer.port));
    Room { speech, address, servers: running.ids(), interrupted }
}

/// Both parts of the comparison for a broker.
fn brokered(
    args: &PeersArgs,
    peer: &Peer,
    speech: Speech,
    comparison: &mut Comparison,
) -> Result<(), String> {
    let interrupted = interruption()?;
    let settle = Duration::from_secs(args.settle);
    let running = Running::start(peer)?;
    let mut report = bare_report("hold", peer, &running);
    match broker::held(&room(speech, peer, &running, &interrupted), &args.hold, settle) {
        Ok(memory) => report.memory = Some(memory),
        Err(problem) => report.problems.push(problem),
    }
    comparison.runs.push(report);
    drop(running);
    let running = Running::start(peer)?;
    let mut report = bare_report("chat", peer, &running);
    let room = room(speech, peer, &running, &interrupted);
    let time = Duration::from_secs(args.duration);
    for (name, window) in [("chat", args.window), (figures::ONE_BY_ONE, 1)] {
        match broker::talked(&room, name, args.sessions, window, BODY_BYTES, time) {
            Ok(phase) if phase.whole.lost > 0 => {
                report.problems.push(format!("{name}: {} messages were lost", phase.whole.lost));
                report.phases.push(phase);
            }
            Ok(phase) => report.phases.push(phase),
            Err(problem) => report.problems.push(format!("{name}: {problem}")),
        }
    }
    comparison.runs.push(report);
    Ok(())
}

fn held(args: &PeersArgs, peer: &Peer, running: &Running) -> Result<Report, String> {
    let most = args.hold.last().copied().unwrap_or(0);
    let mut session = session("hold", peer, running, most)?;
    let outcome = hold::steps(&mut session, &args.hold, Duration::from_secs(args.settle));
    if let Some(memory) = &mut session.report.memory {
        memory.compute();
    }
    Ok(session.finish(outcome))
}

fn talked(args: &PeersArgs, peer: &Peer, running: &Running) -> Result<Report, String> {
    let mut session = session("chat", peer, running, args.sessions)?;
    let outcome = talk(args, &mut session);
    Ok(session.finish(outcome))
}

fn talk(args: &PeersArgs, session: &mut Session) -> Result<(), Ended> {
    session.reach(args.sessions, None)?;
    let run = Run {
        load: Some(Load::Closed { window: args.window }),
        body_bytes: BODY_BYTES,
        ..timed_run(2, args.duration, 20)
    };
    talk_once(session, "chat", &run)?;
    // Messages that come by themselves share no write. So the half is of what is possible without sharing.
    let single = Run { load: Some(Load::Closed { window: 1 }), ..run.clone() };
    let rate = talk_once(session, figures::ONE_BY_ONE, &single)? / 2.0;
    let rate = rate.max(1.0) / f64::from(session.fleet.layout().workers);
    // Sent when it is due, whatever came of those before it.
    let half = Run { load: Some(Load::Open { rate, every: 1 }), ..run };
    talk_once(session, figures::HALF_LOAD, &half).map(drop)
}

/// One phase of chat; returns what was delivered a second.
fn talk_once(session: &mut Session, name: &str, run: &Run) -> Result<f64, Ended> {
    let outcome = session.run(name, run);
    let mut rate = 0.0;
    if let Some(phase) = session.last_phase() {
        chat::add_figures(phase);
        rate = phase.counted.delivered as f64 / phase.seconds.max(f64::MIN_POSITIVE);
    }
    outcome.map(|()| rate)
}
