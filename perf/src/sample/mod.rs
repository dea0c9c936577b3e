//! Figures of the server process and of the kernel, from /proc; where there is no /proc there are none.
//!
//! | module | what it reads |
//! | --- | --- |
//! | [`process`] | memory, CPU time, context switches of a process |
//! | [`kernel`] | slab caches of sockets, TCP memory |
//! | [`find`] | which process listens on a port |
//! | [`remote`] | a server on another machine |
//! | [`stats`] | Whimbrel's stats file |

pub(crate) mod find;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod kernel;
pub(crate) mod machine;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod process;
pub(crate) mod remote;
pub(crate) mod stats;

use serde::{Deserialize, Serialize};

use process::Process;
use remote::Metrics;

/// One look at everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The server process.
    pub(crate) process: Option<Process>,
    /// The kernel.
    pub(crate) kernel: kernel::Kernel,
}

/// The server under test, as far as its figures can be had.
#[derive(Clone, Debug)]
pub(crate) enum Server {
    /// These processes and all below them; none: unknown.
    Here(Vec<u32>),
    /// On another machine.
    There(Metrics),
}

impl Server {
    /// CPU time, memory and the like.
    pub(crate) fn read(&self) -> Option<Process> {
        match self {
            Server::Here(processes) => Process::read_all(processes),
            Server::There(metrics) => metrics.fetch().ok(),
        }
    }

    /// CPU seconds so far and anonymous memory in bytes, at little cost.
    pub(crate) fn glance(&self) -> Option<(f64, u64)> {
        match self {
            Server::Here(processes) => Process::glance(processes),
            Server::There(metrics) => {
                metrics.fetch().ok().map(|it| (it.user_seconds + it.system_seconds, it.anon_bytes))
            }
        }
    }

    /// Its first process, where it is on this machine.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Server::Here(processes) => processes.first().copied(),
            Server::There(_) => None,
        }
    }
}

impl Sample {
    /// Looks now. The kernel is always that of this machine.
    pub(crate) fn take(server: &Server) -> Sample {
        Sample { process: server.read(), kernel: kernel::Kernel::read() }
    }
}

/// The figure behind `key` in a file of `key: value [kB]` lines, in bytes when it is in kB.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") { value * 1024 } else { value })
}
