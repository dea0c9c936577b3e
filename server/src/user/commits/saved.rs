//! The log as it goes to another program. Its messages stay where they are; the state names them by their numbers.

use std::os::fd::AsRawFd;

use super::CommitTracker;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// The log of one worker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its identity: message numbers are good with the same log only.
    pub id: u64,
    /// The lock on the folder of all logs; one worker holds it.
    pub lock: Option<u32>,
}

/// Owns the identities of the logs, one for each worker, and the lock on them.
pub struct Logs;

impl Owner for Logs {
    const KIND: Kind = Kind::required("log");
    type Record<'a> = LogRecord;

    fn write(record: &LogRecord, to: &mut Encoder) {
        to.raw(&record.id.to_le_bytes());
        to.optional(record.lock, |to, lock| to.number(lock));
    }

    fn read(from: &mut Decoder<'_>) -> Result<LogRecord, StateError> {
        let id = u64::from_le_bytes(*from.array()?);
        Ok(LogRecord { id, lock: from.optional(|from| from.number())? })
    }

    fn samples() -> Vec<LogRecord> {
        vec![LogRecord { id: 0x0123_4567_89ab_cdef, lock: Some(7) }, LogRecord { id: 1, lock: None }]
    }

    fn descriptors(record: &LogRecord, keep: &mut Vec<u32>) {
        keep.extend(record.lock);
    }
}

impl CommitTracker {
    /// Writes the log out with a checkpoint, so that opening it again is quick. Returns how it goes to another program.
    ///
    /// # Errors
    /// The system's reason.
    pub fn save(&self) -> Result<LogRecord, String> {
        let log = self.log();
        log.checkpoint().map_err(|error| format!("its log cannot be written out: {error}"))?;
        let lock = log.lock_descriptor().and_then(|lock| u32::try_from(lock.as_raw_fd()).ok());
        Ok(LogRecord { id: log.id(), lock })
    }
}
