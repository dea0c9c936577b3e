//! `chat`: messages between pairs, in a closed loop for saturation or an open loop for latency.

use std::process::ExitCode;

use crate::cli::{ArchiveSwitch, ChatArgs};
use crate::engine::target::Hint;
use crate::engine::traffic::Load;
use crate::fleet::Run;
use crate::fleet::coordinator::Ended;
use crate::report::Phase;
use crate::scenario::{Session, timed_run};

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &ChatArgs) -> Result<ExitCode, String> {
    let hint = match args.archive {
        None => Hint::None,
        Some(ArchiveSwitch::On) => Hint::Archived,
        Some(ArchiveSwitch::Off) => Hint::Unarchived,
    };
    let mut session = Session::start_hinting("chat", &args.target, args.sessions, 0, hint)?;
    let outcome = session.reach(args.sessions, None).and_then(|()| chat(&mut session, args));
    session.finish(outcome).deliver(&args.target.output)
}

fn chat(session: &mut Session, args: &ChatArgs) -> Result<(), Ended> {
    let load = match args.messages {
        Some(rate) => Load::Open { rate: rate / f64::from(session.fleet.layout().workers), every: 1 },
        None => Load::Closed { window: args.window },
    };
    let run = Run {
        load: Some(load),
        body_bytes: args.body as usize,
        ..timed_run(args.warmup, args.duration, args.drain)
    };
    let outcome = session.run("chat", &run);
    if let Some(phase) = session.last_phase() {
        add_figures(phase);
    }
    outcome
}

/// Rates, and what a message cost the server.
pub(crate) fn add_figures(phase: &mut Phase) {
    let counted = &phase.counted;
    let delivered = (counted.delivered + counted.presence_received + counted.group_delivered) as f64;
    if phase.seconds > 0.0 {
        phase.figures.insert("delivered a second".into(), delivered / phase.seconds);
    }
    if let Some((user, system)) = phase.server_cpu
        && delivered > 0.0
        && user + system > 0.0
    {
        phase.figures.insert("delivered a second of server CPU".into(), delivered / (user + system));
        phase.figures.insert("server CPU microseconds each".into(), (user + system) * 1e6 / delivered);
        phase.figures.insert("server CPU, cores busy".into(), (user + system) / phase.seconds);
    }
    if let Some(switches) = phase.server_switches
        && delivered > 0.0
    {
        phase.figures.insert("server context switches each".into(), switches as f64 / delivered);
    }
}
