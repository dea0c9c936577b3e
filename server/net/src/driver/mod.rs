//! One completion-shaped interface to connections.
//!
//! The core never sees readiness or sockets: a driver tells it what happened ([`Event`]) and takes what it wants
//! done ([`Driver`]). Three drivers stand behind the interface:
//!
//! | driver | over | chosen |
//! | --- | --- | --- |
//! | [`mio`] | epoll (Linux), kqueue (FreeBSD) | everywhere; the portable default |
//! | [`uring`] | io_uring with multishot accept and receive | Linux, when the kernel has what it needs |
//! | [`sim`] | an in-process network with virtual time and faults | tests |
//!
//! # What every driver promises
//!
//! - A connection's identity ([`ConnId`]) dies with exactly one [`Event::Closed`] or [`Event::Detached`]; its index is
//!   reused only after that event, with another generation. Calls with a dead id do nothing.
//! - Bytes arrive in order and leave in order. An idle connection owns no buffer.
//! - After [`Driver::pause_reading`] nothing more is received until [`Driver::resume_reading`]; the end of a paused
//!   connection may show only then.
//! - After [`Driver::close`] only `Closed` follows. After [`Driver::detach`] only `Detached` follows (or `Closed`, if
//!   the connection had failed before): whatever arrives in between travels with the socket and comes out of the
//!   driver that attaches it.
//! - The work of one [`Driver::poll`] is bounded, and connections take turns.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod accept;
mod backlog;
mod closing;
pub mod mio;
pub mod sim;
mod slots;
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the rings, and buffers that the kernel fills")]
pub mod uring;

use backlog::Backlog;

/// A connection of one driver. The index is reused after the connection is gone, the generation then differs, so a
/// stale id is inert.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct ConnId {
    /// Position in the driver's table; small and dense, fit for a parallel table.
    pub index: u32,
    /// Distinguishes the successive connections of one index.
    pub generation: u32,
}

impl ConnId {
    /// No connection; no driver ever gives it.
    pub const NONE: ConnId = ConnId { index: u32::MAX, generation: u32::MAX };
}

/// A listener of one driver, numbered from 0 in the order of [`Driver::listen`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct ListenerId(pub u16);

/// What happened. Borrowed bytes belong to the driver and are gone after the sink returns.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection was accepted and is being read.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// Where it came in.
        listener: ListenerId,
        /// The peer's address; IPv4-mapped addresses are given as IPv4.
        peer: IpAddr,
    },
    /// The process or the machine is out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM). One waiting
    /// connection was accepted and reset with the reserve descriptor; accepting resumes by itself after a back-off.
    /// Reported at most once a second.
    AcceptPaused {
        /// The error number that `accept` gave.
        errno: i32,
    },
    /// Bytes from the peer; never empty.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes, to be consumed or copied at once.
        bytes: &'a [u8],
    },
    /// The peer will send nothing more. Sending is still possible.
    Ended {
        /// The connection.
        conn: ConnId,
    },
    /// A backlog that [`Driver::send`] had reported, or that came along with [`Driver::attach`], is now empty.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// The connection is gone. The id is dead from here on.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        cause: CloseCause,
    },
    /// What [`Driver::detach`] asked for. The id is dead from here on.
    Detached {
        /// The connection.
        conn: ConnId,
        /// The socket with everything that belongs to it, ready for another driver's [`Driver::attach`].
        socket: Detached,
    },
    /// [`Wake::wake`] was called; several calls may give one event.
    Woken,
}

/// Why a connection is gone.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum CloseCause {
    /// [`Driver::close`] did what it was asked: everything was handed to the kernel, or the connection was reset.
    Local,
    /// The peer reset the connection, or it broke while we were writing (ECONNRESET, EPIPE).
    Reset,
    /// [`CloseHow::Flush`] did not finish before its deadline; unsent bytes were lost.
    FlushTimedOut,
    /// The kernel reported another error.
    Failed {
        /// Its error number.
        errno: i32,
    },
}

impl CloseCause {
    pub(crate) fn of(error: &io::Error) -> CloseCause {
        match error.raw_os_error() {
            Some(errno) => CloseCause::of_errno(errno),
            None => CloseCause::Reset,
        }
    }

    pub(crate) fn of_errno(errno: i32) -> CloseCause {
        match errno {
            libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ECONNABORTED => CloseCause::Reset,
            errno => CloseCause::Failed { errno },
        }
    }
}

/// How to close.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum CloseHow {
    /// Send what is queued, end our side, and wait for the peer's end so that nothing sent is lost; what the peer
    /// still sends is discarded. Bounded by [`Tuning::flush_deadline`], then reset.
    Flush,
    /// At once; what is unsent is lost and the peer sees a reset.
    Reset,
}

