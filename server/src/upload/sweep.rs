//! The end of slots and files, and of their bytes.
//!
//! ```text
//! slot not used, file too old ─▶ directory: an erasure ─▶ the file is removed ─▶ directory: nothing
//! ```
//! Once after a start it also looks for files that the directory does not know: what a crash has left between a file's name and
//! the commit of its row, when the slot has ended since, and what a backup has more of than its directory. In the object store it
//! also looks for uploads in parts that nobody finishes, at a start and each hour.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_objects::Failure;
use whimbrel_storage::directory::{DirectoryError, UploadId, WriteTransaction};

use super::{Core, NO_KEY, key_of};
use crate::clock::unix_milliseconds;
use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// How often somebody looks whether it has paused.
const LOOK: Duration = Duration::from_millis(1);

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(2);

/// How long the object store may take with one thing: a live upgrade waits for that.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// The longest pause after it has failed.
const STORE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often uploads to it are looked for that nobody finishes.
const UNFINISHED_PERIOD: Duration = Duration::from_secs(3600);

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
    let mut patience = Patience::default();
    loop {
        let working = works.lock().unwrap_or_else(PoisonError::into_inner);
        patience.look(core);
        if let Err(error) = turn(core, &mut patience)
            && !core.ends.load(Ordering::Relaxed)
        {
            tracing::warn!(error, "uploads that are over are not removed");
        }
        let pause = match folders.next() {
            None => PERIOD,
            // What is in the store is compared when that answers.
            Some(folder) if patience.pauses() => {
                folders = folder..=u8::MAX;
                PERIOD
            }
            Some(folder) => {
                if let Err(error) = compare(core, folder, &mut patience) {
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
fn turn(core: &Arc<Core>, patience: &mut Patience) -> Result<(), String> {
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
    if patience.pauses() {
        return Ok(());
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
    if let Some(store) = &core.store
        && !erased.is_empty()
    {
        let (gone, failure) = store.remove(erased.iter().map(key_of).collect(), STORE_WAIT);
        // They are gone in the order in which they are asked for.
        erased.truncate(gone.len());
        if let Some(failure) = failure {
            failed = Err(patience.lose(&failure));
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
fn compare(core: &Arc<Core>, folder: u8, patience: &mut Patience) -> Result<(), String> {
    let directory = &core.shared.directory;
    let is_unknown = |id: &UploadId| directory.knows_upload(id).map(|knows| !knows);
    for id in core.files.ids(folder).map_err(|error| error.to_string())? {
        if !is_unknown(&id).map_err(|error| error.to_string())? {
            continue;
        }
        let Some(_removing) = directory.may_remove_uploads() else { return Ok(()) };
        core.files.remove(&id).map_err(|error| error.to_string())?;
        tracing::info!(%id, "removed a file that belongs to no upload");
    }
    let Some(store) = &core.store else { return Ok(()) };
    let names =
        store.list(&format!("{folder:02x}"), STORE_WAIT).map_err(|failure| patience.lose(&failure))?;
    let mut unknown = Vec::new();
    for id in names.iter().filter_map(|name| name.parse::<UploadId>().ok()) {
        if unknown.len() < PAGE && is_unknown(&id).map_err(|error| error.to_string())? {
            unknown.push(id);
        }
    }
    let Some(_removing) = directory.may_remove_uploads() else { return Ok(()) };
    if unknown.is_empty() {
        return Ok(());
    }
    let (gone, failure) = store.remove(unknown.iter().map(key_of).collect(), STORE_WAIT);
    for key in gone {
        tracing::info!(key, "removed an object that belongs to no upload");
    }
    failure.map_or(Ok(()), |failure| Err(patience.lose(&failure)))
}

/// When the object store is asked, which may be away.
#[derive(Default)]
struct Patience {
    /// Not before.
    until: Option<Instant>,
    /// The pause after the last failure.
    pause: Duration,
    /// When uploads that nobody finished are looked for; `None`: now.
    unfinished: Option<Instant>,
}

impl Patience {
    fn pauses(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// It has failed: it is asked later, and each time later still.
    fn lose(&mut self, failure: &Failure) -> String {
        self.pause = (self.pause * 2).clamp(PERIOD, STORE_PAUSE_MAX);
        self.until = Some(Instant::now() + self.pause);
        format!("the object store: {failure}")
    }

    /// Has uploads aborted that nobody finishes: those of a process that has ended, and those whose end the store did not hear.
    fn look(&mut self, core: &Core) {
        let Some(store) = &core.store else { return };
        if self.pauses() || self.unfinished.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let transfers = core.transfers.clone();
        let id_of = |key: &str| key.rsplit('/').next().and_then(|name| name.parse::<UploadId>().ok());
        // What is named otherwise is not of this server.
        let is_under_way = move |key: &str| id_of(key).is_none_or(|id| transfers.has(&id));
        match store.abort_unfinished(STORE_WAIT, is_under_way) {
            Ok(0) => {}
            Ok(uploads) => {
                tracing::info!(uploads, "uploads to the object store that nobody finished were aborted");
            }
            Err(failure) => {
                let error = self.lose(&failure);
                if !core.ends.load(Ordering::Relaxed) {
                    tracing::warn!(
                        error,
                        "uploads to the object store that nobody finished are not looked for"
                    );
                }
                return;
            }
        }
        (self.pause, self.until) = (Duration::ZERO, None);
        self.unfinished = Some(Instant::now() + UNFINISHED_PERIOD);
    }
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
