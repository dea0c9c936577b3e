//! `log verify`, `log stats` and `log dump`: what lies in the files of the message log. They are only read, so that
//! all of this works on a copy, and while the server runs; what it appends meanwhile may show as an unfinished end.
//! `log discard` puts them aside.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use whimbrel_storage::data;
use whimbrel_storage::log::{self, Damage, Dumped, GatheredStats, LogStats, Tail};

use crate::accounts::open_directory;
use crate::cli::LogCommand;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

/// Does one of the commands.
pub(crate) fn run(data: &Path, command: &LogCommand, report: &Report) -> Result<ExitCode, Problem> {
    let folder = data.join("log");
    match command {
        LogCommand::Verify => verify(&folder, report),
        LogCommand::Stats => stats(&folder, report),
        LogCommand::Discard => discard(data, report),
        LogCommand::Dump { waiting, max, stanzas } => dump(&folder, *waiting, *max, *stanzas, report),
    }
}

/// Puts the log aside. The directory hears of it first: if that is all that happens, the next start finds both and is glad.
fn discard(data: &Path, report: &Report) -> Result<ExitCode, Problem> {
    let problem = |error: &dyn std::fmt::Display| Problem::new(error.to_string());
    if Client::connect(data)?.is_some() {
        return Err(Problem::new(format!("a server runs in {}; stop it first", data.display())));
    }
    let folder = data.join(data::LOG);
    let accounts = data.join(data::DIRECTORY);
    let has_accounts = std::fs::metadata(accounts.join("data.mdb")).is_ok_and(|found| found.len() > 0);
    let has_log = std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if !has_accounts && !has_log {
        let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let text = format!("there is no server's data in {}; is --data right?", whole.display());
        return Err(Problem::of_kind("not-found", text));
    }
    if has_accounts {
        let (directory, _) = open_directory(&accounts, "localhost")?;
        data::forget_log(&directory).map_err(|error| problem(&error))?;
    }
    let aside = has_log.then(|| log::discard(&folder)).transpose().map_err(|error| problem(&error))?;
    report.result(&json!({ "moved_to": aside }), || match &aside {
        Some(aside) => {
            format!(
                "the message log was moved to {}; the next start begins with an empty one",
                aside.display()
            )
        }
        None => "the next start begins with an empty message log".to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &log::LogError) -> Problem {
    Problem::new(error.to_string())
}

fn verify(folder: &Path, report: &Report) -> Result<ExitCode, Problem> {
    let verified = log::verify(folder).map_err(|error| failed(&error))?;
    let records: u64 = verified.logs.iter().map(|log| log.records).sum();
    let value = json!({
        "logs": verified.logs.iter().map(stats_json).collect::<Vec<_>>(),
        "damage": verified.damage.iter().map(damage_json).collect::<Vec<_>>(),
        "tails": verified.tails.iter().map(tail_json).collect::<Vec<_>>(),
        "gathered": {
            "files": verified.gathered.files,
            "bytes": verified.gathered.bytes,
            "records": verified.gathered.records,
        },
    });
    report.result(&value, || {
        let mut text = format!("{} logs, {records} records\n", verified.logs.len());
        if verified.gathered.files > 0 {
            let GatheredStats { files, records, .. } = verified.gathered;
            text.push_str(&format!("{files} files of gathered messages, {records} records\n"));
        }
        for damage in &verified.damage {
            text.push_str(&format!("{damage}\n"));
        }
        for tail in &verified.tails {
            text.push_str(&format!("{tail}\n"));
        }
        text
    });
    Ok(if verified.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stats(folder: &Path, report: &Report) -> Result<ExitCode, Problem> {
    let logs = log::stats(folder).map_err(|error| failed(&error))?;
    if logs.is_empty() {
        report.nothing(&format!("there is no message log in {}", folder.display()));
    }
    let value = json!({ "logs": logs.iter().map(stats_json).collect::<Vec<_>>() });
    report.result(&value, || {
        let row = |log: &LogStats| {
            [
                log.shard as u64,
                log.segments,
                log.segment_bytes,
                log.records,
                log.messages,
                log.bytes,
                log.users,
                log.tail_bytes,
            ]
            .map(|number| number.to_string())
            .to_vec()
        };
        let rows: Vec<Vec<String>> = logs.iter().map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        table(&["log", "files", "bytes", "records", "waiting", "their bytes", "users", "tail bytes"], &rows)
    });
    Ok(ExitCode::SUCCESS)
}

fn dump(folder: &Path, waiting: bool, max: u64, stanzas: bool, report: &Report) -> Result<ExitCode, Problem> {
    let mut left = max;
    let mut cut = false;
    let damage = log::dump(folder, &mut |record| {
        if waiting && !record.waits {
            return true;
        }
        if left == 0 {
            cut = true;
            return false;
        }
        left -= 1;
        let value = record_json(&record, stanzas);
        // One object a line: a log may be larger than memory.
        report.result(&value, || record_text(&record, stanzas));
        true
    })
    .map_err(|error| failed(&error))?;
    for damage in &damage {
        report.note(&damage.to_string());
    }
    if left == max && !cut {
        report.nothing(if waiting { "no message waits" } else { "the log has no records" });
    }
    if cut {
        report.note(&format!("more than {max} records; ask for more with --max"));
    }
    Ok(if damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stats_json(log: &LogStats) -> Value {
    json!({
        "log": log.shard,
        "segments": log.segments,
        "segment_bytes": log.segment_bytes,
        "records": log.records,
        "waiting": log.messages,
        "waiting_bytes": log.bytes,
        "users": log.users,
        "oldest_ms": log.oldest_ms,
        "end": log.end.0,
        "tail_bytes": log.tail_bytes,
    })
}

fn damage_json(damage: &Damage) -> Value {
    json!({
        "file": damage.path,
        "offset": damage.offset,
        "bytes": damage.bytes,
        "what": damage.what,
    })
}

fn tail_json(tail: &Tail) -> Value {
    json!({
        "file": tail.path,
        "offset": tail.offset,
        "bytes": tail.bytes,
        "records": tail.records,
    })
}

fn record_json(record: &Dumped<'_>, stanzas: bool) -> Value {
    let mut value = json!({
        "log": record.shard,
        "position": record.position.0,
        "kind": record.kind,
        "actor": record.actor.to_string(),
        "user": record.actor.number(),
        "sequence": record.sequence,
        "waits": record.waits,
    });
    if let Some(message) = &record.message {
        value["time_ms"] = json!(message.time_ms);
        value["bytes"] = json!(message.payload.len());
        if stanzas {
            value["payload"] = json!(String::from_utf8_lossy(message.payload));
        }
    }
    value
}

fn record_text(record: &Dumped<'_>, stanzas: bool) -> String {
    let mut text = format!(
        "log {} at {}: {} {} of {}",
        record.shard, record.position.0, record.kind, record.sequence, record.actor
    );
    if let Some(message) = &record.message {
        text.push_str(&format!(", {} bytes, received {} ms", message.payload.len(), message.time_ms));
        if record.waits {
            text.push_str(", waits");
        }
        if stanzas {
            text.push_str(&format!("\n  {}", message.payload.escape_ascii()));
        }
    }
    text
}
