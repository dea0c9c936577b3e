//! What the kernel uses for sockets.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::sample::field;

/// The slab caches that grow with connections and with little else. (A socket also has a dentry of 192 bytes, in a
/// cache that every file access fills too.)
const CACHES: [&str; 10] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "filp",
    "eventpoll_epi",
    "eventpoll_pwq",
    "ep_head",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
    "lsm_file_cache",
];

/// Kernel memory, of the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// Slab memory that cannot be reclaimed (meminfo SUnreclaim).
    pub(crate) slab_unreclaimable_bytes: u64,
    /// All slab memory (meminfo Slab).
    pub(crate) slab_bytes: u64,
    /// Objects in use times their size, by slab cache; only root may read it.
    pub(crate) caches_bytes: BTreeMap<String, u64>,
    /// Buffers of TCP sockets (sockstat `mem`).
    pub(crate) tcp_buffers_bytes: u64,
    /// TCP sockets in use (sockstat).
    pub(crate) tcp_sockets: u64,
}

impl Kernel {
    /// Reads them; what cannot be read is zero.
    pub(crate) fn read() -> Kernel {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let slabinfo = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        // SAFETY: the call takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
        Kernel {
            slab_unreclaimable_bytes: field(&meminfo, "SUnreclaim").unwrap_or(0),
            slab_bytes: field(&meminfo, "Slab").unwrap_or(0),
            caches_bytes: caches(&slabinfo),
            tcp_buffers_bytes: sockstat_tcp(&sockstat, "mem") * page,
            tcp_sockets: sockstat_tcp(&sockstat, "inuse"),
        }
    }

    /// The caches together.
    pub(crate) fn sockets_bytes(&self) -> u64 {
        self.caches_bytes.values().sum()
    }
}

/// `name active total size ...` lines.
fn caches(slabinfo: &str) -> BTreeMap<String, u64> {
    slabinfo
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().filter(|name| CACHES.contains(name))?;
            let active: u64 = words.next()?.parse().ok()?;
            let size: u64 = words.nth(1)?.parse().ok()?;
            Some((name.to_owned(), active * size))
        })
        .collect()
}

fn sockstat_tcp(sockstat: &str, key: &str) -> u64 {
    let words = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = words.split_whitespace();
    words.find(|word| *word == key).and_then(|_| words.next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabinfo_and_sockstat_are_read() {
        let text = "slabinfo - version: 2.1\n# name <active>\nTCP 10 26 2432 13 8 : tunables\nother 5 5 10\n";
        assert_eq!(caches(text).into_iter().collect::<Vec<_>>(), [("TCP".to_owned(), 24_320)]);
        let text = "sockets: used 3\nTCP: inuse 7 orphan 0 tw 1 alloc 9 mem 4\nUDP: inuse 1 mem 2\n";
        assert_eq!((sockstat_tcp(text, "inuse"), sockstat_tcp(text, "mem")), (7, 4));
    }
}
