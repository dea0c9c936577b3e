//! Whimbrel's stats file, read by its own description.
//!
//! The layout is that of docs/metrics.md's file: a fixed part of 64 bytes, descriptions, blocks; all numbers in the
//! machine's order. Nothing here knows which metrics a server has: one that is not there has no figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The kind of a histogram in the descriptions.
const HISTOGRAM: u8 = 4;
/// Values below `2^SUB_BITS` have a bucket each; above, every power of two is cut into half as many.
const SUB_BITS: usize = 5;
/// See [`SUB_BITS`].
pub(crate) const HALF: usize = 1 << (SUB_BITS - 1);
/// Buckets of a histogram.
pub(crate) const BUCKETS: usize = (27 - SUB_BITS + 2) * HALF;

/// The stats file of a server whose folder is `folder`.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("data/stats")
}

/// One metric of all instances of its group.
pub(crate) struct Metric<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Whether it is one.
    pub(crate) is_histogram: bool,
    file: &'a [u8],
    /// Where its words of the first instance begin.
    begin: usize,
    /// From one instance to the next, in bytes.
    stride: usize,
    instances: usize,
}

impl Metric<'_> {
    /// The sum over all instances of one of its words. Of a histogram the first one is the sum of its values, and its buckets
    /// follow.
    pub(crate) fn sum(&self, word: usize) -> Option<u64> {
        (0..self.instances).try_fold(0_u64, |sum, instance| {
            let value = u64_at(self.file, self.begin + instance * self.stride + word * 8)?;
            Some(sum.wrapping_add(value))
        })
    }
}

/// Goes through all metrics of a file. `None`: it is another file, or ends early.
pub(crate) fn each(file: &[u8], mut look: impl FnMut(&Metric<'_>)) -> Option<()> {
    if file.get(..8)? != b"WHIMSTAT" {
        return None;
    }
    let groups = u32_at(file, 36)?;
    let mut input = Input { file, at: 64 };
    for _ in 0..groups {
        let (_, _) = (input.text()?, input.text()?);
        let instances = input.u32()? as usize;
        let (offset, stride) = (input.u64()? as usize, input.u64()? as usize);
        let mut begin = offset;
        for _ in 0..input.u32()? {
            let is_histogram = input.u8()? == HISTOGRAM;
            let name = input.text()?;
            let (_, _) = (input.text()?, input.text()?);
            look(&Metric { name, is_histogram, file, begin, stride, instances });
            begin += 8 * if is_histogram { BUCKETS + 1 } else { 1 };
        }
    }
    Some(())
}

/// All counters and gauges of a server, each summed over its instances, by their names; none where there is no such file.
pub(crate) fn numbers(path: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let file = std::fs::read(path).unwrap_or_default();
    let _ = each(&file, |metric| {
        if let Some(number) = metric.sum(0).filter(|_| !metric.is_histogram) {
            all.insert(metric.name.to_owned(), number);
        }
    });
    all
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

struct Input<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.file.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }

    fn u64(&mut self) -> Option<u64> {
        u64_at(self.take(8)?, 0)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_ne_bytes(self.take(2)?.try_into().ok()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one group of two instances: a counter, a histogram, a counter.
    fn file() -> Vec<u8> {
        let mut file = b"WHIMSTAT".to_vec();
        file.resize(64, 0);
        file[36..40].copy_from_slice(&1_u32.to_ne_bytes());
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend_from_slice(&(text.len() as u16).to_ne_bytes());
            file.extend_from_slice(text.as_bytes());
        };
        let stride = 8 * (BUCKETS + 3);
        for name in ["worker", "one worker"] {
            text(&mut file, name);
        }
        file.extend_from_slice(&2_u32.to_ne_bytes());
        let offset_at = file.len();
        file.extend_from_slice(&0_u64.to_ne_bytes());
        file.extend_from_slice(&(stride as u64).to_ne_bytes());
        file.extend_from_slice(&3_u32.to_ne_bytes());
        for (kind, name) in [(0, "first"), (HISTOGRAM, "times"), (0, "last")] {
            file.push(kind);
            [name, "unit", "text"].iter().for_each(|part| text(&mut file, part));
        }
        let offset = file.len().next_multiple_of(8);
        file[offset_at..offset_at + 8].copy_from_slice(&(offset as u64).to_ne_bytes());
        file.resize(offset, 0);
        for instance in 1..=2_u64 {
            let mut words = vec![0; BUCKETS + 3];
            (words[0], words[1 + 1 + 5], words[BUCKETS + 2]) = (instance, 10 * instance, 100 * instance);
            words.iter().for_each(|word| file.extend_from_slice(&word.to_ne_bytes()));
        }
        file
    }

    #[test]
    fn metrics_are_summed_over_their_instances() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, file()).unwrap();
        let expected = [("first".to_owned(), 3), ("last".to_owned(), 300)];
        assert_eq!(numbers(&path), BTreeMap::from(expected));
        let mut seen = Vec::new();
        each(&file(), |metric| seen.extend(metric.is_histogram.then(|| metric.sum(1 + 5)))).unwrap();
        assert_eq!(seen, [Some(30)]);
    }

    #[test]
    fn another_file_gives_no_figures() {
        for bytes in [&b""[..], b"WHIMSTAT", &[b"WHIMSTAT".as_slice(), &[0xff; 100]].concat()] {
            each(bytes, |metric| panic!("{}", metric.name));
        }
        let file = file();
        for length in 0..file.len() {
            each(&file[..length], |metric| _ = metric.sum(0));
        }
        assert!(numbers(Path::new("/nowhere")).is_empty());
    }
}
