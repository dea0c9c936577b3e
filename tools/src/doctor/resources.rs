//! Descriptors, memory and the clock.

use std::time::{Duration, SystemTime};

use super::Finding;
use super::system::{output, size, sysctl};

/// Descriptors beside the connections: listeners, event loops, the directory, logs, and a reserve.
const DESCRIPTORS_BESIDE: u64 = 1064;

/// Bytes the kernel takes for the server's end of an idle connection: TCP socket, inode, file, registration.
const KERNEL_BYTES: u64 = 3 * 1024;

/// Bytes the server takes for an idle session under TLS, with room for presence and rosters.
const SESSION_BYTES: u64 = 1024;

/// Bytes of the server and the system without any connection.
const BASE_BYTES: u64 = 256 << 20;

/// No clock that is right shows a time before this: 2025-01-01.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

/// Descriptors that a server with so many connections needs.
pub(super) fn descriptors_for(connections: u64) -> u64 {
    connections + DESCRIPTORS_BESIDE
}

/// Looks at everything.
pub(super) fn check(connections: u64, pid: Option<u32>) -> Vec<Finding> {
    let mut findings = vec![descriptors(connections, pid)];
    findings.extend(memory(connections));
    findings.push(clock(SystemTime::now()));
    findings.push(synchronised());
    findings
}

/// The hard limit: the server raises the soft one itself.
fn descriptors(connections: u64, pid: Option<u32>) -> Finding {
    let check = "descriptors";
    let needed = descriptors_for(connections);
    let (whose, limit) = match pid.and_then(limit_of_process) {
        Some(limit) => ("the server", limit),
        None => match output("sh", &["-c", "ulimit -Hn"]) {
            Some(text) => ("a process started here", text.trim().parse().unwrap_or(u64::MAX)),
            None => return Finding::note(check, "the limit of descriptors cannot be read"),
        },
    };
    if limit >= needed {
        let shown = if limit == u64::MAX { "any number".to_owned() } else { limit.to_string() };
        return Finding::good(check, format!("{whose} may have {shown} ({needed} needed)"));
    }
    let text = format!("{whose} may have {limit}, but {connections} connections need {needed}");
    let command = if cfg!(target_os = "freebsd") {
        format!("sysctl kern.maxfilesperproc={needed} && service whimbreld restart")
    } else {
        format!(
            "mkdir -p /etc/systemd/system/whimbreld.service.d && printf '[Service]\\nLimitNOFILE={needed}\\n' > \
             /etc/systemd/system/whimbreld.service.d/descriptors.conf && systemctl daemon-reload && systemctl \
             restart whimbreld   (without systemd, as root: ulimit -n {needed} before the start)"
        )
    };
    Finding::mend(check, text, command)
}

/// The hard limit of a running process; Linux only.
fn limit_of_process(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn memory(connections: u64) -> Option<Finding> {
    let available = available_memory()?;
    let needed = BASE_BYTES + connections * (KERNEL_BYTES + SESSION_BYTES);
    let text = format!(
        "{} available, about {} needed for {connections} connections ({} of it in the kernel)",
        size(available),
        size(needed),
        size(connections * KERNEL_BYTES)
    );
    if available >= needed {
        return Some(Finding::good("memory", text));
    }
    let fit = available.saturating_sub(BASE_BYTES) / (KERNEL_BYTES + SESSION_BYTES);
    let command = format!("add memory, or set in the configuration: limits.sessions = {fit}");
    Some(Finding::mend("memory", text, command))
}

fn available_memory() -> Option<u64> {
    if cfg!(target_os = "freebsd") {
        return sysctl("hw.usermem")?.parse().ok();
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Whether the time can be right, and is after the machine's start.
fn clock(now: SystemTime) -> Finding {
    let check = "clock";
    let command =
        if cfg!(target_os = "freebsd") { "service ntpd onestart" } else { "timedatectl set-ntp true" };
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if since_epoch < EARLIEST {
        let text = "the clock stands before 2025; certificates will seem not to be valid yet";
        return Finding::mend(check, text, command);
    }
    if let Some(started) = started_seconds()
        && since_epoch.as_secs() < started
    {
        return Finding::mend(check, "the clock stands before the machine's own start", command);
    }
    Finding::good(check, "plausible")
}

/// When the machine was started, in seconds since 1970.
fn started_seconds() -> Option<u64> {
    if cfg!(target_os = "freebsd") {
        let text = sysctl("kern.boottime")?;
        let after = text.split_once("sec = ")?.1;
        return after.split(',').next()?.trim().parse().ok();
    }
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Whether the clock is kept right, when that can be learned without asking anybody on the network.
fn synchronised() -> Finding {
    let check = "time service";
    let answer = output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    match answer.as_deref().map(str::trim) {
        Some("yes") => Finding::good(check, "the clock is synchronised"),
        Some("no") => Finding::note(check, "the clock is not synchronised; delay stamps will be off")
            .with_command("timedatectl set-ntp true"),
        _ => Finding::note(check, "not known; see that ntpd, chronyd or systemd-timesyncd runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_before_2025_must_be_mended() {
        let table = [(0, Level::Mend), (1_600_000_000, Level::Mend), (32_503_680_000, Level::Good)];
        for (seconds, level) in table {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(clock(now).level, level, "{seconds}");
        }
    }

    #[test]
    fn more_connections_than_any_limit_ask_for_descriptors_and_memory() {
        let levels: Vec<(String, Level)> =
            check(100_000_000_000, None).into_iter().map(|finding| (finding.check, finding.level)).collect();
        assert!(levels.contains(&("memory".into(), Level::Mend)), "{levels:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_of_a_process_is_read_from_the_system() {
        assert!(limit_of_process(std::process::id()).is_some_and(|limit| limit > 0));
        assert_eq!(limit_of_process(u32::MAX), None);
    }
}
