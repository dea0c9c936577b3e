//! `tune`: what so many connections need of the system, printed, or set by root.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use crate::cli::{End, TuneArgs};
use crate::engine::target::SESSIONS_PER_ROUTE_MAX;

/// Kernel memory of one end of a connection, in bytes, rounded up.
const KERNEL_BYTES_PER_END: u64 = 4_250;

/// Descriptors of a process beside its connections, as `whimbrelctl doctor` counts them.
const DESCRIPTORS_BESIDE: u64 = 1064;

/// Connections that may wait to be accepted, and handshakes under way: all generators begin at once.
const BACKLOG: u64 = 16_384;

/// Smallest buffer of a socket: chat needs no more, and every connection is guaranteed it.
const BUFFER_MIN_BYTES: u64 = 4096;

/// A setting of the kernel with one or more numbers.
struct Setting {
    /// As sysctl(8) names it.
    name: &'static str,
    /// Zero: whatever is there.
    wanted: Vec<u64>,
    /// Which of the numbers must be at most, instead of at least, the wanted ones.
    at_most: &'static [usize],
    why: &'static str,
    /// The end that needs it; `None`: either.
    of: Option<End>,
}

impl Setting {
    fn only(self, of: End) -> Setting {
        Setting { of: Some(of), ..self }
    }
}

fn at_least(name: &'static str, wanted: impl Into<Vec<u64>>, why: &'static str) -> Setting {
    Setting { name, wanted: wanted.into(), at_most: &[], why, of: None }
}

/// What so many connections with both ends on this machine need: never less than `whimbrelctl doctor` asks for the server
/// alone (docs/production.md has both, and tests compare them).
fn settings(connections: u64, page_bytes: u64, end: End) -> Vec<Setting> {
    let ends = ends(end);
    let all = if cfg!(target_os = "freebsd") {
        freebsd(connections, ends)
    } else {
        linux(connections, page_bytes, ends)
    };
    all.into_iter().filter(|setting| setting.of.is_none_or(|of| end == End::Both || of == end)).collect()
}

/// How many ends of each connection are here.
fn ends(end: End) -> u64 {
    if end == End::Both { 2 } else { 1 }
}

/// Open files of the machine: a socket for each end, and room for everything else.
fn files(connections: u64, ends: u64) -> u64 {
    connections * ends + 100_000
}

fn linux(connections: u64, page_bytes: u64, ends: u64) -> Vec<Setting> {
    // Idle sockets have no buffers; busy ones are few at a time.
    let buffers = (connections * ends * 1024 / page_bytes).max(65_536);
    let small = vec![BUFFER_MIN_BYTES, 0, 0];
    vec![
        at_least(
            "fs.nr_open",
            [connections + DESCRIPTORS_BESIDE],
            "descriptors that the limit of a process may be set to",
        ),
        at_least("fs.file-max", [files(connections, ends)], "open files of the machine"),
        at_least("net.core.somaxconn", [BACKLOG], "connections that wait to be accepted").only(End::Server),
        at_least("net.ipv4.tcp_max_syn_backlog", [BACKLOG], "handshakes under way").only(End::Server),
        Setting {
            name: "net.ipv4.ip_local_port_range",
            wanted: vec![10_240, 65_000],
            at_most: &[0],
            why: "ports of the generator's connections",
            of: Some(End::Generator),
        },
        at_least(
            "net.ipv4.tcp_mem",
            [buffers, buffers * 2, buffers * 4],
            "pages of TCP buffers, of the machine",
        ),
        Setting {
            name: "net.ipv4.tcp_rmem",
            wanted: small.clone(),
            at_most: &[0],
            why: "memory guaranteed to each receiver",
            of: None,
        },
        Setting {
            name: "net.ipv4.tcp_wmem",
            wanted: small,
            at_most: &[0],
            why: "memory guaranteed to each sender",
            of: None,
        },
        at_least(
            "net.netfilter.nf_conntrack_max",
            [connections + connections / 5],
            "connections that the firewall tracks, where it does",
        ),
        at_least("net.ipv4.tcp_tw_reuse", [1], "reconnects while old connections linger")
            .only(End::Generator),
    ]
}

fn freebsd(connections: u64, ends: u64) -> Vec<Setting> {
    vec![
        at_least("kern.maxfiles", [files(connections, ends)], "open files of the machine"),
        at_least("kern.maxfilesperproc", [connections + DESCRIPTORS_BESIDE], "open files of a process"),
        at_least("kern.ipc.soacceptqueue", [BACKLOG], "connections that wait to be accepted")
            .only(End::Server),
        at_least("kern.ipc.maxsockets", [files(connections, ends)], "sockets of the machine"),
        at_least("kern.ipc.maxsockbuf", [2 << 20], "bytes that a socket may buffer"),
        at_least("net.inet.tcp.syncache.hashsize", [512], "handshakes under way; set in /boot/loader.conf")
            .only(End::Server),
        Setting {
            name: "net.inet.ip.portrange.first",
            wanted: vec![10_240],
            at_most: &[0],
            why: "ports of the generator's connections",
            of: Some(End::Generator),
        },
    ]
}

impl Setting {
    fn path(&self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }

