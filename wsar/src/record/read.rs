//! Finding and reading samples by time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, Trouble};
use super::write::files;
use crate::sample::{Sample, Schema};

/// A file is read up to this length.
const FILE_MAX: u64 = 1 << 30;

/// Where a block of samples is.
#[derive(Clone, Debug)]
struct Place {
    first_ms: u64,
    file: usize,
    offset: u64,
    length: usize,
    schema: Arc<Schema>,
}

/// The samples of a recording, or of a part of it. Opening one reads the blocks' heads and checksums; samples are
/// read when they are asked for.
pub struct Archive {
    paths: Vec<PathBuf>,
    places: Vec<Place>,
    troubles: Vec<(PathBuf, Trouble)>,
}

impl Archive {
    /// The recording in a folder, as far as it may have samples of a time from `from_ms` to `to_ms`.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn open(folder: &Path, from_ms: u64, to_ms: u64) -> io::Result<Archive> {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        let files = files(folder).map_err(at)?;
        let mut archive = Archive { paths: Vec::new(), places: Vec::new(), troubles: Vec::new() };
        let mut schemas: HashMap<u32, Arc<Schema>> = HashMap::new();
        for (at, (start, path)) in files.iter().enumerate() {
            let ended = files.get(at + 1).is_some_and(|(next, _)| *next < from_ms);
            if *start > to_ms || ended {
                continue;
            }
            archive.add(path, &mut schemas)?;
        }
        archive.places.sort_by_key(|place| place.first_ms);
        let first = archive.places.partition_point(|place| place.first_ms < from_ms).saturating_sub(1);
        archive.places.drain(..first);
        archive.places.retain(|place| place.first_ms <= to_ms);
        Ok(archive)
    }

    fn add(&mut self, path: &Path, schemas: &mut HashMap<u32, Arc<Schema>>) -> io::Result<()> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)) {
            Ok(_) => {}
            // The recorder has just deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
        let (blocks, mut troubles) = format::scan(&bytes);
        let mut known: HashMap<u32, Arc<Schema>> = HashMap::new();
        let file = self.paths.len();
        for (at, block) in blocks.iter().enumerate() {
            let next = blocks.get(at + 1).map_or(bytes.len(), |next| next.offset);
            if block.has_samples() {
                let Some(schema) = known.get(&block.schema) else {
                    troubles.push(Trouble::Unreadable(block.offset));
                    continue;
                };
                self.places.push(Place {
                    first_ms: block.first_ms,
                    file,
                    offset: block.offset as u64,
                    length: next - block.offset,
                    schema: schema.clone(),
                });
            } else if let Some(schema) = block.schema() {
                // Files that follow one another have the same schema, as a rule: one copy of it will do.
                let schema = match schemas.get(&block.schema) {
                    Some(before) if **before == schema => before.clone(),
                    _ => Arc::new(schema),
                };
                schemas.insert(block.schema, schema.clone());
                known.insert(block.schema, schema);
            } else {
                troubles.push(Trouble::Unreadable(block.offset));
            }
        }
        // The file that is being written may end in the middle of a block for a moment.
        self.troubles.extend(troubles.into_iter().map(|trouble| (path.to_owned(), trouble)));
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// What is wrong with the files.
    pub fn troubles(&self) -> &[(PathBuf, Trouble)] {
        &self.troubles
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of blocks of samples.
    pub fn blocks(&self) -> usize {
        self.places.len()
    }

    /// Time of the first sample of a block.
    pub fn first_ms(&self, block: usize) -> Option<u64> {
        self.places.get(block).map(|place| place.first_ms)
    }

    /// The last block that does not begin after a time.
    pub fn block_at(&self, time_ms: u64) -> usize {
        self.places.partition_point(|place| place.first_ms <= time_ms).saturating_sub(1)
    }

    /// The samples of a block; none when it has been deleted or damaged meanwhile.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn samples(&self, block: usize) -> io::Result<Vec<Sample>> {
        let Some(place) = self.places.get(block) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; place.length];
        let file = match File::open(&self.paths[place.file]) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        match file.read_exact_at(&mut bytes, place.offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
            other => other?,
        }
        let block = format::block_at(&bytes, 0).and_then(|(block, _)| block.samples(&place.schema));
        Ok(block.unwrap_or_default())
    }

    /// All samples in the order of time, a block at a time.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<Sample>> + '_ {
        (0..self.blocks()).flat_map(|block| {
            let (samples, error) = match self.samples(block) {
                Ok(samples) => (samples, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            samples.into_iter().map(Ok).chain(error)
        })
    }
}

/// Bytes of a recording on disk.
///
/// # Errors
/// The folder cannot be read.
pub fn size(folder: &Path) -> io::Result<u64> {
    Ok(files(folder)?.iter().map(|(_, path)| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum())
}
