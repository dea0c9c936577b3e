//! What is asked of the running server: `status`, `queues`, `sessions`, `kick`, `drain`, `stop`, `reload`.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

/// A part of the answer that people are shown. The JSON output is the whole answer.
#[derive(Deserialize)]
struct Status {
    version: String,
    pid: u32,
    domain: String,
    data: String,
    driver: String,
    workers: u64,
    uptime_seconds: u64,
    draining: bool,
    listen: Vec<String>,
    listen_tls: Vec<String>,
    /// Older servers have none.
    #[serde(default)]
    listen_http: Vec<String>,
    allow_plaintext: bool,
    certificate: String,
    accounts: u64,
    connections: u64,
    unauthenticated: u64,
    metrics: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Queues {
    queues: Vec<Queue>,
    cut: bool,
}

#[derive(Deserialize)]
struct Queue {
    queue: String,
    place: String,
    unit: String,
    length: u64,
    fullest: u64,
    high_water: u64,
    limit: u64,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
    cut: bool,
}

#[derive(Deserialize)]
struct Session {
    jid: String,
    address: String,
    worker: u64,
    tls: bool,
    connected_seconds: u64,
    idle_seconds: u64,
    priority: i64,
    available: bool,
    inactive: bool,
    carbons: bool,
}

#[derive(Deserialize)]
struct Ending {
    pid: u32,
    drain_seconds: u64,
}

/// Asks, and reads the answer both as it is and as what is shown.
fn ask<T: for<'de> Deserialize<'de>>(
    client: &mut Client,
    request: &str,
    body: Value,
) -> Result<(Value, T), Problem> {
    let answer: Value = client.ask(request, body)?;
    let known = T::deserialize(&answer).map_err(|error| {
        Problem::new(format!(
            "the server gives a strange answer ({error}); use the whimbrelctl that came with it"
        ))
    })?;
    Ok((answer, known))
}

pub(crate) fn status(data: &Path, report: &Report) -> Result<(), Problem> {
    let (answer, status): (_, Status) = ask(&mut Client::to_running(data)?, "status", json!({}))?;
    report.result(&answer, || status_text(&status));
    Ok(())
}

fn status_text(status: &Status) -> String {
    let metric = |name: &str| status.metrics.get(name).and_then(Value::as_u64).unwrap_or(0);
    let state = if status.draining { "draining" } else { "serving" };
    let certificate = if status.certificate.is_empty() { "self-signed" } else { &status.certificate };
    let refused: Vec<String> = status
        .metrics
        .iter()
        .filter(|(name, value)| name.starts_with("refused.") && value.as_u64() > Some(0))
        .map(|(name, value)| format!("{value} {}", &name["refused.".len()..]))
        .collect();
    let rows = [
        ("server", format!("whimbreld {}, process {}", status.version, status.pid)),
        ("state", format!("{state} {} for {}", status.domain, duration(status.uptime_seconds))),
        ("data", status.data.clone()),
        ("STARTTLS", status.listen.join(", ")),
        ("direct TLS", status.listen_tls.join(", ")),
        ("WebSocket", status.listen_http.join(", ")),
        ("certificate", certificate.to_owned()),
        ("without TLS", if status.allow_plaintext { "logins permitted" } else { "" }.to_owned()),
        ("workers", format!("{}, driver {}", status.workers, status.driver)),
        ("accounts", status.accounts.to_string()),
        ("connections", format!("{}, of them {} not logged in", status.connections, status.unauthenticated)),
        ("logins", format!("{} good, {} failed", metric("logins"), metric("logins.failed"))),
        (
            "stanzas in",
            format!(
                "{} messages, {} presences, {} iqs",
                metric("messages.in"),
                metric("presences.in"),
                metric("iqs.in")
            ),
        ),
        (
            "stanzas out",
            format!(
                "{} messages, {} presences, {} iqs",
                metric("messages.out"),
                metric("presences.out"),
                metric("iqs.out")
            ),
        ),
        ("refused", refused.join(", ")),
    ];
    let shown = rows.iter().filter(|(_, text)| !text.is_empty());
    shown.map(|(name, text)| format!("{name:<12} {text}\n")).collect()
}

pub(crate) fn queues(data: &Path, report: &Report) -> Result<(), Problem> {
    let (answer, queues): (_, Queues) = ask(&mut Client::to_running(data)?, "queues", json!({}))?;
    report.result(&answer, || {
        let rows: Vec<Vec<String>> = queues
            .queues
            .iter()
            .map(|row| {
                let Queue { queue, place, unit, length, fullest, high_water, limit } = row;
                let full = *fullest as f64 * 100.0 / (*limit).max(1) as f64;
                vec![
                    queue.clone(),
                    place.clone(),
                    length.to_string(),
                    fullest.to_string(),
                    high_water.to_string(),
                    limit.to_string(),
                    format!("{full:.1}%"),
                    unit.clone(),
                ]
            })
            .collect();
        let mut text =
            table(&["queue", "place", "length", "fullest", "high water", "limit", "full", "unit"], &rows);
        if queues.cut {
            text.push_str("more mailboxes are not shown\n");
        }
        text
    });
    Ok(())
}

pub(crate) fn sessions(data: &Path, user: Option<&str>, max: u32, report: &Report) -> Result<(), Problem> {
    let mut client = Client::to_running(data)?;
    let (answer, listed): (_, Sessions) = ask(&mut client, "sessions", json!({ "user": user, "max": max }))?;
    report.result(&answer, || sessions_text(&listed));
    if listed.sessions.is_empty() {
        report.nothing(&match user {
            Some(user) => format!("{user} is not logged in"),
            None => "nobody is logged in".to_owned(),
        });
    }
    if listed.cut && !report.is_json() {
        report.note(&format!(
            "only {} sessions are shown; there are more (--max, --user)",
            listed.sessions.len()
        ));
    }
    Ok(())
}

fn sessions_text(listed: &Sessions) -> String {
    if listed.sessions.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = listed
        .sessions
        .iter()
        .map(|session| {
            let mut marks = Vec::new();
            for (set, mark) in [
                (session.tls, "tls"),
                (session.available, "available"),
                (session.inactive, "inactive"),
                (session.carbons, "carbons"),
            ] {
                if set {
                    marks.push(mark);
                }
            }
            vec![
                session.jid.clone(),
                session.address.clone(),
                session.worker.to_string(),
                duration(session.connected_seconds),
                duration(session.idle_seconds),
                session.priority.to_string(),
                marks.join(" "),
            ]
        })
        .collect();
    table(&["session", "from", "worker", "connected", "idle", "priority", "marks"], &rows)
}

pub(crate) fn kick(data: &Path, jid: &str, report: &Report) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Kicked {
        kicked: u64,
    }
    let (answer, Kicked { kicked }) = ask(&mut Client::to_running(data)?, "kick", json!({ "jid": jid }))?;
    report.result(&answer, || format!("{kicked} {} ended", if kicked == 1 { "session" } else { "sessions" }));
    Ok(())
}

