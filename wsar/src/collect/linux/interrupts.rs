//! Interrupts, context switches, new processes.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const PATH: &str = "/proc/stat";

/// The line of /proc/stat that each begins with.
const COUNTS: [(&str, Description); 4] = [
    ("intr", metric("interrupts", Kind::Counter, "interrupts", "Interrupts.")),
    ("softirq", metric("softirqs", Kind::Counter, "interrupts", "Deferred interrupts.")),
    ("ctxt", metric("context_switches", Kind::Counter, "switches", "Switches from one thread to another.")),
    ("processes", metric("forks", Kind::Counter, "processes", "Processes and threads started.")),
];
const STATES: [(&str, Description); 2] = [
    ("procs_running", metric("threads.running", Kind::Gauge, "threads", "Threads that run or could.")),
    ("procs_blocked", metric("threads.blocked", Kind::Gauge, "threads", "Threads that wait for a disk.")),
];

#[derive(Default)]
pub(super) struct Interrupts {
    buffer: String,
}

impl Source for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let stat = text::read(PATH, &mut self.buffer)?;
        for (line, what) in COUNTS.iter().chain(&STATES) {
            sink.put(what, text::named(stat, line));
        }
        Ok(())
    }
}
