//! What stands still while a server is upgraded: the workers, and before them the services that send answers and text
//! messages. All of it goes on when these values are dropped.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::run::Order;
use crate::running::Server;
use crate::saved::frame::StateWriter;
use crate::worker::command::Command;
use crate::worker::upgrade::{NotParked, Parked, Quiescence, Suspend, Verdict};

/// What an upgrade waits for notifications that are being sent; others are sent by the new program.
const PUSH_WAIT: Duration = Duration::from_secs(2);

/// The part of an upgrade's time that uploads and downloads have to end; then they are cut off.
const TRANSFERS_PART: f64 = 0.5;

/// How often workers are asked whether they are quiescent.
const ASK_AGAIN: Duration = Duration::from_micros(500);

/// Nothing of registration and of the HTTP server is under way while this lives: no text message is lost or sent twice by
/// the exec, and no answer cut off.
pub(super) struct ServicesPaused<'a>(&'a Server, Option<MutexGuard<'a, ()>>);

impl<'a> ServicesPaused<'a> {
    pub(super) fn new(server: &'a Server, order: &Order<'_>, patience: Duration) -> Result<Self, String> {
        let mut paused = ServicesPaused(server, None);
        let deadline = Instant::now() + patience;
        let late = |what: &str| {
            let seconds = patience.as_secs();
            format!("{what} after {seconds} seconds (limits.upgrade_seconds); try again")
        };
        server.http_servers().for_each(|http| http.shut());
        server.bosh.pause();
        if let Some(registration) = &server.registration {
            (order.tell)("waiting for text messages that are being sent");
            if !registration.pause(deadline) {
                return Err(late("a text message was still being sent"));
            }
        }
        if let Some(notifier) = &server.notifier {
            (order.tell)("waiting for notifications that are being sent");
            notifier.stop(PUSH_WAIT.min(patience));
        }
        if let Some(uploads) = &server.uploads {
            paused.1 = uploads.pause(deadline);
            if paused.1.is_none() {
                return Err(late("files were still being removed"));
            }
        }
        if let Some(web) = &server.web {
            let long =
                Instant::now() + deadline.saturating_duration_since(Instant::now()).mul_f64(TRANSFERS_PART);
            if !web.wait_until_written(long) {
                // A transfer that takes longer than an upgrade may: an upload leaves no file, and its slot is good still.
                web.cut();
            }
        }
        let is_written = server.http_servers().all(|http| http.wait_until_written(deadline));
        match is_written && server.bosh.wait_until_written(deadline) {
            true => Ok(paused),
            false => Err(late("an answer of the HTTP server was still being written")),
        }
    }
}

impl Drop for ServicesPaused<'_> {
    fn drop(&mut self) {
        if let Some(registration) = &self.0.registration {
            registration.go_on();
        }
        if let Some(notifier) = &self.0.notifier {
            notifier.go_on();
        }
        self.0.bosh.go_on();
        if !self.0.is_draining() {
            self.0.http_servers().for_each(|http| http.open());
        }
    }
}

/// The workers do not read while this lives.
pub(super) struct Stopped<'a> {
    server: &'a Server,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        for queue in &self.server.commands {
            // A queue that is full for a moment: nobody else gives commands now, so it empties.
            while !queue.give(Command::Hold(false)) {
                std::thread::sleep(ASK_AGAIN);
            }
        }
    }
}

impl<'a> Stopped<'a> {
    pub(super) fn new(server: &'a Server) -> Result<Stopped<'a>, String> {
        let stopped = Stopped { server };
        for queue in &server.commands {
            if !queue.give(Command::Hold(true)) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        Ok(stopped)
    }

    /// Waits until nothing is under way between workers and other threads: everybody says so twice in a row, and
    /// nothing was on its way between them.
    pub(super) fn settle(&self, deadline: Instant, patience: Duration) -> Result<(), String> {
        let mut before = None;
        loop {
            let quiescence = self.quiescence(deadline)?;
            let sent: u64 = quiescence.iter().map(|one| one.sent).sum();
            let received: u64 = quiescence.iter().map(|one| one.received).sum();
            let settled = quiescence.iter().all(|one| one.quiescent) && sent == received;
            if settled && before == Some(sent) {
                return Ok(());
            }
            before = settled.then_some(sent);
            if Instant::now() >= deadline {
                return Err(format!(
                    "what is under way (commits, changes of the directory, password checks) did not come to rest \
                     within {} seconds (limits.upgrade_seconds); try again when there is less load",
                    patience.as_secs()
                ));
            }
            if !settled {
                std::thread::sleep(ASK_AGAIN);
            }
        }
    }

    fn quiescence(&self, deadline: Instant) -> Result<Vec<Quiescence>, String> {
        let commands = &self.server.commands;
        let (reply, replies) = sync_channel(commands.len());
        for queue in commands {
            if !queue.give(Command::Quiescence(reply.clone())) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        collect(&replies, commands.len(), deadline)
    }

    /// Makes all workers let go of their sockets and write their sessions. `None`: something has begun since they had
    /// settled (a timer, a connection that broke), and they are to settle once more.
    pub(super) fn suspend(
        &self,
        state: &Arc<StateWriter>,
        deadline: Instant,
    ) -> Result<Option<AllParked>, String> {
        let commands = &self.server.commands;
        let (reply, replies) = sync_channel(commands.len());
        let mut verdicts = Vec::new();
        for queue in commands {
            let (verdict, verdict_of_worker) = sync_channel(1);
            let park =
                Suspend { state: state.clone(), deadline, reply: reply.clone(), verdict: verdict_of_worker };
            verdicts.push(verdict);
            if !queue.give(Command::Suspend(park)) {
                return Err("a worker has too many commands waiting; try again".into());
            }
        }
        let (mut list, mut failed, mut has_settled) = (Vec::new(), None, true);
        for reply in collect(&replies, commands.len(), deadline)? {
            match reply {
                Ok(parked) => list.push(parked),
                Err(NotParked::NotSettled) => has_settled = false,
                Err(NotParked::Failed(text)) => failed = Some(text),
            }
        }
        if let Some(text) = failed {
            return Err(text);
        }
        let sent: u64 = list.iter().map(|parked| parked.traffic.0).sum();
        let received: u64 = list.iter().map(|parked| parked.traffic.1).sum();
        list.sort_by_key(|parked| parked.worker);
        Ok((has_settled && sent == received).then_some(AllParked { list, verdicts }))
    }
}

pub(super) fn collect<T>(replies: &Receiver<T>, count: usize, deadline: Instant) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for _ in 0..count {
        let left = deadline.saturating_duration_since(Instant::now()).max(ASK_AGAIN);
        let one = replies.recv_timeout(left);
        all.push(one.map_err(|_| "a worker did not answer in time (limits.upgrade_seconds)")?);
    }
    Ok(all)
}

/// All workers have let go; when this is dropped they take everything back.
pub(super) struct AllParked {
    pub(super) list: Vec<Parked>,
    verdicts: Vec<SyncSender<Verdict>>,
}

impl AllParked {
    /// Has all sockets marked to stay open.
    pub(super) fn keep_open(&self, patience: Duration) -> Result<(), String> {
        let (done, replies) = sync_channel(self.verdicts.len());
        for verdict in &self.verdicts {
            verdict.send(Verdict::Keep(done.clone())).map_err(|_| "a worker is gone")?;
        }
        let kept = collect(&replies, self.verdicts.len(), Instant::now() + patience)?;
        kept.into_iter().collect()
    }
}