/// Bytes of one connection that are handed to the kernel in one turn: copying them, and on a fast network the peer's
/// acknowledgements too, take the worker's time. The rest goes in the next turn, after the others'.
pub(crate) const SEND_BYTES_MAX: usize = 64 << 10;

/// A send up to so many bytes goes to the kernel at once, whatever others have sent in this poll.
const SEND_LITTLE: usize = 4 << 10;

/// What all connections may still hand to the kernel before the next poll; see [`Tuning::sends_bytes_max`].
struct SendShare {
    left: usize,
}

impl SendShare {
    /// The share of one poll.
    fn of(tuning: &Tuning) -> SendShare {
        SendShare { left: tuning.sends_bytes_max.max(1) }
    }

    /// Whether a send of so many bytes goes now. The one that reaches the limit is the last.
    fn has_room(&self, bytes: usize) -> bool {
        bytes <= SEND_LITTLE || self.left > 0
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// What a receipt counts at least in [`Tuning::poll_bytes_max`]: what it costs whatever is in it.
pub const RECEIPT_BYTES: usize = 512;

/// Receipts between two looks at the clock: a look costs about what it takes to find the end of a small stanza.
pub const RECEIPTS_PER_LOOK: u32 = 4;

/// The time of one poll; see [`Tuning::poll_time`].
struct Slice {
    most: Duration,
    /// From the first look at the clock.
    until: Option<Instant>,
    receipts: u32,
}

impl Slice {
    fn of(tuning: &Tuning) -> Slice {
        Slice { most: tuning.poll_time, until: None, receipts: 0 }
    }

    /// Whether the time is over, after another receipt.
    fn is_over(&mut self) -> bool {
        self.receipts += 1;
        if !self.receipts.is_multiple_of(RECEIPTS_PER_LOOK) {
            return false;
        }
        let now = Instant::now();
        now >= *self.until.get_or_insert(now + self.most)
    }
}

/// Bounds and sizes of a driver.
#[derive(Copy, Clone, Debug)]
pub struct Tuning {
    /// Bytes of the receive buffer that all connections of a `mio` driver share, and the most that one connection
    /// receives in one poll.
    pub receive_bytes: usize,
    /// Connections that are read in one poll; the others keep their turn.
    pub reads_per_poll_max: usize,
    /// Bytes that all connections receive in one poll, each receipt counted as [`RECEIPT_BYTES`] at least. The receipt
    /// that reaches it is the last; the others keep their turn.
    pub poll_bytes_max: usize,
    /// How long receipts are handed over in one poll, looked at once in [`RECEIPTS_PER_LOOK`]; the others keep their turn.
    /// Whatever is done about a receipt counts, so what is sent for the first of many waits no longer for the last of them.
    pub poll_time: Duration,
    /// Bytes that all connections hand to the kernel between one poll and the next. Of those who send more than 4 KiB at a
    /// time, the one that reaches it is the last; the others keep their turn. Without it, what is sent to a quiet connection
    /// waits until the kernel has copied all that goes to busy ones.
    pub sends_bytes_max: usize,
    /// Connections that each listener accepts in one poll.
    pub accepts_per_poll_max: usize,
    /// How long accepting rests after descriptors ran out.
    pub accept_backoff: Duration,
    /// How long [`CloseHow::Flush`] may take.
    pub flush_deadline: Duration,
    /// `uring`: number of provided receive buffers (a power of two, at most 32,768).
    pub ring_buffers: u16,
    /// `uring`: bytes of each provided receive buffer.
    pub ring_buffer_bytes: usize,
    /// `uring`: entries of the submission queue (the completion queue has eight times as many).
    pub ring_entries: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            receive_bytes: 16 << 10,
            reads_per_poll_max: 1024,
            poll_bytes_max: 256 << 10,
            poll_time: Duration::from_micros(400),
            sends_bytes_max: 256 << 10,
            accepts_per_poll_max: 16,
            accept_backoff: Duration::from_millis(100),
            flush_deadline: Duration::from_secs(5),
            ring_buffers: 512,
            ring_buffer_bytes: 8 << 10,
            ring_entries: 1024,
        }
    }
}

/// A socket between two drivers. It carries what the old driver had received and not delivered, and what it had not
/// yet sent. Dropping it closes the socket.
#[derive(Debug)]
pub struct Detached {
    handle: Handle,
    unread: Vec<u8>,
    unsent: Backlog,
    ended: bool,
}

#[derive(Debug)]
enum Handle {
    Socket(OwnedFd),
    /// A connection of the simulated network.
    Simulated(sim::Socket),
}

impl Detached {
    /// A connected stream socket from elsewhere (a tool, a restored process), with nothing pending.
    pub fn from_socket(socket: OwnedFd) -> Detached {
        Detached {
            handle: Handle::Socket(socket),
            unread: Vec::new(),
            unsent: Backlog::default(),
            ended: false,
        }
    }

