//! The state of one connection.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::super::backlog::Backlog;
use super::super::slots::slot_bytes;
use super::super::{CloseCause, ConnId, SEND_BYTES_MAX};
use super::token::{Kind, Token};

/// A connection that has filled a receive buffer sends much until it has left so many of them partly empty, one after another.
const LITTLE_RECEIPTS: u16 = 64;

/// Bytes from which a send that the kernel has counts as waiting.
const SEND_COUNTED_FROM: usize = 4 << 10;

const _: () =
    assert!(slot_bytes::<Connection>() <= 24, "what an idle connection costs beside the kernel's share");

/// The kernel has an operation that reads: `Receive`, or after the peer's end `HangUp`.
pub(super) const READS: u16 = 1;
/// The kernel has a `Send`, and with it the front buffer of the backlog.
pub(super) const SENDS: u16 = 1 << 1;
/// The operation that reads is being cancelled.
pub(super) const CANCELS_READ: u16 = 1 << 2;
/// The `Send` is being cancelled.
pub(super) const CANCELS_SEND: u16 = 1 << 3;
/// Has a place in `turns`.
pub(super) const QUEUED: u16 = 1 << 4;
pub(super) const PAUSED: u16 = 1 << 5;
/// The peer's end was reported.
pub(super) const ENDED: u16 = 1 << 6;
/// The peer's end has come but waits behind unread bytes or a pause.
pub(super) const END_HELD: u16 = 1 << 7;
/// A flushing close is under way: output still leaves, input is discarded.
pub(super) const CLOSING: u16 = 1 << 8;
/// Our side is shut down; only the peer's end is missing.
pub(super) const SHUT: u16 = 1 << 9;
/// Only `Detached` follows, when the kernel has let go.
pub(super) const DETACHING: u16 = 1 << 10;
/// Only `Closed` follows, when the kernel has let go.
pub(super) const GONE: u16 = 1 << 11;
/// A backlog was reported.
pub(super) const OWES_DRAINED: u16 = 1 << 12;
/// Has a place in `last_words`.
pub(super) const SETTLED: u16 = 1 << 13;
/// Has a place in `reads`.
pub(super) const READS_LATER: u16 = 1 << 14;
/// Has a place in `sends`.
pub(super) const SENDS_LATER: u16 = 1 << 15;

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) flags: u16,
    /// Receipts of little that are missing until it no longer sends much.
    much: u16,
    pub(super) held: Option<Box<HeldBytes>>,
}

/// What a connection holds only while it must.
#[derive(Default)]
pub(super) struct HeldBytes {
    pub(super) unsent: Backlog,
    pub(super) unread: Vec<u8>,
    /// Why it is gone, once it is.
    pub(super) cause: Option<CloseCause>,
}

impl HeldBytes {
    fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.unread.is_empty() && self.cause.is_none()
    }
}

/// Emptied `HeldBytes`s: every answer to a client needs one for a moment. Bounded.
#[derive(Default)]
pub(super) struct Pool {
    #[expect(clippy::vec_box, reason = "connections hold the boxes; unboxing them would defeat the reuse")]
    free: Vec<Box<HeldBytes>>,
}

const POOL_MAX: usize = 256;

impl Pool {
    pub(super) fn held<'c>(&mut self, connection: &'c mut Connection) -> &'c mut HeldBytes {
        connection.held.get_or_insert_with(|| self.free.pop().unwrap_or_default())
    }

    /// Takes back what holds nothing any more.
    pub(super) fn tidy(&mut self, connection: &mut Connection) {
        if connection.held.as_ref().is_some_and(|held| held.is_empty())
            && let Some(held) = connection.held.take()
            && self.free.len() < POOL_MAX
        {
            self.free.push(held);
        }
    }
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, flags: u16) -> Connection {
        Connection { socket, flags, much: 0, held: None }
    }

    /// Counts a receipt that has filled its buffer, or has not.
    pub(super) fn count_received(&mut self, filled: bool) {
        self.much = if filled { LITTLE_RECEIPTS } else { self.much.saturating_sub(1) };
    }

    /// Whether it has filled receive buffers lately: it then gets one receive at a time, in its turn.
    pub(super) fn sends_much(&self) -> bool {
        self.much > 0
    }

    /// Bytes of the send that is the next one.
    pub(super) fn next_send(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.unsent.front().len().min(SEND_BYTES_MAX))
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn has_unread(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.unread.is_empty())
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.unsent.is_empty())
    }

    /// Bytes that wait: behind what the kernel has, and with it unless it is little. A send of little is over in a
    /// moment if the peer reads; counting it would give each small message a [`Drained`](super::super::Event::Drained).
    pub(super) fn waiting(&self) -> usize {
        let Some(held) = &self.held else { return 0 };
        match held.unsent.len() {
            all @ SEND_COUNTED_FROM.. => all,
            _ => held.unsent.waiting(),
        }
    }

    /// The token of the operation that reads. `ENDED` changes only while there is none.
    pub(super) fn read_token(&self, conn: ConnId) -> Token {
        Token::new(if self.has(ENDED) { Kind::HangUp } else { Kind::Receive }, conn)
    }
}
