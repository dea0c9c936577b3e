//! `hold`: sessions with presence, idle but for pings and, where they are asked for, messages. Login rate, memory of a
//! session, survival.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::HoldArgs;
use crate::engine::traffic::Load;
use crate::fleet::coordinator::Ended;
use crate::fleet::{Order, Run};
use crate::report::{Memory, Report};
use crate::scenario::{Session, chat, timed_run};

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &HoldArgs) -> Result<ExitCode, String> {
    run(args)?.deliver(&args.target.output)
}

/// Runs it.
///
/// # Errors
/// The arguments ask for what is not possible.
pub(crate) fn run(args: &HoldArgs) -> Result<Report, String> {
    if !args.sessions.is_sorted_by(|a, b| a < b) || args.sessions.first() == Some(&0) {
        return Err("--sessions wants rising counts above 0, for example 1000,5000,15000".into());
    }
    let most = args.sessions.last().copied().unwrap_or(0);
    let mut session = Session::start("hold", &args.target, most, args.ping * 1000)?;
    let outcome = hold(&mut session, args);
    Ok(session.finish(outcome))
}

fn hold(session: &mut Session, args: &HoldArgs) -> Result<(), Ended> {
    let outcome = steps(session, &args.sessions, Duration::from_secs(args.settle));
    if let Some(memory) = &mut session.report.memory {
        memory.compute();
    }
    match outcome {
        // What is up by then is worth holding; that it is fewer than asked for makes the run a failed one all the same.
        Err(Ended::TimedOut(reason)) if session.fleet.counters().ready > 0 => {
            session.report.problems.push(format!("{reason}; what was up was held"));
            session.fleet.tell_all(&Order::StopLogins)?;
            let (up, sample) = (session.fleet.counters().ready, session.sample());
            if let Some(memory) = &mut session.report.memory {
                memory.points.push((up, sample));
                memory.compute();
            }
        }
        outcome => outcome?,
    }
    if args.duration > 0 {
        let workers = f64::from(session.fleet.layout().workers);
        let load = (args.messages > 0).then(|| Load::Open { rate: args.messages as f64 / workers, every: 1 });
        let run = Run { load, body_bytes: 40, ..timed_run(0, args.duration, args.drain) };
        let outcome = session.run("hold", &run);
        if args.messages > 0
            && let Some(phase) = session.last_phase()
        {
            chat::add_figures(phase);
        }
        outcome?;
        let up = session.fleet.counters();
        if let Some(phase) = session.last_phase() {
            phase.figures.insert("sessions that survived".into(), up.ready as f64);
        }
    }
    Ok(())
}

/// Memory at each of several counts.
pub(crate) fn steps(session: &mut Session, counts: &[u64], settle: Duration) -> Result<(), Ended> {
    session.report.memory = Some(Memory::default());
    for &sessions in counts {
        session.reach(sessions, None)?;
        session.pause("settle", settle)?;
        let sample = session.sample();
        let up = session.fleet.counters().ready;
        if let Some(memory) = &mut session.report.memory {
            memory.points.push((up, sample));
        }
    }
    Ok(())
}
