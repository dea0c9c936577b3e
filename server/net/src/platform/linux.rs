//! Linux.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use socket2::Socket;

use super::{CoreMask, Setting, check};

/// Of the calling thread, which has the process's unless it was bound.
pub(super) fn available_cores() -> io::Result<Vec<usize>> {
    let mut mask = CoreMask::default();
    // SAFETY: the kernel writes at most CoreMask::BYTES bytes into the mask, which is exactly that long, lives through
    // the call, and is aligned like the words of cpu_set_t. 0 is the calling thread.
    check(unsafe { libc::sched_getaffinity(0, CoreMask::BYTES, (&raw mut mask).cast::<libc::cpu_set_t>()) })?;
    Ok(mask.cores())
}

pub(super) fn pin_to_core(core: usize) -> io::Result<()> {
    let mask = CoreMask::only(core)?;
    // SAFETY: the kernel reads CoreMask::BYTES bytes of the mask, which is that long and lives through the call.
    check(unsafe { libc::sched_setaffinity(0, CoreMask::BYTES, (&raw const mask).cast::<libc::cpu_set_t>()) })
}

/// As long as a thread that was asked for may keep a core from others, in nanoseconds: the least that the kernel takes.
const SHORT_NS: u64 = 100_000;

pub(super) fn shorten_slices() -> io::Result<()> {
    // SAFETY: an all-zero one is valid.
    let mut wanted: libc::sched_attr = unsafe { std::mem::zeroed() };
    let bytes = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: the kernel writes at most so many bytes to where there are as many, which live through the call. 0 is the calling thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut wanted, bytes, 0) };
    check(read as libc::c_int)?;
    let policy = wanted.sched_policy as libc::c_int;
    if policy != libc::SCHED_OTHER && policy != libc::SCHED_BATCH {
        return Ok(());
    }
    wanted.sched_runtime = SHORT_NS;
    // SAFETY: the kernel reads as many bytes as their first field says, which live through the call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    check(set as libc::c_int)
}

/// The kernel spreads connections over all sockets of the port.
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

pub(super) fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: the name ends with NUL and lives through the call.
    let fd = unsafe { libc::memfd_create(c"whimbrel-upgrade".as_ptr(), libc::MFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn name_process(name: &CStr) {
    // SAFETY: the kernel reads the text up to its NUL, 16 bytes at most. It cannot fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting { name: "fs.nr_open", meaning: "most open files that one process can be given" },
    Setting { name: "fs.file-max", meaning: "most open files of the whole machine" },
    Setting {
        name: "net.core.somaxconn",
        meaning: "most connections that wait to be accepted on one listener",
    },
    Setting { name: "net.ipv4.tcp_max_syn_backlog", meaning: "most handshakes under way on one listener" },
    Setting { name: "net.ipv4.tcp_mem", meaning: "memory of all TCP sockets in pages: low, pressure, most" },
    Setting {
        name: "net.ipv4.tcp_rmem",
        meaning: "receive buffer of a TCP socket in bytes: least, default, most",
    },
    Setting {
        name: "net.ipv4.tcp_wmem",
        meaning: "send buffer of a TCP socket in bytes: least, default, most",
    },
    Setting { name: "net.ipv4.ip_local_port_range", meaning: "ports for outgoing connections: first, last" },
    Setting { name: "net.netfilter.nf_conntrack_max", meaning: "most connections that the firewall tracks" },
    Setting { name: "vm.max_map_count", meaning: "most memory maps of one process" },
    Setting {
        name: "kernel.io_uring_disabled",
        meaning: "0: io_uring for all, 1: for a group, 2: for nobody",
    },
];

pub(super) fn setting(name: &str) -> io::Result<Vec<i64>> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = std::fs::read_to_string(path)?;
    let number = |word: &str| {
        // fs.file-max can be beyond i64 on paper; it then means "no limit".
        word.parse::<i64>().or_else(|_| word.parse::<u64>().map(|_| i64::MAX))
    };
    text.split_whitespace()
        .map(number)
        .collect::<Result<Vec<i64>, _>>()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a number")))
}
