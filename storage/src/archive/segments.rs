//! Reading texts from segments, on threads that may wait for the disk: with plain reads on descriptors that stay open,
//! never through a worker's map.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{ahead, erase};
use crate::directory::is_held_here;
use crate::journal::format::segment::{base_of, file_name};
use crate::journal::live::files::{Files, System};
use crate::log::{LogError, Position};

/// Segments that a thread keeps open.
const OPEN_MAX: usize = 64;

/// Files that others may read of those that one thread has opened, at most.
const LENT_MAX: usize = 128;

/// Bytes that a thread keeps to read into. What had to be more is given back to the system.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Where journals lie, by their ids. Shared by all threads.
#[derive(Debug, Default)]
pub struct Folders {
    places: RwLock<HashMap<u64, PathBuf>>,
    /// Journals that nobody writes to any more.
    sealed: Vec<u64>,
    /// Held by those that remove files of journals that nobody has open, or write them anew.
    files: Mutex<()>,
}

impl Folders {
    /// As [`journal_folders`](crate::log::journal_folders) tells.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = (u64, PathBuf)>) -> Self {
        Self { places: RwLock::new(all.into_iter().collect()), ..Self::default() }
    }

    /// Nobody writes to these journals any more.
    #[must_use]
    pub fn with_sealed(self, sealed: Vec<u64>) -> Self {
        Self { sealed, ..self }
    }

    /// The ids of journals that nobody writes to any more.
    #[must_use]
    pub fn sealed_ids(&self) -> Vec<u64> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        self.sealed.iter().copied().filter(|id| places.contains_key(id)).collect()
    }

    /// Until this is dropped, nobody else removes files of journals that nobody has open, or writes them anew.
    pub fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of all journals.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> =
            self.places.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// A journal lies here from now on.
    pub fn add(&self, journal: u64, folder: &Path) {
        let mut folders = self.places.write().unwrap_or_else(PoisonError::into_inner);
        folders.insert(journal, folder.to_owned());
    }

    /// A journal is gone.
    pub fn remove(&self, journal: u64) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).remove(&journal);
    }

    fn of(&self, journal: u64) -> Option<PathBuf> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(&journal).cloned()
    }
}

/// What texts are read from.
pub(crate) trait Source {
    /// The segment that holds a position of a journal: where it begins, and up to where positions are known to be in it. `None`:
    /// it is gone.
    fn segment(&mut self, journal: u64, position: Position) -> Result<Option<Range<Position>>, LogError>;

    /// Reads bytes of a segment from a position on. `false`: it is gone, or ends before.
    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, LogError>;

    /// Bytes that are about to be read, after others: they may be fetched meanwhile.
    fn will_need(&mut self, _journal: u64, _segment: Position, _bytes: Range<Position>) {}

    /// What it knows of segments may be out of date: they are looked at anew.
    fn look_again(&mut self);

    /// Memory to read into, with whatever is in it.
    fn lend(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes such memory back.
    fn give_back(&mut self, _: Vec<u8>) {}

    /// The open file of a segment, for reads of others; `None`: it is gone, or there is none for them.
    fn handle(&mut self, _journal: u64, _segment: Position) -> Result<Option<Handle>, LogError> {
        Ok(None)
    }

    /// Bytes of a segment's file; none of one that is gone.
    fn length(&mut self, journal: u64, segment: Position) -> Result<u64, LogError> {
        Ok(self.whole(journal, segment)?.len() as u64)
    }

    /// All of a segment; nothing of one that is gone.
    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, LogError>;
}

/// An open segment, to be read by others than the thread that has opened it.
#[derive(Clone)]
pub(crate) struct Handle {
    file: Arc<File>,
    may_wait: bool,
}

impl Handle {
    /// Reads bytes from a place of the file on. `false`: they are not in memory, or not there at all.
    pub(super) fn read(&self, from: u64, to: &mut [u8]) -> bool {
        match self.may_wait {
            true => self.file.read_exact_at(to, from).is_ok(),
            false => ahead::read_from_memory(&self.file, from, to),
        }
    }
}

/// An open segment.
struct Open {
    file: Arc<File>,
    bytes: u64,
    used: u64,
}

/// Segments of all journals, as one thread knows them.
pub(super) struct Segments {
    folders: Arc<Folders>,
    /// Where the segments of each journal begin, in order, as of the last look.
    bases: HashMap<u64, Vec<u64>>,
    open: HashMap<(u64, u64), Open>,
    uses: u64,
    /// Journals that were looked at during this query.
    looked: HashSet<u64>,
    /// What was read into last.
    spare: Vec<u8>,
    /// Files that others may read ([`Source::handle`]): whoever drops the last reference to one that has been deleted waits for the
    /// disk, and they may not.
    lent: Vec<Arc<File>>,
    /// Whether others that read what it has opened may wait for the disk.
    may_wait: bool,
}

impl Segments {
    pub(super) fn new(folders: Arc<Folders>) -> Self {
        Self {
            may_wait: true,
            folders,
            bases: HashMap::new(),
            open: HashMap::new(),
            uses: 0,
            looked: HashSet::new(),
            spare: Vec::new(),
            lent: Vec::new(),
        }
    }

