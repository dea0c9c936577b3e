//! `upgrade`: the running server is upgraded again and again while many sessions chat.
//!
//! Two runs of `chat` side by side, one in the clear and one under TLS, account for every message; this process asks
//! the server, over its control socket, to become its successor.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::UpgradeArgs;
use crate::report::Report;

/// How long the server may take to answer anything.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// Seconds of chat after the last upgrade, and seconds that each upgrade is allowed beyond the pause between two.
const TAIL_SECONDS: u64 = 5;
const UPGRADE_SECONDS: u64 = 5;

/// The names of what must not happen, and where it is counted.
fn faults(report: &Report) -> [(&'static str, u64); 6] {
    let totals = &report.totals;
    [
        ("disconnected", totals.dropped),
        ("lost", totals.lost),
        ("duplicated", totals.duplicated),
        ("out of order", totals.out_of_order),
        ("bounced", totals.bounced),
        ("not delivered", totals.sent.saturating_sub(totals.delivered)),
    ]
}

/// A conversation with the server's control socket.
struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    fn connect(data: &Path) -> Result<Control, String> {
        let path = data.join("control.sock");
        let failed = |error: std::io::Error| format!("no server answers on {}: {error}", path.display());
        let stream = UnixStream::connect(&path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(failed)?;
        Ok(Control { stream: BufReader::new(stream) })
    }

    fn ask(&mut self, mut request: Value) -> Result<Value, String> {
        request["v"] = json!(1);
        let lost = |error: std::io::Error| format!("the server does not answer: {error}");
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(lost)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).map_err(lost)? == 0 {
                return Err("the server closed its control socket".into());
            }
            let answer: Value =
                serde_json::from_str(&line).map_err(|error| format!("a strange answer: {error}"))?;
            if answer.get("progress").is_some() {
                continue;
            }
            return match answer["ok"].as_bool() {
                Some(true) => Ok(answer["result"].clone()),
                _ => {
                    Err(answer["error"]["message"].as_str().unwrap_or("refused without a reason").to_owned())
                }
            };
        }
    }
}

