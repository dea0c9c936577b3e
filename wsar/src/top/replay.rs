//! Samples of a recording, one after another, with seeking. One block is in memory at a time.

use std::io;

use crate::record::Archive;
use crate::sample::Sample;

/// A place in a recording.
pub struct Replay {
    archive: Archive,
    block: usize,
    samples: std::vec::IntoIter<Sample>,
}

impl Replay {
    /// At the begin.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn new(archive: Archive) -> io::Result<Replay> {
        let samples = archive.samples(0)?.into_iter();
        Ok(Replay { archive, block: 0, samples })
    }

    /// The next sample; `None` at the end.
    ///
    /// # Errors
    /// A file cannot be read.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<Sample>> {
        loop {
            if let Some(sample) = self.samples.next() {
                return Ok(Some(sample));
            }
            if self.block + 1 >= self.archive.blocks() {
                return Ok(None);
            }
            self.block += 1;
            self.samples = self.archive.samples(self.block)?.into_iter();
        }
    }

    /// Goes to the first sample at or after a time, or to the last samples there are.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn seek(&mut self, time_ms: u64) -> io::Result<()> {
        self.block = self.archive.block_at(time_ms);
        let mut samples = self.archive.samples(self.block)?;
        let last = self.block + 1 >= self.archive.blocks();
        // Past the end, two samples are left to look at.
        let keep = if last { samples.len().saturating_sub(2) } else { samples.len() };
        let skip = samples.iter().take(keep).take_while(|sample| sample.time_ms < time_ms).count();
        samples.drain(..skip);
        self.samples = samples.into_iter();
        Ok(())
    }
}
