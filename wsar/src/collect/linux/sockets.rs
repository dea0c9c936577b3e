//! Sockets by state, their memory, and file descriptors. The kernel keeps these sums; a list of all sockets, which
//! would give the other states, takes seconds with a million of them.

use std::io;
use std::str::SplitAsciiWhitespace;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const SOCKSTAT: &str = "/proc/net/sockstat";
/// The kernel counts IPv6 sockets apart, even those whose other end is an IPv4 address.
const SOCKSTAT6: &str = "/proc/net/sockstat6";
const FILES: &str = "/proc/sys/fs/file-nr";

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Gauge, unit, help)
}

const USED: Description = gauge("sockets.used", "sockets", "Sockets of all kinds.");
const TCP: [(&str, Description); 4] = [
    ("inuse", gauge("sockets.tcp.open", "sockets", "TCP sockets that listen or are connected.")),
    ("orphan", gauge("sockets.tcp.orphan", "sockets", "TCP sockets that no program has open any more.")),
    ("tw", gauge("sockets.tcp.time_wait", "sockets", "TCP sockets in TIME-WAIT.")),
    ("alloc", gauge("sockets.tcp.allocated", "sockets", "TCP sockets that take memory.")),
];
const MEMORY: Description = gauge("sockets.tcp.memory", "bytes", "Memory of the buffers of TCP sockets.");
const UDP: Description = gauge("sockets.udp.open", "sockets", "UDP sockets.");
const OPEN: Description = gauge("files.open", "descriptors", "Open files of all programs.");
const LIMIT: Description =
    metric("files.limit", Kind::HighWater, "descriptors", "Open files that the kernel allows.");

#[derive(Default)]
pub(super) struct Sockets {
    buffer: String,
    buffer6: String,
}

/// The number after a name in a line of names and numbers.
fn value(words: Option<SplitAsciiWhitespace<'_>>, name: &str) -> u64 {
    let Some(mut words) = words else { return 0 };
    words.find(|word| *word == name);
    words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

impl Source for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let sockstat = text::read(SOCKSTAT, &mut self.buffer)?;
        // A kernel without IPv6 has none.
        let sockstat6 = text::read(SOCKSTAT6, &mut self.buffer6).unwrap_or_default();
        let in_use6 = |kind| value(text::after(sockstat6, kind), "inuse");
        sink.put(&USED, value(text::after(sockstat, "sockets:"), "used"));
        let tcp = text::after(sockstat, "TCP:");
        for (name, what) in &TCP {
            let six = if *name == "inuse" { in_use6("TCP6:") } else { 0 };
            sink.put(what, value(tcp.clone(), name) + six);
        }
        // SAFETY: no arguments but a constant.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        sink.put(&MEMORY, value(tcp, "mem").saturating_mul(page));
        sink.put(&UDP, value(text::after(sockstat, "UDP:"), "inuse") + in_use6("UDP6:"));
        let mut files = text::read(FILES, &mut self.buffer)?.split_ascii_whitespace();
        sink.put(&OPEN, text::number(&mut files, FILES)?);
        files.next();
        sink.put(&LIMIT, text::number(&mut files, FILES)?);
        Ok(())
    }
}
