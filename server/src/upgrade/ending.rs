//! The end of a server that another one follows: sessions that can be resumed are left to it, in a file.
//!
//! Where push is on, clients without a connection may come back after days, and a restart is to cost none of them its session.
//! The workers come to rest as before an upgrade and write the same records, without connections; then all streams end.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::KINDS;
use super::stopped::{Stopped, collect};
use crate::clock;
use crate::notify;
use crate::running::Server;
use crate::saved::Owner;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Versions;
use crate::takeover::clock::ServerClock;
use crate::takeover::kept::{self, Ended, EndedAt};
use crate::worker::command::Command;
use crate::worker::upgrade::{Keep, NotParked, Sessions};

impl Server {
    /// Ends every stream with `system-shutdown`, and then the workers, as [`Server::drain`] does; before that, sessions that can be
    /// resumed are written to the data directory for the next server, where there is push. When they cannot be, they are over, and
    /// the log says why.
    pub fn stop(&self) {
        let keeps = self.config().push.resume_seconds() > 0 && !self.is_draining();
        // An upgrade that is under way stands still where it is, and sees that the server ends.
        if !keeps || self.upgrading.swap(true, Ordering::AcqRel) {
            return self.drain(true);
        }
        let limits = &self.config().limits;
        let patience = Duration::from_secs(limits.upgrade_seconds.min(limits.drain_seconds).into());
        notify::stopping(2 * patience);
        match Stopped::new(self) {
            Ok(stopped) => {
                match self.keep_sessions(&stopped, patience) {
                    Ok(sessions) => {
                        tracing::info!(sessions, "sessions wait to be resumed after the next start");
                    }
                    Err(text) => {
                        tracing::warn!("no session can be resumed after the next start: {text}");
                    }
                }
                // Before they read again: nothing that a client sends from here on is handled.
                self.drain(true);
            }
            Err(text) => {
                tracing::warn!("no session can be resumed after the next start: {text}");
                self.drain(true);
            }
        }
    }

    /// Returns how many there are.
    fn keep_sessions(&self, stopped: &Stopped<'_>, patience: Duration) -> Result<u64, String> {
        let data = &self.config().data;
        let path = kept::path(data);
        let unfinished = path.with_extension("new");
        let deadline = Instant::now() + patience;
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", unfinished.display());
        loop {
            stopped.settle(deadline, patience)?;
            let mut options = File::options();
            let file =
                options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
            let file = file.map_err(|error| failed(&error))?;
            let state = Arc::new(StateWriter::new(file, Versions::own(KINDS)));
            if !self.write_sessions(&state, deadline)? {
                continue;
            }
            let clock_ms = ServerClock::read(self.started).ms;
            let ended = EndedAt { clock_ms, unix_ms: clock::unix_milliseconds() };
            state.put::<Ended>(&ended).map_err(|error| failed(&error))?;
            state.finish().map_err(|error| failed(&error))?;
            state.file().sync_all().map_err(|error| failed(&error))?;
            rename(&unfinished, &path, data).map_err(|error| failed(&error))?;
            return Ok(state.counts().of(Sessions::KIND.name));
        }
    }

    /// Has each worker write its part. `false`: something has begun since they had settled.
    fn write_sessions(&self, state: &Arc<StateWriter>, deadline: Instant) -> Result<bool, String> {
        let (reply, replies) = sync_channel(self.commands.len());
        for queue in &self.commands {
            if !queue.give(Command::Keep(Keep { state: state.clone(), reply: reply.clone() })) {
                return Err("a worker has too many commands waiting".into());
            }
        }
        let (mut sent, mut received, mut has_settled) = (0, 0, true);
        for reply in collect(&replies, self.commands.len(), deadline)? {
            match reply {
                Ok((of_worker, to_worker)) => {
                    sent += of_worker;
                    received += to_worker;
                }
                Err(NotParked::NotSettled) => has_settled = false,
                Err(NotParked::Failed(text)) => return Err(text),
            }
        }
        Ok(has_settled && sent == received)
    }
}

fn rename(from: &Path, to: &Path, folder: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    File::open(folder)?.sync_all()
}
