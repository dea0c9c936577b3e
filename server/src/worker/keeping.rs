//! The log in a worker's iteration: deliveries from it, its commits, what was handed to the kernel, and its upkeep.

use whimbrel_storage::log::{AppendError, LogError};

use crate::runtime::timer::Millis;
use crate::session::Phase;
use crate::user::ledger::Ledger;
use crate::user::offline;
use crate::worker::core::Core;

/// How often the log is looked after while messages come, in milliseconds.
const UPKEEP_MS: u64 = 100;

/// Work units for messages out of the log in one iteration; a resource whose turn it is gets its window.
const PUMP_UNITS: u64 = 256;

/// Expired messages that are looked for in a second.
const EXPIRE_RECORDS: usize = 10_000;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl Core {
    /// At the end of an iteration, before its output is applied: writes what is due from the log, asks for a commit of
    /// what was appended, tells senders what is safe, and lets managed streams say what they have to.
    pub fn keep_messages(&mut self) {
        let mut due = std::mem::take(&mut self.home.pumps);
        due.sort_unstable();
        due.dedup();
        // Those that were left last time come first.
        let first = due.partition_point(|key| self.pumped_to.is_some_and(|to| *key < to));
        due.rotate_left(first);
        let until = self.home.work.spent() + PUMP_UNITS;
        let mut pumped = 0;
        // What comes out of the log was received long ago.
        let begun = self.home.out.times.set_received(None);
        while pumped < due.len() && self.home.work.spent() < until {
            offline::pump(&mut self.home, due[pumped]);
            pumped += 1;
        }
        let _ = self.home.out.times.set_received(begun);
        self.pumped_to = due.get(pumped).copied();
        due.drain(..pumped);
        // Who is due again in the next iteration has been noted meanwhile.
        due.append(&mut self.home.pumps);
        self.home.pumps = due;
        self.end_streams();
        self.home.ledger.request_commit();
        let home = &mut self.home;
        home.ledger.count_committed(&home.shared.metrics[home.worker]);
        while let Some(ticket) = home.ledger.next_safe(&home.shared.metrics[home.worker]) {
            home.settle(ticket);
        }
        self.resume_waiting();
        self.speak();
        if self.home.now.0 >= self.log_seen_to.0 + UPKEEP_MS {
            self.log_seen_to = Millis(self.home.now.0);
            let home = &mut self.home;
            let now = home.unix_ms();
            let done = home.ledger.log_mut().maintain(now);
            home.metrics().log_compacted.add(done.bytes_copied);
        }
    }

    /// After the output was applied: a message to a client without stream management has been delivered when its
    /// bytes are with the kernel.
    pub fn handed_over(&mut self) {
        let mut handed = std::mem::take(&mut self.home.ledger.handed);
        for one in handed.drain(..) {
            let Some(resource) = self.home.users.get(one.resource) else { continue };
            let with_kernel = self.home.out.with_driver(resource.conn) == 0
                && resource.flags.has(crate::user::tables::Flags::SETTLED);
            match self.sessions.get(resource.conn).map(|session| &session.phase) {
                Some(Phase::Bound(_)) if with_kernel => self.home.trim(one.user, one.sequence),
                _ => self.home.users.flow_mut(one.resource).unsent.get_or_insert_default().push(one.sequence),
            }
        }
        self.home.ledger.handed = handed;
    }

    /// Once a second: messages that are too old, a log that refuses messages, a log that has failed.
    pub(super) fn look_after_log(&mut self) {
        let home = &mut self.home;
        let days = u64::from(home.config.limits.offline_days);
        let before = home.unix_ms().saturating_sub(days * DAY_MS);
        let expired = home.ledger.log_mut().expire(before, EXPIRE_RECORDS, &mut |_| {});
        home.metrics().log_expired.add(expired);
        home.metrics().log_pending.sub(expired);
        if let Some(reason) = home.ledger.refused.take() {
            let reason = refusal(reason, home.ledger.log().no_room());
            tracing::error!(worker = home.worker, %reason, "messages are refused");
        }
        let Some(error) = home.ledger.log().failed() else { return };
        if home.ledger.is_pausing() {
            return;
        }
        tracing::error!(worker = home.worker, %error, "the log has failed; no message is acknowledged");
        let mut lost = Vec::new();
        home.ledger.abandon(|ticket| lost.push(ticket));
        for ticket in lost {
            home.say(ticket, false);
        }
        match home.ledger.reopen() {
            Ok(messages) => {
                tracing::warn!(worker = home.worker, messages, "the log works again");
                home.metrics().log_reopened.add(1);
                home.metrics().log_pending.set(messages);
                home.metrics().offline_counted.set(0);
            }
            Err(error) => {
                home.ledger.refused = Some(AppendError::Failed);
                tracing::error!(worker = home.worker, %error, "the log cannot be opened again yet");
            }
        }
        self.end_streams();
    }

    /// Writes the log out at the end.
    pub fn close_log(self) {
        let worker = self.home.worker;
        if let Err(error) = Ledger::into_log(self.home.ledger).close() {
            tracing::error!(worker, %error, "the log was not closed; the next start takes longer");
        }
    }
}

/// Why messages are refused, as the operator can act on it: of a log without room, what its next file failed at.
fn refusal(reason: AppendError, no_room: Option<LogError>) -> String {
    match (reason, no_room) {
        (AppendError::Full, Some(LogError::DiskFull { .. })) => {
            "the log has no room: the disk is full".into()
        }
        (AppendError::Full, Some(error)) => format!("the log has no room for another file: {error}"),
        (reason, _) => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_room_says_what_its_next_file_failed_at() {
        let path = std::path::PathBuf::from("log/7");
        let of = |errno| std::sync::Arc::new(std::io::Error::from_raw_os_error(errno));
        let full = LogError::DiskFull { path: path.clone(), source: of(libc::ENOSPC) };
        assert_eq!(refusal(AppendError::Full, Some(full)), "the log has no room: the disk is full");
        let files = LogError::Descriptors { doing: "make", path, source: of(libc::EMFILE) };
        let text = refusal(AppendError::Full, Some(files.clone()));
        assert!(text.contains("raise the limit of open files") && !text.contains("disk"), "{text}");
        // Another reason is not explained by what the next file failed at once.
        assert!(!refusal(AppendError::LogQuota, Some(files)).contains("open files"));
    }
}
