//! Messages that could not be sent, for the operator: one JSON object a line. Without their content.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::clock::unix_milliseconds;

use super::{Lost, Outgoing};

/// Bytes at which the file is renamed to its name with `.1`.
const BYTES_MAX: u64 = 4 << 20;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 300;

/// A file of dead letters.
pub struct DeadLetters {
    path: PathBuf,
    /// One writer at a time, so that lines stay whole and the file is renamed once.
    turn: Mutex<()>,
}

impl DeadLetters {
    /// Made with the first letter.
    pub fn in_file(path: PathBuf) -> DeadLetters {
        DeadLetters { path, turn: Mutex::new(()) }
    }

    /// Keeps a letter, and has its message tell the log.
    pub(super) fn keep<M: Outgoing>(&self, message: &M, lost: &Lost<'_>) {
        let lost = Lost { reason: shortened(lost.reason), ..*lost };
        let mut line = message.dead_letter(&lost);
        line.insert("time_ms".into(), unix_milliseconds().into());
        line.insert("id".into(), format!("{:016x}", message.id()).into());
        line.insert("kind".into(), lost.kind.into());
        line.insert("reason".into(), lost.reason.into());
        if let Err(error) = self.write(&Value::Object(line).to_string()) {
            tracing::error!(%error, "cannot write {}", self.path.display());
        }
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed_and_the_next_letter_begins_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let letters = DeadLetters::in_file(path.clone());
        letters.write("{}").unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(BYTES_MAX).unwrap();
        letters.write("{\"n\":1}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}\n");
        assert_eq!(std::fs::metadata(folder.path().join("letters.jsonl.1")).unwrap().len(), BYTES_MAX);
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let long = "é".repeat(REASON_BYTES_MAX);
        assert_eq!(shortened(&long).len(), REASON_BYTES_MAX);
        assert_eq!(shortened(&format!("x{long}")).len(), REASON_BYTES_MAX - 1);
        assert_eq!(shortened("short"), "short");
    }
}
