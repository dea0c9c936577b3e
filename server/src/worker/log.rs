//! The log in a worker's iteration: deliveries from it, its commits, what was handed to the kernel, and its upkeep.

use whimbrel_storage::file_error::FileError;
use whimbrel_storage::log::{AppendError, LogError};

use crate::effects::due::in_turn;
use crate::runtime::deliveries::Reception;
use crate::runtime::driver::ConnId;
use crate::runtime::timer::Millis;
use crate::session::SessionPhase;
use crate::user::archive;
use crate::user::commits::CommitTracker;
use crate::user::tables::Flags;
use crate::user::{flow, offline};
use crate::worker::core::Core;
use crate::worker::ends::Ending;

/// How often the log is looked after while messages come, in milliseconds.
const UPKEEP_MS: u64 = 100;

/// Work units for messages out of the log in one iteration; a resource whose turn it is gets its window.
const PUMP_UNITS: u64 = 128;

/// Work units for what was held back for clients that read slowly in one iteration; one whose turn it is gets all of it.
const HELD_UNITS: u64 = 128;

/// Work units for pages and the like whose clients have room again in one iteration; one that is begun is finished.
const ROOM_UNITS: u64 = 128;

/// Expired messages that are looked for in a second.
const EXPIRE_RECORDS: usize = 10_000;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The work of a worker so far.
fn spent(core: &Core) -> u64 {
    core.fx.work.spent()
}

impl Core {
    /// At the end of an iteration, before its output is applied: writes what is due from the log, asks for a commit of
    /// what was appended, tells senders what is durable, and lets managed streams say what they have to.
    pub fn keep_messages(&mut self) {
        if self.ending == Ending::Kept {
            // All of it has come to rest.
            return;
        }
        self.release_held();
        // What comes out of the log was received long ago.
        let begun = self.fx.out.times.set_received(Reception::default());
        in_turn(
            self,
            |core| &mut core.fx.due_cursors,
            spent,
            PUMP_UNITS,
            |core, key| {
                offline::pump(&mut core.actors, &core.env, &mut core.fx, key);
            },
        );
        let _ = self.fx.out.times.set_received(begun);
        archive::retract::go_on(&mut self.actors, &self.env, &mut self.fx);
        self.go_on_with_room();
        self.carry_out();
        self.actors.commits.request_commit(&self.env.clock);
        let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
        actors.commits.count_committed(env);
        while let Some(pending_ack) = actors.commits.next_safe(&env.shared.metrics[env.worker]) {
            actors.users.notify_durable(env, fx, pending_ack);
        }
        self.go_on_with_committed();
        self.resume_waiting();
        self.flush_acks();
        archive::index::hand_over(&mut self.actors, &self.env, &mut self.fx);
        if self.env.now.0 >= self.log_seen_to.0 + UPKEEP_MS {
            self.log_seen_to = Millis(self.env.now.0);
            let (actors, env) = (&mut self.actors, &self.env);
            let now = env.unix_ms();
            let done = actors.commits.log_mut().maintain(now);
            env.metrics().log_compacted.add(done.bytes_copied);
            archive::upkeep::make_room(actors, env);
        }
    }

    /// Writes what was held back for clients that have read the rest, as far as the iteration has work to give.
    fn release_held(&mut self) {
        let most = self.env.config.limits.output_backlog_bytes as usize / 4;
        in_turn(
            self,
            |core| &mut core.fx.due_held,
            spent,
            HELD_UNITS,
            |core, key| {
                let Some(resource) = core.actors.users.get(key) else { return };
                // Of one that is behind again its driver will say so, and one that is gone gets it when it is back.
                if resource.flags.has(Flags::BACKED_UP) && core.fx.out.with_driver(resource.conn) <= most {
                    flow::go_on(&mut core.actors, &core.env, &mut core.fx, key);
                }
            },
        );
    }

    /// Goes on with work whose clients may have room for more of it, as far as the iteration has work to give. They pay for it.
    fn go_on_with_room(&mut self) {
        in_turn(
            self,
            |core| &mut core.fx.due_room,
            spent,
            ROOM_UNITS,
            |core, key| {
                let Some(then) = core.actors.waiting_for_room.take(key) else { return };
                let before = spent(core);
                then(&mut core.actors, &core.env, &mut core.fx);
                let conn = core.actors.users.get(key).map(|resource| resource.conn);
                if let Some(conn) = conn.filter(|conn| *conn != ConnId::NONE) {
                    core.owe(conn, spent(core) - before);
                }
            },
        );
    }