/// A run of `chat` in a process of its own.
struct Chat {
    name: &'static str,
    child: Child,
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It has ended by itself, unless something went wrong here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chat {
    fn start(
        args: &UpgradeArgs,
        name: &'static str,
        port: &str,
        first: u64,
        sessions: u64,
    ) -> Result<Chat, String> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
        let duration = args.login_seconds
            + TAIL_SECONDS
            + u64::from(args.upgrades) * (args.every.ceil() as u64 + UPGRADE_SECONDS);
        let mut command = Command::new(own);
        command.args(["chat", "--quiet", "--json", "-", "--warmup", "0", "--drain", "60", "--port", port]);
        command.args(["--tls", if name == "TLS" { "direct" } else { "none" }, "--seed", &args.seed]);
        command.args(["--first", &first.to_string(), "--sessions", &sessions.to_string()]);
        command.args(["--duration", &duration.to_string(), "--workers", "1"]);
        let rate = args.messages * sessions as f64 / args.sessions as f64;
        command.args(["--messages", &rate.max(1.0).to_string()]);
        if let Some(keys) = &args.keys {
            command.arg("--keys").arg(keys.with_extension(name));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Ok(Chat { name, child: child.map_err(|error| format!("cannot start a run of chat: {error}"))? })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn report(&mut self) -> Result<Report, String> {
        let mut text = String::new();
        let out = self.child.stdout.take().ok_or("the run's output is gone")?;
        std::io::Read::read_to_string(&mut BufReader::new(out), &mut text)
            .map_err(|error| error.to_string())?;
        serde_json::from_str(&text)
            .map_err(|error| format!("the run of chat ({}) has no report: {error}", self.name))
    }
}

/// Runs it and prints what came of it.
///
/// # Errors
/// There is no server, the arguments ask for what is not possible, or a run cannot be started.
pub(crate) fn main(args: &UpgradeArgs) -> Result<ExitCode, String> {
    let say = |text: &str| {
        if !args.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    };
    let mut control = Control::connect(&args.data)?;
    let status = control.ask(json!({ "request": "status" }))?;
    let port = |list: &str| {
        let address = status[list][0].as_str().unwrap_or_default();
        address.rsplit_once(':').map(|(_, port)| port.to_owned()).ok_or(format!("the server has no {list}"))
    };
    let tls = if args.tls_part == 0 { 0 } else { args.sessions / u64::from(args.tls_part) / 2 * 2 };
    let plain = (args.sessions - tls) / 2 * 2;
    let mut chats = vec![Chat::start(args, "plain", &port("listen")?, 0, plain)?];
    if tls > 0 {
        chats.push(Chat::start(args, "TLS", &port("listen_tls")?, plain, tls)?);
    }
    say(&format!("logging in {plain} sessions in the clear and {tls} under TLS"));
    wait_for_logins(&mut control, plain + tls, &mut chats)?;
    let mut upgrades = Vec::new();
    for round in 1..=args.upgrades {
        std::thread::sleep(Duration::from_secs_f64(args.every));
        if chats.iter_mut().any(Chat::has_ended) {
            return Err("a run of chat ended before the last upgrade: give more --login-seconds".into());
        }
        let answer = control.ask(json!({ "request": "upgrade", "program": args.binary }))?;
        say(&format!(
            "upgrade {round}: {} sessions, {} under TLS, pause {} ms, {} bytes a session, {}",
            answer["sessions"],
            answer["tls"],
            answer["pause_ms"],
            answer["state_bytes_per_session"],
            answer["phases_ms"]
        ));
        upgrades.push(answer);
    }
    say("waiting for the runs of chat to end");
    let mut reports = Vec::new();
    for chat in &mut chats {
        reports.push((chat.name, chat.report()?));
    }
    Ok(deliver(args, &upgrades, &reports))
}

fn wait_for_logins(control: &mut Control, sessions: u64, chats: &mut [Chat]) -> Result<(), String> {
    let deadline = Instant::now() + ANSWER_WAIT;
    loop {
        let status = control.ask(json!({ "request": "status" }))?;
        let count = |name: &str| status[name].as_u64().unwrap_or(0);
        if count("connections") >= sessions && count("unauthenticated") == 0 {
            return Ok(());
        }
        if chats.iter_mut().any(Chat::has_ended) {
            return Err("a run of chat ended before all were logged in; are there enough accounts?".into());
        }
        if Instant::now() > deadline {
            return Err(format!("only {} of {sessions} sessions are logged in", count("connections")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Prints the table, writes the report, and says whether all is well.
fn deliver(args: &UpgradeArgs, upgrades: &[Value], reports: &[(&str, Report)]) -> ExitCode {
    let mut pauses: Vec<f64> = upgrades.iter().filter_map(|answer| answer["pause_ms"].as_f64()).collect();
    pauses.sort_by(f64::total_cmp);
    let at =
        |part: f64| pauses.get(((pauses.len() as f64 * part) as usize).min(pauses.len().max(1) - 1)).copied();
    let closed: u64 = upgrades
        .iter()
        .filter_map(|answer| answer["closed"].as_object())
        .flat_map(|closed| closed.values().filter_map(Value::as_u64))
        .sum();
    let mut text = format!(
        "{} upgrades; pause p50 {:.1} ms, max {:.1} ms; {closed} connections closed\n",
        upgrades.len(),
        at(0.5).unwrap_or(0.0),
        pauses.last().copied().unwrap_or(0.0),
    );
    let mut good = upgrades.len() == args.upgrades as usize && closed == 0;
    for (name, report) in reports {
        let totals = &report.totals;
        text += &format!(
            "{name}: {} sessions, {} sent, {} delivered",
            totals.logins, totals.sent, totals.delivered
        );
        for (fault, count) in faults(report) {
            text += &format!(", {count} {fault}");
            good &= count == 0;
        }
        if let Some(latency) = report.phases.last().and_then(|phase| phase.latencies.get("message")) {
            let ms = |ns: u64| ns as f64 / 1e6;
            text += &format!(
                "; latency p50 {:.2} ms, p99 {:.1} ms, max {:.1} ms",
                ms(latency.p50_ns),
                ms(latency.p99_ns),
                ms(latency.max_ns)
            );
        }
        text.push('\n');
        for problem in &report.problems {
            good = false;
            text += &format!("{name}: {problem}\n");
        }
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let runs: serde_json::Map<String, Value> =
            reports.iter().map(|(name, report)| ((*name).to_owned(), json!(report.totals))).collect();
        let value = json!({ "good": good, "upgrades": upgrades, "pause_ms_p50": at(0.5), "pause_ms_max": pauses.last(), "runs": runs });
        text = format!("{value}\n");
    }
    // A closed standard output leaves nobody to tell.
    let _ = out.write_all(text.as_bytes());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
