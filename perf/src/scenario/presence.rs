//! `presence`: groups of sessions that have each other in their rosters; each presence reaches all others.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::PresenceArgs;
use crate::engine::traffic::Load;
use crate::fleet::coordinator::Ended;
use crate::fleet::{Order, Run};
use crate::scenario::{Session, chat, timed_run};

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &PresenceArgs) -> Result<ExitCode, String> {
    if args.target.sessions_per_account != 1 {
        return Err("presence wants one session for each account; leave out --sessions-per-account".into());
    }
    let mut session = Session::start("presence", &args.target, args.sessions, 0)?;
    let outcome = session.reach(args.sessions, None).and_then(|()| presence(&mut session, args));
    session.finish(outcome).deliver(&args.target.output)
}

fn presence(session: &mut Session, args: &PresenceArgs) -> Result<(), Ended> {
    if !args.subscribed {
        session.fleet.now_doing("subscribe");
        session.fleet.tell_all(&Order::Subscribe { group: args.group })?;
        // Each subscription is a request, an answer and two pushes; all of them on disk.
        let pairs = args.sessions * u64::from(args.group - 1);
        session.pause("subscriptions settle", Duration::from_millis(3_000 + pairs / 2))?;
    }
    let rate = args.presences / f64::from(session.fleet.layout().workers);
    let run = Run {
        load: Some(Load::Presence { rate, group: args.group }),
        ..timed_run(args.warmup, args.duration, 5)
    };
    let outcome = session.run("presence", &run);
    if let Some(phase) = session.last_phase() {
        chat::add_figures(phase);
        phase.figures.insert(
            "presences sent a second".into(),
            phase.counted.presence_sent as f64 / phase.seconds.max(1e-9),
        );
    }
    outcome
}
