//! FreeBSD.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use socket2::Socket;

use super::{CoreMask, Setting, check};

/// Of the calling thread, which has the process's unless it was bound.
pub(super) fn available_cores() -> io::Result<Vec<usize>> {
    let mut mask = CoreMask::default();
    // SAFETY: the kernel writes at most CoreMask::BYTES bytes into the mask, which is exactly that long, lives through
    // the call, and is aligned like the words of cpuset_t. The id -1 is the calling thread.
    check(unsafe {
        libc::cpuset_getaffinity(
            libc::CPU_LEVEL_WHICH,
            libc::CPU_WHICH_TID,
            -1,
            CoreMask::BYTES,
            (&raw mut mask).cast::<libc::cpuset_t>(),
        )
    })?;
    Ok(mask.cores())
}

pub(super) fn pin_to_core(core: usize) -> io::Result<()> {
    let mask = CoreMask::only(core)?;
    // SAFETY: the kernel reads CoreMask::BYTES bytes of the mask, which is that long and lives through the call.
    check(unsafe {
        libc::cpuset_setaffinity(
            libc::CPU_LEVEL_WHICH,
            libc::CPU_WHICH_TID,
            -1,
            CoreMask::BYTES,
            (&raw const mask).cast::<libc::cpuset_t>(),
        )
    })
}

/// A thread that has slept goes before those that compute here anyway.
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn shorten_slices() -> io::Result<()> {
    Ok(())
}

/// Plain SO_REUSEPORT would give all connections to one socket here; the `_LB` option (12.0) spreads them.
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

/// Shared memory without a name; the system makes the descriptor close-on-exec by itself.
pub(super) fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: SHM_ANON is no pointer but a number that the call knows.
    let fd = unsafe { libc::shm_open(libc::SHM_ANON, libc::O_RDWR | libc::O_CREAT, 0o600) };
    check(fd)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system names a process after the program's file, however it was started.
pub(super) fn name_process(_: &CStr) {}

pub(super) const SETTINGS: &[Setting] = &[
    Setting { name: "kern.maxfilesperproc", meaning: "most open files that one process can be given" },
    Setting { name: "kern.maxfiles", meaning: "most open files of the whole machine" },
    Setting { name: "kern.ipc.maxsockets", meaning: "most sockets of the whole machine" },
    Setting {
        name: "kern.ipc.soacceptqueue",
        meaning: "most connections that wait to be accepted on one listener",
    },
    Setting { name: "kern.ipc.maxsockbuf", meaning: "largest buffer of one socket in bytes" },
    Setting { name: "kern.ipc.nmbclusters", meaning: "most 2 KiB network buffers of the whole machine" },
    Setting { name: "net.inet.tcp.syncache.cachelimit", meaning: "most handshakes under way" },
    Setting {
        name: "net.inet.tcp.recvspace",
        meaning: "receive buffer that a TCP socket begins with, in bytes",
    },
    Setting {
        name: "net.inet.tcp.sendspace",
        meaning: "send buffer that a TCP socket begins with, in bytes",
    },
    Setting { name: "net.inet.ip.portrange.first", meaning: "first port for outgoing connections" },
    Setting { name: "net.inet.ip.portrange.last", meaning: "last port for outgoing connections" },
];

pub(super) fn setting(name: &str) -> io::Result<Vec<i64>> {
    let wanted = CString::new(name)?;
    let mut value = [0u8; 8];
    let mut length = value.len();
    // SAFETY: the name ends with NUL; the kernel writes at most `length` bytes into `value`, which is that long, and
    // the true length into `length`; both live through the call. Nothing is set: the new value is null.
    check(unsafe {
        libc::sysctlbyname(
            wanted.as_ptr(),
            value.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut length,
            std::ptr::null(),
            0,
        )
    })?;
    let [a, b, c, d, ..] = value;
    match length {
        4 => Ok(vec![i64::from(i32::from_ne_bytes([a, b, c, d]))]),
        8 => Ok(vec![i64::from_ne_bytes(value)]),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is not a number"))),
    }
}
