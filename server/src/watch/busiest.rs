//! `DATA/busiest.json`: the accounts and addresses that cause most, made anew each ten seconds, for `whimbrelctl busiest`,
//! `wsar top` and the page of `wsar serve`. It has names, so it is readable for the server's user and group only, and it is
//! neither in the stats file nor in recordings.
//!
//! ```json
//! {"version": 1, "time": 1767225600000, "window_seconds": 10, "failed_seconds": 60, "tables": [
//!   {"of": "accounts", "by": "messages", "unit": "rate", "total": 120.0,
//!    "rows": [{"name": "juliet@example.com", "figure": 90.5, "over": 0.0}]}]}
//! ```
//! `of` is `accounts` or `addresses`; `by` is `messages` or `bytes` (what clients send, a second), `backlog` (bytes that wait
//! for them) or `failed` (failed logins of the last minute). A figure is at most `over` too large, and never too small but
//! for what sampling leaves open (see [`crate::busiest`]).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::busiest::{FAILED_WINDOWS, Pair, Row, WINDOW_SECONDS};
use crate::clock;
use crate::shared::Shared;

/// The file, in the data directory.
pub const FILE_NAME: &str = "busiest.json";

/// Rows of a table.
const ROWS: usize = 10;

/// What the file is made from.
pub(super) struct Page {
    path: PathBuf,
    written: Duration,
    failed: VecDeque<Pair>,
    /// Writing has failed, and the operator knows.
    told: bool,
}

impl Page {
    /// Takes away what an earlier run has left: it would be taken for what is now.
    pub(super) fn new(shared: &Shared) -> Page {
        let config = shared.config.read().map(|config| config.clone()).unwrap_or_default();
        let path = config.data.join(FILE_NAME);
        let _ = std::fs::remove_file(&path);
        Page { path, written: Duration::ZERO, failed: VecDeque::new(), told: false }
    }

    /// Makes the file anew when its time has come.
    pub(super) fn look(&mut self, shared: &Shared, uptime: Duration) {
        if uptime.saturating_sub(self.written) < Duration::from_secs(WINDOW_SECONDS.into()) {
            return;
        }
        self.written = uptime;
        if self.failed.len() == FAILED_WINDOWS {
            self.failed.pop_front();
        }
        self.failed.push_back(shared.busiest.take_failed());
        let failed = self.failed.iter().fold(Pair::default(), |mut sum, one| {
            sum.merge(one);
            sum
        });
        let [messages, bytes, backlog] = shared.busiest.traffic();
        let page = page(clock::unix_milliseconds(), [&messages, &bytes, &backlog, &failed], &shared.domain);
        match write(&self.path, page.to_string().as_bytes()) {
            Ok(()) => self.told = false,
            Err(error) if !self.told => {
                self.told = true;
                tracing::warn!(%error, "cannot make {}", self.path.display());
            }
            Err(_) => {}
        }
    }
}

fn page(time_ms: u64, [messages, bytes, backlog, failed]: [&Pair; 4], domain: &str) -> Value {
    let seconds = f64::from(WINDOW_SECONDS);
    let pairs = [
        ("messages", "rate", messages, seconds),
        ("bytes", "byterate", bytes, seconds),
        ("backlog", "bytes", backlog, 1.0),
        ("failed", "number", failed, 1.0),
    ];
    let mut tables = Vec::new();
    for (by, unit, pair, per) in pairs {
        for (of, sketch) in [("accounts", &pair.accounts), ("addresses", &pair.addresses)] {
            let row = |row: Row| {
                // Logins name the localpart alone.
                let name = if (of, by) == ("accounts", "failed") {
                    format!("{}@{domain}", row.name)
                } else {
                    row.name
                };
                json!({ "name": name, "figure": row.count as f64 / per, "over": row.over as f64 / per })
            };
            let rows: Vec<Value> = sketch.top(ROWS).into_iter().map(row).collect();
            let total = sketch.total() as f64 / per;
            tables.push(json!({ "of": of, "by": by, "unit": unit, "total": total, "rows": rows }));
        }
    }
    json!({
        "version": 1, "time": time_ms, "window_seconds": WINDOW_SECONDS,
        "failed_seconds": WINDOW_SECONDS as usize * FAILED_WINDOWS, "tables": tables,
    })
}

/// Under another name first, so that nobody reads half of it.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    // One that a crash has left is nobody's any more. `create_new` follows no link.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft)?;
    file.write_all(bytes)?;
    std::fs::rename(&draft, path)
}
