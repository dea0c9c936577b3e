//! What a service manager is told (sd_notify(3)): that the server is ready, reads its configuration again, stops, lives.
//!
//! The manager names a datagram socket in NOTIFY_SOCKET; without one nothing is told. Each message is one datagram of lines
//! `NAME=VALUE`. The variable stays set, so that the program after an upgrade, which is the same process, finds it as well.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::runtime::platform;

/// The variable that names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How much more time each sign of progress asks for while the server starts.
const STARTING: Duration = Duration::from_secs(60);

/// What the end may take beyond `limits.drain_seconds`: writing the directory and closing the logs.
const STOPPING_GRACE: Duration = Duration::from_secs(30);

/// The server serves. `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    let process = std::process::id();
    // An upgrade may have been the start of this program: the process is the same, and lives.
    send(&format!("READY=1\nMAINPID={process}\nWATCHDOG=1\nSTATUS={}", one_line(status)));
}

/// The server reads something large before it can serve: it needs more time.
pub fn starting(status: &str) {
    send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", STARTING.as_micros(), one_line(status)));
}

/// The configuration is read again, or another program takes over; [`ready`] follows.
pub fn reloading(status: &str) {
    let now_us = platform::monotonic_ns() / 1000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nWATCHDOG=1\nSTATUS={}", one_line(status)));
}

/// The server stops, and takes so long for its sessions at most.
pub fn stopping(drain: Duration) {
    let most_us = (drain + STOPPING_GRACE).as_micros();
    send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={most_us}\nSTATUS=stopping"));
}

/// All parts of the server answer.
pub fn alive() {
    send("WATCHDOG=1");
}

/// How long the manager waits between two signs of life; `None` when it wants none.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let of_other =
        std::env::var("WATCHDOG_PID").is_ok_and(|process| process != std::process::id().to_string());
    let us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (us > 0 && !of_other && std::env::var_os(SOCKET).is_some()).then(|| Duration::from_micros(us))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// Tells the manager, if there is one. A manager that does not listen is no reason for the server not to go on.
fn send(message: &str) {
    let Some(name) = std::env::var_os(SOCKET) else { return };
    let sent = address(&name).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        // A manager that hangs must not stop the server.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// A path, or on Linux a name that begins with `@` and is in no file system.
fn address(name: &std::ffi::OsStr) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        if let Some(name) = name.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(name)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::linux::net::SocketAddrExt;

    use super::*;

    #[test]
    fn a_managers_socket_is_a_path_or_a_name_of_its_own() {
        assert_eq!(address("/run/n".as_ref()).unwrap().as_pathname(), Some("/run/n".as_ref()));
        assert_eq!(address("@name".as_ref()).unwrap().as_abstract_name(), Some(&b"name"[..]));
    }
}