pub(crate) fn drain(data: &Path, report: &Report) -> Result<(), Problem> {
    let (answer, ending): (_, Ending) = ask(&mut Client::to_running(data)?, "drain", json!({}))?;
    report.result(&answer, || {
        format!(
            "process {} takes no new logins and ends with its last session, at the latest in {} seconds",
            ending.pid, ending.drain_seconds
        )
    });
    Ok(())
}

/// Stops the server and waits until its process is gone.
pub(crate) fn stop(data: &Path, report: &Report) -> Result<(), Problem> {
    /// What closing files and writing the directory may take beyond the drain.
    const GRACE_SECONDS: u64 = 15;
    let mut client = Client::to_running(data)?;
    let (_, ending): (_, Ending) = ask(&mut client, "stop", json!({}))?;
    let wait_seconds = ending.drain_seconds + GRACE_SECONDS;
    if !client.wait_for_end(Duration::from_secs(wait_seconds)) {
        let pid = ending.pid;
        let text = format!("process {pid} still runs after {wait_seconds} seconds; end it with: kill {pid}");
        return Err(Problem::of_kind("timeout", text));
    }
    report.result(&json!({ "stopped": true, "pid": ending.pid }), String::new);
    Ok(())
}

pub(crate) fn reload(data: &Path, report: &Report) -> Result<(), Problem> {
    let answer: Value = Client::to_running(data)?.ask("reload", json!({}))?;
    report.result(&answer, String::new);
    Ok(())
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let table = [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in table {
            assert_eq!(duration(seconds), text);
        }
    }
}
