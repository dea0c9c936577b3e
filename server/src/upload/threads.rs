//! The threads that wait for the disk, so that no other has to.

use std::io;

use crossbeam::channel::{Sender, bounded};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped and what waits is done.
pub(super) struct Threads {
    queue: Sender<Work>,
    /// Work that may wait, beside what is only to be dropped.
    waiting: usize,
}

/// There is no room for more work.
#[derive(Debug)]
pub(super) struct Busy;

impl Threads {
    /// Starts so many threads, for which so much work may wait: a transfer has one piece of it at a time. As much again has room that
    /// is to be dropped there: callers see to it that there is no more ([`super::transfers`]).
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn start(threads: usize, waiting: usize) -> io::Result<Threads> {
        let waiting = waiting.max(1);
        let (queue, works) = bounded::<Work>(2 * waiting);
        for number in 0..threads.max(1) {
            let works = works.clone();
            std::thread::Builder::new().name(format!("files-{number}")).spawn(move || {
                for work in works {
                    work();
                }
            })?;
        }
        Ok(Threads { queue, waiting })
    }

    /// Begins work, whose result comes through what is returned. If nobody waits for that any more, it is dropped on the thread.
    ///
    /// # Errors
    /// [`Busy`].
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Busy> {
        let (done, result) = oneshot::channel();
        let work = move || drop(done.send(work()));
        if self.queue.len() >= self.waiting {
            return Err(Busy);
        }
        self.queue.try_send(Box::new(work)).map_err(|_| Busy)?;
        Ok(result)
    }

    /// As [`Threads::begin`], and waits.
    ///
    /// # Errors
    /// [`Busy`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        self.begin(work)?.await.map_err(|_| Busy)
    }

    /// Drops something there, because it takes the disk's time.
    pub(super) fn drop_there<T: Send + 'static>(&self, what: T) {
        let refused = self.queue.try_send(Box::new(move || drop(what)));
        debug_assert!(refused.is_ok(), "there are no more of these than transfers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells where it is dropped.
    struct Leftover(std::sync::mpsc::Sender<Option<String>>);

    impl Drop for Leftover {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn work_is_done_elsewhere_and_has_its_bound() {
        let threads = Threads::start(1, 1).unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (begun, is_begun) = std::sync::mpsc::channel();
        let first = threads.begin(move || {
            let _ = begun.send(std::thread::current().name().map(str::to_owned));
            let _ = held.recv();
            7
        });
        assert_eq!(is_begun.recv().unwrap().as_deref(), Some("files-0"));
        let second = threads.begin(|| 8).unwrap();
        assert!(threads.begin(|| 9).is_err(), "one waits");
        let (say, said) = std::sync::mpsc::channel();
        threads.drop_there(Leftover(say));
        drop(hold);
        assert_eq!(
            said.recv().unwrap().as_deref(),
            Some("files-0"),
            "it is not dropped where it would hold others up"
        );
        assert_eq!(first.unwrap().blocking_recv(), Ok(7));
        assert_eq!(second.blocking_recv(), Ok(8));
    }
}
