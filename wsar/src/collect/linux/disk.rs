//! Disks, as far as they have done anything. Partitions are parts of their disks and are left out.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const PATH: &str = "/proc/diskstats";

/// /proc/diskstats counts in these, whatever the disk has.
const SECTOR_BYTES: u64 = 512;

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

const READS: Description = count("disk.reads", "requests", "Reads that a disk has done.");
const READ_BYTES: Description = count("disk.read_bytes", "bytes", "Bytes read from a disk.");
const WRITES: Description = count("disk.writes", "requests", "Writes that a disk has done.");
const WRITTEN_BYTES: Description = count("disk.written_bytes", "bytes", "Bytes written to a disk.");
const BUSY: Description = count("disk.busy", "milliseconds", "Time that a disk had something to do.");
const WAITED: Description =
    count("disk.waited", "milliseconds", "Time that the requests of a disk took, all added up.");

#[derive(Default)]
pub(super) struct Disk {
    buffer: String,
    whole: HashMap<String, bool>,
}

impl Source for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        for line in text::read(PATH, &mut self.buffer)?.lines() {
            let mut words = line.split_ascii_whitespace();
            words.nth(1);
            let Some(name) = words.next() else { continue };
            let is_whole = match self.whole.get(name) {
                Some(&known) => known,
                None => {
                    let known = Path::new("/sys/block").join(name.replace('/', "!")).exists();
                    self.whole.insert(name.to_owned(), known);
                    known
                }
            };
            let mut n = [0; 11];
            for n in &mut n {
                *n = text::number(&mut words, PATH)?;
            }
            let [reads, _, read_sectors, _, writes, _, written_sectors, _, _, busy, waited] = n;
            if !is_whole || reads + writes == 0 {
                continue;
            }
            sink.put_at(&READS, "disk", name, reads);
            sink.put_at(&READ_BYTES, "disk", name, read_sectors.saturating_mul(SECTOR_BYTES));
            sink.put_at(&WRITES, "disk", name, writes);
            sink.put_at(&WRITTEN_BYTES, "disk", name, written_sectors.saturating_mul(SECTOR_BYTES));
            sink.put_at(&BUSY, "disk", name, busy);
            sink.put_at(&WAITED, "disk", name, waited);
        }
        Ok(())
    }
}
