//! The folder of the logs.
//!
//! ```text
//! log/
//!   layout                               whose messages, how many logs there are, their ids, and which generation counts
//!   generation-1/0/0000000000000000.seg  segments of log 0, named by their base position in hexadecimal
//!                  0000000004000000.seg
//!                  checkpoint
//!   generation-1/1/…
//!   generation-0/0/…                     the gathered log, of archives alone: files that are whole from the beginning
//!   damaged/                             what could not be read; of no use to the server
//! ```
//!
//! One process at a time has the folder open: it holds an exclusive lock on the folder itself, which, unlike a file in
//! it, cannot be removed and made anew while there is something in it.
//!
//! When the number of logs changes, a new generation is made beside the old one, and counts once the layout says so. A log of
//! an old one that an archive still needs stays where it is, sealed: nothing is written to it any more.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::super::error::LogError;
use super::super::live::files::Files;
use super::segment::FORMAT;

const LAYOUT: &str = "layout";
const GENERATION: &str = "generation-";
const DAMAGED: &str = "damaged";
const TITLE: &str = "whimbrel log";

/// Of no logs that are written to: they begin with 1.
const GATHERED: u64 = 0;

/// How long a lock that is held is waited for: a process that has just ended may be a moment from letting go, and a child that
/// its owner starts holds it from the fork to the exec.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Most logs of a server.
pub(crate) const SHARDS_MAX: usize = 1024;

/// Keeps other processes out for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Option<File>,
    /// This process has held it since before it became this program.
    is_old: bool,
}

impl Lock {
    /// Takes the lock of a folder.
    pub(crate) fn take(folder: &Path) -> Result<Self, LogError> {
        let file = File::open(folder).map_err(|error| LogError::io("open", folder, error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file: Some(file), is_old: false }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(LogError::Locked { path: folder.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(LogError::io("lock", folder, error)),
            }
        }
    }

    /// The lock that this process has held since before it became this program.
    pub(crate) fn held(file: File) -> Self {
        Self { file: Some(file), is_old: true }
    }

    pub(crate) fn is_old(&self) -> bool {
        self.is_old
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// For files that nobody else can have.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { file: None, is_old: false }
    }
}

/// Whose messages the logs of a folder hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// [`crate::directory::Directory::data_set`] of the directory with the accounts.
    pub data_set: u64,
    /// [`crate::directory::Directory::accounts_ever`], when the logs were last opened or copied.
    pub accounts_ever: u64,
}

/// What the file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// The data set whose messages these are, and how many accounts it had ever had; `None` in a folder that has never
    /// been a server's, or not of late.
    pub(crate) owner: Option<Owner>,
    /// Which generation counts.
    pub(crate) generation: u64,
    /// The ids of its logs.
    pub(crate) log_ids: Vec<u64>,
    /// Logs of earlier generations that are still read.
    pub(crate) sealed: Vec<SealedLog>,
}

/// A log of an earlier generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SealedLog {
    /// Its generation.
    pub(crate) generation: u64,
    /// Which of that one's logs it was.
    pub(crate) shard: usize,
    /// Its id.
    pub(crate) log_id: u64,
}

impl SealedLog {
    /// Its folder.
    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        generation_folder(root, self.generation).join(self.shard.to_string())
    }

    /// Whether texts of archives are gathered in it, which other logs had first.
    pub(crate) fn is_gathered(&self) -> bool {
        self.generation == GATHERED
    }

    fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let generation = words.next()?.parse().ok()?;
        let shard = words.next()?.parse().ok()?;
        let log_id = u64::from_str_radix(words.next()?, 16).ok()?;
        words.next().is_none().then_some(Self { generation, shard, log_id })
    }
}

fn generation_folder(root: &Path, generation: u64) -> PathBuf {
    root.join(format!("{GENERATION}{generation}"))
}

impl Owner {
    fn decode(text: &str) -> Option<Self> {
        let (data_set, accounts) = text.split_once(" accounts ")?;
        let data_set = u64::from_str_radix(data_set, 16).ok()?;
        Some(Self { data_set, accounts_ever: accounts.trim().parse().ok()? })
    }
}

impl Layout {
    /// The folder of a log.
    pub(crate) fn folder(&self, root: &Path, shard: usize) -> PathBuf {
        generation_folder(root, self.generation).join(shard.to_string())
    }

    /// All logs, those that are written to first: id and folder.
    pub(crate) fn journals(&self, root: &Path) -> Vec<(u64, PathBuf)> {
        let own = self.log_ids.iter().enumerate().map(|(shard, id)| (*id, self.folder(root, shard)));
        own.chain(self.sealed.iter().map(|log| (log.log_id, log.folder(root)))).collect()
    }

    /// The log in which texts of archives are gathered. Nobody writes to its files, so it is a sealed one to all who read.
    pub(crate) fn gathered(&self) -> Option<SealedLog> {
        self.sealed.iter().copied().find(SealedLog::is_gathered)
    }

    /// There is such a log from now on.
    pub(crate) fn make_gathered(
        &mut self,
        files: &dyn Files,
        root: &Path,
        log_id: u64,
    ) -> Result<SealedLog, LogError> {
        let log = SealedLog { generation: GATHERED, shard: 0, log_id };
        let folder = log.folder(root);
        files.make_folder(&folder).map_err(|error| LogError::io("make", &folder, error))?;
        self.sealed.push(log);
        self.write(files, root)?;
        Ok(log)
    }

