//! The archive's table of the configuration.

use serde::{Deserialize, Serialize};

/// Message archives (XEP-0313).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConfig {
    /// Whether messages are archived. What was archived before stays until it is too old, but nobody can ask for it.
    pub enabled: bool,
    /// Days for which a message can be read again.
    pub days: u32,
    /// Most MiB of the logs that one account's messages may take; past it, its own oldest go.
    pub mib_per_account: u32,
    /// Most MiB of the logs that all archives together may take; past it the oldest messages of the largest ones go. 0: no limit.
    pub mib_max: u64,
    /// Days within which an erased text is taken out of the files of the log; 0: within minutes.
    pub erase_days: u32,
    /// Whether messages of an account that lie far apart in a worker's log are copied to where they lie together, so that a page of
    /// them costs few reads of the disk.
    pub gather: bool,
    /// Seconds after which that is done for less than 16 MiB.
    pub gather_seconds: u32,
    /// Threads that read archives.
    pub readers: u32,
    /// Queries that may wait for them, whole server; one more is answered with `resource-constraint`.
    pub queries: u32,
    /// Messages that are read for one page at most, given or not; one with nothing found by then is answered with
    /// `resource-constraint`.
    pub messages_per_page: u32,
    /// Messages with the other side of a conversation that are looked through for a retracted one, from the newest on.
    pub retract_messages: u32,
    /// Retractions of each worker that may wait to take effect, and sixteen times fewer of one account; one more is refused with
    /// `resource-constraint`.
    pub retractions: u32,
    /// Memory in MiB that each worker has for messages which the index does not have yet.
    pub memory_mib: u32,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        ArchiveConfig {
            enabled: true,
            days: 30,
            mib_per_account: 1024,
            mib_max: 0,
            erase_days: 7,
            gather: true,
            gather_seconds: 21_600,
            readers: 2,
            queries: 1000,
            messages_per_page: 100_000,
            retract_messages: 1_000,
            retractions: 4_096,
            memory_mib: 16,
        }
    }
}

impl ArchiveConfig {
    /// Bytes of the logs that one account's messages may take.
    pub fn account_bytes(&self) -> u64 {
        u64::from(self.mib_per_account) << 20
    }

    /// Bytes of the logs that all archives together may take; 0: as many as there are.
    pub fn bytes_max(&self) -> u64 {
        self.mib_max.saturating_mul(1 << 20)
    }

    /// Checks what types cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        let least = [
            ("days", self.days),
            ("mib_per_account", self.mib_per_account),
            ("readers", self.readers),
            ("queries", self.queries),
            ("messages_per_page", self.messages_per_page),
            ("retract_messages", self.retract_messages),
            ("retractions", self.retractions),
            ("memory_mib", self.memory_mib),
        ];
        if let Some((name, _)) = least.iter().find(|(_, value)| *value == 0) {
            return Err(format!("archive.{name} is 0; set it to at least 1, or archive.enabled to false"));
        }
        if self.readers > 64 {
            return Err(format!("archive.readers is {}; at most 64", self.readers));
        }
        Ok(())
    }
}
