//! Figures of the server process and of the kernel, from /proc; where there is no /proc there are none.
//!
//! | module | what it reads |
//! | --- | --- |
//! | [`process`] | memory, CPU time, context switches of a process |
//! | [`kernel`] | slab caches of sockets, TCP memory |
//! | [`find`] | which process listens on a port |

pub(crate) mod find;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod kernel;
pub(crate) mod machine;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod process;

use serde::{Deserialize, Serialize};

/// One look at everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The server process.
    pub(crate) process: Option<process::Process>,
    /// The kernel.
    pub(crate) kernel: kernel::Kernel,
}

impl Sample {
    /// Looks now, at these processes of the server and all below them.
    pub(crate) fn take(servers: &[u32]) -> Sample {
        Sample { process: process::Process::read_all(servers), kernel: kernel::Kernel::read() }
    }
}

/// The figure behind `key` in a file of `key: value [kB]` lines, in bytes when it is in kB.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") { value * 1024 } else { value })
}
