//! Memory, and page faults.

use std::io;

use super::sysctl;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const fn bytes(name: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Gauge, "bytes", help)
}

const TOTAL: Description = bytes("memory.total", "Memory of the machine.");
const AVAILABLE: Description =
    bytes("memory.available", "Memory that is free, inactive or about to be cleaned.");
const PAGES: [(&str, Description); 5] = [
    ("v_free_count", bytes("memory.free", "Memory that holds nothing.")),
    ("v_inactive_count", bytes("memory.inactive", "Memory not used of late.")),
    ("v_laundry_count", bytes("memory.dirty", "Memory that waits to be written to disk.")),
    ("v_active_count", bytes("memory.active", "Memory in use.")),
    ("v_wire_count", bytes("memory.wired", "Memory that cannot be paged out, the kernel's among it.")),
];
const COUNTS: [(&str, Description); 4] = [
    ("v_vm_faults", metric("faults", Kind::Counter, "faults", "Page faults.")),
    ("v_io_faults", metric("faults.major", Kind::Counter, "faults", "Page faults that waited for a disk.")),
    ("v_swappgsin", metric("swap.in", Kind::Counter, "pages", "Pages read from swap space.")),
    ("v_swappgsout", metric("swap.out", Kind::Counter, "pages", "Pages written to swap space.")),
];

pub(super) struct Memory;

impl Source for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let page = sysctl::number("vm.stats.vm.v_page_size")?;
        sink.put(&TOTAL, sysctl::number("hw.physmem")?);
        let mut available = 0u64;
        for (at, (name, what)) in PAGES.iter().enumerate() {
            let size = sysctl::number(&format!("vm.stats.vm.{name}"))?.saturating_mul(page);
            sink.put(what, size);
            // Free, inactive and laundry.
            if at < 3 {
                available += size;
            }
        }
        sink.put(&AVAILABLE, available);
        for (name, what) in &COUNTS {
            sink.put(what, sysctl::number(&format!("vm.stats.vm.{name}"))?);
        }
        Ok(())
    }
}
