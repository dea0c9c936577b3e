//! Gathering: texts of an actor that lie far apart in a worker's log, because many others were written in between, are copied to
//! where they lie together. So a page of an archive is read from the disk with two or three reads, whatever is interleaved.
//!
//! ```text
//! rows ── full ──▶ list in the directory ── enough of them ──▶ plan: (actor, id) → places of a new file
//!                                                               │
//!   workers' logs, pages mostly in memory ── in their order ──▶ copy ──▶ sync ──▶ file has its name ──▶ rows switch, 256 at a time
//!                                                                                                          │
//!   old segments: nobody holds them, they go by themselves ◀───────────────────────────────────────────────┘
//! ```
//!
//! The file has its name before the first row says that its texts are there, and the logs lose nothing before all do. Rows switch
//! only if they are as they were when their texts were read, and nothing of them was erased or cut meanwhile; what was is taken
//! out of the file at once, and is due to be erased once more. A crash leaves a file without a name, which is removed; a file that
//! nobody holds, which is removed at the next start, as it is at once when it is given up; or rows that have not switched yet,
//! which are still listed.
//!
//! | module | what |
//! |---|---|
//! | here | the steps |
//! | `batch` | what goes into a file, and where |
//! | `named` | a file from its name to its last row |
//! | `room` | whether a file may be made, and when the oldest goes |
//! | `sparse` | files of which less than half is needed any more |
//! | `thread` | the thread that does it beside a server |

mod batch;
mod named;
mod room;
mod sparse;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Tallies;
use super::query::QueryError;
use super::readers::Folders;
use super::segments::{Segments, Source};
use crate::actor::ActorId;
use crate::directory::{
    Directory, DirectoryError, GATHER_MESSAGES_MIN, Switches, WriteTransaction, run_inline,
};
use crate::journal::format::segment::file_name;
use crate::journal::live::files::{Files, System};
use crate::journal::options::SEGMENT_BYTES_MAX;
use crate::log::{GatheredLog, LogError, Position, Sequence, make_gathered, random_id};

use batch::Batch;
use named::Named;
use room::Room;
use sparse::Sparse;

pub use room::Space;
pub use thread::{GatherWorld, Gathering};

/// Rows of a file at most, so that what is known of their texts takes ten MiB or so.
const ROWS_MAX: usize = 2_048;
/// Rows that switch in one transaction.
const SWITCH_ROWS: usize = 256;
/// Rows that are looked at in one transaction to be listed.
const LIST_ROWS: usize = 1_000;

/// When a file is written.
#[derive(Clone, Copy, Debug)]
pub struct GatherSettings {
    /// Most bytes of a file, but for a single row that is larger.
    pub file_bytes_max: u64,
    /// Nothing is done before so many bytes are due.
    pub file_bytes_min: u64,
    /// But after so many milliseconds, for less.
    pub wait_ms: u64,
    /// Otherwise nothing is gathered, and only room is made of what was.
    pub is_on: bool,
}

impl Default for GatherSettings {
    /// Files of 32 MiB at most, and of 16 MiB at least or what has come in six hours.
    fn default() -> Self {
        Self { file_bytes_max: 32 << 20, file_bytes_min: 16 << 20, wait_ms: 6 * 3_600_000, is_on: true }
    }
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stepped {
    /// There is more to do.
    Working,
    /// Nothing is due.
    Idle,
    /// The disk has no room for a file.
    NoRoom,
}

/// Bytes that are read in a second at most, with what lies between texts, so that a disk has time for others.
pub(crate) const BYTES_PER_SECOND: u64 = 32 << 20;

/// What is counted. Read by anybody.
#[derive(Debug, Default)]
pub struct GatherMetrics {
    /// Messages that were gathered.
    pub messages: AtomicU64,
    /// Their rows.
    pub rows: AtomicU64,
    /// Rows that were left alone, because something else has changed them, or because a text could not be read.
    pub left: AtomicU64,
    /// Files that were given up before their time because there was no room.
    pub pressed: AtomicU64,
    /// Files of which less than half was needed when half of the room was taken, and what was is gathered once more.
    pub sparse: AtomicU64,
    /// Texts that were erased while they were copied.
    pub erased: AtomicU64,
    /// Steps that failed.
    pub failures: AtomicU64,
    /// 1 while the disk has no room for a file.
    pub no_room: AtomicU64,
    /// Files of the gathered log, and their bytes.
    pub files: AtomicU64,
    /// See `files`.
    pub bytes: AtomicU64,
}

/// What it works with.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) folders: Arc<Folders>,
    pub(crate) files: Arc<dyn Files>,
    /// The folder of all logs.
    pub(crate) root: PathBuf,
}

