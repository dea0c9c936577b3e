//! `upgrade`: the running server becomes another program, and no connection notices.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;

/// How long an upgrade may take; the server gives up each of its steps earlier.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A part of the answer that people are shown. The JSON output is the whole answer.
#[derive(Deserialize)]
struct Upgraded {
    from: String,
    to: String,
    program: String,
    pid: u32,
    sessions: u64,
    waiting: u64,
    negotiating: u64,
    closed: Map<String, Value>,
    pause_ms: f64,
    state_bytes: u64,
    state_bytes_per_session: u64,
    workers: u64,
    driver: String,
}

/// Upgrades the server to the program at a path, or to what now lies where its own program came from.
pub(crate) fn run(data: &Path, binary: Option<&Path>, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    client.wait_so_long(WAIT_MAX)?;
    let program = binary.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let mut progress = |text: &str| {
        if !report.is_json() {
            report.note(text);
        }
    };
    let answer: Value = client.ask_with("upgrade", json!({ "program": program }), &mut progress)?;
    let upgraded = Upgraded::deserialize(&answer).map_err(|error| {
        Problem::new(format!(
            "the server gives a strange answer ({error}); use the whimbrelctl that came with it"
        ))
    })?;
    report.result(&answer, || text(&upgraded));
    Ok(())
}

fn text(upgraded: &Upgraded) -> String {
    let Upgraded { from, to, program, pid, sessions, waiting, negotiating, .. } = upgraded;
    let mut text = format!("process {pid} went from version {from} to {to}: {program}\n");
    text += &format!(
        "carried {sessions} sessions, {waiting} waiting to be resumed, {negotiating} logging in; {} workers, driver {}\n",
        upgraded.workers, upgraded.driver
    );
    for (reason, count) in &upgraded.closed {
        text += &format!("closed {count}: {reason}\n");
    }
    text += &format!(
        "nothing was read for {:.1} ms; {} bytes of state, {} a session",
        upgraded.pause_ms, upgraded.state_bytes, upgraded.state_bytes_per_session
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_is_named_with_its_reason() {
        let answer = json!({
            "from": "0.1.0", "to": "0.2.0", "program": "/usr/bin/whimbreld", "pid": 7, "sessions": 3, "waiting": 1,
            "negotiating": 0, "closed": { "in a TLS handshake": 2 }, "pause_ms": 12.34, "state_bytes": 900,
            "state_bytes_per_session": 225, "workers": 2, "driver": "mio",
        });
        let text = text(&Upgraded::deserialize(&answer).unwrap());
        for part in [
            "0.1.0 to 0.2.0",
            "carried 3 sessions",
            "closed 2: in a TLS handshake",
            "12.3 ms",
            "225 a session",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
