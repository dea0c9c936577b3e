//! `life`: sessions with contacts chat, show presence, fetch rosters, lose connections and come back; at one rate, or at
//! rising ones until the server is no longer in time.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::LifeArgs;
use crate::engine::life::Mix;
use crate::engine::traffic::Load;
use crate::fleet::coordinator::Ended;
use crate::fleet::{Order, Run, Start, Until};
use crate::report::{BEYOND_THE_KNEE, KNEE, Phase};
use crate::scenario::{GROUP_MESSAGE, Session, chat, timed_run};

/// Less than this share of the events that were due is too few.
const ACHIEVED_MIN: f64 = 0.95;

/// Bytes of a message's text.
const BODY_BYTES: usize = 100;

/// Steps of a search for the knee at most.
const STEPS_MAX: u32 = 40;

/// The figure that a step ends with.
const EVENTS: &str = "events a second";

/// Runs it and delivers the report.
///
/// # Errors
/// The arguments ask for what is not possible, or the report cannot be written.
pub(crate) fn main(args: &LifeArgs) -> Result<ExitCode, String> {
    let mix = mix(args)?;
    if args.target.sessions_per_account != 1 {
        return Err("life wants one session for each account; leave out --sessions-per-account".into());
    }
    let mut session = Session::start("life", &args.target, args.sessions, 0)?;
    let outcome = session.reach(args.sessions, None).and_then(|()| life(&mut session, args, mix));
    session.finish(outcome).deliver(&args.target.output)
}

fn mix(args: &LifeArgs) -> Result<Mix, String> {
    let [messages, presences, rosters, reconnects, groups] = args.mix[..] else {
        return Err(
            "--mix wants five shares: messages, presences, rosters, reconnects, messages to groups".into()
        );
    };
    let mix = Mix { messages, presences, rosters, reconnects, groups };
    if args.mix.iter().any(|&share| share > 100) || mix.sum() != 100 {
        return Err(format!(
            "the shares of --mix have to come to 100, for example 50,20,15,5,10: {:?}",
            args.mix
        ));
    }
    Ok(mix)
}

fn life(session: &mut Session, args: &LifeArgs, mix: Mix) -> Result<(), Ended> {
    if !args.subscribed {
        session.fleet.now_doing("subscribe");
        session.fleet.tell_all(&Order::Subscribe { group: args.group })?;
        // Each subscription is a request, an answer and two pushes; all of them on disk.
        let pairs = args.sessions * u64::from(args.group - 1);
        session.pause("subscriptions settle", Duration::from_millis(3_000 + pairs / 2))?;
    }
    if mix.groups > 0 {
        rooms(session, args)?;
    }
    if !args.knee {
        return step(session, args, mix, args.events).map(drop);
    }
    let (mut rate, mut knee) = (args.events, None);
    for _ in 0..STEPS_MAX {
        let phase = step(session, args, mix, rate)?;
        if let Some(reason) = too_late(&phase, rate, args.p99) {
            session.report.facts.insert(BEYOND_THE_KNEE.into(), beyond(rate, &reason));
            session.report.phases.push(knee_phase(knee));
            return Ok(());
        }
        knee = Some(rate);
        rate *= args.factor;
    }
    Err(Ended::TimedOut(format!("no knee after {STEPS_MAX} steps, at {rate:.0} events a second")))
}

/// Why a step is past the knee.
fn too_late(phase: &Phase, rate: f64, p99_ms_max: f64) -> Option<String> {
    for name in ["message", GROUP_MESSAGE] {
        let Some(latency) = phase.latencies.get(name) else { continue };
        let p99_ms = latency.p99_ns as f64 / 1e6;
        if p99_ms > p99_ms_max {
            return Some(format!("p99 of a {name} {p99_ms:.1} ms"));
        }
    }
    let achieved = phase.figures.get(EVENTS).copied().unwrap_or(0.0);
    (achieved < rate * ACHIEVED_MIN).then(|| format!("{achieved:.0} events a second instead"))
}

