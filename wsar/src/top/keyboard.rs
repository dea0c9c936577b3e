//! Waiting for keys without trusting the terminal to stay.
//!
//! A terminal that is gone reads as an endless row of empty inputs, in which the event reader would turn for ever,
//! signals or not. So the descriptor is asked first, and the reader only when there is something to read.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// What came of waiting.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Nothing to read; a new size of the terminal may be known.
    Nothing,
    /// Input waits.
    Input,
    /// The terminal is gone.
    Gone,
}

/// Waits for input at standard input, at most `patience`.
///
/// # Errors
/// The system's reason. An interruption by a signal is none.
pub(super) fn wait(patience: Duration) -> io::Result<Waited> {
    wait_at(io::stdin().as_raw_fd(), patience)
}

fn wait_at(descriptor: i32, patience: Duration) -> io::Result<Waited> {
    let mut asked = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one descriptor is described, by a struct that outlives the call.
    let ready = unsafe { libc::poll(&raw mut asked, 1, millis) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(Waited::Nothing) } else { Err(error) };
    }
    Ok(match asked.revents {
        0 => Waited::Nothing,
        events if events & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 => Waited::Gone,
        _ => Waited::Input,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn input_is_seen_and_the_end_of_the_other_side_is_not_taken_for_input() {
        let (mut there, here) = UnixStream::pair().expect("a pair of sockets");
        let here = here.as_raw_fd();
        assert_eq!(wait_at(here, Duration::ZERO).expect("it can be asked"), Waited::Nothing);
        there.write_all(b"q").expect("the other side is open");
        assert_eq!(wait_at(here, Duration::from_secs(5)).expect("it can be asked"), Waited::Input);
        drop(there);
        assert_eq!(wait_at(here, Duration::from_secs(5)).expect("it can be asked"), Waited::Gone);
    }
}