/// Gathers, a step at a time. See the module.
pub struct Gatherer {
    place: Place,
    log: GatheredLog,
    settings: GatherSettings,
    metrics: Arc<GatherMetrics>,
    /// Its files: where they begin, and their bytes.
    files: Vec<(u64, u64)>,
    /// Where the next file may begin.
    next: u64,
    listing: Listing,
    /// Messages of a row that is listed although it is its actor's newest.
    messages_min: usize,
    batch: Option<Batch>,
    named: Option<Named>,
    /// When a file was written last, or nothing was due.
    last_ms: Option<u64>,
    room: Room,
    sparse: Sparse,
    /// No row says that its text is in a file that went.
    is_reconciled: bool,
    /// Bytes that were read since [`Gatherer::take_read`].
    read_bytes: u64,
}

/// Rows that were there before there was a list of those that are due.
enum Listing {
    Behind(Option<(ActorId, Sequence)>),
    Done,
}

impl Gatherer {
    /// For the logs in a folder, which must be open in this process. Makes the gathered log, if there is none: before
    /// [`Folders`] are made of [`journal_folders`](crate::log::journal_folders), [`Gatherer::prepare`] must have been called.
    ///
    /// # Errors
    /// The gathered log, or the directory, cannot be read.
    pub fn new(
        directory: &Directory,
        tallies: &Arc<Tallies>,
        folders: &Arc<Folders>,
        log: &Path,
        settings: GatherSettings,
    ) -> Result<Self, QueryError> {
        let place = Place {
            directory: directory.clone(),
            tallies: tallies.clone(),
            folders: folders.clone(),
            files: Arc::new(System),
            root: log.to_owned(),
        };
        Self::with(place, settings, &random_id)
    }

