//! A process by its files in /proc/PID.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::sample::field;

/// What a process uses; bytes, seconds since it began, counts since it began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Resident memory (smaps_rollup Rss).
    pub(crate) rss_bytes: u64,
    /// Its share of resident memory (smaps_rollup Pss).
    pub(crate) pss_bytes: u64,
    /// Anonymous memory (smaps_rollup Anonymous): heap and stacks.
    pub(crate) anon_bytes: u64,
    /// Page tables (status VmPTE).
    pub(crate) page_tables_bytes: u64,
    /// CPU time in user space.
    pub(crate) user_seconds: f64,
    /// CPU time in the kernel.
    pub(crate) system_seconds: f64,
    /// Context switches of all threads.
    pub(crate) context_switches: u64,
    /// System calls that read and wrote (io syscr + syscw), where they are shown.
    pub(crate) io_calls: Option<u64>,
}

impl Process {
    /// Reads them; `None` when there is no such process.
    pub(crate) fn read(pid: u32) -> Option<Process> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let stat = read("stat")?;
        let (user_seconds, system_seconds) = cpu(&stat)?;
        let status = read("status").unwrap_or_default();
        let memory = read("smaps_rollup").unwrap_or_default();
        let io = read("io").unwrap_or_default();
        Some(Process {
            rss_bytes: field(&memory, "Rss").or_else(|| field(&status, "VmRSS")).unwrap_or(0),
            pss_bytes: field(&memory, "Pss").unwrap_or(0),
            anon_bytes: field(&memory, "Anonymous").or_else(|| field(&status, "RssAnon")).unwrap_or(0),
            page_tables_bytes: field(&status, "VmPTE").unwrap_or(0),
            user_seconds,
            system_seconds,
            context_switches: context_switches(pid),
            io_calls: field(&io, "syscr").zip(field(&io, "syscw")).map(|(reads, writes)| reads + writes),
        })
    }

    /// Only what is cheap to read often: CPU time and anonymous memory.
    pub(crate) fn glance(pid: u32) -> Option<(f64, u64)> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let (user, system) = cpu(&read("stat")?)?;
        Some((user + system, field(&read("status")?, "RssAnon")?))
    }

    /// Only its resident memory and the anonymous part of it, in bytes.
    pub(crate) fn memory(pid: u32) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some((field(&status, "VmRSS")?, field(&status, "RssAnon")?))
    }
}

/// User and system seconds from the text of /proc/PID/stat; the name in it may hold spaces and parentheses.
fn cpu(stat: &str) -> Option<(f64, f64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // SAFETY: the call takes no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    Some((user as f64 / ticks, system as f64 / ticks))
}

fn context_switches(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(|status| {
            field(&status, "voluntary_ctxt_switches").unwrap_or(0)
                + field(&status, "nonvoluntary_ctxt_switches").unwrap_or(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0";
        let (user, system) = cpu(stat).unwrap();
        assert!((user / system - 5.0).abs() < 1e-9);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let own = Process::read(std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.anon_bytes > 0);
        assert!(Process::read(u32::MAX).is_none());
    }
}
