//! A session of BOSH (XEP-0124), without sockets, clock and HTTP: requests of its client and what its worker says go in;
//! answers, and frames for the worker, come out.
//!
//! ```text
//!  request ──▶ waiting ──in order──▶ frames for the worker
//!                 │
//!                 ▼
//!               held ◀── elements of the worker (pending)
//!                 │
//!                 ▼
//!              answered, kept until the client has them: repeated requests get them again
//! ```
//! A request waits while an earlier one is missing, and while the worker has not taken what came before. So a client whose
//! worker does not read is not answered, and no more of it is taken.
//!
//! `T` is what a request is answered through.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use ring::digest;
use whimbrel_websocket::Code;

use super::answer::{self, Answer, Condition};
use super::body::{Request, Start};
use super::link::{self, Said};
use super::terms::{Rules, Terms};
use crate::proto::ns;
use crate::transport::is_stream_error;

/// An answer has so many bytes of elements at most, or one element.
const ANSWER_BYTES: usize = 64 * 1024;

/// The first answer waits so long for the features of the stream, also where the client does not want to wait.
const FEATURES_MS: u64 = 2_000;

/// A session that is over is remembered for so long after its client has heard of it.
const OVER_MS: u64 = 5_000;

/// And for so long if it has not: it is between two requests, or gone.
const UNTOLD_MS: u64 = 15_000;

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This body.
    Body(Bytes),
    /// Nothing was done: it may come again.
    Later,
}

/// A request that is to be answered.
#[derive(Debug)]
struct Held<T> {
    rid: u64,
    key: Option<Box<str>>,
    since_ms: u64,
    ticket: T,
}

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) rid: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) body: Bytes,
}

/// What a stream says of itself when it begins.
#[derive(Clone, Debug, Default)]
struct Greeting {
    /// The domain.
    from: Option<Box<str>>,
    /// Its id.
    id: Option<Box<str>>,
}

/// How it stands with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// There is a stream.
    Open,
    /// The stream is over, and the client is told so with its next request.
    Over {
        /// What it is told.
        body: Bytes,
        /// When it is forgotten.
        until_ms: u64,
    },
    /// It is gone.
    Gone,
}

/// A session.
pub struct Session<T> {
    pub(super) sid: Box<str>,
    pub(super) start: Start,
    pub(super) terms: Terms,
    /// The highest request that was taken, and all before it.
    pub(super) received: u64,
    /// What the next key hashes to (§15).
    pub(super) key_hash: Option<Box<str>>,
    waiting: BTreeMap<u64, (Request, T)>,
    held: VecDeque<Held<T>>,
    pub(super) answered: VecDeque<Answered>,
    /// The first answer, which says what is agreed on, has not been given.
    pub(super) is_new: bool,
    /// What the stream says of itself.
    greeting: Option<Greeting>,
    pub(super) pending: VecDeque<Vec<u8>>,
    /// The error of the stream.
    pub(super) error: Option<Vec<u8>>,
    pub(super) to_worker: Vec<u8>,
    /// Since when no request is held.
    pub(super) quiet_since_ms: u64,
    /// How long that may be.
    pub(super) patience_ms: u64,
    /// When an empty request came that was answered with nothing.
    idle_poll_ms: Option<u64>,
    pub(super) life: Life,
    /// Its client has just logged in.
    has_logged_in: bool,
    replies: Vec<(T, Reply)>,
    counts: Counts,
}

/// What has happened that operators want to know.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came again.
    pub repeated: u64,
    /// Ends because of a request that is against the rules.
    pub broken: u64,
    /// Ends because no request came in time.
    pub inactive: u64,
}

impl<T> Session<T> {
    /// Begins a session with the first request.
    pub fn begin(sid: &str, request: Request, ticket: T, rules: &Rules, now_ms: u64) -> Session<T> {
        let terms = Terms::agree(&request.start, rules);
        let mut session = Session::restored(sid, request.start, terms);
        session.received = request.rid;
        session.key_hash = request.newkey;
        session.is_new = true;
        session.quiet_since_ms = now_ms;
        link::write_open(&session.start, &mut session.to_worker);
        session.to_worker.extend_from_slice(&request.payload);
        session.held.push_back(Held { rid: request.rid, key: request.key, since_ms: now_ms, ticket });
        session
    }

