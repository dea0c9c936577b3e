//! What to do when descriptors run out: a reserve, one connection turned away, and a rest.

use std::fs::File;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::SockRef;

const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps one descriptor in reserve. A waiting connection can then still be accepted and reset, so that its client
/// learns of the trouble at once and tries elsewhere or later.
#[derive(Debug)]
pub(super) struct Reserve {
    file: Option<File>,
    reported: Option<Instant>,
    resume_at: Option<Instant>,
    backoff: Duration,
}

impl Reserve {
    pub(super) fn new(backoff: Duration) -> io::Result<Reserve> {
        Ok(Reserve { file: Some(File::open("/dev/null")?), reported: None, resume_at: None, backoff })
    }

    /// Turns away one connection that waits at `listener` (which must not block). Returns whether one was waiting.
    pub(super) fn turn_away(&mut self, listener: &TcpListener) -> bool {
        self.file = None;
        let waiting = match listener.accept() {
            Ok((stream, _)) => {
                reset_on_close(&stream);
                true
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        self.file = File::open("/dev/null").ok();
        waiting
    }

    /// Starts a rest. Returns whether to report it: only if somebody was `refused`, and once a second at most.
    pub(super) fn rest(&mut self, now: Instant, refused: bool) -> bool {
        self.resume_at = Some(now + self.backoff);
        let due = refused && self.reported.is_none_or(|reported| now >= reported + REPORT_INTERVAL);
        if due {
            self.reported = Some(now);
        }
        due
    }

    /// When the rest ends, if there is one.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Ends the rest if it is time. Returns whether it has just ended.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        let due = self.resume_at.is_some_and(|at| now >= at);
        if due {
            self.resume_at = None;
            if self.file.is_none() {
                self.file = File::open("/dev/null").ok();
            }
        }
        due
    }
}

/// What an error of `accept` means for the listener.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum AcceptTrouble {
    /// That connection is gone before it was ours; try the next.
    Connection,
    /// No descriptors or memory (or an error we do not know): rest.
    Exhausted,
}

impl AcceptTrouble {
    pub(super) fn of(errno: i32) -> AcceptTrouble {
        // accept(2): Linux passes pending network errors of the new connection on; they are to be treated as EAGAIN.
        match errno {
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ECONNRESET
            | libc::ETIMEDOUT => AcceptTrouble::Connection,
            _ => AcceptTrouble::Exhausted,
        }
    }
}

/// Makes the coming close of `socket` send a reset and drop what is unsent.
pub(super) fn reset_on_close<'s, S>(socket: &'s S)
where
    SockRef<'s>: From<&'s S>,
{
    // A socket that is already dead refuses the option; closing it is then all there is to do.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Prepares a listener. One of [`listener`](crate::platform::listener()) has `TCP_NODELAY` already; one that a program before has
/// left may not.
pub(super) fn prepare_listener(listener: &TcpListener, nonblocking: bool) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)?;
    listener.set_nonblocking(nonblocking)
}

/// IPv4 peers of a dual-stack listener as plain IPv4.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