    fn read(&self) -> Option<Vec<u64>> {
        let text = if cfg!(target_os = "freebsd") {
            let done = Command::new("sysctl").args(["-n", self.name]).stderr(Stdio::null()).output().ok()?;
            String::from_utf8(done.stdout).ok().filter(|_| done.status.success())?
        } else {
            fs::read_to_string(self.path()).ok()?
        };
        text.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    fn write(&self, values: &str) -> std::io::Result<()> {
        if !cfg!(target_os = "freebsd") {
            return fs::write(self.path(), values);
        }
        let done = Command::new("sysctl").arg(format!("{}={values}", self.name)).output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(std::io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
    }

    /// The command that sets it.
    fn command(&self, values: &str) -> String {
        if cfg!(target_os = "freebsd") {
            return format!("sysctl {}={values}", self.name);
        }
        format!("sysctl -w {}='{values}'", self.name)
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

/// The settings that matter to many connections, as they are now.
pub(crate) fn current() -> BTreeMap<String, String> {
    let read = |setting: Setting| Some((setting.name.to_owned(), words(&setting.read()?)));
    settings(1, 4096, End::Both).into_iter().filter_map(read).collect()
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
    for setting in settings(args.connections, page, args.end) {
        let name = setting.name;
        let Some(now) = setting.read() else {
            say(format!("{name}: not on this system ({})", setting.why));
            continue;
        };
        let Some(better) = setting.better(&now) else {
            say(format!("{name} = {}: enough ({})", words(&now), setting.why));
            continue;
        };
        if !args.apply {
            say(format!("{}   # is {}; {}", setting.command(&words(&better)), words(&now), setting.why));
            continue;
        }
        match setting.write(&words(&better)) {
            Ok(()) => say(format!("{name}: {} -> {} ({})", words(&now), words(&better), setting.why)),
            Err(error) => failed.push(format!("{name} = {}: {error}", words(&better))),
        }
    }
    let hard = crate::scenario::descriptor_limit();
    let needed = args.connections + DESCRIPTORS_BESIDE;
    if hard < needed {
        say(format!(
            "ulimit -Hn {needed}   # is {hard}; for the server: LimitNOFILE= of its unit, or the shell that starts it \
             (the generator starts more workers instead)"
        ));
    }
    let routes = args.connections.div_ceil(SESSIONS_PER_ROUTE_MAX);
    say(format!(
        "# {} connections with {} here use about {:.1} GiB of kernel memory and {routes} or more pairs of source \
         address and server port (to a server on its own machine the generator takes addresses of 127.1.0.0/16 by itself)",
        args.connections,
        match args.end {
            End::Both => "both ends",
            End::Server => "the server's end",
            End::Generator => "the generator's end",
        },
        (args.connections * ends(args.end) * KERNEL_BYTES_PER_END) as f64 / (1_u64 << 30) as f64
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
        let all = linux(1_000_000, 4096, 2);
        let find = |name: &str| all.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!(find("fs.nr_open").better(&[1024]), Some(vec![1_001_064]));
        assert_eq!(find("fs.nr_open").better(&[2_000_000_000]), None);
        assert_eq!(
            find("net.ipv4.ip_local_port_range").better(&[32_768, 60_999]),
            Some(vec![10_240, 65_000])
        );
        assert_eq!(find("net.ipv4.ip_local_port_range").better(&[1024, 65_535]), None);
        assert_eq!(find("net.ipv4.tcp_mem").better(&[1]), None, "a kernel that shows it otherwise is let be");
    }

    #[test]
    fn each_end_needs_what_is_its_own() {
        let names = |end| -> Vec<&str> {
            settings(1_000_000, 4096, end).into_iter().map(|setting| setting.name).collect()
        };
        let (both, server, generator) = (names(End::Both), names(End::Server), names(End::Generator));
        assert!(server.iter().chain(&generator).all(|name| both.contains(name)));
        assert!(both.iter().all(|name| server.contains(name) || generator.contains(name)));
        let (ports, backlog) = if cfg!(target_os = "freebsd") {
            ("net.inet.ip.portrange.first", "kern.ipc.soacceptqueue")
        } else {
            ("net.ipv4.ip_local_port_range", "net.core.somaxconn")
        };
        assert!(generator.contains(&ports) && !server.contains(&ports));
        assert!(server.contains(&backlog) && !generator.contains(&backlog));
        assert_eq!(files(1_000_000, ends(End::Server)), 1_100_000);
    }

    #[test]
    fn the_smallest_buffers_become_smaller_and_the_others_stay() {
        let all = linux(1_000_000, 4096, 2);
        let setting = all.iter().find(|setting| setting.name == "net.ipv4.tcp_rmem").unwrap();
        assert_eq!(setting.better(&[65_536, 131_072, 6_291_456]), Some(vec![4096, 131_072, 6_291_456]));
        assert_eq!(setting.better(&[4096, 131_072, 6_291_456]), None);
    }

    /// The table of docs/production.md: each setting with what the server needs and what both ends need, for a million.
    #[test]
    fn what_is_wanted_is_what_the_table_says_and_suffices_for_the_server() {
        let page = include_str!("../../docs/production.md");
        let all: Vec<Setting> = linux(1_000_000, 4096, 2).into_iter().chain(freebsd(1_000_000, 2)).collect();
        let mut rows = 0;
        for line in page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 5) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`');
            let Some(setting) = all.iter().find(|setting| setting.name == name) else { continue };
            let number = |cell: &str| {
                cell.replace(',', "").rsplit(' ').next().and_then(|word| word.parse::<u64>().ok())
            };
            let (server, both) = (number(cells[1]), number(cells[2]));
            // Of several the one that the server cares about: the first where less is better, else the last.
            let mine =
                if setting.at_most.is_empty() { setting.wanted.last() } else { setting.wanted.first() };
            assert_eq!(both, mine.copied(), "{name}");
            if let (Some(server), Some(both)) = (server, both) {
                assert!(if setting.at_most.is_empty() { both >= server } else { both <= server }, "{name}");
            }
            rows += 1;
        }
        assert_eq!(rows, all.len(), "a setting is not in the table of docs/production.md");
    }
}
