//! The accounts and addresses that cause most, as the server has last told.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::control::Client;
use crate::problem::Problem;
use crate::report::{Report, table};

/// The file, in the data directory. The server writes it (`server/src/watch/busiest.rs`).
const FILE_NAME: &str = "busiest.json";

#[derive(Deserialize)]
struct Busiest {
    time: u64,
    window_seconds: u64,
    failed_seconds: u64,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
struct Table {
    of: String,
    by: String,
    total: f64,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    figure: f64,
    over: f64,
}

/// Shows what the server has last written, also after its end: who was it?
///
/// # Errors
/// The server has not written it, or the file cannot be read.
pub(crate) fn run(data: &Path, report: &Report) -> Result<(), Problem> {
    let path = data.join(FILE_NAME);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Says that no server runs, if so.
            Client::to_running(data)?;
            return Err(Problem::new("the server has not told yet; it does ten seconds after its start"));
        }
        read => read.map_err(|error| Problem::new(format!("cannot read {}: {error}", path.display())))?,
    };
    let unreadable = |error| Problem::new(format!("{} cannot be understood: {error}", path.display()));
    let answer: Value = serde_json::from_str(&text).map_err(unreadable)?;
    let busiest = Busiest::deserialize(&answer).map_err(unreadable)?;
    let runs = Client::to_running(data).is_ok();
    report.result(&answer, || busiest.text(runs));
    Ok(())
}

impl Busiest {
    fn text(&self, runs: bool) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let age = now.saturating_sub(self.time) / 1000;
        let mut text = String::new();
        for Table { of, by, total, rows } in &self.tables {
            let unit = match by.as_str() {
                "messages" => format!("messages sent a second, over {} s", self.window_seconds),
                "bytes" => format!("bytes sent a second, over {} s", self.window_seconds),
                "backlog" => "bytes of output that wait".to_owned(),
                _ => format!("failed logins in {} s", self.failed_seconds),
            };
            let head = format!("{of} by {unit}");
            if rows.is_empty() {
                text.push_str(&format!("{head}: none\n"));
                continue;
            }
            let lines: Vec<Vec<String>> = rows
                .iter()
                .map(|Row { name, figure, over }| {
                    let part = figure * 100.0 / total.max(f64::MIN_POSITIVE);
                    let over = if *over > 0.0 { format!("{over:.1}") } else { "-".to_owned() };
                    vec![name.clone(), format!("{figure:.1}"), format!("{part:.1}%"), over]
                })
                .collect();
            text.push_str(&format!("{head}\n{}\n", table(&["", "figure", "of all", "too large by"], &lines)));
        }
        let since = if runs { "" } else { "; no server runs now" };
        text.push_str(&format!("told {age} s ago{since}\n"));
        text
    }
}