    fn encode(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("{TITLE} {FORMAT}\n");
        if let Some(owner) = &self.owner {
            let _ = writeln!(text, "data-set {:016x} accounts {}", owner.data_set, owner.accounts_ever);
        }
        let _ = writeln!(text, "generation {}", self.generation);
        for id in &self.log_ids {
            let _ = writeln!(text, "log {id:016x}");
        }
        for SealedLog { generation, shard, log_id } in &self.sealed {
            let _ = writeln!(text, "sealed {generation} {shard} {log_id:016x}");
        }
        let check = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "check {check:08x}");
        text
    }

    fn decode(text: &str, path: &Path) -> Result<Self, LogError> {
        let damaged = |what: &str| LogError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let format = text.lines().next().and_then(|line| line.strip_prefix(TITLE)).map(str::trim);
        let format: u32 =
            format.and_then(|number| number.parse().ok()).ok_or_else(|| damaged("no layout of a log"))?;
        if format != FORMAT {
            return Err(LogError::UnknownFormat { path: path.to_owned(), found: format, known: FORMAT });
        }
        let (body, check) = text.split_once("check ").ok_or_else(|| damaged("it ends too early"))?;
        if u32::from_str_radix(check.trim(), 16) != Ok(crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("its checksum does not fit"));
        }
        let value = |line: &str, key: &str| line.strip_prefix(key).map(|value| value.trim().to_owned());
        let owner = match body.lines().find_map(|line| value(line, "data-set ")) {
            None => None,
            Some(line) => Some(Owner::decode(&line).ok_or_else(|| damaged("no data set"))?),
        };
        let generation = body.lines().find_map(|line| value(line, "generation "));
        let generation =
            generation.and_then(|value| value.parse().ok()).ok_or_else(|| damaged("no generation"))?;
        let ids = body.lines().filter_map(|line| value(line, "log "));
        let log_ids: Option<Vec<u64>> = ids.map(|id| u64::from_str_radix(&id, 16).ok()).collect();
        let log_ids =
            log_ids.filter(|ids| (1..=SHARDS_MAX).contains(&ids.len())).ok_or_else(|| damaged("no logs"))?;
        let sealed = body.lines().filter_map(|line| value(line, "sealed "));
        let sealed: Option<Vec<SealedLog>> = sealed.map(|log| SealedLog::decode(&log)).collect();
        let sealed = sealed.ok_or_else(|| damaged("no sealed log"))?;
        Ok(Self { owner, generation, log_ids, sealed })
    }

    /// Reads the layout of a folder; `None` for a folder without logs.
    pub(crate) fn read(files: &dyn Files, root: &Path) -> Result<Option<Self>, LogError> {
        let path = root.join(LAYOUT);
        let content = files.read(&path).map_err(|error| LogError::io("read", &path, error))?;
        let Some(content) = content else {
            let names = files.list(root).map_err(|error| LogError::io("read", root, error))?;
            if names.iter().any(|name| name.starts_with(GENERATION)) {
                let what = "it is missing, but there are logs".to_owned();
                return Err(LogError::Damaged { path, what });
            }
            return Ok(None);
        };
        let text = String::from_utf8(content);
        let text = text
            .map_err(|_| LogError::Damaged { path: path.clone(), what: "no layout of a log".to_owned() })?;
        Self::decode(&text, &path).map(Some)
    }

    /// Makes it count.
    pub(crate) fn write(&self, files: &dyn Files, root: &Path) -> Result<(), LogError> {
        let path = root.join(LAYOUT);
        files.replace(&path, self.encode().as_bytes()).map_err(|error| LogError::io("write", &path, error))
    }

    /// Makes the folders of its logs.
    pub(crate) fn make_folders(&self, files: &dyn Files, root: &Path) -> Result<(), LogError> {
        for shard in 0..self.log_ids.len() {
            let folder = self.folder(root, shard);
            files.make_folder(&folder).map_err(|error| LogError::io("make", &folder, error))?;
        }
        let generation = generation_folder(root, self.generation);
        files.make_folder(&generation).map_err(|error| LogError::io("make", &generation, error))
    }

    /// All that the folder holds is this data set's from now on.
    pub(crate) fn belong_to(&mut self, files: &dyn Files, root: &Path, owner: Owner) -> Result<(), LogError> {
        if self.owner != Some(owner) {
            self.owner = Some(owner);
            self.write(files, root)?;
        }
        Ok(())
    }

    /// Removes all generations that do not count, but for their sealed logs.
    pub(crate) fn remove_others(&self, files: &dyn Files, root: &Path) -> Result<(), LogError> {
        let own = generation_folder(root, self.generation);
        let list = |folder: &Path| files.list(folder).map_err(|error| LogError::io("read", folder, error));
        let remove = |folder: &Path| {
            files.remove_folder(folder).map_err(|error| LogError::io("remove", folder, error))
        };
        for name in list(root)? {
            let folder = root.join(&name);
            if !name.starts_with(GENERATION) || folder == own {
                continue;
            }
            let sealed: Vec<PathBuf> = self.sealed.iter().map(|log| log.folder(root)).collect();
            if !sealed.iter().any(|log| log.starts_with(&folder)) {
                remove(&folder)?;
                continue;
            }
            for log in list(&folder)?.iter().map(|name| folder.join(name)).filter(|log| !sealed.contains(log))
            {
                remove(&log)?;
            }
        }
        Ok(())
    }
}

/// Where to keep what cannot be read at an offset of the segment with this base, of the log in a folder.
pub(crate) fn damaged_name(folder: &Path, base: u64, offset: u64) -> PathBuf {
    let generation = folder.parent().unwrap_or(folder);
    let root = generation.parent().unwrap_or(folder);
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    root.join(DAMAGED).join(format!("{}-log-{}-{base:016x}-{offset}", name(generation), name(folder)))
}