    /// The same connection in another program: with what the one before had received and not looked at, what it had not yet
    /// sent, and whether it had learned of the peer's end.
    #[must_use]
    pub fn restored(self, unread: &[u8], unsent: &[u8], ended: bool) -> Detached {
        Detached { handle: self.handle, unread: unread.to_vec(), unsent: Backlog::of(unsent), ended }
    }

    #[cfg(test)]
    fn socket(&self) -> socket2::SockRef<'_> {
        match &self.handle {
            Handle::Socket(socket) => socket.into(),
            Handle::Simulated(_) => panic!("a simulated connection has no socket"),
        }
    }

    /// Its descriptor; `None` of a simulated connection.
    pub fn descriptor(&self) -> Option<RawFd> {
        match &self.handle {
            Handle::Socket(socket) => Some(socket.as_raw_fd()),
            Handle::Simulated(_) => None,
        }
    }

    /// The number by which it is found again in another program: its descriptor's, or, simulated, its own in its network.
    pub fn number(&self) -> Option<u32> {
        match &self.handle {
            Handle::Socket(socket) => u32::try_from(socket.as_raw_fd()).ok(),
            Handle::Simulated(socket) => Some(socket.number()),
        }
    }

    /// Bytes that were received and not delivered.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Bytes that are still to be sent, in two pieces.
    pub fn unsent(&self) -> [&[u8]; 2] {
        self.unsent.pieces()
    }

    /// Bytes that are still to be sent; if there are any, [`Event::Drained`] follows after the attach.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Bytes that were received and not delivered; they come as [`Event::Received`] after the attach.
    pub fn unread_bytes(&self) -> usize {
        self.unread.len()
    }

    /// Whether [`Event::Ended`] was already reported; it is not repeated.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// Wakes a driver out of [`Driver::poll`] from any thread.
pub trait Wake: Send + Sync {
    /// Makes the driver report [`Event::Woken`] soon. Cheap when a wake-up is already under way.
    fn wake(&self);
}

/// Connections, completion-shaped. A driver belongs to the thread that made it.
pub trait Driver {
    /// Waits for events, at most `timeout` (`None`: as long as it takes), and hands them to `sink`. Returns after
    /// bounded work, possibly without an event.
    ///
    /// # Errors
    /// Only when the driver itself is broken; troubles of single connections are events.
    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()>;

    /// Waits so long without looking at connections: what a worker does whose mailbox is full. May return early.
    fn rest(&mut self, duration: Duration) {
        std::thread::park_timeout(duration);
    }

    /// Sends `data` after everything sent before. Returns the bytes of it that the driver has now because the peer is
    /// slower than we are, or may be; if any, [`Event::Drained`] follows when they are gone. (The `uring` driver learns
    /// only later what the kernel has taken, so it counts what is under way, unless that is less than 4 KiB in all.)
    /// On an unknown or closing connection the data is dropped.
    fn send(&mut self, conn: ConnId, data: Vec<u8>) -> usize;

    /// Has the kernel take what was sent now, if it would only with the next poll: for those who have work to do before that.
    fn submit(&mut self) {}

    /// Closes; [`Event::Closed`] follows.
    fn close(&mut self, conn: ConnId, how: CloseHow);

    /// Stops receiving, so that TCP slows the peer down.
    fn pause_reading(&mut self, conn: ConnId);

    /// Receives again.
    fn resume_reading(&mut self, conn: ConnId);

    /// Gives the connection away; [`Event::Detached`] follows.
    fn detach(&mut self, conn: ConnId);

    /// Reads from no connection and accepts none, until told otherwise; writing goes on. Anything that the kernel has already
    /// given out is kept with its connection, and connections that it has accepted are still reported.
    fn hold(&mut self, hold: bool);

    /// Whether, after [`Driver::hold`], the kernel gives out nothing more and everything accepted was reported.
    fn is_held(&self) -> bool;

    /// Takes a connection over. It is read from the next poll on (unless paused before that).
    fn attach(&mut self, socket: Detached) -> ConnId;

    /// Accepts connections from `listener`, with TCP_NODELAY set on them.
    ///
    /// # Errors
    /// When the listener cannot be registered.
    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId>;

    /// Leaves new connections in the kernel's queue until [`Driver::resume_accepting`]. A few that were already
    /// taken out of it may still be reported.
    fn pause_accepting(&mut self);

    /// Accepts again.
    fn resume_accepting(&mut self);

    /// Closes every listener for good.
    fn stop_accepting(&mut self);

    /// A handle that wakes this driver from other threads.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Emptied send buffers for reuse; bounded in number and size.
    fn spent(&mut self) -> &mut Vec<Vec<u8>>;

    /// Connections whose `Closed` or `Detached` was not yet reported.
    fn connections(&self) -> usize;

    /// The driver's name, as on the command line.
    fn name(&self) -> &'static str;
}
