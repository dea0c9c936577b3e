//! The coordinator's end of a victim or flooder process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::scenario::attack::wire::{Job, News, Order, Poured, Talk};

/// How long a process may take to end by itself.
const END_MAX: Duration = Duration::from_secs(3);

/// A process. It is ended when this is dropped.
pub(super) struct Helper {
    child: Child,
    orders: Option<ChildStdin>,
    news: Receiver<News>,
}

impl Helper {
    /// Starts it and gives it its job.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn start(job: &Job) -> Result<Helper, String> {
        let failed = |error: std::io::Error| format!("cannot start a process: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("attack-worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, news) = channel();
        let mut helper = Helper { child, orders, news };
        std::thread::Builder::new()
            .name("news".into())
            .spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    let Ok(news) = serde_json::from_str(&line) else { break };
                    if sender.send(news).is_err() {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        helper.write(job)?;
        Ok(helper)
    }

    fn write(&mut self, what: &impl serde::Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(what).map_err(|error| format!("cannot write an order: {error}"))?;
        line.push(b'\n');
        match &mut self.orders {
            // A process that is gone is noticed when its news ends.
            Some(orders) => drop(orders.write_all(&line).and_then(|()| orders.flush())),
            None => return Err("the process has no stdin".into()),
        }
        Ok(())
    }

    /// Tells it something.
    ///
    /// # Errors
    /// It cannot be told.
    pub(super) fn order(&mut self, order: Order) -> Result<(), String> {
        self.write(&order)
    }

    fn hear(&mut self, limit: Duration) -> Result<News, String> {
        match self.news.recv_timeout(limit) {
            Ok(News::Failed(reason)) => Err(reason),
            Ok(news) => Ok(news),
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {} s", limit.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Err("a process has ended unexpectedly".into()),
        }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It is not in time.
    pub(super) fn ready(&mut self, limit: Duration) -> Result<(), String> {
        match self.hear(limit)? {
            News::Ready => Ok(()),
            other => Err(format!("an unexpected answer: {other:?}")),
        }
    }

    /// Asks the victim what came of it.
    ///
    /// # Errors
    /// It does not say.
    pub(super) fn talk(&mut self, limit: Duration) -> Result<Talk, String> {
        self.order(Order::Report)?;
        match self.hear(limit)? {
            News::Talked(talk) => Ok(*talk),
            other => Err(format!("an unexpected answer: {other:?}")),
        }
    }

    /// Asks the flooder what came of it.
    ///
    /// # Errors
    /// It does not say.
    pub(super) fn poured(&mut self, limit: Duration) -> Result<Poured, String> {
        self.order(Order::Report)?;
        match self.hear(limit)? {
            News::Poured(poured) => Ok(*poured),
            other => Err(format!("an unexpected answer: {other:?}")),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Without a stdin it ends by itself.
        drop(self.orders.take());
        let end = Instant::now() + END_MAX;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
