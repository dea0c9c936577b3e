//! The stream that hyper reads from: one head at a time, whole and checked, then its body and not a byte more. Anything that a client
//! sends ahead of its turn stays outside.
//!
//! ```text
//!   head ──▶ body ──▶ answer ──▶ head …
//!     └─▶ refused: our answer, the end
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::head::{self, Bad, HEAD_BYTES_MAX, Length};
use crate::turn::{PATIENCE_PART, Turn};

/// Bytes that are taken from the stream at a time.
const CHUNK: usize = 4 << 10;

/// Bytes of a refused client that are thrown away so that it can read why; beyond them the connection is reset.
const THROWN_AWAY_MAX: usize = 64 << 10;

/// How long a client may take.
#[derive(Copy, Clone, Debug)]
pub struct Deadlines {
    /// Between two requests.
    pub idle: Duration,
    /// For a head, from its first byte on (the first one: from the beginning of the connection). Less when places are short:
    /// [`Turn::patience`].
    pub head: Duration,
    /// For a body. `None`: whoever reads it sees to that.
    pub body: Option<Duration>,
    /// Without taking a byte of what waits for it.
    pub write: Duration,
}

/// Makes the bytes of a whole answer.
pub type Refuse = Arc<dyn Fn(Bad) -> Vec<u8> + Send + Sync>;

/// A stream behind its door.
pub struct Door<S> {
    stream: S,
    turn: Turn,
    _end: End,
    deadlines: Deadlines,
    refuse: Refuse,
    stage: Stage,
    /// What has come of the next head, and behind it.
    came: Vec<u8>,
    /// Bytes at the front of `came` that are to be handed on.
    passes: usize,
    /// Nothing of the last answer waits to be written.
    flushed: bool,
    reading: Timer,
    /// When the time for the head began.
    head_since: Instant,
    writing: Timer,
}

/// What is left when a door is taken away.
pub struct Parts<S> {
    /// The stream.
    pub stream: S,
    /// What has come of the other protocol already.
    pub came: Vec<u8>,
    /// The answer counts as written when this is dropped ([`Turn::keep_until_written`]).
    pub end: End,
}

