//! CPU time of each core, and the load.

use std::io;

use super::sysctl;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const fn time(name: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, "milliseconds", help)
}

/// In the order of kern.cp_times: CP_USER, CP_NICE, CP_SYS, CP_INTR, CP_IDLE.
const TIMES: [Description; 5] = [
    time("cpu.user", "Time of each core in programs."),
    time("cpu.nice", "Time of each core in programs of low priority."),
    time("cpu.system", "Time of each core in the kernel."),
    time("cpu.irq", "Time of each core in interrupts."),
    time("cpu.idle", "Time of each core with nothing to do."),
];
const LOAD: Description = metric("load.1m", Kind::Gauge, "hundredths", "Load of the last minute, times 100.");

pub(super) struct Cpu;

impl Source for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        // struct clockinfo: hz, tick, spare, stathz, profhz.
        let clock = sysctl::bytes("kern.clockrate")?;
        let hertz = clock.get(12..16).map_or(0, |b| i32::from_ne_bytes(b.try_into().expect("four bytes")));
        let hertz = u64::try_from(hertz).unwrap_or(0).max(1);
        for (core, ticks) in sysctl::numbers("kern.cp_times")?.chunks_exact(TIMES.len()).enumerate() {
            for (what, ticks) in TIMES.iter().zip(ticks) {
                sink.put_at(what, "cpu", &core.to_string(), ticks.saturating_mul(1000) / hertz);
            }
        }
        let mut load = [0.0f64; 1];
        // SAFETY: the buffer has room for the one value asked for.
        if unsafe { libc::getloadavg(load.as_mut_ptr(), 1) } == 1 {
            sink.put(&LOAD, (load[0] * 100.0).round() as u64);
        }
        Ok(())
    }
}
