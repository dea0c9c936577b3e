//! Sysctls: what N connections need, by system.

use super::Finding;
use super::system::sysctl;

/// Connections in the backlog of a listener that the server asks for by default (`backlog`).
const BACKLOG: u64 = 4096;

/// Share of connections that have bytes in the kernel at one time, for the estimate of TCP memory.
const ACTIVE_SHARE: u64 = 10;

/// Bytes of socket buffers of a connection that is active, both directions.
const ACTIVE_BYTES: u64 = 16 * 1024;

/// Bytes of a page; larger pages make the estimate stricter, never laxer.
const PAGE_BYTES: u64 = 4096;

/// Settings of FreeBSD that are made when the machine starts.
const LOADER: [&str; 1] = ["net.inet.tcp.syncache.hashsize"];

/// How a value is judged.
enum Want {
    /// The word at this place is at least this number.
    AtLeast { word: usize, value: u64 },
    /// The word at this place is at most this number, or memory is wasted.
    AtMost { word: usize, value: u64 },
    /// Only for machines that generate load: from the first to the second word.
    PortRange { connections: u64 },
}

/// One sysctl.
struct Rule {
    name: &'static str,
    want: Want,
    /// What happens otherwise.
    why: &'static str,
}

/// Looks at all sysctls of this system.
pub(super) fn check(connections: u64) -> Vec<Finding> {
    let rules = if cfg!(target_os = "freebsd") { freebsd(connections) } else { linux(connections) };
    rules.iter().filter_map(|rule| judge(rule, sysctl(rule.name)?.as_str())).collect()
}

fn at_least(name: &'static str, value: u64, why: &'static str) -> Rule {
    Rule { name, want: Want::AtLeast { word: 0, value }, why }
}

fn linux(connections: u64) -> Vec<Rule> {
    let descriptors = super::resources::descriptors_for(connections);
    let pages = connections / ACTIVE_SHARE * ACTIVE_BYTES / PAGE_BYTES;
    vec![
        at_least("fs.nr_open", descriptors, "no process may have as many descriptors"),
        at_least(
            "fs.file-max",
            descriptors + descriptors / 10,
            "the machine may not have as many open files",
        ),
        at_least("net.core.somaxconn", BACKLOG, "bursts of new connections are refused"),
        at_least("net.ipv4.tcp_max_syn_backlog", BACKLOG, "bursts of new connections are refused"),
        Rule {
            name: "net.ipv4.tcp_mem",
            want: Want::AtLeast { word: 2, value: pages },
            why: "under load the kernel drops packets for want of memory for TCP (pages of 4 KiB)",
        },
        Rule {
            name: "net.ipv4.tcp_rmem",
            want: Want::AtMost { word: 0, value: 4096 },
            why: "each connection is guaranteed more memory for receiving than chat needs",
        },
        Rule {
            name: "net.ipv4.tcp_wmem",
            want: Want::AtMost { word: 0, value: 4096 },
            why: "each connection is guaranteed more memory for sending than chat needs",
        },
        at_least(
            "net.netfilter.nf_conntrack_max",
            connections + connections / 5,
            "the firewall drops new connections",
        ),
        Rule {
            name: "net.ipv4.ip_local_port_range",
            want: Want::PortRange { connections },
            why: "matters on machines that generate load: one address opens no more connections to one port",
        },
    ]
}

fn freebsd(connections: u64) -> Vec<Rule> {
    let descriptors = super::resources::descriptors_for(connections);
    vec![
        at_least(
            "kern.maxfiles",
            descriptors + descriptors / 10,
            "the machine may not have as many open files",
        ),
        at_least("kern.maxfilesperproc", descriptors, "no process may have as many descriptors"),
        at_least("kern.ipc.soacceptqueue", BACKLOG, "bursts of new connections are refused"),
        at_least(
            "kern.ipc.maxsockets",
            descriptors + descriptors / 10,
            "the machine may not have as many sockets",
        ),
        at_least("kern.ipc.maxsockbuf", 2 << 20, "a socket may not buffer as much as the server's backlog"),
        at_least("net.inet.tcp.syncache.hashsize", 512, "bursts of new connections are slow"),
    ]
}

