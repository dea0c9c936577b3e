//! The client engine: one thread, one poll, one slab of sessions.
//!
//! ```text
//! orders ─► Engine ─► connects, paced ─► login (login.rs) ─► Ready ─► traffic (traffic.rs, pings)
//!             ▲ poll: readable, writable, timer, new order
//! ```
//!
//! It shares no code with the server, so that both cannot share a bug.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`scan`] | finds the items of a stream |
//! | [`session`] | one client session |
//! | [`link`] | its socket, plain or TLS |
//! | [`websocket`] | frames around it |
//! | [`login`] | from the stream header to a bound resource |
//! | [`sasl`], [`keys`] | SASL and the file of SCRAM keys |
//! | [`tracker`] | accounts for every message of a flow |
//! | [`traffic`] | the loads: closed and open loop, stored messages, presence |
//! | [`life`] | a mix of everything |
//! | [`rooms`] | rooms that sessions of a group are in |
//! | [`clock`] | time, and a timer finer than the poll's |

#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod clock;
pub(crate) mod counters;
mod events;
pub(crate) mod keys;
pub(crate) mod life;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod link;
mod login;
mod rooms;
pub(crate) mod sasl;
pub(crate) mod scan;
mod session;
pub(crate) mod target;
pub(crate) mod tracker;
pub(crate) mod traffic;
mod websocket;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mio::{Events, Poll, Token, Waker};
use rustls::ClientConfig;

use crate::account::Accounts;
use crate::engine::clock::{Clock, FineTimer};
use crate::engine::counters::{Counters, Recorder};
use crate::engine::keys::Keys;
use crate::engine::login::Offer;
use crate::engine::rooms::Rooms;
use crate::engine::sasl::Mechanism;
use crate::engine::session::{Session, State};
use crate::engine::target::Target;
use crate::engine::traffic::Traffic;
use crate::engine::websocket::Framer;

/// The token that a [`Waker`] wakes with; sessions use their numbers.
const TOKEN_WAKER: Token = Token(usize::MAX - 1);
const TOKEN_TIMER: Token = Token(usize::MAX - 2);

/// Bytes read at once; one buffer for all sessions.
const READ_BYTES: usize = 64 * 1024;

/// A login that has taken longer is given up.
pub(crate) const LOGIN_SECONDS_MAX: u64 = 60;

/// Failed logins in a row, with nobody logged in between, after which a worker gives up.
const FAILURES_IN_A_ROW_MAX: u32 = 200;

/// What one worker drives.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Share {
    /// The number of its first session; the session's account and resource follow from it.
    pub(crate) first: u64,
    /// Sessions at most.
    pub(crate) sessions_max: u32,
    /// Connects a second.
    pub(crate) rate: f64,
    /// Logins under way at most.
    pub(crate) in_flight_max: u32,
    /// Milliseconds between two pings of one session; 0: none.
    pub(crate) ping_interval_ms: u64,
}

/// The engine of one worker.
pub(crate) struct Engine {
    poll: Poll,
    timer: Option<FineTimer>,
    clock: Clock,
    target: Target,
    share: Share,
    accounts: Accounts,
    keys: Keys,
    tls: Option<Arc<ClientConfig>>,
    sessions: Vec<Session>,
    /// Sessions that shall be up; those past it stay off.
    wanted: u32,
    /// Sessions whose connect may start, in order.
    to_connect: VecDeque<u32>,
    /// When a session that has failed may try again: (ns, session).
    to_retry: VecDeque<(u64, u32)>,
    /// Deadlines of logins under way, oldest first: (ns, session, its attempt).
    deadlines: VecDeque<(u64, u32, u32)>,
    /// Connects that the pace has allowed and that have not been made.
    allowance: f64,
    paced_ns: u64,
    failures_in_a_row: u32,
    /// What an earlier login has learnt, when logins are to be pipelined.
    offer: Option<Offer>,
    /// The mechanism of the login before; it is the same for all.
    mechanism: Option<Mechanism>,
    next_ping: u32,
    pinged_ns: u64,
    ping_debt: f64,
    traffic: Traffic,
    rooms: Rooms,
    buffer: Vec<u8>,
    out: Vec<u8>,
    framer: Framer,
    /// What has been counted since the worker began.
    pub(crate) counters: Counters,
    /// What has been timed since the last [`Engine::take_recorder`].
    recorder: Recorder,
    /// Why the worker cannot go on.
    pub(crate) fatal: Option<String>,
}

