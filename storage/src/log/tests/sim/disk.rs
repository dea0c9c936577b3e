//! A disk in memory that fails as disks do.
//!
//! A file has the system's view of it (`cache`, or the mapping while there is one), what is on the platter (`durable`),
//! and which pages differ in the system's opinion (`dirty`). Names are durable when the call that changed them returns,
//! because the log syncs folders; a crash in the middle of a call leaves either state.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Random;
use crate::journal::live::files::{Files, PARTIAL};
use crate::journal::live::map::{Disk, Map, Remembered};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

#[derive(Default)]
struct Content {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    map: Option<Remembered>,
}

type File = Arc<Mutex<Content>>;

pub(super) struct State {
    files: BTreeMap<PathBuf, File>,
    random: Random,
    /// Calls until the process or the machine stops in the middle of one.
    pub(super) calls_left: Option<u64>,
    /// It has.
    pub(super) is_dead: bool,
    /// Nothing can be made.
    pub(super) is_full: bool,
    /// The next sync fails.
    pub(super) fails_next_sync: bool,
}

/// See the module.
#[derive(Clone)]
pub(super) struct SimDisk(pub(super) Arc<Mutex<State>>);

struct OneFile {
    disk: SimDisk,
    file: File,
}

/// What a call comes to.
#[derive(PartialEq)]
enum Fate {
    Done,
    /// The crash came when it was done already.
    DoneAndDead,
    Undone,
}

impl SimDisk {
    pub(super) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            random,
            calls_left: None,
            is_dead: false,
            is_full: false,
            fails_next_sync: false,
        })))
    }

    fn fate(&self) -> Fate {
        let mut state = self.0.lock().unwrap();
        if state.is_dead {
            return Fate::Undone;
        }
        match &mut state.calls_left {
            None => Fate::Done,
            Some(0) => {
                state.is_dead = true;
                if state.random.one_in(2) { Fate::DoneAndDead } else { Fate::Undone }
            }
            Some(left) => {
                *left -= 1;
                Fate::Done
            }
        }
    }

    /// Runs a call that either happens or does not.
    fn call<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let fate = self.fate();
        if fate == Fate::Undone {
            return Err(io::Error::other("crashed"));
        }
        let result = run(&mut self.0.lock().unwrap());
        if fate == Fate::DoneAndDead { Err(io::Error::other("crashed")) } else { result }
    }

    fn map(&self, file: &File) -> io::Result<Map> {
        let mut content = file.lock().unwrap();
        if let Some(map) = content.map.as_ref().and_then(Remembered::map) {
            return Ok(map);
        }
        if content.cache.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map =
            Map::simulated(&content.cache, Box::new(OneFile { disk: self.clone(), file: file.clone() }))?;
        content.map = Some(map.remember());
        Ok(map)
    }

    /// A file as the system shows it to whoever reads it.
    pub(super) fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let file = self.0.lock().unwrap().files.get(path).cloned()?;
        let content = file.lock().unwrap();
        let mapped = content.map.as_ref().and_then(Remembered::map);
        let bytes = mapped.as_ref().map_or_else(|| content.cache.clone(), |map| map.bytes().to_vec());
        // The last handle of a map locks the file when it goes.
        drop(content);
        drop(mapped);
        Some(bytes)
    }

    /// Nothing is mapped any more. With a power cut, what was dirty may or may not have got to the disk, by sectors, and
    /// sectors may be torn.
    pub(super) fn restart(&self, is_power_cut: bool) {
        let mut state = self.0.lock().unwrap();
        (state.is_dead, state.calls_left, state.fails_next_sync) = (false, None, false);
        if !is_power_cut {
            return;
        }
        let mut random = state.random.clone();
        state.random.next();
        let mood = random.below(4);
        for file in state.files.values() {
            let mut content = file.lock().unwrap();
            let content = &mut *content;
            assert!(
                content.map.as_ref().and_then(Remembered::map).is_none(),
                "nothing is mapped at a power cut"
            );
            for page in std::mem::take(&mut content.dirty) {
                let end = ((page + 1) * PAGE).min(content.cache.len());
                let keeps_page = random.one_in(2);
                for sector in (page * PAGE..end).step_by(SECTOR) {
                    let until = (sector + SECTOR).min(end);
                    let kept = match mood {
                        0 => 0,
                        1 => until - sector,
                        2 if keeps_page => until - sector,
                        2 => 0,
                        _ if random.one_in(6) => random.below((until - sector) as u64) as usize,
                        _ if random.one_in(2) => until - sector,
                        _ => 0,
                    };
                    content.durable[sector..sector + kept]
                        .copy_from_slice(&content.cache[sector..sector + kept]);
                }
            }
            content.cache.clone_from(&content.durable);
        }
    }
}