    /// Others that read what it has opened ([`Source::handle`]) may not wait for the disk.
    pub(super) fn beside_workers(self) -> Self {
        Self { may_wait: false, ..self }
    }

    /// Where journals lie.
    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Where the segments of a journal begin, in order.
    pub(super) fn all(&mut self, journal: u64) -> Result<Vec<Position>, LogError> {
        self.begin();
        self.look(journal)?;
        Ok(self.bases.get(&journal).into_iter().flatten().map(|base| Position(*base)).collect())
    }

    /// Another query begins.
    pub(super) fn begin(&mut self) {
        self.looked.clear();
    }

    /// Looks which segments a journal has.
    fn look(&mut self, journal: u64) -> Result<(), LogError> {
        if !self.looked.insert(journal) {
            return Ok(());
        }
        debug_assert!(!is_held_here(), "while the directory is held, nobody waits for a disk");
        let mut bases = Vec::new();
        if let Some(folder) = self.folders.of(journal) {
            let failed = |error| LogError::io("read", &folder, error);
            match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(entries) => {
                    for entry in entries {
                        let name = entry.map_err(failed)?.file_name();
                        bases.extend(name.to_str().and_then(base_of));
                    }
                }
            }
        }
        bases.sort_unstable();
        self.open.retain(|(of, base), _| *of != journal || bases.binary_search(base).is_ok());
        self.bases.insert(journal, bases);
        Ok(())
    }

    /// The segment that holds a position as far as is known, and up to where it certainly goes; not even to the position where
    /// that is not known.
    fn base(&self, journal: u64, position: Position) -> Option<Range<Position>> {
        let bases = self.bases.get(&journal)?;
        let after = bases.partition_point(|base| *base <= position.0);
        let base = *bases.get(after.checked_sub(1)?)?;
        let next = bases.get(after).copied();
        let end = match self.open.get(&(journal, base)) {
            Some(open) => next.map_or(base + open.bytes, |next| next.min(base + open.bytes)),
            // Behind the last one there may be others by now.
            None => next.unwrap_or(base),
        };
        Some(Position(base)..Position(end))
    }

    /// Replaces the texts of some records of a segment by zeros. Its journal is not open, and what removes its files waits.
    pub(super) fn wipe(
        &mut self,
        journal: u64,
        segment: Position,
        positions: &[Position],
    ) -> Result<usize, LogError> {
        let Some(folder) = self.folders.of(journal).filter(|_| !positions.is_empty()) else { return Ok(0) };
        let folders = Arc::clone(&self.folders);
        let _guard = folders.exclusive();
        let path = folder.join(file_name(segment.0));
        let failed = |error| LogError::io("write anew", &path, error);
        let Some(mut content) = System.read(&path).map_err(failed)? else { return Ok(0) };
        let texts = erase::wipe(&mut content, journal, segment, positions);
        System.replace(&path, &content).map_err(failed)?;
        self.open.remove(&(journal, segment.0));
        Ok(texts)
    }

    /// Gives back the space of files that have been deleted.
    pub(super) fn close_deleted(&mut self) {
        let is_there = |file: &File| file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        self.open.retain(|_, open| is_there(&open.file));
        self.lent.retain(|file| Arc::strong_count(file) > 1);
        self.bases.clear();
    }

    /// Makes room for another open segment.
    fn make_room(&mut self) {
        if self.open.len() >= OPEN_MAX
            && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.used).map(|(key, _)| *key)
        {
            self.open.remove(&oldest);
        }
    }

    /// The file of a segment; `None`: it is gone.
    fn file(&mut self, journal: u64, segment: Position) -> Result<Option<&Arc<File>>, LogError> {
        debug_assert!(!is_held_here(), "while the directory is held, nobody waits for a disk");
        self.uses += 1;
        let key = (journal, segment.0);
        if !self.open.contains_key(&key) {
            let Some(folder) = self.folders.of(journal) else { return Ok(None) };
            let path = folder.join(file_name(segment.0));
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(LogError::io("open", &path, error)),
            };
            let bytes = file.metadata().map_err(|error| LogError::io("look at", &path, error))?.len();
            ahead::expect_parts(&file);
            self.make_room();
            self.open.insert(key, Open { file: Arc::new(file), bytes, used: 0 });
        }
        let uses = self.uses;
        Ok(self.open.get_mut(&key).map(|open| {
            open.used = uses;
            &open.file
        }))
    }
}

