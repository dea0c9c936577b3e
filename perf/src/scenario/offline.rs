//! `offline`: messages to absent users, who then come and collect them. Only for servers that store.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::OfflineArgs;
use crate::engine::traffic::Load;
use crate::fleet::coordinator::Ended;
use crate::fleet::{Order, Run, Start, Until};
use crate::scenario::{Session, timed_run};

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &OfflineArgs) -> Result<ExitCode, String> {
    let mut session = Session::start("offline", &args.target, args.sessions, 0)?;
    let outcome = session.reach(args.sessions, None).and_then(|()| offline(&mut session, args));
    let mut report = session.finish(outcome);
    if report.totals.bounced > 0 {
        report.problems.push("the server does not store messages for absent users, or has a limit".into());
    }
    report.deliver(&args.target.output)
}

fn offline(session: &mut Session, args: &OfflineArgs) -> Result<(), Ended> {
    session.fleet.tell_all(&Order::SendReceiversAway)?;
    // A server needs a moment to notice.
    session.pause("receivers leave", Duration::from_secs(1))?;
    let rate = args.messages / f64::from(session.fleet.layout().workers);
    let store = Run {
        load: Some(Load::Store { each: args.each, rate }),
        body_bytes: args.body as usize,
        until: Until::AllStored,
        settle: false,
        ..timed_run(0, args.limit, 0)
    };
    session.run("store", &store)?;
    if let Some(phase) = session.last_phase() {
        let stored = phase.whole.sent as f64;
        phase.figures.insert("stored a second".into(), stored / phase.seconds.max(1e-9));
        if let Some((user, system)) = phase.server_cpu {
            phase
                .figures
                .insert("server CPU microseconds each".into(), (user + system) * 1e6 / stored.max(1.0));
        }
    }
    let collect = Run {
        load: None,
        at_start: Start::CallReceivers,
        until: Until::AllCollected,
        run: store.run,
        ..timed_run(0, args.limit, 1)
    };
    session.run("collect", &collect)?;
    if let Some(phase) = session.last_phase() {
        // Since the messages were sent, this is no latency.
        phase.latencies.remove("message");
        let collected = phase.whole.delivered as f64;
        phase.figures.insert("collected a second".into(), collected / phase.seconds.max(1e-9));
        if let Some((user, system)) = phase.server_cpu {
            let cpu = (user + system) * 1e6;
            phase.figures.insert("server CPU microseconds each".into(), cpu / collected.max(1.0));
        }
    }
    Ok(())
}
