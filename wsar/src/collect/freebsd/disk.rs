//! Disks, by the kernel's device statistics: a generation number, then one `struct devstat` for each device.

use std::ffi::CStr;
use std::io;

use super::sysctl;
use crate::collect::{Source, metric, strange};
use crate::sample::{Description, Kind, Sink};

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

const READS: Description = count("disk.reads", "requests", "Reads that a disk has done.");
const READ_BYTES: Description = count("disk.read_bytes", "bytes", "Bytes read from a disk.");
const WRITES: Description = count("disk.writes", "requests", "Writes that a disk has done.");
const WRITTEN_BYTES: Description = count("disk.written_bytes", "bytes", "Bytes written to a disk.");

/// DEVSTAT_READ and DEVSTAT_WRITE, places in the arrays of a devstat.
const READ: usize = 1;
const WRITE: usize = 2;

pub(super) struct Disk;

impl Source for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let all = sysctl::bytes("kern.devstat.all")?;
        let devices = all.get(size_of::<libc::c_long>()..).unwrap_or_default();
        if !devices.len().is_multiple_of(size_of::<libc::devstat>()) {
            return Err(strange("kern.devstat.all: devices of another size; this kernel is not supported"));
        }
        for device in devices.chunks_exact(size_of::<libc::devstat>()) {
            // SAFETY: as many bytes as a devstat has, which is made of numbers and pointers that are not followed.
            let device = unsafe { device.as_ptr().cast::<libc::devstat>().read_unaligned() };
            let name = device.device_name.map(|c| c as u8);
            let Ok(name) = CStr::from_bytes_until_nul(&name) else { continue };
            let name = format!("{}{}", name.to_string_lossy(), device.unit_number);
            if device.operations[READ] + device.operations[WRITE] == 0 {
                continue;
            }
            sink.put_at(&READS, "disk", &name, device.operations[READ]);
            sink.put_at(&READ_BYTES, "disk", &name, device.bytes[READ]);
            sink.put_at(&WRITES, "disk", &name, device.operations[WRITE]);
            sink.put_at(&WRITTEN_BYTES, "disk", &name, device.bytes[WRITE]);
        }
        Ok(())
    }
}
