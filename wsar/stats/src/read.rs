//! Reading a stats file by its own description.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use thiserror::Error;

use crate::describe::Kind;
use crate::header::{self, FIXED};

/// Why a stats file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system's reason.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Something else.
    #[error("it is not a stats file of Whimbrel")]
    Foreign,
    /// A version that this program does not know.
    #[error("it has version {0} of the layout, and this program knows version {known}; install server and wsar of one release", known = header::VERSION)]
    Version(u32),
    /// Not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// A metric as the file describes it.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Dotted name.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// One sentence.
    pub help: String,
    /// Kind.
    pub kind: Kind,
    /// Its first word in each block of its group.
    pub word: usize,
}

/// A group of metrics with a block for each instance.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name.
    pub name: String,
    /// What tells its instances apart; empty for one that has a single instance.
    pub label: String,
    /// How many blocks there are.
    pub instances: usize,
    /// What is in each block.
    pub metrics: Vec<Metric>,
    pub(crate) offset: usize,
    pub(crate) stride: usize,
}

/// An open stats file.
pub struct Reader {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    map: MmapRaw,
    groups: Vec<Group>,
    started_unix_ns: u64,
    pid: u32,
}

impl Reader {
    /// Opens a stats file and checks its header.
    ///
    /// # Errors
    /// It is not there, or not what it should be.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut head = [0; FIXED];
        file.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Foreign,
            _ => ReadError::System(error),
        })?;
        let fixed = header::fixed(&head)?;
        if metadata.len() < fixed.file_bytes {
            return Err(ReadError::Damaged("it is shorter than it says"));
        }
        let mut descriptions = vec![0; fixed.description_bytes];
        file.read_exact(&mut descriptions)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[16..]), &descriptions) != fixed.checksum {
            return Err(ReadError::Damaged("the checksum of its header is wrong"));
        }
        let groups = header::groups(&fixed, &descriptions)?;
        let map = MmapOptions::new().len(fixed.file_bytes as usize).map_raw_read_only(&file)?;
        Ok(Reader {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            file,
            map,
            groups,
            started_unix_ns: fixed.started_unix_ns,
            pid: fixed.pid,
        })
    }

    /// The groups of metrics.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// When the server started, Unix time in nanoseconds.
    pub fn started_unix_ns(&self) -> u64 {
        self.started_unix_ns
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether there is another file under the same name by now: the server has started again.
    pub fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) != self.identity)
    }

    /// Appends the words of one block to `out`, in the order of its metrics.
    ///
    /// # Errors
    /// Somebody has cut the file short.
    ///
    /// # Panics
    /// If the group is not one of this file's, or has no such instance.
    pub fn read(&self, group: &Group, instance: usize, out: &mut Vec<u64>) -> Result<(), ReadError> {
        assert!(instance < group.instances, "group {} has no instance {instance}", group.name);
        let words = group.metrics.last().map_or(0, |metric| metric.word + metric.kind.words());
        let start = group.offset + instance * group.stride;
        assert!(start + words * 8 <= self.map.len(), "group {} is of another file", group.name);
        // Touching a page past the end of a file is a signal, not an error.
        if self.file.metadata()?.len() < self.map.len() as u64 {
            return Err(ReadError::Damaged("it has been cut short"));
        }
        // SAFETY: the range lies inside the map (above), at a multiple of 8 (checked with the header; maps begin at
        // a page), and whoever else changes it does so with atomic stores.
        let cells =
            unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(start).cast::<AtomicU64>(), words) };
        out.extend(cells.iter().map(|cell| cell.load(Ordering::Relaxed)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Blocks, Builder, FILE_NAME};

    crate::metrics! {
        /// A worker.
        Worker {
            jobs "jobs" Counter "jobs" "Jobs done.";
            time "time" Histogram "microseconds" "Time of each.";
            queue "queue.jobs.length" Gauge "jobs" "Jobs that wait.";
        }
    }
    crate::metrics! {
        /// The whole.
        Whole { limit "limit" HighWater "jobs" "Most jobs."; }
    }

    fn make(data: &Path) -> (Blocks<Worker>, Blocks<Whole>) {
        let mut builder = Builder::default();
        builder.group::<Worker>("worker", "worker", 3);
        builder.group::<Whole>("server", "", 1);
        let built = builder.in_file(data).unwrap();
        (built.blocks(0), built.blocks(1))
    }

    #[test]
    fn a_reader_sees_what_writers_write_while_they_write() {
        let data = tempfile::tempdir().unwrap();
        let (workers, whole) = make(data.path());
        let reader = Reader::open(&data.path().join(FILE_NAME)).unwrap();
        workers[2].jobs.add(7);
        workers[2].time.record(40);
        workers[2].queue.set(9);
        whole[0].limit.set(64);
        let [group, server] = reader.groups() else { panic!("{:?}", reader.groups()) };
        assert_eq!((group.name.as_str(), group.label.as_str(), group.instances), ("worker", "worker", 3));
        let help: Vec<_> = group.metrics.iter().map(|m| (&*m.name, m.kind, &*m.unit, &*m.help)).collect();
        assert_eq!(help[2], ("queue.jobs.length", Kind::Gauge, "jobs", "Jobs that wait."));
        let mut words = Vec::new();
        reader.read(group, 2, &mut words).unwrap();
        let at = |name: &str| group.metrics.iter().find(|m| m.name == name).unwrap().word;
        assert_eq!((words[at("jobs")], words[at("time")], words[at("queue.jobs.length")]), (7, 40, 9));
        assert_eq!(words[at("time") + 1 + crate::cell::bucket_of(40)], 1);
        words.clear();
        reader.read(server, 0, &mut words).unwrap();
        assert_eq!(words, [64]);
        words.clear();
        reader.read(group, 0, &mut words).unwrap();
        assert!(words.iter().all(|&word| word == 0), "other blocks are untouched");
        assert_eq!(reader.pid(), std::process::id());
    }

    #[test]
    fn a_restart_is_a_new_file_and_the_old_one_keeps_its_values() {
        let data = tempfile::tempdir().unwrap();
        let (workers, _) = make(data.path());
        workers[0].jobs.add(5);
        let old = Reader::open(&data.path().join(FILE_NAME)).unwrap();
        assert!(!old.is_replaced());
        let (again, _) = make(data.path());
        assert!(old.is_replaced());
        again[0].jobs.add(1);
        let new = Reader::open(&data.path().join(FILE_NAME)).unwrap();
        assert!(new.started_unix_ns() > old.started_unix_ns());
        for (reader, jobs) in [(&old, 5), (&new, 1)] {
            let mut words = Vec::new();
            reader.read(&reader.groups()[0], 0, &mut words).unwrap();
            assert_eq!(words[0], jobs);
        }
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_wherever_it_is_damaged() {
        let data = tempfile::tempdir().unwrap();
        drop(make(data.path()));
        let path = data.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        let other = data.path().join("other");
        let open = |bytes: &[u8]| {
            std::fs::write(&other, bytes).unwrap();
            Reader::open(&other).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(open(&whole), Ok(()));
        let end = FIXED + u32::from_ne_bytes(whole[40..44].try_into().unwrap()) as usize;
        for at in 0..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert!(open(&bytes).is_err(), "byte {at} does not matter");
        }
        for length in (0..whole.len()).step_by(97) {
            assert!(open(&whole[..length]).is_err(), "{length} bytes are enough");
        }
    }

    #[test]
    fn a_file_cut_short_while_it_is_read_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let _blocks = make(data.path());
        let path = data.path().join(FILE_NAME);
        let reader = Reader::open(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(reader.read(&reader.groups()[0], 0, &mut Vec::new()).is_err());
    }
}
