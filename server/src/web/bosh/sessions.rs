//! All sessions: their sockets, the task of each, and what they hold together.

use std::future::{Future, poll_fn};
use std::os::unix::net::UnixStream as Pair;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::answer::{self, Condition};
use super::body::Request;
use super::link::Reader;
use super::saved::{BoshRecord, BoshSessions, Way, restore};
use super::seat::{Inner, Seat, Socket, Ticket, pair};
use super::seats::{Place, Seats};
use super::session::Session;
use super::terms::Rules;
use crate::config::HttpConfig;
use crate::drain::{DrainGate, InFlight};
use crate::http::request::Caller;
use crate::runtime::driver::Detached;
use crate::runtime::platform;
use crate::shared::Shared;
use crate::takeover::Takeover;
use crate::web::config;
use crate::web::workers::Workers;
use crate::worker::command::CommandQueue;
use crate::worker::newcomers::Newcomer;

/// Random bytes of a session's id: nobody guesses it.
const SID_BYTES: usize = 24;

/// Reads of one session before the others have their turn.
const READS_MAX: usize = 16;

/// Why a request is not given to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no room; it may come again.
    Busy,
    /// There is no session, or none is begun.
    End(Bytes),
}

/// All sessions of BOSH.
pub struct Bosh {
    shared: Arc<Shared>,
    workers: Workers,
    seats: Mutex<Seats>,
    /// Requests that are here and not answered. Shut while the server becomes another program.
    gate: DrainGate,
    paused: AtomicBool,
    /// Told when it goes on.
    goes_on: Notify,
    /// Bytes that sessions and requests under way hold.
    bytes: AtomicUsize,
}

/// What a session waits for.
enum Wait {
    /// It is gone.
    Over,
    /// For changes only.
    Changes,
    /// Also for its socket, and a time.
    For { socket: Option<Arc<UnixStream>>, reads: bool, writes: bool, due_ms: Option<u64> },
}

/// Bytes of a request that is being read.
pub(super) struct Counted<'a> {
    bosh: &'a Bosh,
    bytes: usize,
}

impl Counted<'_> {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.bosh.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.bosh.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn now_ms() -> u64 {
    platform::monotonic_ns() / 1_000_000
}

fn rules(http: &HttpConfig) -> Rules {
    Rules {
        wait_seconds_max: http.bosh_wait_seconds,
        inactivity_seconds: http.bosh_inactivity_seconds,
        pause_seconds_max: http.bosh_pause_seconds,
        polling_seconds: http.bosh_polling_seconds,
    }
}

impl Bosh {
    /// None yet. Requests wait until [`Bosh::go_on`] unless it is `open`.
    pub fn new(shared: &Arc<Shared>, commands: &[Arc<CommandQueue>], open: bool) -> Arc<Bosh> {
        let gate = DrainGate::default();
        if !open {
            gate.shut();
        }
        Arc::new(Bosh {
            shared: shared.clone(),
            workers: Workers::new(shared, commands),
            seats: Mutex::default(),
            gate,
            paused: AtomicBool::new(!open),
            goes_on: Notify::new(),
            bytes: AtomicUsize::new(0),
        })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count the bytes of a request.
    pub(super) fn count(&self) -> Counted<'_> {
        Counted { bosh: self, bytes: 0 }
    }

    /// Whether sessions and requests hold all that they may (`http.bosh_mib`).
    pub(super) fn is_full(&self) -> bool {
        let most = config(&self.shared).http.bosh_mib as usize * (1 << 20);
        self.bytes.load(Ordering::Relaxed) >= most
    }

    /// A request is here, and is to be answered. Waits while the server becomes another program, and not longer than this.
    pub(super) async fn enter(&self, wait: Duration) -> Option<InFlight> {
        let enter = async {
            loop {
                let mut goes_on = pin!(self.goes_on.notified());
                // Before the look at the gate, so that nothing is missed.
                goes_on.as_mut().enable();
                match self.gate.enter() {
                    Some(under_way) => return under_way,
                    None => goes_on.await,
                }
            }
        };
        tokio::time::timeout(wait, enter).await.ok()
    }