/// Has the sessions of each group make a room and enter it.
fn rooms(session: &mut Session, args: &LifeArgs) -> Result<(), Ended> {
    let limit = Duration::from_secs(10) + Duration::from_millis(args.sessions * 10);
    let steps = [
        ("rooms are made", Start::MakeRooms { members: args.group, mobile: args.mobile }, Until::RoomsMade),
        ("rooms are entered", Start::EnterRooms, Until::AllInRooms),
    ];
    for (name, at_start, until) in steps {
        let run = Run { at_start, until, limit_ms: limit.as_millis() as u64, ..timed_run(0, 0, 0) };
        session.run(name, &run)?;
        let took = session.last_phase().map_or(0.0, |phase| phase.seconds);
        if took >= limit.as_secs_f64() {
            return Err(Ended::TimedOut(format!(
                "{name}: not within {} s; has the server rooms?",
                limit.as_secs()
            )));
        }
    }
    Ok(())
}

/// Why the search has ended.
fn beyond(past: f64, reason: &str) -> String {
    format!("at {past:.0} events a second: {reason}")
}

/// What the search came to: the last rate that was borne.
fn knee_phase(knee: Option<f64>) -> Phase {
    let mut phase = Phase { name: KNEE.into(), ..Phase::default() };
    phase.figures.insert("knee, events a second".into(), knee.unwrap_or(0.0));
    phase
}

fn step(session: &mut Session, args: &LifeArgs, mix: Mix, events: f64) -> Result<Phase, Ended> {
    let rate = events / f64::from(session.fleet.layout().workers);
    let run = Run {
        load: Some(Load::Life { rate, mix, mobile: args.mobile }),
        body_bytes: BODY_BYTES,
        ..timed_run(args.warmup, args.duration, args.drain)
    };
    let outcome = session.run(&format!("life at {events:.0} events a second"), &run);
    let Some(phase) = session.last_phase() else { return outcome.map(|()| Phase::default()) };
    chat::add_figures(phase);
    let counted = &phase.counted;
    let done =
        counted.sent + counted.group_sent + counted.presence_sent + counted.pings_sent + counted.logins;
    let seconds = phase.seconds.max(f64::MIN_POSITIVE);
    for (name, count) in [
        (EVENTS, done),
        ("messages sent a second", counted.sent),
        ("messages to groups sent a second", counted.group_sent),
        ("presences sent a second", counted.presence_sent),
        ("rosters a second", counted.pings_answered),
        ("reconnects a second", counted.logins),
    ] {
        phase.figures.insert(name.into(), count as f64 / seconds);
    }
    if let Some(roster) = phase.latencies.remove("ping") {
        phase.latencies.insert("roster".into(), roster);
    }
    let phase = phase.clone();
    outcome.map(|()| phase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;

    #[test]
    fn a_step_is_past_the_knee_when_it_is_late_or_does_too_little() {
        let step = |p99_ns, events| {
            let mut phase = Phase::default();
            phase.latencies.insert("message".into(), Latency { p99_ns, ..Latency::default() });
            phase.figures.insert(EVENTS.into(), events);
            too_late(&phase, 1000.0, 50.0)
        };
        assert_eq!(step(49_000_000, 960.0), None);
        assert!(step(51_000_000, 1000.0).is_some_and(|reason| reason.contains("51.0 ms")));
        assert!(step(1_000_000, 940.0).is_some_and(|reason| reason.contains("940")));
        let mut phase = Phase::default();
        phase.latencies.insert(GROUP_MESSAGE.into(), Latency { p99_ns: 60_000_000, ..Latency::default() });
        phase.figures.insert(EVENTS.into(), 1000.0);
        assert!(
            too_late(&phase, 1000.0, 50.0).is_some_and(|reason| reason.contains("group message 60.0 ms"))
        );
        assert!(beyond(1500.0, "p99 of a message 60.0 ms").contains("1500"));
        assert!(knee_phase(Some(1000.0)).figures["knee, events a second"] > 999.0);
    }
}