impl Engine {
    /// An engine with every session off.
    pub(crate) fn new(target: Target, share: Share) -> io::Result<Engine> {
        let poll = Poll::new()?;
        let timer = FineTimer::new(poll.registry(), TOKEN_TIMER)?;
        let accounts = Accounts::new(&target.seed, &target.domain, target.one_password);
        let tls = target.tls.map(|_| link::client_config(&target));
        let sessions = (0..share.sessions_max).map(|_| Session::default()).collect();
        let clock = Clock::new();
        let now = clock.now_ns();
        Ok(Engine {
            poll,
            timer,
            clock,
            accounts,
            keys: Keys::open(target.keys.as_deref()),
            tls,
            sessions,
            wanted: 0,
            to_connect: VecDeque::new(),
            to_retry: VecDeque::new(),
            deadlines: VecDeque::new(),
            allowance: 0.0,
            paced_ns: now,
            failures_in_a_row: 0,
            offer: None,
            mechanism: None,
            next_ping: 0,
            pinged_ns: now,
            ping_debt: 0.0,
            traffic: Traffic::default(),
            rooms: Rooms::default(),
            buffer: vec![0; READ_BYTES],
            out: Vec::with_capacity(READ_BYTES),
            framer: Framer::new()?,
            counters: Counters::default(),
            recorder: Recorder::default(),
            fatal: None,
            target,
            share,
        })
    }

    /// Wakes [`Engine::turn`] from another thread.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), TOKEN_WAKER)
    }

    /// Nanoseconds of the monotonic clock.
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// What has been timed since the last call.
    pub(crate) fn take_recorder(&mut self) -> Recorder {
        std::mem::take(&mut self.recorder)
    }

    /// Lets so many sessions be up, at a new pace when one is given.
    pub(crate) fn want(&mut self, sessions: u32, rate: Option<f64>) {
        let sessions = sessions.min(self.share.sessions_max);
        for number in self.wanted..sessions {
            self.to_connect.push_back(number);
        }
        self.wanted = self.wanted.max(sessions);
        self.traffic.draining = false;
        if let Some(rate) = rate {
            self.share.rate = rate;
        }
        self.paced_ns = self.clock.now_ns();
    }

    /// Wants no more sessions than have begun to log in.
    pub(crate) fn stop_logins(&mut self) {
        // They begin in the order of their numbers.
        if let Some(next) = self.to_connect.iter().min() {
            self.wanted = *next;
        }
        self.to_connect.clear();
        self.to_retry.clear();
    }

    /// Whether every wanted session is up.
    pub(crate) fn all_ready(&self) -> bool {
        self.counters.ready == u64::from(self.wanted)
    }

    /// Cuts every session's connection without a word, and lets all of them come back at `rate`.
    pub(crate) fn cut(&mut self, keep_every: u32, rate: f64) {
        self.share.rate = rate;
        let now = self.clock.now_ns();
        for number in 0..self.wanted {
            let kept = keep_every > 0 && number / 2 % keep_every == 0;
            if !kept && self.sessions[number as usize].state == State::Ready {
                self.close(number);
                self.counters.ready -= 1;
                self.sessions[number as usize].started_ns = now;
                self.to_connect.push_back(number);
            }
        }
        self.paced_ns = now;
        self.allowance = 0.0;
    }

    /// Ends every stream politely (RFC 6120 §4.4), as far as that goes without waiting.
    pub(crate) fn leave(&mut self) {
        for number in 0..self.wanted {
            if self.sessions[number as usize].state == State::Ready {
                self.out.clear();
                self.out.extend_from_slice(b"</stream:stream>");
                let _ = self.flush(number);
            }
            self.close(number);
        }
        self.counters.ready = 0;
        self.to_connect.clear();
        self.to_retry.clear();
        self.wanted = 0;
    }

    /// Waits for events, at most 10 ms, and handles them.
    pub(crate) fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.clock.now_ns();
        let wait = self.prepare(now);
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in events.iter() {
            match event.token() {
                TOKEN_WAKER => {}
                TOKEN_TIMER => {
                    if let Some(timer) = &self.timer {
                        timer.clear();
                    }
                }
                Token(number) => self.ready(number as u32, event),
            }
        }
        Ok(())
    }

    fn close(&mut self, number: u32) {
        let session = &mut self.sessions[number as usize];
        if let Some(mut link) = session.link.take() {
            // Dropping closes it, which deregisters it as well; this is for kqueue's sake.
            let _ = self.poll.registry().deregister(link.socket());
        }
        session.forget();
    }
}
