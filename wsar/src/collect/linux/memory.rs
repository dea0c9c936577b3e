//! Memory, and what moves between memory and disk.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const MEMINFO: &str = "/proc/meminfo";
const VMSTAT: &str = "/proc/vmstat";

const fn bytes(name: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Gauge, "bytes", help)
}

const SIZES: [(&str, Description); 12] = [
    ("MemTotal:", bytes("memory.total", "Memory of the machine.")),
    ("MemFree:", bytes("memory.free", "Memory that holds nothing.")),
    ("MemAvailable:", bytes("memory.available", "Memory that programs can have without swapping.")),
    ("Buffers:", bytes("memory.buffers", "Memory that caches disk blocks.")),
    ("Cached:", bytes("memory.cached", "Memory that caches files.")),
    ("AnonPages:", bytes("memory.anonymous", "Memory of programs that belongs to no file.")),
    ("Slab:", bytes("memory.slab", "Memory of the kernel's own objects, sockets among them.")),
    ("PageTables:", bytes("memory.page_tables", "Memory of page tables.")),
    ("Dirty:", bytes("memory.dirty", "Memory that waits to be written to disk.")),
    ("Writeback:", bytes("memory.writeback", "Memory that is being written to disk.")),
    ("SwapTotal:", bytes("swap.total", "Swap space.")),
    ("SwapFree:", bytes("swap.free", "Swap space that is free.")),
];
const COUNTS: [(&str, Description); 4] = [
    ("pgfault", metric("faults", Kind::Counter, "faults", "Page faults.")),
    ("pgmajfault", metric("faults.major", Kind::Counter, "faults", "Page faults that waited for a disk.")),
    ("pswpin", metric("swap.in", Kind::Counter, "pages", "Pages read from swap space.")),
    ("pswpout", metric("swap.out", Kind::Counter, "pages", "Pages written to swap space.")),
];

#[derive(Default)]
pub(super) struct Memory {
    buffer: String,
}

impl Source for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let meminfo = text::read(MEMINFO, &mut self.buffer)?;
        for (line, what) in &SIZES {
            sink.put(what, text::named(meminfo, line).saturating_mul(1024));
        }
        let vmstat = text::read(VMSTAT, &mut self.buffer)?;
        for (line, what) in &COUNTS {
            sink.put(what, text::named(vmstat, line));
        }
        Ok(())
    }
}
