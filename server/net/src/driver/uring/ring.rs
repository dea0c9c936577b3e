//! The two queues shared with the kernel: what the driver asks of them, and whether this kernel has it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::super::SEND_BYTES_MAX;
use super::buffers::{self, Buffers};
use super::token::{Kind, Token};

/// Completion entries for each submission entry: a multishot operation completes many times.
const COMPLETIONS_PER_ENTRY: u32 = 8;

pub(super) struct Ring {
    ring: IoUring,
    /// What the submission queue had no room for. Bounded: a connection has at most two operations under way and one
    /// cancellation of each.
    pending: VecDeque<squeue::Entry>,
}

impl Ring {
    /// A ring that belongs to the calling thread.
    pub(super) fn new(entries: u32) -> io::Result<Ring> {
        build(entries, true).or_else(|_| build(entries, false)).and_then(Ring::with)
    }

    /// What [`Ring::new`] falls back to.
    #[cfg(test)]
    pub(super) fn undeferred(entries: u32) -> io::Result<Ring> {
        build(entries, false).and_then(Ring::with)
    }

    fn with(ring: IoUring) -> io::Result<Ring> {
        let parameters = ring.params();
        for (there, what) in [
            (parameters.is_feature_nodrop(), "completions that are never dropped"),
            (parameters.is_feature_ext_arg(), "waiting with a timeout"),
            (parameters.is_feature_skip_cqe_on_success(), "silent cancellations"),
        ] {
            if !there {
                return Err(lacks(what));
            }
        }
        Ok(Ring { ring, pending: VecDeque::new() })
    }

    pub(super) fn buffers(&self, count: u16, bytes: usize) -> io::Result<Buffers> {
        Buffers::new(&self.ring, count, bytes).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => lacks("provided-buffer rings"),
            _ => error,
        })
    }

    /// Whether a multishot receive into `buffers` works, tried on a pair of sockets.
    pub(super) fn probe(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(b"?")?;
        drop(theirs);
        self.receive(ours.as_raw_fd(), Token::numbered(Kind::Receive, 0));
        let mut received = false;
        loop {
            self.enter(Some(Duration::from_secs(1)))?;
            let Some(completion) = self.next() else {
                return Err(lacks("multishot receive (it did not complete)"));
            };
            if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                received |= completion.result() == 1 && buffers.filled(buffer, 1) == b"?";
                buffers.give_back(buffer);
            }
            if !cqueue::more(completion.flags()) {
                // The end: after the byte, and without an error.
                return match completion.result() {
                    0 if received => Ok(()),
                    _ => Err(lacks("multishot receive")),
                };
            }
        }
    }

    /// Submits what there is and waits for a completion, at most `timeout`.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.refill();
        if timeout == Some(Duration::ZERO) && self.is_idle() {
            return Ok(());
        }
        let waits = timeout != Some(Duration::ZERO) && self.pending.is_empty() && self.completions() == 0;
        let result = match timeout {
            Some(timeout) if waits => {
                let time = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
            _ => self.ring.submit_and_wait(usize::from(waits)),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; completions overflow and are flushed by this very call; memory is short. What
                // was not submitted stays in the queue.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Submits what there is and waits for nothing. What cannot be submitted stays in the queue, and [`Ring::enter`] says why.
    pub(super) fn submit(&mut self) {
        self.refill();
        if !self.ring.submission().is_empty() {
            let _ = self.ring.submit();
        }
    }

    /// Whether entering would do nothing: nothing is to be submitted, and the kernel says that it has nothing to complete.
    fn is_idle(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
    }

    fn refill(&mut self) {
        while let Some(entry) = self.pending.front() {
            // SAFETY: as `push` was promised.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.pending.pop_front();
        }
    }

    /// Completions that can be taken now.
    pub(super) fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// # Safety
    /// Memory that the entry points to stays valid until the operation has completed.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.pending.is_empty() {
            // SAFETY: promised by the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: a submission makes room. If it fails, `enter` reports why.
            let _ = self.ring.submit();
        }
        self.pending.push_back(entry);
        self.refill();
    }

    /// Pushes an operation that uses no memory of ours.
    fn push_plain(&mut self, entry: squeue::Entry, token: Token) {
        // SAFETY: the callers below build operations without a pointer.
        unsafe { self.push(entry.user_data(token.pack())) };
    }

    /// Receives until the end, an error or a cancellation.
    pub(super) fn receive(&mut self, fd: RawFd, token: Token) {
        self.push_plain(opcode::RecvMulti::new(Fd(fd), buffers::GROUP).build(), token);
    }

    /// Receives once.
    pub(super) fn receive_once(&mut self, fd: RawFd, token: Token) {
        let receive = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(buffers::GROUP);
        self.push_plain(receive.build().flags(squeue::Flags::BUFFER_SELECT), token);
    }

    /// Accepts until an error or a cancellation.
    pub(super) fn accept(&mut self, fd: RawFd, token: Token) {
        self.push_plain(opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build(), token);
    }

    /// Completes each time that `fd` becomes readable.
    pub(super) fn watch_readable(&mut self, fd: RawFd, token: Token) {
        self.push_plain(opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build(), token);
    }

    /// Completes when the connection is broken, and at other times.
    pub(super) fn watch_errors(&mut self, fd: RawFd, token: Token) {
        // POLLERR and POLLHUP need not be asked for. Neither can POLLRDHUP be left out, which is true after the peer's
        // end: a single poll would complete at once, a multishot one tells it once and goes on.
        self.push_plain(opcode::PollAdd::new(Fd(fd), 0).multi(true).build(), token);
    }

    /// Cancels the operation `target`, which then completes; the cancellation itself completes only when it failed.
    pub(super) fn cancel(&mut self, target: Token, token: Token) {
        let entry = opcode::AsyncCancel::new(target.pack()).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push_plain(entry, token);
    }

    /// Cancels everything that is under way.
    pub(super) fn cancel_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push_plain(entry, Token::numbered(Kind::CancelAll, 0));
    }

    /// Sends a part of `data`.
    ///
    /// # Safety
    /// `data` stays where it is and is not changed until the operation has completed.
    pub(super) unsafe fn send(&mut self, fd: RawFd, data: &[u8], token: Token) {
        let length = data.len().min(SEND_BYTES_MAX) as u32;
        let entry = opcode::Send::new(Fd(fd), data.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
        // SAFETY: promised by the caller.
        unsafe { self.push(entry.user_data(token.pack())) };
    }
}

fn build(entries: u32, deferred: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_clamp()
        .setup_submit_all()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_ENTRY));
    if deferred {
        // Linux 6.1: completions are made only when we ask for them, without interrupting the thread.
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    builder.build(entries)
}

fn lacks(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("io_uring of this kernel lacks {what}; Linux 6.0 has it"),
    )
}