fn judge(rule: &Rule, found: &str) -> Option<Finding> {
    let words: Vec<&str> = found.split(' ').collect();
    let word = |index: usize| words.get(index)?.parse::<u64>().ok();
    match rule.want {
        Want::AtLeast { word: index, value } => {
            if word(index)? >= value {
                return Some(Finding::good(rule.name, format!("{found} (at least {value} needed)")));
            }
            let text = format!("{found}, but {value} are needed; {}", rule.why);
            Some(Finding::mend(rule.name, text, command(rule.name, &words, index, value)))
        }
        Want::AtMost { word: index, value } => {
            if word(index)? <= value {
                return Some(Finding::good(rule.name, format!("{found} (first at most {value})")));
            }
            let text = format!("{found}; {}", rule.why);
            Some(Finding::note(rule.name, text).with_command(command(rule.name, &words, index, value)))
        }
        Want::PortRange { connections } => {
            let ports = word(1)?.saturating_sub(word(0)?) + 1;
            if ports >= connections {
                return Some(Finding::good(rule.name, format!("{found} ({ports} ports)")));
            }
            let text = format!("{found} ({ports} ports); {}", rule.why);
            Some(Finding::note(rule.name, text).with_command(format!("sysctl -w {}='1024 65535'", rule.name)))
        }
    }
}

/// The command that sets one word of a sysctl and keeps the others, in their order.
fn command(name: &str, words: &[&str], index: usize, value: u64) -> String {
    let mut words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    words[index] = value.to_string();
    let value = words.join(" ");
    let quote = if words.len() > 1 { "'" } else { "" };
    if LOADER.contains(&name) {
        return format!("echo '{name}=\"{value}\"' >> /boot/loader.conf && reboot");
    }
    if cfg!(target_os = "freebsd") {
        return format!("sysctl {name}={value} && echo {name}={value} >> /etc/sysctl.conf");
    }
    format!("sysctl -w {name}={quote}{value}{quote} | tee -a /etc/sysctl.d/60-whimbrel.conf")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn each_rule_judges_the_value_it_names() {
        let rules = linux(1_000_000);
        let table = [
            ("fs.nr_open", "20000", Level::Mend, "sysctl -w fs.nr_open=1001064"),
            ("fs.nr_open", "2000000", Level::Good, ""),
            ("net.core.somaxconn", "128", Level::Mend, "net.core.somaxconn=4096"),
            ("net.ipv4.tcp_mem", "100 200 300", Level::Mend, "net.ipv4.tcp_mem='100 200 400000'"),
            ("net.ipv4.tcp_rmem", "65536 131072 6291456", Level::Note, "='4096 131072 6291456'"),
            ("net.ipv4.tcp_rmem", "4096 131072 6291456", Level::Good, ""),
            ("net.ipv4.ip_local_port_range", "32768 60999", Level::Note, "1024 65535"),
        ];
        for (name, found, level, command) in table {
            let rule = rules.iter().find(|rule| rule.name == name).expect(name);
            let finding = judge(rule, found).expect(name);
            assert_eq!(finding.level, level, "{name}: {finding:?}");
            let given = finding.command.unwrap_or_default();
            if cfg!(target_os = "linux") {
                assert!(given.contains(command), "{name}: {given}");
            }
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_not_judged() {
        assert!(judge(&at_least("x", 1, ""), "many").is_none());
    }

    /// The table of docs/production.md has what is asked for here for a million, and `whimbrel-perf tune` sets no less: its
    /// tests read the same table.
    #[test]
    fn what_is_needed_is_what_the_table_says() {
        let page = include_str!("../../../docs/production.md");
        for rule in linux(1_000_000).into_iter().chain(freebsd(1_000_000)) {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", rule.name)));
            let row = row.unwrap_or_else(|| panic!("{} is not in docs/production.md", rule.name));
            let cell = row.split('|').nth(2).unwrap_or_default().trim().replace(',', "");
            let expected = match rule.want {
                Want::AtLeast { value, .. } => value.to_string(),
                Want::AtMost { value, .. } => format!("at most {value}"),
                Want::PortRange { .. } => "–".to_owned(),
            };
            assert_eq!(cell, expected, "{}", rule.name);
        }
        assert!(command("net.inet.tcp.syncache.hashsize", &["1"], 0, 512).contains("/boot/loader.conf"));
    }
}
