//! Whose turn it is on a connection: the client's, which says nothing or has not said all yet, or ours.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::places::{At, Full, Share};

/// A head has this part of its time, at the least, when no place is left.
pub const PATIENCE_PART: u32 = 10;

/// Of one connection; clones are the same one.
#[derive(Clone, Debug)]
pub struct Turn(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when the connection begins to wait: somebody may need its place.
    waits: Arc<Notify>,
    /// Where the connection has its place.
    at: At,
}

struct State {
    phase: Phase,
    /// The share that the current request takes its place from.
    share: Option<usize>,
    /// Reads the next request.
    reader: Option<Waker>,
    /// Until when the current request may take longer than others.
    long_until: Option<Instant>,
    /// Dropped when the current answer is written.
    kept: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("State");
        shown.field("phase", &self.phase).field("share", &self.share).field("keeps", &self.kept.is_some());
        shown.finish_non_exhaustive()
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Quiet(Instant),
    /// A request is expected or has begun, and its head is not all here.
    Speaking(Instant),
    /// The head is here and the body is not.
    Body(Instant),
    /// The request is here, and its answer is being made or fetched.
    Served,
    /// The same, and behind the answer another protocol is spoken (101): no request follows.
    Leaving,
}

impl Turn {
    /// Of a new connection, from which a request is expected.
    pub(crate) fn new(waits: Arc<Notify>, at: At) -> Turn {
        let state = State {
            phase: Phase::Speaking(Instant::now()),
            share: None,
            reader: None,
            long_until: None,
            kept: None,
        };
        Turn(Arc::new(Shared { state: Mutex::new(state), waits, at }))
    }

    /// How much of a time for a head a client has now: all of it while half of the places are free, and less and less as
    /// they are taken, down to a tenth ([`PATIENCE_PART`]) when none is left.
    pub fn patience(&self, whole: Duration) -> Duration {
        let (taken, all) = self.0.at.fill();
        let (over, half) = (taken.saturating_sub(all / 2), (all - all / 2).max(1));
        let least = whole / PATIENCE_PART;
        whole - (whole - least).mul_f64((over as f64 / half as f64).min(1.0))
    }

    /// The head of a request is here, and its body is not.
    pub(crate) fn head_is_here(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Speaking(_)) {
            state.phase = Phase::Body(Instant::now());
            drop(state);
            self.0.at.bound_bodies();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request is all here: from now on the client waits for us. The rest of a body that comes behind the answer
    /// changes nothing: that answer has been handed over.
    pub fn served(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Speaking(_) | Phase::Body(_)) {
            state.phase = Phase::Served;
        }
    }

    /// Whether the request is all here, and its answer is being made or fetched.
    pub fn is_served(&self) -> bool {
        matches!(self.state().phase, Phase::Served | Phase::Leaving)
    }

    /// The answer will be 101: nothing that comes is a request any more.
    pub fn leaves(&self) {
        self.state().phase = Phase::Leaving;
    }

    /// Takes the place of the current request from a share of the places, until its answer has been handed over.
    ///
    /// # Errors
    /// [`Full::Share`]: all of the share is taken by requests that are being answered or whose bodies are on their way.
    pub fn join(&self, share: Share) -> Result<(), Full> {
        self.0.at.join(self, share)
    }

    pub(crate) fn set_share(&self, share: usize) {
        self.state().share = Some(share);
    }

    /// The share that a request under way has its place from.
    pub(crate) fn share(&self) -> Option<usize> {
        self.state().share
    }

    /// The current request may go on until then, however long its connection has lived.
    pub fn may_take_until(&self, until: Instant) {
        self.state().long_until = Some(until);
    }

    /// Until when the connection may go on because of its request; `None`: it has none that takes long.
    pub fn long_until(&self) -> Option<Instant> {
        self.state().long_until
    }

    /// Keeps something until the answer to the current request is written to its connection, or that has ended.
    pub fn keep_until_written(&self, kept: Box<dyn Any + Send>) {
        let older = self.state().kept.replace(kept);
        drop(older);
    }

    /// Whether something is kept until then.
    pub fn keeps_until_written(&self) -> bool {
        self.state().kept.is_some()
    }

    /// The answer is written, or never will be.
    pub(crate) fn written(&self) {
        // Dropped when the lock is free: it may do anything.
        let kept = {
            let mut state = self.state();
            state.long_until = None;
            state.kept.take()
        };
        drop(kept);
    }

    /// The answer has been handed over.
    fn quiet(&self) {
        let mut state = self.state();
        if state.phase == Phase::Leaving {
            return;
        }
        state.phase = Phase::Quiet(Instant::now());
        state.share = None;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        drop(state);
        self.0.waits.notify_one();
    }

    /// The next request has begun.
    pub(crate) fn speaking(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Quiet(_)) {
            state.phase = Phase::Speaking(Instant::now());
        }
    }

    /// Whether the answer to the last request has been handed over.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.state().phase, Phase::Quiet(_))
    }

    /// Wakes the reader when that is so.
    pub(crate) fn wake_when_quiet(&self, context: &Context<'_>) {
        self.state().reader = Some(context.waker().clone());
    }

    /// Wakes the reader, who looks again.
    pub(crate) fn wake(&self) {
        if let Some(reader) = self.state().reader.take() {
            reader.wake();
        }
    }

    /// Since when the connection has waited for a head; `None`: it does not.
    pub(crate) fn head_waited_for_since(&self) -> Option<Instant> {
        match self.state().phase {
            Phase::Quiet(since) | Phase::Speaking(since) => Some(since),
            Phase::Body(_) | Phase::Served | Phase::Leaving => None,
        }
    }

    /// Since when it has waited for a body; `None`: it does not.
    pub(crate) fn body_waited_for_since(&self) -> Option<Instant> {
        match self.state().phase {
            Phase::Body(since) => Some(since),
            _ => None,
        }
    }
}

/// The layer that ends our turn when an answer has been handed over. The connection's [`Turn`] is an extension of its
/// requests.
pub async fn answered(Extension(turn): Extension<Turn>, request: Request, next: Next) -> Response {
    let end = End(turn);
    next.run(request).await.map(|body| Body::new(Held { body, _until_sent: end }))
}

struct End(Turn);

impl Drop for End {
    fn drop(&mut self) {
        self.0.quiet();
    }
}

/// A body that keeps something until it has been handed over.
struct Held<T> {
    body: Body,
    _until_sent: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
