//! CPU time of each core, and the load.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const STAT: &str = "/proc/stat";
const LOAD: &str = "/proc/loadavg";

/// Cores whose times are kept rising; Linux has room for 8,192.
const CORES_MAX: usize = 16_384;

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
    /// By number of core, and by column.
    cores: Vec<[Rising; TIMES.len()]>,
}

/// A time as it is told. The kernel's own may fall (proc(5): iowait), which a counter must not: Prometheus would take it
/// for a restart and count everything again.
#[derive(Clone, Copy, Default)]
struct Rising {
    last: u64,
    told: Option<u64>,
}

impl Rising {
    /// What to tell when the kernel says `ticks`.
    fn next(&mut self, ticks: u64) -> u64 {
        let told = self.told.map_or(ticks, |told| told.saturating_add(ticks.saturating_sub(self.last)));
        *self = Rising { last: ticks, told: Some(told) };
        told
    }
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
            let number = core.parse::<usize>().ok().filter(|&number| number < CORES_MAX);
            for (column, time) in TIMES.iter().enumerate() {
                let mut ticks = text::number(&mut words, STAT)?;
                if let Some(number) = number {
                    if self.cores.len() <= number {
                        self.cores.resize(number + 1, Default::default());
                    }
                    ticks = self.cores[number][column].next(ticks);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_falls_is_told_as_one_that_stands_still() {
        let mut time = Rising::default();
        let told: Vec<u64> =
            [500, 510, 450, 450, 460, 520].into_iter().map(|ticks| time.next(ticks)).collect();
        assert_eq!(told, [500, 510, 510, 510, 520, 580]);
    }
}
