//! `storm`: every session is cut at once, and all come back. Time to the last login, and the latency of those who
//! stayed.

use std::process::ExitCode;

use crate::cli::StormArgs;
use crate::engine::traffic::Load;
use crate::fleet::coordinator::Ended;
use crate::fleet::{Run, Start, Until};
use crate::scenario::{Session, chat, timed_run};

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &StormArgs) -> Result<ExitCode, String> {
    let mut session = Session::start("storm", &args.target, args.sessions, 0)?;
    let outcome = session.reach(args.sessions, None).and_then(|()| storm(&mut session, args));
    session.finish(outcome).deliver(&args.target.output)
}

fn storm(session: &mut Session, args: &StormArgs) -> Result<(), Ended> {
    let workers = f64::from(session.fleet.layout().workers);
    let load = (args.keep > 0).then(|| Load::Open { rate: args.messages / workers, every: args.keep });
    if args.keep > 0 {
        let before = Run { load: load.clone(), body_bytes: 40, ..timed_run(1, args.before, 5) };
        let outcome = session.run("before the cut", &before);
        if let Some(phase) = session.last_phase() {
            chat::add_figures(phase);
        }
        outcome?;
    }
    let run = Run {
        load: load.or(Some(Load::Idle)),
        body_bytes: 40,
        at_start: Start::Cut { keep_every: args.keep, rate: args.return_rate / workers },
        until: Until::AllReady,
        ..timed_run(0, args.limit, 5)
    };
    let outcome = session.run("storm", &run);
    let sessions = session.fleet.layout().sessions_max;
    let up = session.fleet.counters().ready;
    if let Some(phase) = session.last_phase() {
        chat::add_figures(phase);
        phase.figures.insert("seconds to the last login".into(), phase.seconds);
        let logins = phase.counted.logins as f64;
        phase.figures.insert("logins a second".into(), logins / phase.seconds.max(1e-9));
        if let Some((user, system)) = phase.server_cpu {
            phase.figures.insert("logins a second of server CPU".into(), logins / (user + system).max(0.01));
        }
    }
    outcome?;
    if up < sessions {
        return Err(Ended::TimedOut(format!(
            "only {up} of {sessions} sessions were back after {} s",
            args.limit
        )));
    }
    Ok(())
}
