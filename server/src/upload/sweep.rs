//! The end of slots and files, and of their bytes.
//!
//! ```text
//! slot not used, file too old ─▶ directory: an erasure ─▶ the file is removed ─▶ directory: nothing
//! ```
//! Once after a start it also looks for files that the directory does not know: what a crash has left between a file's name and
//! the commit of its row, when the slot has ended since, and what a backup has more of than its directory.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_storage::directory::{DirectoryError, UploadId, WriteTransaction};

use super::{Core, NO_KEY};
use crate::clock::unix_milliseconds;
use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// How often somebody looks whether it has paused.
const LOOK: Duration = Duration::from_millis(1);

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(2);

/// The pause between two of the folders that are compared with the directory, once.
const FOLDER_PAUSE: Duration = Duration::from_millis(50);

/// Uploads in one transaction.
const PAGE: usize = 200;

/// How long it waits for the directory, and how often it looks meanwhile whether the server ends.
const COMMIT: Duration = Duration::from_secs(60);
const COMMIT_LOOK: Duration = Duration::from_millis(100);

/// The thread.
#[derive(Default)]
pub(super) struct Sweep {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held while it changes something.
    works: Arc<Mutex<()>>,
}

impl Sweep {
    /// Starts it.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn start(&self, core: Arc<Core>) -> io::Result<()> {
        let (stop, stopped) = channel();
        let works = self.works.clone();
        let run = move || run(&core, &works, &stopped);
        let thread = std::thread::Builder::new().name("uploads".into()).spawn(run)?;
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Nothing is changed while this lives; `None`: something still is at the deadline.
    pub(super) fn pause(&self, deadline: Instant) -> Option<MutexGuard<'_, ()>> {
        loop {
            match self.works.try_lock() {
                Ok(paused) => return Some(paused),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Ends it. It may be waiting for the directory, which ends when that does.
    pub(super) fn stop(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn run(core: &Arc<Core>, works: &Mutex<()>, stopped: &Receiver<()>) {
    let mut folders = 0..=u8::MAX;
    loop {
        let working = works.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = turn(core)
            && !core.ends.load(Ordering::Relaxed)
        {
            tracing::warn!(error, "uploads that are over are not removed");
        }
        let pause = match folders.next() {
            None => PERIOD,
            Some(folder) => {
                if let Err(error) = compare(core, folder) {
                    tracing::warn!(
                        error,
                        folder,
                        "a folder of uploads cannot be compared with the directory"
                    );
                }
                FOLDER_PAUSE
            }
        };
        drop(working);
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Ends what is over, and removes what has ended; a page of each.
fn turn(core: &Arc<Core>) -> Result<(), String> {
    let text = |error: DirectoryError| error.to_string();
    let directory = &core.shared.directory;
    let config = core.config();
    let now_ms = unix_milliseconds();
    // One that was begun in time may take its time.
    let slots_ms = now_ms.saturating_sub(u64::from(config.upload.transfer_seconds) * 1000);
    let files_ms = config.upload.keep_ms().map_or(0, |keep| now_ms.saturating_sub(keep));
    if directory.uploads_end(slots_ms, files_ms).map_err(text)? {
        let (slots, files) =
            write(core, move |transaction| transaction.end_uploads(slots_ms, files_ms, PAGE))?;
        core.metrics().ended.add(slots + files);
    }
    let erasures = directory.upload_erasures(PAGE).map_err(text)?;
    // Somebody who makes a backup copies what there was when that began.
    let Some(_removing) = directory.may_remove_uploads() else { return Ok(()) };
    let (mut erased, mut failed) = (Vec::<UploadId>::new(), Ok(()));
    for id in erasures {
        match core.files.remove(&id) {
            Ok(()) => erased.push(id),
            // One that the disk does not let go keeps no other.
            Err(error) => failed = Err(format!("{}: {error}", core.files.path(&id).display())),
        }
    }
    if erased.is_empty() {
        return failed;
    }
    let count = erased.len() as u64;
    write(core, move |transaction| transaction.uploads_erased(&erased))?;
    core.metrics().erased.add(count);
    failed
}

/// Removes files that the directory does not know.
fn compare(core: &Arc<Core>, folder: u8) -> Result<(), String> {
    for id in core.files.ids(folder).map_err(|error| error.to_string())? {
        if core.shared.directory.knows_upload(&id).map_err(|error| error.to_string())? {
            continue;
        }
        let Some(_removing) = core.shared.directory.may_remove_uploads() else { return Ok(()) };
        core.files.remove(&id).map_err(|error| error.to_string())?;
        tracing::info!(%id, "removed a file that belongs to no upload");
    }
    Ok(())
}

/// Writes to the directory and waits for that.
fn write<T: Send + 'static>(
    core: &Core,
    change: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError> + Send + 'static,
) -> Result<T, String> {
    let (done, result) = channel();
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
        let changed = change(transaction)?;
        Ok(Box::new(move |_: &mut Actors, _: &Env, _: &mut Effects| drop(done.send(changed))))
    };
    core.writer.try_submit(NO_KEY, Box::new(job)).map_err(|full| full.to_string())?;
    let end = Instant::now() + COMMIT;
    while !core.ends.load(Ordering::Relaxed) && Instant::now() < end {
        match result.recv_timeout(COMMIT_LOOK) {
            Ok(changed) => return Ok(changed),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the directory cannot be written".to_owned()),
        }
    }
    // What follows a commit runs on a worker, and these may have ended. What it was to do is done at the next start.
    Err("the directory has not written it".to_owned())
}
