//! Messages that could not be sent, for the operator: one JSON object a line. Without their text, which holds the PIN.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::json;

use crate::clock::unix_milliseconds;

use super::{Message, Outcome};

/// Name of the file in the data directory. When it is full it is renamed, with this and `.1`.
pub const FILE_NAME: &str = "sms-dead-letters.jsonl";

/// Bytes at which it is renamed.
const BYTES_MAX: u64 = 4 << 20;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 300;

/// The file.
pub struct DeadLetters {
    path: PathBuf,
    /// One writer at a time, so that lines stay whole and the file is renamed once.
    turn: Mutex<()>,
}

impl DeadLetters {
    /// In a data directory. Made with the first letter.
    pub fn in_data(data: &Path) -> DeadLetters {
        DeadLetters { path: data.join(FILE_NAME), turn: Mutex::new(()) }
    }

    /// Keeps a letter, and logs it with the number masked. Gives the outcome back.
    pub(super) fn keep(&self, gateway: &str, message: &Message, outcome: Outcome, reason: &str) -> Outcome {
        let reason = shortened(reason);
        let kind = if outcome == Outcome::Refused { "refused" } else { "unreachable" };
        tracing::warn!(
            gateway,
            number = message.number.masked(),
            kind,
            reason,
            "a text message was not sent"
        );
        let line = json!({
            "time_ms": unix_milliseconds(),
            "id": format!("{:016x}", message.id),
            "number": message.number.to_string(),
            "gateway": gateway,
            "kind": kind,
            "reason": reason,
        });
        if let Err(error) = self.write(&line.to_string()) {
            tracing::error!(%error, "cannot write {}", self.path.display());
        }
        outcome
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let _turn = self.turn.lock().expect("nothing panics while it holds this lock");
        let mut file = self.open()?;
        if file.metadata()?.len() >= BYTES_MAX {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            file = self.open()?;
        }
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
