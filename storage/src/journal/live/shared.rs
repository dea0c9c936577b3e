//! What a log's worker shares with the syncer's threads.
//!
//! ```text
//!  worker ── appended, requested ──▶ Commit ──▶ syncer: msync ──▶ committed ──▶ worker
//!  worker ── wanted, dead, checkpoint ──▶ Keep ──▶ keeper: files ──▶ spare ──▶ worker
//! ```
//!
//! The counters are atomics. The locks are taken by the worker when a segment is full and in `maintain`, never by an
//! append that fits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Instant;

use crossbeam::utils::CachePadded;

use super::super::error::LogError;
use super::super::format::message::Position;
use super::super::format::segment::{Header, file_name};
use super::super::metrics::Metrics;
use super::bell::Bells;
use super::files::Files;
use super::map::{Flusher, Map};
use crate::archive::erase::wipe;

/// A segment whose end may not be committed yet.
struct NotDurable {
    base: u64,
    end: u64,
    path: PathBuf,
    flusher: Flusher,
}

/// A segment that is ready to take records.
pub(crate) struct Spare {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) map: Map,
}

/// A segment to get rid of once a position is committed.
pub(crate) struct Dead {
    pub(crate) path: PathBuf,
    pub(crate) after: u64,
    /// Where to move it instead of deleting it.
    pub(crate) keep_at: Option<PathBuf>,
    pub(crate) map: Option<Map>,
}

/// A segment that is to be written anew without the texts of some records.
pub(crate) struct Rewrite {
    pub(crate) log_id: u64,
    pub(crate) base: u64,
    pub(crate) path: PathBuf,
    /// Where those records begin.
    pub(crate) positions: Vec<Position>,
}

/// A segment that was to be written anew: its new file, if it is there.
pub(crate) struct Rewritten {
    pub(crate) base: u64,
    pub(crate) texts: usize,
    pub(crate) done: Result<Option<Map>, LogError>,
}

/// The work of the keeper.
#[derive(Default)]
pub(crate) struct Keep {
    wanted: Option<Header>,
    spare: Option<Spare>,
    failed: Option<LogError>,
    dead: VecDeque<Dead>,
    checkpoint: Option<(u64, Vec<u8>)>,
    rewrite: Option<Rewrite>,
    rewritten: Option<Rewritten>,
}

/// See the module.
pub(crate) struct Shared {
    appended: CachePadded<AtomicU64>,
    committed: CachePadded<AtomicU64>,
    /// When the oldest unanswered request came, in microseconds since `born`; 0 for none.
    requested_us: AtomicU64,
    messages_committed: AtomicU64,
    has_failed: AtomicBool,
    /// This process had the log open a moment ago, before it became another program.
    is_continued: AtomicBool,
    failure: Mutex<Option<LogError>>,
    not_durable: Mutex<VecDeque<NotDurable>>,
    keep: Mutex<Keep>,
    bells: OnceLock<Arc<Bells>>,
    born: Instant,
    files: Arc<dyn Files>,
    folder: PathBuf,
    pub(crate) metrics: Metrics,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done in there: a panic elsewhere does not make it worse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Of a log in a folder.
    pub(crate) fn new(files: Arc<dyn Files>, folder: &Path) -> Self {
        Self {
            appended: CachePadded::default(),
            committed: CachePadded::default(),
            requested_us: AtomicU64::new(0),
            messages_committed: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            is_continued: AtomicBool::new(false),
            failure: Mutex::default(),
            not_durable: Mutex::default(),
            keep: Mutex::default(),
            bells: OnceLock::new(),
            born: Instant::now(),
            files,
            folder: folder.to_owned(),
            metrics: Metrics::default(),
        }
    }

    /// This process had the log open a moment ago, before it became another program.
    pub(crate) fn set_continued(&self) {
        self.is_continued.store(true, Ordering::Release);
    }

    /// Whether it did; for the first opening only.
    pub(crate) fn take_continued(&self) -> bool {
        self.is_continued.swap(false, Ordering::AcqRel)
    }

    /// A next segment that is there already.
    pub(crate) fn put_spare(&self, spare: Spare) {
        locked(&self.keep).spare = Some(spare);
    }

    /// The log was opened: everything up to here is on the disk.
    pub(crate) fn start_at(&self, position: u64) {
        *locked(&self.keep) = Keep::default();
        locked(&self.not_durable).clear();
        *locked(&self.failure) = None;
        self.appended.store(position, Ordering::Release);
        self.committed.store(position, Ordering::Release);
        self.requested_us.store(0, Ordering::Release);
        self.has_failed.store(false, Ordering::Release);
    }

    /// The log is about to be opened anew: waits until nobody is at its files, and keeps everybody away from them.
    pub(crate) fn stop(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        *locked(&self.keep) = Keep::default();
    }

    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Who is to be woken from now on. `false`: there is somebody already.
    pub(crate) fn attach(&self, bells: Arc<Bells>) -> bool {
        self.bells.set(bells).is_ok()
    }

