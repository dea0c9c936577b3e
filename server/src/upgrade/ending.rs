//! The end of a server that another one follows: sessions that can be resumed are left to it, in a file.
//!
//! Where push is on, clients without a connection may come back after days, and a restart is to cost none of them its session.
//!
//! | | |
//! | --- | --- |
//! | 1 | nothing is read any more, and all comes to rest, as before an upgrade |
//! | 2 | sessions that cannot be resumed end: contacts and rooms hear of it, and those that can be resumed have it in their queues |
//! | 3 | when that has come to rest, the workers write the records of an upgrade, without connections. From here on nothing happens to a session |
//! | 4 | all streams end, and the workers. Nobody hears that a session is gone which is there again after the start: requests that it has not answered go on, and its seats stay |
//! | 5 | the ends of the logs are added, by which the next server knows that none has run in between |

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::KINDS;
use super::stopped::{Stopped, collect};
use crate::notify;
use crate::running::Server;
use crate::saved::frame::StateWriter;
use crate::saved::kind::Versions;
use crate::shared::EarlierStreams;
use crate::takeover::clock::ServerClock;
use crate::takeover::kept::{self, Unfinished};
use crate::worker::command::Command;
use crate::worker::upgrade::{Keep, NotParked};

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
        let stopped = Stopped::new(self);
        let kept = stopped.as_ref().map_err(Clone::clone);
        let kept = kept.and_then(|stopped| self.keep_sessions(stopped, patience));
        let is_kept = kept.is_ok();
        match kept {
            Ok(unfinished) => {
                *self.kept.lock().expect("nothing panics while it holds this lock") = Some(unfinished);
            }
            Err(text) => tracing::warn!("no session can be resumed after the next start: {text}"),
        }
        // Before they read again: nothing that a client sends from here on is handled.
        self.end_workers(true, is_kept);
    }

    /// Sessions that cannot be resumed end, and the others hear of it; when that has come to rest, those are written.
    fn keep_sessions(&self, stopped: &Stopped<'_>, patience: Duration) -> Result<Unfinished, String> {
        let data = &self.config().data;
        let path = kept::unfinished_path(data);
        let deadline = Instant::now() + patience;
        loop {
            stopped.settle(deadline, patience)?;
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
            let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
            let state = Arc::new(StateWriter::new(file, Versions::own(KINDS)));
            if self.write_sessions(&state, deadline)? {
                let streams = self.shared.streams_before(ServerClock::read(self.started).ms);
                state.put_all::<EarlierStreams>(&streams).map_err(|error| error.to_string())?;
                return Ok(Unfinished::new(state, data.clone()));
            }
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
