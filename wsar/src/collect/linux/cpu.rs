//! CPU time of each core, and the load.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const STAT: &str = "/proc/stat";
const LOAD: &str = "/proc/loadavg";

const fn time(name: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, "milliseconds", help)
}

/// In the order of the columns of /proc/stat.
const TIMES: [Description; 8] = [
    time("cpu.user", "Time of each core in programs."),
    time("cpu.nice", "Time of each core in programs of low priority."),
    time("cpu.system", "Time of each core in the kernel."),
    time("cpu.idle", "Time of each core with nothing to do."),
    time("cpu.iowait", "Time of each core with nothing to do but to wait for a disk."),
    time("cpu.irq", "Time of each core in interrupts."),
    time("cpu.softirq", "Time of each core in deferred interrupts, where the network is served."),
    time("cpu.steal", "Time that the host gave to other machines."),
];
const LOADS: [Description; 3] = [
    metric("load.1m", Kind::Gauge, "hundredths", "Load of the last minute, times 100."),
    metric("load.5m", Kind::Gauge, "hundredths", "Load of the last five minutes, times 100."),
    metric("load.15m", Kind::Gauge, "hundredths", "Load of the last fifteen minutes, times 100."),
];

#[derive(Default)]
pub(super) struct Cpu {
    buffer: String,
}

impl Source for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        // SAFETY: no arguments but a constant.
        let hertz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
        for line in text::read(STAT, &mut self.buffer)?.lines() {
            let Some(line) = line.strip_prefix("cpu") else { break };
            // The first line is the sum.
            if line.starts_with(' ') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let core = words.next().unwrap_or_default();
            for time in &TIMES {
                let ticks = text::number(&mut words, STAT)?;
                sink.put_at(time, "cpu", core, ticks.saturating_mul(1000) / hertz);
            }
        }
        let mut words = text::read(LOAD, &mut self.buffer)?.split_ascii_whitespace();
        for load in &LOADS {
            let value: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
            sink.put(load, (value * 100.0).round() as u64);
        }
        Ok(())
    }
}
