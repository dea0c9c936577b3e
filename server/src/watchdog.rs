//! The service manager's watchdog: it is told that the server lives as long as every worker answers.
//!
//! A worker that hangs is not heard of by a thread beside it; so each is asked, and only all answers together are a sign of
//! life. During an upgrade and a drain workers are away for good reasons; those have time limits of their own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use whimbrel_server::boot::Server;
use whimbrel_server::notify;
use whimbrel_server::worker::command::{Command, CommandQueue};

/// Signs of life in the time that the manager waits for one.
const SIGNS: u32 = 3;

/// Starts the thread, where the manager wants signs of life.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(server: &Arc<Server>) -> std::io::Result<()> {
    let Some(patience) = notify::watchdog() else { return Ok(()) };
    let server = Arc::downgrade(server);
    let watch = move || {
        let interval = patience / SIGNS;
        while let Some(server) = server.upgrade() {
            let begun = Instant::now();
            let is_away = server.upgrading.load(Ordering::Acquire) || server.is_draining();
            match if is_away { Ok(()) } else { ask(&server.commands, interval) } {
                Ok(()) => notify::alive(),
                Err(worker) => {
                    tracing::warn!("worker {worker} does not answer; the watchdog is not told that it lives");
                }
            }
            drop(server);
            std::thread::sleep(interval.saturating_sub(begun.elapsed()));
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(watch).map(|_| ())
}

/// Asks every worker for nothing; which one has not answered in time.
fn ask(workers: &[Arc<CommandQueue>], patience: Duration) -> Result<(), usize> {
    let deadline = Instant::now() + patience;
    let mut answers = Vec::new();
    for (worker, queue) in workers.iter().enumerate() {
        let (reply, answer) = sync_channel(1);
        if !queue.give(Command::Sessions { user: None, max: 0, reply }) {
            return Err(worker);
        }
        answers.push(answer);
    }
    for (worker, answer) in answers.into_iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        answer.recv_timeout(left).map_err(|_| worker)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use whimbrel_server::runtime::driver::Wake;

    use super::*;

    /// A worker that hears nothing.
    struct Deaf;

    impl Wake for Deaf {
        fn wake(&self) {}
    }

    #[test]
    fn a_worker_that_does_not_answer_is_no_sign_of_life() {
        let queues =
            [Arc::new(CommandQueue::new(Arc::new(Deaf))), Arc::new(CommandQueue::new(Arc::new(Deaf)))];
        let other = queues[0].clone();
        let answers = std::thread::spawn(move || {
            loop {
                if let Some(Command::Sessions { reply, .. }) = other.take() {
                    return reply.send(Vec::new());
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(ask(&queues, Duration::from_secs(1)), Err(1));
        answers.join().unwrap().unwrap();
        // Too much waits already: nobody has taken anything for long.
        while queues[1].give(Command::Drain { close: false, is_kept: false }) {}
        assert_eq!(ask(&queues[1..], Duration::ZERO), Err(0));
        assert_eq!(ask(&[], Duration::ZERO), Ok(()));
    }
}