impl Disk for OneFile {
    fn sync(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let fate = self.disk.fate();
        let mut state = self.disk.0.lock().unwrap();
        let fails = std::mem::take(&mut state.fails_next_sync);
        let mut content = self.file.lock().unwrap();
        let pages: Vec<usize> =
            content.dirty.range(offset / PAGE..(offset + bytes.len()).div_ceil(PAGE)).copied().collect();
        for page in pages {
            // In the middle of it, some pages have got there.
            if (fate == Fate::Undone || fails) && state.random.one_in(2) {
                if fails {
                    // The system gives up on the page, and takes it for clean.
                    content.dirty.remove(&page);
                }
                continue;
            }
            content.dirty.remove(&page);
            let from = page * PAGE;
            let to = ((page + 1) * PAGE).min(content.durable.len());
            let source = bytes[from - offset..].get(..to - from).unwrap().to_vec();
            content.durable[from..to].copy_from_slice(&source);
        }
        if fails || fate != Fate::Done { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }

    fn touch(&self, range: Range<usize>) {
        if !range.is_empty() {
            self.file.lock().unwrap().dirty.extend(range.start / PAGE..=(range.end - 1) / PAGE);
        }
    }

    fn unmap(&self, bytes: &[u8]) {
        self.file.lock().unwrap().cache.copy_from_slice(bytes);
    }
}

fn file(content: Vec<u8>) -> File {
    Arc::new(Mutex::new(Content { cache: content.clone(), durable: content, ..Content::default() }))
}

impl Files for SimDisk {
    /// One: which of two threads meets a crash would be left to chance.
    fn readers(&self) -> usize {
        1
    }

    /// What is simulated says by its error that nothing was written.
    fn is_writable(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path, head: &[u8], bytes: u64) -> io::Result<Map> {
        let mut content = head.to_vec();
        content.resize(bytes as usize, 0);
        let new = file(content);
        self.call(|state| {
            if state.is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if state.random.one_in(8) {
                // What a crash in the middle leaves behind.
                state.files.insert(path.with_extension(format!("seg{PARTIAL}")), file(vec![1]));
            }
            state.files.insert(path.to_owned(), new.clone());
            Ok(())
        })?;
        self.map(&new)
    }

    fn open(&self, path: &Path) -> io::Result<Map> {
        let file = self.call(|state| state.files.get(path).cloned().ok_or(io::ErrorKind::NotFound.into()))?;
        self.map(&file)
    }

    fn view(&self, path: &Path) -> io::Result<Map> {
        self.open(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.call(|state| {
            let names = state.files.keys().filter_map(|path| path.strip_prefix(folder).ok());
            let mut names: Vec<String> =
                names.map(|name| name.iter().next().unwrap().to_string_lossy().into_owned()).collect();
            names.dedup();
            Ok(names)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|state| state.files.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.call(|state| Ok(state.files.get(path).map(|file| file.lock().unwrap().cache.clone())))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.call(|state| {
            if state.is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.files.insert(path.to_owned(), file(content.to_vec()));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn make_folder(&self, _path: &Path) -> io::Result<()> {
        self.call(|_| Ok(()))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            state.files.retain(|name, _| !name.starts_with(path));
            Ok(())
        })
    }
}
