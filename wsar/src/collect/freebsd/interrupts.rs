//! Interrupts, context switches, new processes.

use std::io;

use super::sysctl;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const COUNTS: [(&str, Description); 4] = [
    ("vm.stats.sys.v_intr", metric("interrupts", Kind::Counter, "interrupts", "Interrupts.")),
    ("vm.stats.sys.v_soft", metric("softirqs", Kind::Counter, "interrupts", "Deferred interrupts.")),
    (
        "vm.stats.sys.v_swtch",
        metric("context_switches", Kind::Counter, "switches", "Switches from one thread to another."),
    ),
    ("vm.stats.vm.v_forks", metric("forks", Kind::Counter, "processes", "Processes started.")),
];

pub(super) struct Interrupts;

impl Source for Interrupts {
    fn name(&self) -> &'static str {
        "interrupts"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        for (name, what) in &COUNTS {
            sink.put(what, sysctl::number(name)?);
        }
        Ok(())
    }
}