impl Source for Segments {
    fn segment(&mut self, journal: u64, position: Position) -> Result<Option<Range<Position>>, LogError> {
        if let Some(known) = self.base(journal, position).filter(|known| known.contains(&position)) {
            return Ok(Some(known));
        }
        self.look(journal)?;
        // What is not known for certain is known of this one.
        let known = self.base(journal, position);
        Ok(known.map(|known| known.start..known.end.max(Position(position.0 + 1))))
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, LogError> {
        let Some(file) = self.file(journal, segment)? else { return Ok(false) };
        match file.read_exact_at(to, from.0 - segment.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => {
                let path = self.folders.of(journal).unwrap_or_default();
                Err(LogError::io("read a segment of", &path, error))
            }
        }
    }

    fn will_need(&mut self, journal: u64, segment: Position, bytes: Range<Position>) {
        // What prevents it is told by the read.
        if let Ok(Some(file)) = self.file(journal, segment) {
            ahead::will_need(file, bytes.start.0 - segment.0, bytes.end.0 - bytes.start.0);
        }
    }

    fn look_again(&mut self) {
        self.begin();
    }

    fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    fn give_back(&mut self, memory: Vec<u8>) {
        if memory.capacity() <= SPARE_BYTES_MAX {
            self.spare = memory;
        }
    }

    fn handle(&mut self, journal: u64, segment: Position) -> Result<Option<Handle>, LogError> {
        let may_wait = self.may_wait;
        if !may_wait && !ahead::KNOWS_MEMORY {
            return Ok(None);
        }
        let Some(file) = self.file(journal, segment)?.cloned() else { return Ok(None) };
        if !self.lent.iter().any(|lent| Arc::ptr_eq(lent, &file)) {
            if self.lent.len() >= LENT_MAX {
                self.lent.retain(|file| Arc::strong_count(file) > 1);
            }
            if self.lent.len() >= LENT_MAX {
                return Ok(None);
            }
            self.lent.push(file.clone());
        }
        Ok(Some(Handle { file, may_wait }))
    }

    fn length(&mut self, journal: u64, segment: Position) -> Result<u64, LogError> {
        let length = match self.file(journal, segment)? {
            Some(file) => file.metadata().map(|metadata| metadata.len()),
            None => Ok(0),
        };
        let folder = self.folders.of(journal).unwrap_or_default();
        length.map_err(|error| LogError::io("look at a segment of", &folder, error))
    }

    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, LogError> {
        let length = self.length(journal, segment)?;
        self.will_need(journal, segment, segment..Position(segment.0 + length));
        let mut bytes = vec![0; length as usize];
        let is_there = bytes.is_empty() || self.read(journal, segment, segment, &mut bytes)?;
        Ok(if is_there { bytes } else { Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_read_is_closed_here() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name(0));
        std::fs::write(&path, [7; 100]).unwrap();
        let mut segments = Segments::new(Arc::new(Folders::new([(1, folder.path().to_owned())])));
        let handle = segments.handle(1, Position(0)).unwrap().expect("the file is there");
        let again = segments.handle(1, Position(0)).unwrap().expect("and is known");
        assert_eq!(segments.lent.len(), 1);
        std::fs::remove_file(&path).unwrap();
        segments.close_deleted();
        let file = Arc::downgrade(&handle.file);
        drop((handle, again));
        assert!(file.upgrade().is_some(), "whoever reads does not close it");
        segments.close_deleted();
        assert!(file.upgrade().is_none() && segments.lent.is_empty());
    }

    #[test]
    fn few_files_are_lent_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let base = |n: usize| n as u64 * 4096;
        let mut segments = Segments::new(Arc::new(Folders::new([(1, folder.path().to_owned())])));
        let mut handles = Vec::new();
        for n in 0..LENT_MAX + 3 {
            std::fs::write(folder.path().join(file_name(base(n))), [7; 100]).unwrap();
            handles.extend(segments.handle(1, Position(base(n))).unwrap());
        }
        assert_eq!((handles.len(), segments.lent.len()), (LENT_MAX, LENT_MAX));
        handles.clear();
        assert!(segments.handle(1, Position(base(LENT_MAX))).unwrap().is_some(), "they were given back");
        assert!(segments.lent.len() <= OPEN_MAX + 1, "{}", segments.lent.len());
    }
}
