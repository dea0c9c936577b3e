//! `tune`: what so many connections need of the system, printed, or set by root.

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use crate::cli::TuneArgs;
use crate::engine::target::SESSIONS_PER_ROUTE_MAX;

/// Kernel memory of a loopback connection with both ends, in bytes, rounded up.
const KERNEL_BYTES_PER_CONNECTION: u64 = 8_500;

/// A setting of the kernel: a file in /proc/sys with one or more numbers.
struct Setting {
    name: &'static str,
    wanted: Vec<u64>,
    /// Which of the numbers must be at most, instead of at least, the wanted ones.
    at_most: &'static [usize],
    why: &'static str,
}

/// What so many connections with both ends on this machine need.
fn settings(connections: u64, page_bytes: u64) -> Vec<Setting> {
    let of_one_process = connections + 1024;
    // Two sockets for each connection, and room for everything else.
    let of_all = connections * 2 + 100_000;
    // Idle sockets have no buffers; busy ones are few at a time.
    let buffers = (connections * 2 * 1024 / page_bytes).max(65_536);
    vec![
        Setting {
            name: "fs/nr_open",
            wanted: vec![of_one_process],
            at_most: &[],
            why: "descriptors that the limit of a process may be set to",
        },
        Setting { name: "fs/file-max", wanted: vec![of_all], at_most: &[], why: "open files of the machine" },
        Setting {
            name: "net/core/somaxconn",
            wanted: vec![16_384],
            at_most: &[],
            why: "connections that wait to be accepted",
        },
        Setting {
            name: "net/ipv4/tcp_max_syn_backlog",
            wanted: vec![16_384],
            at_most: &[],
            why: "handshakes under way",
        },
        Setting {
            name: "net/ipv4/ip_local_port_range",
            wanted: vec![10_240, 65_000],
            at_most: &[0],
            why: "ports of the generator's connections",
        },
        Setting {
            name: "net/ipv4/tcp_mem",
            wanted: vec![buffers, buffers * 2, buffers * 4],
            at_most: &[],
            why: "pages of TCP buffers, of the machine",
        },
        Setting {
            name: "net/ipv4/tcp_tw_reuse",
            wanted: vec![1],
            at_most: &[],
            why: "reconnects while old connections linger",
        },
    ]
}

impl Setting {
    fn path(&self) -> String {
        format!("/proc/sys/{}", self.name)
    }

    fn read(&self) -> Option<Vec<u64>> {
        let text = fs::read_to_string(self.path()).ok()?;
        text.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// What to set, given what is; `None` when it suffices. Nothing is ever made smaller than it is.
    fn better(&self, now: &[u64]) -> Option<Vec<u64>> {
        if now.len() != self.wanted.len() {
            return None;
        }
        let merged: Vec<u64> = now
            .iter()
            .zip(&self.wanted)
            .enumerate()
            .map(
                |(index, (&now, &wanted))| {
                    if self.at_most.contains(&index) { now.min(wanted) } else { now.max(wanted) }
                },
            )
            .collect();
        (merged != now).then_some(merged)
    }
}

fn words(values: &[u64]) -> String {
    values.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// Prints, and with `--apply` sets.
///
/// # Errors
/// A setting could not be made.
pub(crate) fn main(args: &TuneArgs) -> Result<ExitCode, String> {
    // SAFETY: the call takes no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| {
        // A closed standard output changes nothing about the settings.
        let _ = writeln!(out, "{line}");
    };
    let mut failed = Vec::new();
    for setting in settings(args.connections, page) {
        let name = setting.name.replace('/', ".");
        let Some(now) = setting.read() else {
            say(format!("{name}: not on this system ({})", setting.why));
            continue;
        };
        let Some(better) = setting.better(&now) else {
            say(format!("{name} = {}: enough ({})", words(&now), setting.why));
            continue;
        };
        if !args.apply {
            say(format!("sysctl -w {name}='{}'   # is {}; {}", words(&better), words(&now), setting.why));
            continue;
        }
        match fs::write(setting.path(), words(&better)) {
            Ok(()) => say(format!("{name}: {} -> {} ({})", words(&now), words(&better), setting.why)),
            Err(error) => failed.push(format!("{name} = {}: {error}", words(&better))),
        }
    }
    let hard = crate::scenario::descriptor_limit();
    let needed = args.connections + 1024;
    if hard < needed {
        say(format!(
            "ulimit -Hn {needed}   # is {hard}; for the server: LimitNOFILE= of its unit, or the shell that starts it \
             (the generator starts more workers instead)"
        ));
    }
    let routes = args.connections.div_ceil(SESSIONS_PER_ROUTE_MAX);
    say(format!(
        "# {} connections with both ends here use about {:.1} GiB of kernel memory and {routes} or more pairs of source \
         address and server port (the generator takes addresses of 127.1.0.0/16 by itself)",
        args.connections,
        (args.connections * KERNEL_BYTES_PER_CONNECTION) as f64 / (1_u64 << 30) as f64
    ));
    if failed.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(format!("could not set (this needs root): {}", failed.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_smaller_and_enough_is_left_alone() {
        let all = settings(1_000_000, 4096);
        let find = |name: &str| all.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!(find("fs/nr_open").better(&[1024]), Some(vec![1_001_024]));
        assert_eq!(find("fs/nr_open").better(&[2_000_000_000]), None);
        assert_eq!(
            find("net/ipv4/ip_local_port_range").better(&[32_768, 60_999]),
            Some(vec![10_240, 65_000])
        );
        assert_eq!(find("net/ipv4/ip_local_port_range").better(&[1024, 65_535]), None);
        assert_eq!(find("net/ipv4/tcp_mem").better(&[1]), None, "a kernel that shows it otherwise is let be");
    }
}
