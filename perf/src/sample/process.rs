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

    /// These processes and all below them, as one; `None` when none of them is there.
    pub(crate) fn read_all(roots: &[u32]) -> Option<Process> {
        let mut sum: Option<Process> = None;
        for process in family(roots).into_iter().filter_map(Process::read) {
            sum = Some(match sum {
                None => process,
                Some(sum) => sum.plus(&process),
            });
        }
        sum
    }

    fn plus(&self, other: &Process) -> Process {
        Process {
            rss_bytes: self.rss_bytes + other.rss_bytes,
            pss_bytes: self.pss_bytes + other.pss_bytes,
            anon_bytes: self.anon_bytes + other.anon_bytes,
            page_tables_bytes: self.page_tables_bytes + other.page_tables_bytes,
            user_seconds: self.user_seconds + other.user_seconds,
            system_seconds: self.system_seconds + other.system_seconds,
            context_switches: self.context_switches + other.context_switches,
            io_calls: self.io_calls.zip(other.io_calls).map(|(one, other)| one + other),
        }
    }

    /// Only what is cheap to read often: CPU time and anonymous memory, of these processes and all below them.
    pub(crate) fn glance(roots: &[u32]) -> Option<(f64, u64)> {
        let of = |pid: u32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
            let (user, system) = cpu(&read("stat")?)?;
            Some((user + system, field(&read("status")?, "RssAnon")?))
        };
        family(roots).into_iter().filter_map(of).reduce(|one, other| (one.0 + other.0, one.1 + other.1))
    }

    /// Only its resident memory and the anonymous part of it, in bytes.
    pub(crate) fn memory(pid: u32) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some((field(&status, "VmRSS")?, field(&status, "RssAnon")?))
    }
}

/// Bytes that these processes and all below them have had from the disk, as far as the system tells.
pub(crate) fn disk_read_bytes(roots: &[u32]) -> Option<u64> {
    let of = |pid: u32| field(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?, "read_bytes");
    family(roots).into_iter().filter_map(of).reduce(|one, other| one + other)
}

/// These processes and all below them, each once.
fn family(roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = roots.to_vec();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let new: Vec<u32> = children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
                .filter(|child| !found.contains(child))
                .collect();
            found.extend(new);
        }
    }
    found
}

/// User and system seconds from the text of /proc/PID/stat, those of children that have ended included; the name in it
/// may hold spaces and parentheses.
fn cpu(stat: &str) -> Option<(f64, f64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<u64> =
        after_name.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    let &[own_user, own_system, children_user, children_system] = fields.as_slice() else { return None };
    let (user, system) = (own_user + children_user, own_system + children_system);
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
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 4194560 1 2 3 4 200 30 50 20 20 0 1 0";
        let (user, system) = cpu(stat).unwrap();
        assert!((user / system - 5.0).abs() < 1e-9, "children that have ended count: 250 to 50");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_belongs_to_its_parents_family_and_is_counted_once() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = super::family(&[own, child.id()]);
        assert_eq!(family.iter().filter(|&&pid| pid == child.id()).count(), 1);
        let (alone, both) = (Process::read(child.id()).unwrap(), Process::read_all(&[own]).unwrap());
        assert!(both.rss_bytes > alone.rss_bytes);
        assert!(super::family(&[own]).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Process::read_all(&[u32::MAX]).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let own = Process::read(std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.anon_bytes > 0);
        assert!(Process::read(u32::MAX).is_none());
    }
}