    // --- Commits.

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<LogError> {
        if self.has_failed() { locked(&self.failure).clone() } else { None }
    }

    /// Nothing is committed any more.
    pub(crate) fn fail(&self, error: LogError) {
        locked(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
        self.metrics.commit_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// What is appended counts as committed at once.
    pub(crate) fn publish(&self, appended: u64) {
        self.appended.store(appended, Ordering::Release);
        self.committed.store(appended, Ordering::Release);
    }

    /// The worker wants a commit.
    pub(crate) fn request(&self, appended: u64, messages: u64) {
        if self.appended.load(Ordering::Relaxed) == appended {
            return;
        }
        self.metrics.messages_appended.store(messages, Ordering::Relaxed);
        if self.requested_us.load(Ordering::Relaxed) == 0 {
            self.requested_us.store(self.now_us().max(1), Ordering::Relaxed);
        }
        self.appended.store(appended, Ordering::SeqCst);
        if let Some(bells) = self.bells.get() {
            bells.syncer.ring();
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A segment that records are going to be written to.
    pub(crate) fn will_write(&self, header_base: u64, end: u64, path: &Path, flusher: Flusher) {
        let not_durable = NotDurable { base: header_base, end, path: path.to_owned(), flusher };
        locked(&self.not_durable).push_back(not_durable);
    }

    /// Whether a request waits for an answer.
    pub(crate) fn is_due(&self) -> bool {
        !self.has_failed() && self.appended.load(Ordering::SeqCst) > self.committed()
    }

    /// Commits what was requested. Returns whether there was something; after a failure there is nothing.
    pub(crate) fn commit(&self) -> bool {
        if !self.is_due() {
            return false;
        }
        let requested_us = self.requested_us.swap(0, Ordering::Relaxed);
        let messages = self.metrics.messages_appended.load(Ordering::Relaxed);
        let to = self.appended.load(Ordering::SeqCst);
        if let Err(error) = self.sync(self.committed(), to) {
            self.fail(error);
            return true;
        }
        self.committed.store(to, Ordering::Release);
        let before = self.messages_committed.swap(messages, Ordering::Relaxed);
        self.metrics.commits.fetch_add(1, Ordering::Relaxed);
        self.metrics.commit_messages.record(messages.saturating_sub(before));
        if requested_us != 0 {
            self.metrics.commit_us.record(self.now_us().saturating_sub(requested_us));
        }
        true
    }

    fn sync(&self, from: u64, to: u64) -> Result<(), LogError> {
        let pieces: Vec<_> = {
            let mut not_durable = locked(&self.not_durable);
            while not_durable.len() > 1 && not_durable.front().is_some_and(|first| first.end <= from) {
                not_durable.pop_front();
            }
            let touched = not_durable.iter().filter(|segment| segment.base < to && segment.end > from);
            touched
                .map(|segment| {
                    let begin = (from.max(segment.base) - segment.base) as usize;
                    let end = (to.min(segment.end) - segment.base) as usize;
                    (segment.path.clone(), segment.flusher.clone(), begin..end)
                })
                .collect()
        };
        for (path, flusher, range) in pieces {
            flusher
                .sync(range)
                // A file system that goes read-only after an error (ext4) may drop what it was still doing for these
                // bytes and say nothing. If it takes a write afterwards, it had not gone read-only before.
                .and_then(|()| self.files.is_writable(&path))
                .map_err(|error| LogError::io("sync", &path, error))?;
        }
        Ok(())
    }

    // --- Files.

    fn wake_keeper(&self) {
        if let Some(bells) = self.bells.get() {
            bells.keeper.ring();
        }
    }

    /// The keeper's work, unless it is busy with a file: a worker does not wait for that.
    fn try_keep(&self) -> Option<MutexGuard<'_, Keep>> {
        match self.keep.try_lock() {
            Ok(keep) => Some(keep),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Asks for the segment after the one in use. To be repeated now and then.
    pub(crate) fn want_spare(&self, header: Header) {
        let Some(mut keep) = self.try_keep() else { return };
        if keep.spare.is_none() && keep.wanted.is_none() {
            keep.wanted = Some(header);
            drop(keep);
            self.wake_keeper();
        }
    }

    /// Takes the next segment; makes it on this thread when nobody has yet. `None`: it cannot be made now.
    pub(crate) fn take_spare(&self, header: Header) -> Option<Spare> {
        let mut keep = locked(&self.keep);
        if keep.spare.is_none() {
            if keep.failed.is_some() {
                // The keeper tries again; an append must not.
                keep.wanted.get_or_insert(header);
                return None;
            }
            self.metrics.segment_waits.fetch_add(1, Ordering::Relaxed);
            keep.wanted.get_or_insert(header);
            self.make_spare(&mut keep);
        }
        keep.spare.take()
    }

    /// Hands over a dead segment, or gives it back when the keeper is busy.
    pub(crate) fn discard(&self, dead: Dead) -> Result<(), Dead> {
        let Some(mut keep) = self.try_keep() else { return Err(dead) };
        keep.dead.push_back(dead);
        drop(keep);
        self.wake_keeper();
        Ok(())
    }

    /// Hands over a checkpoint, to be written once what it tells of is committed. `false`: the keeper is busy.
    pub(crate) fn put_checkpoint(&self, position: u64, content: Vec<u8>) -> bool {
        let Some(mut keep) = self.try_keep() else { return false };
        keep.checkpoint = Some((position, content));
        drop(keep);
        self.wake_keeper();
        true
    }

    /// Hands over a segment to be written anew. `false`: the keeper is busy, or has one.
    pub(crate) fn put_rewrite(&self, rewrite: Rewrite) -> bool {
        let Some(mut keep) = self.try_keep() else { return false };
        if keep.rewrite.is_some() || keep.rewritten.is_some() {
            return false;
        }
        keep.rewrite = Some(rewrite);
        drop(keep);
        self.wake_keeper();
        true
    }

    /// Takes the segment that has been written anew.
    pub(crate) fn take_rewritten(&self) -> Option<Rewritten> {
        self.try_keep()?.rewritten.take()
    }

    /// Writes a segment anew. One that is gone, or is about to go, is left alone: this thread deletes as well.
    fn rewrite(&self) {
        let Some(Rewrite { log_id, base, path, positions }) = locked(&self.keep).rewrite.take() else {
            return;
        };
        let mut texts = 0;
        let rewritten = self.files.read(&path).and_then(|content| {
            let Some(mut content) = content else { return Ok(None) };
            texts = wipe(&mut content, log_id, Position(base), &positions);
            self.files.replace(&path, &content)?;
            self.files.open(&path).map(Some)
        });
        let done = rewritten.map_err(|error| LogError::io("write anew", &path, error));
        locked(&self.keep).rewritten = Some(Rewritten { base, texts, done });
    }

    /// Why there is no next segment, if it could not be made.
    pub(crate) fn spare_failure(&self) -> Option<LogError> {
        self.try_keep()?.failed.clone()
    }

    fn make_spare(&self, keep: &mut Keep) {
        let Some(header) = keep.wanted else { return };
        let path = self.folder.join(file_name(header.base));
        match self.files.create(&path, &header.encode(), header.bytes) {
            Ok(map) => {
                keep.spare = Some(Spare { header, path, map });
                keep.wanted = None;
                keep.failed = None;
            }
            Err(error) => {
                self.metrics.segment_failures.fetch_add(1, Ordering::Relaxed);
                keep.failed = Some(LogError::io("make", &path, error));
            }
        }
    }

    /// Does what is due with the files. Returns whether something is left that has to be tried again later.
    pub(crate) fn keep_files(&self) -> bool {
        if self.has_failed() {
            return false;
        }
        let mut keep = locked(&self.keep);
        // While a segment is made, a worker that needs it waits: it has nothing else to write to.
        self.make_spare(&mut keep);
        let committed = self.committed();
        let checkpoint = keep.checkpoint.take_if(|(position, _)| *position <= committed);
        let is_left = keep.wanted.is_some() || keep.checkpoint.is_some();
        drop(keep);
        if let Some((_, content)) = checkpoint {
            let path = self.folder.join(super::super::format::checkpoint::FILE);
            match self.files.replace(&path, &content) {
                Ok(()) => self.metrics.checkpoints.fetch_add(1, Ordering::Relaxed),
                // The next opening scans more.
                Err(_) => self.metrics.checkpoint_failures.fetch_add(1, Ordering::Relaxed),
            };
        }
        self.rewrite();
        let deleted = self.metrics.segments_deleted.load(Ordering::Relaxed);
        let is_left = self.bury() || is_left;
        // On a full disk what a log gives back is its own: others wait for room as well, and would be first.
        if self.metrics.segments_deleted.load(Ordering::Relaxed) > deleted {
            self.make_spare(&mut locked(&self.keep));
        }
        is_left
    }

    /// Deletes dead segments, the oldest first: a record that trims one in an older segment must outlive it.
    fn bury(&self) -> bool {
        loop {
            let committed = self.committed();
            let Some(mut dead) = ({
                let mut keep = locked(&self.keep);
                // A checkpoint that waits may be of what stood in one that is about to go.
                let is_due = keep.checkpoint.is_none()
                    && keep.dead.front().is_some_and(|dead| dead.after <= committed);
                if is_due { keep.dead.pop_front() } else { return !keep.dead.is_empty() }
            }) else {
                return false;
            };
            drop(dead.map.take());
            let done = match &dead.keep_at {
                None => self.files.remove(&dead.path),
                Some(to) => {
                    let folder = to.parent().unwrap_or(to);
                    self.files.make_folder(folder).and_then(|()| self.files.rename(&dead.path, to))
                }
            };
            let is_gone = done.is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound);
            if is_gone {
                locked(&self.keep).dead.push_front(dead);
                return true;
            }
            self.metrics.segments_deleted.fetch_add(1, Ordering::Relaxed);
        }
    }
}