    /// Goes on with what has waited for commits.
    fn go_on_with_committed(&mut self) {
        let mut is_any = false;
        while let Some(go_on) = self.actors.commits.next_committed() {
            go_on(&mut self.actors, &self.env, &mut self.fx, true);
            is_any = true;
        }
        while let Some((go_on, is_durable)) = self.actors.users.joins.next_done() {
            go_on(&mut self.actors, &self.env, &mut self.fx, is_durable);
            is_any = true;
        }
        if is_any {
            self.carry_out();
        }
    }

    /// After the output was applied: a message to a client without stream management has been delivered when its
    /// bytes are with the kernel.
    pub fn confirm_flushed(&mut self) {
        let handed = self.actors.commits.awaiting_flush.len();
        for at in 0..handed {
            let one = self.actors.commits.awaiting_flush[at];
            let Some(resource) = self.actors.users.get(one.resource) else { continue };
            let with_kernel =
                self.fx.out.with_driver(resource.conn) == 0 && resource.flags.has(Flags::SM_DECIDED);
            match self.sessions.get(resource.conn).map(|session| &session.phase) {
                Some(SessionPhase::Bound(_)) if with_kernel => {
                    self.actors.commits.trim(&self.env, one.user, one.sequence);
                }
                _ => {
                    self.actors
                        .users
                        .flow_mut(one.resource)
                        .unsent
                        .get_or_insert_default()
                        .push(one.sequence);
                }
            }
        }
        self.actors.commits.awaiting_flush.clear();
    }

    /// Once a second: messages that are too old, a log that refuses messages, a log that has failed.
    pub(super) fn look_after_log(&mut self) {
        let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
        let days = u64::from(env.config.limits.offline_days);
        let before = env.unix_ms().saturating_sub(days * DAY_MS);
        let expired = actors.commits.log_mut().expire(before, EXPIRE_RECORDS, &mut |_| {});
        env.metrics().log_expired.add(expired);
        env.metrics().log_pending.sub(expired);
        if let Some(reason) = actors.commits.refused.take() {
            let reason = refusal(reason, actors.commits.log().no_room());
            tracing::error!(worker = env.worker, %reason, "messages are refused");
        }
        archive::upkeep::tend(actors, env, fx);
        let Some(error) = actors.commits.log().failed() else { return };
        if actors.commits.is_pausing(&env.clock) {
            return;
        }
        tracing::error!(worker = env.worker, %error, "the log has failed; no message is acknowledged");
        let mut lost = Vec::new();
        let others = actors.commits.abandon(|pending_ack| lost.push(pending_ack));
        for pending_ack in lost {
            actors.users.report(env, fx, pending_ack, false);
        }
        for (_, go_on) in others {
            go_on(actors, env, fx, false);
        }
        match actors.commits.reopen(&env.clock) {
            Ok(messages) => {
                tracing::warn!(worker = env.worker, messages, "the log works again");
                env.metrics().log_reopened.add(1);
                env.metrics().log_pending.set(messages);
                env.metrics().offline_counted.set(0);
            }
            Err(error) => {
                actors.commits.refused = Some(AppendError::Failed);
                tracing::error!(worker = env.worker, %error, "the log cannot be opened again yet");
            }
        }
        self.carry_out();
    }

    /// Writes the log out at the end.
    pub fn close_log(self) {
        let worker = self.env.worker;
        if let Err(error) = CommitTracker::into_log(self.actors.commits).close() {
            tracing::error!(worker, %error, "the log was not closed; the next start takes longer");
        }
    }
}

/// Why messages are refused, as the operator can act on it: of a log without room, what its next file failed at.
fn refusal(reason: AppendError, no_room: Option<LogError>) -> String {
    match (reason, no_room) {
        (AppendError::Full, Some(LogError::File(FileError::DiskFull { .. }))) => {
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
        let full = FileError::DiskFull { path: path.clone(), source: of(libc::ENOSPC) };
        let full = LogError::from(full);
        assert_eq!(refusal(AppendError::Full, Some(full)), "the log has no room: the disk is full");
        let files = FileError::Descriptors { doing: "make", path, source: of(libc::EMFILE) };
        let files = LogError::from(files);
        let text = refusal(AppendError::Full, Some(files.clone()));
        assert!(text.contains("raise the limit of open files") && !text.contains("disk"), "{text}");
        // Another reason is not explained by what the next file failed at once.
        assert!(!refusal(AppendError::LogQuota, Some(files)).contains("open files"));
    }
}