    /// One of which nothing is known but this.
    pub(super) fn restored(sid: &str, start: Start, terms: Terms) -> Session<T> {
        Session {
            sid: sid.into(),
            start,
            patience_ms: terms.inactivity_ms,
            terms,
            received: 0,
            key_hash: None,
            waiting: BTreeMap::new(),
            held: VecDeque::new(),
            answered: VecDeque::new(),
            is_new: false,
            greeting: None,
            pending: VecDeque::new(),
            error: None,
            to_worker: Vec::new(),
            quiet_since_ms: 0,
            idle_poll_ms: None,
            life: Life::Open,
            has_logged_in: false,
            replies: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A further request (§8, §14).
    pub fn request(&mut self, request: Request, ticket: T, now_ms: u64) {
        let rid = request.rid;
        if rid <= self.received {
            return self.repeat(request, ticket);
        }
        if rid > self.received + self.terms.requests() {
            return self.cut(Condition::ItemNotFound, ticket);
        }
        if let Some((_, older)) = self.waiting.insert(rid, (request, ticket)) {
            // The client has given that connection up.
            self.replies.push((older, Reply::Later));
        }
        self.advance(now_ms);
    }

    /// A request comes again, because its answer was lost (§14.3): it gets the same, and has no effect.
    fn repeat(&mut self, request: Request, ticket: T) {
        self.counts.repeated += 1;
        let is_it = |rid, key: &Option<Box<str>>| rid == request.rid && *key == request.key;
        if let Some(held) = self.held.iter_mut().find(|held| is_it(held.rid, &held.key)) {
            let older = std::mem::replace(&mut held.ticket, ticket);
            self.replies.push((older, Reply::Later));
        } else if let Some(found) = self.answered.iter().find(|one| is_it(one.rid, &one.key)) {
            self.replies.push((ticket, Reply::Body(found.body.clone())));
        } else {
            self.cut(Condition::ItemNotFound, ticket);
        }
    }

    /// Takes requests in their order, for as long as the worker takes what they bring.
    pub fn advance(&mut self, now_ms: u64) {
        while self.to_worker.is_empty() && self.life != Life::Gone {
            let Some((request, ticket)) = self.waiting.remove(&(self.received + 1)) else { break };
            self.take(request, ticket, now_ms);
        }
        self.settle(now_ms);
    }

    fn take(&mut self, request: Request, ticket: T, now_ms: u64) {
        if !self.fits(&request) {
            return self.cut(Condition::ItemNotFound, ticket);
        }
        if self.polls_too_often(&request, now_ms) {
            return self.cut(Condition::PolicyViolation, ticket);
        }
        self.received = request.rid;
        self.idle_poll_ms = request.is_empty().then_some(now_ms);
        self.patience_ms = match request.pause {
            Some(seconds) => {
                (u64::from(seconds) * 1000).min(self.terms.pause_ms_max).max(self.terms.inactivity_ms)
            }
            None => self.terms.inactivity_ms,
        };
        if let Some(ack) = request.ack {
            self.answered.retain(|answered| answered.rid > ack);
        }
        if self.life == Life::Open {
            match request.restarts {
                // What such a request carries is ignored (XEP-0206 §5).
                true => link::write_open(&self.start, &mut self.to_worker),
                false => self.to_worker.extend_from_slice(&request.payload),
            }
        }
        self.held.push_back(Held { rid: request.rid, key: request.key, since_ms: now_ms, ticket });
        if request.terminates {
            self.leave(now_ms);
        } else if request.pause.is_some() {
            self.release(now_ms);
        }
    }

    /// Whether a request has the key that is expected (§15.4); notes what the next one must have.
    fn fits(&mut self, request: &Request) -> bool {
        let Some(expected) = &self.key_hash else {
            self.key_hash.clone_from(&request.newkey);
            return true;
        };
        match &request.key {
            Some(key) if hash(key) == **expected => {
                self.key_hash = request.newkey.clone().or_else(|| request.key.clone());
                true
            }
            _ => false,
        }
    }

    /// §12: a client that polls with nothing to say has to wait between two requests.
    fn polls_too_often(&self, request: &Request, now_ms: u64) -> bool {
        let (Some(polling), Some(last)) = (self.terms.polling_ms, self.idle_poll_ms) else { return false };
        request.is_empty() && now_ms < last + polling
    }

    /// The client goes (§13): what there still is for it, it gets with the answers.
    fn leave(&mut self, now_ms: u64) {
        if self.life == Life::Open {
            link::write_close(&mut self.to_worker);
        }
        while self.held.len() > 1 {
            self.answer(now_ms);
        }
        let elements = std::mem::take(&mut self.pending);
        let body = answer::terminate(None, elements.iter().map(Vec::as_slice));
        self.life = Life::Over { body, until_ms: now_ms + OVER_MS };
    }

    /// What the worker says. `elsewhere` is where clients are sent when the server stops.
    pub fn said(&mut self, said: Said, elsewhere: &str, now_ms: u64) {
        if self.life != Life::Open {
            return;
        }
        match said {
            Said::Open { from, id } => {
                self.greeting.get_or_insert(Greeting { from, id });
            }
            Said::Element(element) if is_stream_error(&element) => self.error = Some(element),
            Said::Element(element) => {
                self.has_logged_in |= is_success(&element);
                self.pending.push_back(element);
            }
            Said::Close => self.over(answer::ended(self.error.as_deref(), elsewhere), now_ms),
            // There is a limit of connections, and no stream on which it could be said.
            Said::Dropped(code) if code == Code::TRY_LATER.0 => {
                self.over(answer::terminate(Some(Condition::PolicyViolation), []), now_ms);
            }
            Said::Dropped(_) => self.lost(now_ms),
        }
    }

    /// The way to the worker has ended.
    pub fn lost(&mut self, now_ms: u64) {
        if self.life == Life::Open {
            self.over(answer::terminate(Some(Condition::RemoteConnectionFailed), []), now_ms);
        }
        self.to_worker.clear();
    }

    fn over(&mut self, body: Bytes, now_ms: u64) {
        self.life = Life::Over { body, until_ms: now_ms + UNTOLD_MS };
    }

    /// Gives the answers that are due.
    pub fn settle(&mut self, now_ms: u64) {
        while let Some(first) = self.held.front() {
            let wait = if self.is_new { self.terms.wait_ms.max(FEATURES_MS) } else { self.terms.wait_ms };
            let is_due = now_ms >= first.since_ms + wait;
            let is_crowded = !self.is_new && self.held.len() > self.terms.hold as usize;
            if self.pending.is_empty()
                && let Life::Over { body, .. } = &self.life
            {
                let body = body.clone();
                self.give(body, now_ms);
                continue;
            }
            if self.pending.is_empty() && !is_due && !is_crowded {
                break;
            }
            self.answer(now_ms);
        }
    }

    /// Answers all that is held, with nothing if there is nothing, and sends back what waits: the client is going to be away,
    /// or the server is going to be another program.
    pub fn release(&mut self, now_ms: u64) {
        while !self.held.is_empty() {
            match &self.life {
                Life::Over { body, .. } if self.pending.is_empty() => {
                    let body = body.clone();
                    self.give(body, now_ms);
                }
                _ => self.answer(now_ms),
            }
        }
    }

    /// Sends back the requests that wait for others: they may come again.
    pub fn send_back(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.replies.extend(waiting.into_values().map(|(_, ticket)| (ticket, Reply::Later)));
    }

    /// Answers the first request with what there is.
    fn answer(&mut self, now_ms: u64) {
        let Some(first) = self.held.front() else { return };
        let (mut bytes, mut count) = (0, 0);
        for element in &self.pending {
            if count > 0 && bytes + element.len() > ANSWER_BYTES {
                break;
            }
            bytes += element.len();
            count += 1;
        }
        let mut answer = Answer::begin();
        if self.is_new {
            self.agree(&mut answer);
        } else if self.received != first.rid {
            answer.set_number("ack", self.received);
        }
        self.is_new = false;
        if count > 0 {
            self.idle_poll_ms = None;
        }
        let elements: Vec<Vec<u8>> = self.pending.drain(..count).collect();
        self.give(answer.end(elements.iter().map(Vec::as_slice)), now_ms);
    }

    /// What is agreed on (§7.2, XEP-0206 §3).
    fn agree(&self, answer: &mut Answer) {
        let terms = &self.terms;
        let seconds = |ms: u64| ms / 1000;
        answer.set("sid", &self.sid);
        answer.set_number("wait", seconds(terms.wait_ms));
        answer.set_number("requests", terms.requests());
        answer.set_number("hold", terms.hold);
        answer.set_number("inactivity", seconds(terms.inactivity_ms));
        answer.set_number("maxpause", seconds(terms.pause_ms_max));
        if let Some(polling) = terms.polling_ms {
            answer.set_number("polling", seconds(polling));
        }
        answer.set("ver", &format!("{}.{}", terms.ver.0, terms.ver.1));
        answer.set_number("ack", self.received);
        if self.start.secure {
            answer.set("secure", "true");
        }
        let Greeting { from, id } = self.greeting.clone().unwrap_or_default();
        for (name, value) in [("from", from), ("authid", id)] {
            if let Some(value) = value {
                answer.set(name, &value);
            }
        }
        answer.extend_stream();
    }

    /// Gives an answer to the first request, and keeps it.
    fn give(&mut self, body: Bytes, now_ms: u64) {
        let Some(first) = self.held.pop_front() else { return };
        self.answered.push_back(Answered { rid: first.rid, key: first.key, body: body.clone() });
        while self.answered.len() as u64 > self.terms.requests() {
            self.answered.pop_front();
        }
        self.replies.push((first.ticket, Reply::Body(body)));
        self.quiet_since_ms = now_ms;
        if let Life::Over { until_ms, .. } = &mut self.life
            && self.pending.is_empty()
        {
            *until_ms = (*until_ms).min(now_ms + OVER_MS);
        }
    }

    /// Ends the session because of this request. Its stream is cut: it can be resumed where that was agreed on (XEP-0198).
    fn cut(&mut self, condition: Condition, ticket: T) {
        self.counts.broken += 1;
        self.replies.push((ticket, Reply::Body(answer::terminate(Some(condition), []))));
        self.go(Condition::OtherRequest);
    }

    /// Its place is somebody else's.
    pub fn displaced(&mut self) {
        if self.life != Life::Gone {
            self.go(Condition::PolicyViolation);
        }
    }

    /// Whether its client has logged in since this was last asked.
    pub fn take_login(&mut self) -> bool {
        std::mem::take(&mut self.has_logged_in)
    }

    fn go(&mut self, condition: Condition) {
        let held = std::mem::take(&mut self.held).into_iter().map(|held| held.ticket);
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|(_, ticket)| ticket);
        let body = answer::terminate(Some(condition), []);
        self.replies.extend(held.chain(waiting).map(|ticket| (ticket, Reply::Body(body.clone()))));
        self.to_worker.clear();
        self.life = Life::Gone;
    }

    /// Does what is due by this time.
    pub fn tick(&mut self, now_ms: u64) {
        self.settle(now_ms);
        let is_over = match &self.life {
            Life::Over { until_ms, .. } => now_ms >= *until_ms,
            Life::Open => self.held.is_empty() && now_ms >= self.quiet_since_ms + self.patience_ms,
            Life::Gone => false,
        };
        if is_over {
            self.counts.inactive += u64::from(self.life == Life::Open);
            self.go(Condition::ItemNotFound);
        }
    }

    /// When something is due, if nothing happens before.
    pub fn due_ms(&self) -> Option<u64> {
        let wait = if self.is_new { self.terms.wait_ms.max(FEATURES_MS) } else { self.terms.wait_ms };
        let held = self.held.front().map(|held| held.since_ms + wait);
        match &self.life {
            Life::Gone => None,
            Life::Over { until_ms, .. } => Some(held.map_or(*until_ms, |held| held.min(*until_ms))),
            Life::Open => Some(held.unwrap_or(self.quiet_since_ms + self.patience_ms)),
        }
    }

    /// The answers that were given since this was asked last.
    pub fn take_replies(&mut self) -> Vec<(T, Reply)> {
        std::mem::take(&mut self.replies)
    }

    /// What has happened since this was asked last.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Frames for the worker; what it has taken is to be removed.
    pub fn to_worker(&mut self) -> &mut Vec<u8> {
        &mut self.to_worker
    }

    /// Whether it is gone: nothing is to be sent any more, and its id names nothing.
    pub fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// Whether its stream is over. What is left for the worker is still to be sent.
    pub fn is_over(&self) -> bool {
        self.life != Life::Open
    }

    /// Bytes for the client: those that wait, and those that it may ask for again.
    pub fn bytes_for_client(&self) -> usize {
        let pending: usize = self.pending.iter().map(Vec::len).sum();
        let answered: usize = self.answered.iter().map(|answered| answered.body.len()).sum();
        pending + answered + self.error.as_ref().map_or(0, Vec::len)
    }

    /// Whether something waits for the client.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes that it holds, in all.
    pub fn bytes(&self) -> usize {
        let waiting: usize = self.waiting.values().map(|(request, _)| request.payload.len()).sum();
        self.bytes_for_client() + waiting + self.to_worker.len()
    }
}

/// Whether an element of a worker ends a login well (RFC 6120 §6.4.6).
fn is_success(element: &[u8]) -> bool {
    element.starts_with(b"<success") && memchr::memmem::find(element, ns::SASL.as_bytes()).is_some()
}

/// The hash of a key, as the key before it is written (§15.3).
fn hash(key: &str) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