    /// Makes the gathered log of a folder, if there is none. The logs must be open in this process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(log: &Path) -> Result<(), LogError> {
        make_gathered(&System, log, &random_id).map(|_| ())
    }

    pub(crate) fn with(
        place: Place,
        settings: GatherSettings,
        random_id: &dyn Fn() -> Result<u64, LogError>,
    ) -> Result<Self, QueryError> {
        let log = make_gathered(&*place.files, &place.root, random_id)?;
        place.folders.add(log.journal, &log.folder);
        let mut files = Vec::new();
        for base in log.bases(&*place.files)? {
            let path = log.folder.join(file_name(base));
            let bytes = match place.files.view(&path) {
                Ok(map) => map.len() as u64,
                // It is empty.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(LogError::io("look at", &path, error).into()),
            };
            files.push((base, bytes));
        }
        let (gathered_to, is_listed) = place.directory.archive_gathered_to()?;
        let next = files.last().map_or(0, |(base, bytes)| base + bytes).max(gathered_to.0);
        let mut gatherer = Self {
            place,
            log,
            settings,
            metrics: Arc::default(),
            files,
            next: next.next_multiple_of(crate::journal::options::PAGE_BYTES),
            listing: if is_listed { Listing::Done } else { Listing::Behind(None) },
            messages_min: GATHER_MESSAGES_MIN,
            batch: None,
            named: None,
            last_ms: None,
            room: Room::default(),
            sparse: Sparse::default(),
            is_reconciled: false,
            read_bytes: 0,
        };
        // What a crash has left between its name and its rows.
        let (tallies, journal) = (gatherer.place.tallies.clone(), gatherer.log.journal);
        gatherer.remove_unheld(&|base| !tallies.needs(journal, Position(base)));
        Ok(gatherer)
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<GatherMetrics> {
        &self.metrics
    }

    /// The id of the gathered log.
    #[must_use]
    pub fn journal(&self) -> u64 {
        self.log.journal
    }

    /// Does a bounded piece of work: some reads and what they bring is copied, or one transaction is written. `now_ms`: of a clock that
    /// is never set. May wait for the disk. After an error, what was under way is begun anew by a later call.
    ///
    /// # Errors
    /// Rows or texts cannot be read, the file or the directory cannot be written.
    pub fn step(
        &mut self,
        source: &mut GatherSource,
        now_ms: u64,
        space: Space,
    ) -> Result<Stepped, QueryError> {
        source.0.begin();
        self.step_from(&mut source.0, now_ms, space)
    }

    pub(crate) fn step_from(
        &mut self,
        source: &mut dyn Source,
        now_ms: u64,
        space: Space,
    ) -> Result<Stepped, QueryError> {
        let stepped = self.go_on(source, now_ms, space);
        match &stepped {
            Ok(stepped) => {
                self.metrics.no_room.store(u64::from(*stepped == Stepped::NoRoom), Ordering::Relaxed);
            }
            Err(_) => {
                self.metrics.failures.fetch_add(1, Ordering::Relaxed);
                self.give_up();
            }
        }
        stepped
    }

    /// Bytes that were read since this was asked last.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read_bytes)
    }

    /// Has all rows listed that have at least so many messages, be they their actors' newest: for simulations, whose archives are
    /// small.
    pub fn list_again(&mut self, messages_min: usize) {
        (self.listing, self.messages_min) = (Listing::Behind(None), messages_min);
    }

    fn go_on(&mut self, source: &mut dyn Source, now_ms: u64, space: Space) -> Result<Stepped, QueryError> {
        let Some(mut batch) = self.batch.take() else { return self.begin(source, now_ms, space) };
        let is_over = self.advance(&mut batch, source);
        // On an error it is given up by the caller.
        self.batch = Some(batch);
        if is_over? {
            self.batch = None;
            self.answer();
            self.last_ms = Some(now_ms);
        }
        Ok(Stepped::Working)
    }

    /// Goes on with a file. Returns whether that was all.
    fn advance(&mut self, batch: &mut Batch, source: &mut dyn Source) -> Result<bool, QueryError> {
        if !batch.is_copied() {
            let (bytes, is_done) = batch.copy(source, self.log.journal)?;
            self.read_bytes += bytes;
            if is_done {
                let path = self.log.unfinished();
                batch.flush().map_err(|error| LogError::io("write", &path, error))?;
            }
            return Ok(false);
        }
        if !batch.is_synced() {
            let path = self.log.unfinished();
            batch.sync().map_err(|error| LogError::io("write", &path, error))?;
            return Ok(false);
        }
        if !batch.is_published() {
            self.publish(batch)?;
            return Ok(false);
        }
        let rows = batch.to_switch(self.log.journal, SWITCH_ROWS);
        self.switch(batch, rows)?;
        Ok(batch.is_switched())
    }

    /// Nothing is under way: looks what is due.
    fn begin(&mut self, source: &mut dyn Source, now_ms: u64, space: Space) -> Result<Stepped, QueryError> {
        self.list_files()?;
        let hindered = match self.put_right() {
            Ok(true) => return Ok(Stepped::Working),
            Ok(false) => None,
            // What a full disk keeps from being put right must not keep it full.
            Err(error) if space.is_full && room::is_full(&error) => Some(error),
            Err(error) => return Err(error.into()),
        };
        if let Some(stepped) = self.make_room(now_ms, space)? {
            return Ok(stepped);
        }
        if let Some(error) = hindered {
            return Err(error.into());
        }
        if !self.settings.is_on {
            return Ok(Stepped::Idle);
        }
        if self.list()? || self.list_sparse(source, space)? {
            return Ok(Stepped::Working);
        }
        let most = self.settings.file_bytes_max;
        let (due, has_more) = self.place.directory.archive_to_gather(ROWS_MAX, most)?;
        let bytes: u64 = due.iter().map(|row| row.bytes).sum();
        let last_ms = *self.last_ms.get_or_insert(now_ms);
        if due.is_empty() {
            self.last_ms = Some(now_ms);
            return Ok(Stepped::Idle);
        }
        let has_waited = now_ms >= last_ms.saturating_add(self.settings.wait_ms);
        if bytes < self.settings.file_bytes_min && !has_more && !has_waited {
            return Ok(Stepped::Idle);
        }
        let (sealed, gathered) = (self.place.folders.sealed_ids(), self.log.journal);
        let is_due = |journal: u64, text: Position| match journal == gathered {
            true => self.sparse.has(&self.files, text),
            false => !sealed.contains(&journal),
        };
        let (batch, gone) = Batch::plan(&self.place.directory, &due, &is_due, self.next)?;
        if !gone.is_empty() {
            self.apply(Switches { gone, ..Switches::default() })?;
        }
        let Some(mut batch) = batch else { return Ok(Stepped::Working) };
        if let Some(stepped) = self.room_for(now_ms, space, batch.bytes())? {
            return Ok(stepped);
        }
        let path = self.log.unfinished();
        match batch.create(&*self.place.files, &path, self.log.journal) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(Stepped::NoRoom),
            Err(error) => return Err(LogError::io("make", &path, error).into()),
        }
        self.batch = Some(batch);
        Ok(Stepped::Working)
    }

    /// Puts right what is not known, or not true, of what rows say of files. Returns whether rows said what was not true.
    fn put_right(&mut self) -> Result<bool, DirectoryError> {
        self.clear_doubt()?;
        self.reconcile()
    }

    /// Lists some of the rows that were there before there was a list. `false`: that has been done.
    fn list(&mut self) -> Result<bool, QueryError> {
        let Listing::Behind(behind) = self.listing else { return Ok(false) };
        let (gathered, least) = (self.log.journal, self.messages_min);
        let job = move |t: &mut WriteTransaction<'_>| t.list_to_gather(gathered, behind, (least, LIST_ROWS));
        let next = self.write(job)?;
        self.listing = next.map_or(Listing::Done, |next| Listing::Behind(Some(next)));
        Ok(true)
    }

    /// Writes to the directory. Nobody waits for it, so the disk is asked first, before others have to wait for the transaction.
    fn write<T>(
        &self,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        self.place.directory.prove_disk()?;
        run_inline(&self.place.directory, Box::new(job))
    }

    /// Which files are still there.
    fn list_files(&mut self) -> Result<(), QueryError> {
        let bases = self.log.bases(&*self.place.files)?;
        self.files.retain(|(base, _)| bases.binary_search(base).is_ok());
        self.count_files();
        Ok(())
    }

    fn count_files(&self) {
        self.metrics.files.store(self.files.len() as u64, Ordering::Relaxed);
        self.metrics.bytes.store(self.bytes(), Ordering::Relaxed);
    }

    /// Bytes of its files.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// What texts are read from.
pub struct GatherSource(Segments);

impl GatherSource {
    /// From journals that lie where `folders` says.
    #[must_use]
    pub fn new(folders: Arc<Folders>) -> Self {
        Self(Segments::new(folders))
    }

    #[cfg(test)]
    pub(crate) fn inner(&mut self) -> &mut dyn Source {
        &mut self.0
    }

    /// Gives back the space of files that have been deleted.
    pub fn tidy(&mut self) {
        self.0.close_deleted();
    }
}

/// Bytes of the largest row that is gathered.
fn is_too_large(bytes: u64) -> bool {
    bytes > SEGMENT_BYTES_MAX / 2
}

/// Bytes that the file system of a folder has left; when it does not say, more than anybody can need.
#[must_use]
pub fn free_bytes(folder: &Path) -> u64 {
    crate::uploads::free_bytes(folder).unwrap_or(u64::MAX)
}