    /// Begins a session.
    pub(super) fn begin(
        self: &Arc<Self>,
        request: Request,
        ticket: Ticket,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let config = config(&self.shared);
        if request.start.to.is_none() {
            return Err(Refusal::End(answer::terminate(Some(Condition::ImproperAddressing), [])));
        }
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(Refusal::End(answer::shutdown(&config.http.bosh_see_other_uri)));
        }
        let (peer, secured) = (caller.address(), caller.is_secured());
        let worker = self.workers.choose().ok_or(Refusal::Busy)?;
        let most = config.http.bosh_sessions as usize;
        if !self.seats().has_place(peer, most) {
            return Err(Refusal::Busy);
        }
        let failed = |error: std::io::Error| {
            tracing::warn!(%error, "no socket pair for a session of BOSH");
            Refusal::End(answer::terminate(Some(Condition::InternalServerError), []))
        };
        let (here, there) = pair().map_err(failed)?;
        let here = UnixStream::from_std(here).map_err(failed)?;
        let sid = URL_SAFE_NO_PAD.encode(self.shared.chance.bytes::<SID_BYTES>());
        let session = Session::begin(&sid, request, ticket, &rules(&config.http), now_ms());
        let socket = Detached::from_socket(there.into());
        let newcomer = Newcomer { socket, tls: None, came: Vec::new(), unsent: Vec::new(), peer, secured };
        if !self.workers.hand_over(worker, newcomer) {
            return Err(Refusal::Busy);
        }
        let socket = Socket::Open(Arc::new(here));
        let seat = Seat::new(peer, session, socket, (Reader::default(), secured));
        // Nobody ends before all else is there. Another request may have taken the place meanwhile; then the worker's side is cut.
        let place = self.seats().take_place((peer, most), sid.into(), &seat).ok_or(Refusal::Busy)?;
        if let Place::Of(displaced) = place {
            self.displace(&displaced);
        }
        let metrics = &self.shared.stats.http[0];
        metrics.bosh_begun.add(1);
        metrics.bosh_sessions.add(1);
        tokio::spawn(attend(self.clone(), seat));
        Ok(())
    }

    /// A session that has not logged in ends, because another one has its place. Its task sees to the rest.
    fn displace(&self, seat: &Seat) {
        let mut inner = seat.inner();
        inner.socket = Socket::Closed;
        inner.session.displaced();
        self.deliver(&mut inner);
        drop(inner);
        self.shared.stats.http[0].bosh_displaced.add(1);
        seat.changes.notify_one();
    }

    /// Gives a request to its session.
    pub(super) fn give(
        &self,
        sid: &str,
        request: Request,
        ticket: Ticket,
        secured: bool,
    ) -> Result<(), Refusal> {
        let seat = self.seats().get(sid);
        // Whoever has begun it with TLS has never sent its id without.
        if let Some(seat) = seat.filter(|seat| secured || !seat.inner().secured) {
            seat.inner().session.request(request, ticket, now_ms());
            seat.changes.notify_one();
            return Ok(());
        }
        self.shared.stats.http[0].bosh_unknown.add(1);
        Err(Refusal::End(answer::terminate(Some(Condition::ItemNotFound), [])))
    }

    /// Requests wait from now on, and those that are held are answered: the server is going to be another program. Sessions
    /// stand still until [`Bosh::go_on`].
    pub fn pause(&self) {
        self.gate.shut();
        self.paused.store(true, Ordering::SeqCst);
        self.seats().iter().for_each(|seat| seat.changes.notify_one());
    }

    /// Everything goes on.
    pub fn go_on(&self) {
        self.paused.store(false, Ordering::SeqCst);
        self.gate.open();
        self.goes_on.notify_waiters();
        self.seats().iter().for_each(|seat| seat.changes.notify_one());
    }

    /// Waits until each request that is here is answered, and the answer written. `false`: one is not by the deadline.
    #[must_use]
    pub fn wait_until_written(&self, deadline: Instant) -> bool {
        self.gate.wait_until_empty(deadline)
    }

    /// As [`Bosh::wait_until_written`], for so long at most: streams are over, and clients are being told.
    pub fn finish(&self, wait: Duration) {
        let _ = self.wait_until_written(Instant::now() + wait);
    }

    /// What another program needs to go on with the sessions, while they stand still.
    pub fn records(&self) -> Vec<BoshRecord> {
        let seats = self.seats();
        let records = seats.iter().filter_map(|seat| {
            let inner = seat.inner();
            let way = Way {
                descriptor: inner.socket.descriptor(),
                unread: inner.reader.rest().to_vec(),
                secured: inner.secured,
                peer: seat.peer,
            };
            BoshRecord::of(&inner.session, way)
        });
        records.collect()
    }

    /// Takes the sessions of the program before over.
    ///
    /// # Errors
    /// A socket did not come along.
    pub fn take_over(&self, takeover: &mut Takeover) -> Result<(), String> {
        let mut records = Vec::new();
        let read = takeover.state.each::<BoshSessions>(|_, record| {
            records.push(record);
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        for record in records {
            let Way { descriptor, unread, secured, peer } = record.way.clone();
            let socket = match descriptor {
                Some(descriptor) => Socket::Waits(Pair::from(takeover.copy(descriptor)?)),
                None => Socket::Closed,
            };
            let sid = record.sid.clone();
            let seat = Seat::new(peer, restore(record), socket, (Reader::with(&unread), secured));
            // It may have logged in.
            self.seats().insert(sid.into(), seat, false);
        }
        Ok(())
    }

    /// Nobody serves requests: sessions of the program before are cut.
    pub fn give_up(&self) {
        self.seats().clear();
    }

    /// Looks after the sessions that came from another program. On the server's thread.
    pub(super) fn attend_restored(self: &Arc<Self>) {
        let seats: Vec<_> = self.seats().iter().cloned().collect();
        for seat in seats {
            self.shared.stats.http[0].bosh_sessions.add(1);
            let mut inner = seat.inner();
            if let Socket::Waits(socket) = std::mem::replace(&mut inner.socket, Socket::Closed) {
                let open = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
                match open {
                    Ok(open) => inner.socket = Socket::Open(Arc::new(open)),
                    Err(error) => tracing::warn!(%error, "a session of BOSH has lost its socket"),
                }
            }
            drop(inner);
            tokio::spawn(attend(self.clone(), seat));
        }
    }

    /// Does what can be done for a session now.
    fn pump(&self, seat: &Seat) -> Wait {
        let (now, config) = (now_ms(), config(&self.shared));
        let mut guard = seat.inner();
        let inner = &mut *guard;
        if self.paused.load(Ordering::SeqCst) {
            inner.session.send_back();
            inner.session.release(now);
            self.deliver(inner);
            return Wait::Changes;
        }
        for _ in 0..READS_MAX {
            let came = self.may_read(inner, &config.http) && inner.read(&config.http.bosh_see_other_uri, now);
            let went = inner.write(now);
            if !came && !went {
                break;
            }
        }
        inner.session.tick(now);
        self.deliver(inner);
        if inner.session.is_gone() {
            let sid = inner.session.sid.clone();
            drop(guard);
            self.seats().remove(&sid);
            self.shared.stats.http[0].bosh_sessions.sub(1);
            return Wait::Over;
        }
        // Answers have made room.
        let reads = self.may_read(inner, &config.http);
        let writes = !inner.session.to_worker().is_empty();
        if inner.session.is_over() && !writes {
            inner.socket = Socket::Closed;
        }
        let wait = Wait::For { socket: inner.socket.get(), reads, writes, due_ms: inner.session.due_ms() };
        if inner.session.take_login() {
            let sid = inner.session.sid.clone();
            drop(guard);
            self.seats().logged_in(&sid);
        }
        wait
    }

    /// Whether more may be read for a client: up to its bound while there is room for all, and whatever the bound is when
    /// nothing waits. What it may ask for again counts as well.
    fn may_read(&self, inner: &Inner, http: &HttpConfig) -> bool {
        if !inner.socket.is_open() || inner.session.is_over() {
            return false;
        }
        let is_below = || inner.session.bytes_for_client() < http.bosh_session_bytes as usize;
        !inner.session.has_pending() || (!self.is_full() && is_below())
    }

    /// Sends answers on their way, and counts.
    fn deliver(&self, inner: &mut Inner) {
        for (ticket, reply) in inner.session.take_replies() {
            // A client that has gone asks again.
            let _ = ticket.send(reply);
        }
        let metrics = &self.shared.stats.http[0];
        let counts = inner.session.take_counts();
        metrics.bosh_repeated.add(counts.repeated);
        metrics.bosh_broken.add(counts.broken);
        metrics.bosh_inactive.add(counts.inactive);
        let bytes = match inner.session.is_gone() {
            true => 0,
            false => inner.session.bytes() + inner.reader.rest().len(),
        };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.bytes.fetch_sub(inner.counted, Ordering::Relaxed);
        metrics.bosh_bytes.set((before - inner.counted) as u64);
        inner.counted = bytes;
    }
}

/// Looks after a session until it is gone.
async fn attend(bosh: Arc<Bosh>, seat: Arc<Seat>) {
    loop {
        match bosh.pump(&seat) {
            Wait::Over => return,
            Wait::Changes => seat.changes.notified().await,
            Wait::For { socket, reads, writes, due_ms } => {
                wait(&seat, socket.as_deref(), (reads, writes), due_ms).await;
            }
        }
    }
}

/// Waits until something has happened.
async fn wait(seat: &Seat, socket: Option<&UnixStream>, (reads, writes): (bool, bool), due_ms: Option<u64>) {
    let left_ms = due_ms.unwrap_or(u64::MAX).saturating_sub(now_ms());
    // A timer of tokio has a longest time.
    let mut sleep = pin!(tokio::time::sleep(Duration::from_millis(left_ms.min(3_600_000))));
    let mut changes = pin!(seat.changes.notified());
    poll_fn(|context| {
        let happens = changes.as_mut().poll(context).is_ready()
            || sleep.as_mut().poll(context).is_ready()
            || socket.is_some_and(|socket| {
                reads && socket.poll_read_ready(context).is_ready()
                    || writes && socket.poll_write_ready(context).is_ready()
            });
        if happens { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
