//! The server's process.

use std::io;

use super::text;
use crate::collect::{Source, metric, strange};
use crate::sample::{Description, Kind, Sink};

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Gauge, unit, help)
}

const SIZES: [(&str, Description); 4] = [
    ("VmRSS:", gauge("process.memory.resident", "bytes", "Memory of the server.")),
    ("RssAnon:", gauge("process.memory.anonymous", "bytes", "Memory that the server has allocated.")),
    ("RssFile:", gauge("process.memory.files", "bytes", "Mapped files of the server that are in memory.")),
    ("VmSwap:", gauge("process.memory.swapped", "bytes", "Memory of the server in swap space.")),
];
const THREADS: Description = gauge("process.threads", "threads", "Threads of the server.");
const FILES: Description = gauge("process.files", "descriptors", "Open files of the server.");
const FILES_LIMIT: Description =
    metric("process.files.limit", Kind::HighWater, "descriptors", "Open files that the server may have.");

/// Before Linux 6.2 descriptors have to be counted one by one; more than so many are not counted.
const COUNTED_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Process {
    buffer: String,
}

impl Source for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn collect(&mut self, process: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let Some(pid) = process else { return Ok(()) };
        let status = text::read(&format!("/proc/{pid}/status"), &mut self.buffer)?;
        for (line, what) in &SIZES {
            sink.put(what, text::named(status, line).saturating_mul(1024));
        }
        sink.put(&THREADS, text::named(status, "Threads:"));
        let limits = text::read(&format!("/proc/{pid}/limits"), &mut self.buffer)?;
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let limit = limit.and_then(|rest| rest.split_ascii_whitespace().next());
        let limit = limit.ok_or_else(|| strange(format!("/proc/{pid}/limits: no limit of open files")))?;
        // What is not a number is `unlimited`.
        sink.put(&FILES_LIMIT, limit.parse().unwrap_or(u64::MAX >> 1));
        // Only root and the server's own user may see them; everything else is worth having without.
        if let Ok(files) = descriptors(pid) {
            sink.put(&FILES, files);
        }
        Ok(())
    }
}

fn descriptors(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    let length = std::fs::metadata(&path)?.len();
    // Since Linux 6.2 the length of the folder is the number of descriptors.
    match length {
        0 => Ok(std::fs::read_dir(&path)?.take(COUNTED_MAX).count() as u64),
        known => Ok(known),
    }
}
