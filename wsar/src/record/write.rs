//! The recorder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, MAGIC};
use crate::sample::{Sample, Schema};

/// Samples in a block: what a crash of the recorder loses at most.
pub const BLOCK_SAMPLES: usize = 10;

/// A recording is cut into so many files, so that deleting the oldest loses no more than that part.
const FILES: u64 = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes on disk.
    pub bytes: u64,
    /// Age in milliseconds.
    pub age_ms: u64,
}

/// Writes samples into a folder. There is one recorder for a folder at a time.
pub struct Recorder {
    folder: PathBuf,
    bounds: Bounds,
    file: Option<Open>,
    waiting: Vec<Sample>,
    written: u64,
    _lock: File,
}

struct Open {
    file: File,
    bytes: u64,
    start_ms: u64,
    schema: Option<(Arc<Schema>, u32)>,
}

/// The recordings of a folder by the time at which each begins, oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let start = name.strip_prefix("wsar-").and_then(|rest| rest.strip_suffix(".rec"));
        if let Some(start) = start.and_then(|start| start.parse().ok()) {
            files.push((start, path));
        }
    }
    files.sort();
    Ok(files)
}

impl Recorder {
    /// A recorder for a folder, which is made.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another recorder writes into it.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Recorder> {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(at)?;
        let lock = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(at)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another wsar records into {}; stop it, or give another --into", folder.display()),
            ),
            fs::TryLockError::Error(error) => at(error),
        })?;
        let folder = folder.to_owned();
        Ok(Recorder { folder, bounds, file: None, waiting: Vec::new(), written: 0, _lock: lock })
    }

    /// Takes a sample. It is on disk after at most [`BLOCK_SAMPLES`] of them, or when the recorder is flushed.
    ///
    /// # Errors
    /// It cannot be written. The samples of the block are lost then; later ones are tried anew.
    pub fn push(&mut self, sample: &Sample) -> io::Result<()> {
        if sample.values.len() > format::WORDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a sample of more than 8 MiB"));
        }
        let mut result = Ok(());
        // A clock that was set back begins a new block, too: within one, time only moves on.
        let fits = self
            .waiting
            .last()
            .is_none_or(|last| sample.time_ms >= last.time_ms && Arc::ptr_eq(&last.schema, &sample.schema));
        if !fits {
            result = self.flush();
        }
        self.waiting.push(sample.clone());
        if self.waiting.len() >= BLOCK_SAMPLES {
            result = result.and(self.flush());
        }
        result
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// It cannot be written, and is lost.
    pub fn flush(&mut self) -> io::Result<()> {
        let samples = std::mem::take(&mut self.waiting);
        let Some(first) = samples.first() else { return Ok(()) };
        let full = self.bounds.bytes / FILES;
        let part = self.bounds.age_ms / FILES;
        let is_full = |open: &Open| open.bytes >= full || first.time_ms.abs_diff(open.start_ms) > part;
        if self.file.as_ref().is_none_or(is_full) {
            self.file = None;
            self.file = Some(self.begin(first.time_ms)?);
            self.prune(first.time_ms)?;
        }
        let Some(open) = &mut self.file else { return Ok(()) };
        match open.append(&samples) {
            Ok(bytes) => {
                self.written += bytes;
                Ok(())
            }
            Err(error) => {
                // Half a block may be there; what follows goes into a file of its own.
                self.file = None;
                Err(error)
            }
        }
    }

    /// Bytes written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn begin(&mut self, time_ms: u64) -> io::Result<Open> {
        // The clock may have been set back: then the next free name.
        for start in time_ms.. {
            let path = self.folder.join(format!("wsar-{start:013}.rec"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(MAGIC)?;
                    self.written += MAGIC.len() as u64;
                    return Ok(Open { file, bytes: MAGIC.len() as u64, start_ms: time_ms, schema: None });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
            }
        }
        Err(io::Error::other("the clock shows the end of time"))
    }

    /// Deletes the oldest files until size and age are within bounds; never the last one.
    fn prune(&self, now_ms: u64) -> io::Result<()> {
        let files = files(&self.folder)?;
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        // The new file will grow, too.
        let mut total: u64 =
            files.iter().map(|(_, path)| length(path)).sum::<u64>() + self.bounds.bytes / FILES;
        for pair in files.windows(2) {
            let [(_, path), (next_start, _)] = pair else { continue };
            // All of it is older than the begin of the next.
            let too_old = now_ms.saturating_sub(*next_start) > self.bounds.age_ms;
            if total <= self.bounds.bytes && !too_old {
                break;
            }
            total = total.saturating_sub(length(path));
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A caller that wants to know of an error flushes before.
        let _ = self.flush();
    }
}

impl Open {
    /// Appends a block of samples, after their schema when it is new; returns how many bytes that took.
    fn append(&mut self, samples: &[Sample]) -> io::Result<u64> {
        let schema = &samples[0].schema;
        let mut bytes = Vec::new();
        let id = match &self.schema {
            Some((known, id)) if Arc::ptr_eq(known, schema) || known == schema => *id,
            _ => {
                let (block, id) = format::schema_block(schema);
                bytes.extend_from_slice(&block);
                id
            }
        };
        bytes.extend_from_slice(&format::samples_block(samples, id));
        // In one call, so that a crash of the recorder leaves whole blocks, as a rule.
        self.file.write_all(&bytes)?;
        self.schema = Some((schema.clone(), id));
        self.bytes += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }
}