enum Stage {
    Head,
    /// So many bytes of the body are still to come.
    Body(u64),
    /// The body says itself where it ends, so what follows it cannot be told apart: the last request.
    Chunked,
    /// Our answer, from here on.
    Refused(Vec<u8>, usize),
    /// The answer is written; so many bytes may still be thrown away.
    Leaving(usize),
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Door<S> {
    /// The door of a new connection.
    pub fn new(stream: S, turn: Turn, deadlines: Deadlines, refuse: Refuse) -> Door<S> {
        Door {
            stream,
            _end: End(turn.clone()),
            turn,
            deadlines,
            refuse,
            stage: Stage::Head,
            came: Vec::new(),
            passes: 0,
            flushed: true,
            reading: Timer::default(),
            head_since: Instant::now(),
            writing: Timer::default(),
        }
    }

    /// Takes the door away, when the connection speaks another protocol from here on (RFC 9110 §7.8).
    pub fn into_parts(self) -> Parts<S> {
        Parts { stream: self.stream, came: self.came, end: self._end }
    }

    /// Takes what has come, up to a bound. `false`: the peer has ended.
    fn take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut chunk = [0; CHUNK];
        let room = (HEAD_BYTES_MAX - self.came.len().min(HEAD_BYTES_MAX)).min(CHUNK);
        let mut buffer = ReadBuf::new(&mut chunk[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.came.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }

    /// Reads a head and looks at it.
    fn read_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match head::read(&self.came) {
                Ok(Some(head)) => {
                    self.enter_body(head);
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => {}
                Err(bad) => {
                    self.refuse(bad);
                    return Poll::Ready(Ok(()));
                }
            }
            let (began, first) = (!self.came.is_empty(), !self.turn.is_quiet());
            match self.take(context) {
                Poll::Ready(Ok(true)) => {
                    self.turn.speaking();
                    if !began && !first {
                        self.head_since = Instant::now();
                    }
                }
                Poll::Ready(Ok(false)) => {
                    self.stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    match began || first {
                        true => ready!(self.is_late(context)),
                        false => ready!(self.reading.poll(context)),
                    }
                    match began {
                        true => self.refuse(Bad::TooSlow),
                        false => self.stage = Stage::Ended,
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Ready when the head has taken too long. How long it may take depends on how many places are left, so it is looked
    /// again and again.
    fn is_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let end = self.head_since + self.turn.patience(self.deadlines.head);
            let now = Instant::now();
            if now >= end {
                return Poll::Ready(());
            }
            self.reading.set(end.min(now + self.deadlines.head / PATIENCE_PART) - now);
            ready!(self.reading.poll(context));
        }
    }

    fn enter_body(&mut self, head: head::Head) {
        self.passes = head.bytes;
        match self.deadlines.body {
            Some(body) => self.reading.set(body),
            None => self.reading.stop(),
        }
        self.stage = match head.body {
            Length::Chunked => {
                self.passes = self.came.len();
                self.turn.head_is_here();
                Stage::Chunked
            }
            Length::Bytes(bytes) => {
                let here = bytes.min((self.came.len() - head.bytes) as u64);
                self.passes += here as usize;
                self.body_left(bytes - here)
            }
        };
    }

    fn body_left(&mut self, left: u64) -> Stage {
        if left == 0 {
            self.reading.stop();
            self.turn.served();
        } else {
            self.turn.head_is_here();
        }
        Stage::Body(left)
    }

    fn refuse(&mut self, bad: Bad) {
        self.came = Vec::new();
        self.stage = Stage::Refused((self.refuse)(bad), 0);
        self.reading.set(self.deadlines.head);
    }

    /// Hands on what was taken for this request.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passes.min(buffer.remaining());
        buffer.put_slice(&self.came[..count]);
        self.came.drain(..count);
        self.passes -= count;
        if self.came.is_empty() {
            // An idle connection owns no buffer.
            self.came = Vec::new();
        }
    }

    /// Reads on in a body, at most to its end.
    fn read_body(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.stream).poll_read(context, &mut part);
        if read.is_pending() {
            ready!(self.reading.poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let count = part.filled().len();
        buffer.advance(count);
        if let Stage::Body(left) = self.stage {
            self.stage = self.body_left(left - count as u64);
        }
        read
    }

    /// The request is here: notices the end of a client that gives up, and else waits until its answer is written.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turn.is_quiet() && self.flushed {
            self.stage = Stage::Head;
            if self.came.is_empty() {
                self.reading.set(self.deadlines.idle);
            } else {
                self.turn.speaking();
                self.head_since = Instant::now();
            }
            return Poll::Ready(Ok(()));
        }
        self.turn.wake_when_quiet(context);
        while self.came.len() < HEAD_BYTES_MAX {
            if !ready!(self.take(context))? {
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        // What is sent further ahead waits in the kernel.
        Poll::Pending
    }

    /// Writes our answer, and lets the client read it.
    fn leave(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = match &mut self.stage {
            Stage::Refused(answer, at) if *at < answer.len() => {
                let written = Pin::new(&mut self.stream).poll_write(context, &answer[*at..]);
                written.map_ok(|count| *at += count)
            }
            Stage::Refused(..) => {
                let shut = Pin::new(&mut self.stream).poll_shutdown(context);
                if shut.is_ready() {
                    self.stage = Stage::Leaving(THROWN_AWAY_MAX);
                }
                shut
            }
            Stage::Leaving(left) => {
                let mut chunk = [0; CHUNK];
                let mut buffer = ReadBuf::new(&mut chunk);
                let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
                let count = buffer.filled().len();
                *left = left.saturating_sub(count);
                if read.is_ready() && (count == 0 || *left == 0) {
                    self.stage = Stage::Ended;
                }
                read
            }
            _ => return Poll::Ready(Ok(())),
        };
        if step.is_pending() {
            ready!(self.reading.poll(context));
        } else if !matches!(step, Poll::Ready(Err(_))) {
            return Poll::Ready(Ok(()));
        }
        self.stage = Stage::Ended;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Door<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passes > 0 {
                this.pass(buffer);
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Head => ready!(this.read_head(context))?,
                Stage::Body(0) => ready!(this.wait(context))?,
                Stage::Body(left) => return this.read_body(context, buffer, left),
                Stage::Chunked if this.turn.is_quiet() => this.stage = Stage::Ended,
                Stage::Chunked => {
                    this.turn.wake_when_quiet(context);
                    return this.read_body(context, buffer, u64::MAX);
                }
                Stage::Refused(..) | Stage::Leaving(_) => ready!(this.leave(context))?,
                // Nothing more: hyper closes.
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Door<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.flushed = false;
        let done = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.writing.bound(done, this.deadlines.write, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.flushed = false;
        let done = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.writing.bound(done, this.deadlines.write, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_flush(context);
        let done = this.writing.bound(done, this.deadlines.write, context);
        if matches!(done, Poll::Ready(Ok(()))) && !this.flushed {
            this.flushed = true;
            this.turn.wake();
        }
        // hyper flushes when it has nothing left to write.
        if matches!(done, Poll::Ready(Ok(()))) && this.turn.is_quiet() {
            this.turn.written();
        }
        done
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_shutdown(context);
        this.writing.bound(done, this.deadlines.write, context)
    }
}

/// With the door the last answer ends, written or not.
pub struct End(Turn);

impl Drop for End {
    fn drop(&mut self) {
        self.0.written();
    }
}

/// A deadline, or none.
#[derive(Default)]
struct Timer {
    at: Option<Instant>,
    /// Made only when somebody waits.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn set(&mut self, after: Duration) {
        *self = Timer { at: Some(Instant::now() + after), sleep: None };
    }

    fn stop(&mut self) {
        *self = Timer::default();
    }

    /// Ready when it is past.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(context)
    }

    /// A step of writing, which fails when it has stood still for too long.
    fn bound<T>(
        &mut self,
        step: Poll<io::Result<T>>,
        after: Duration,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if step.is_ready() {
            self.stop();
            return step;
        }
        if self.at.is_none() {
            self.set(after);
        }
        self.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
