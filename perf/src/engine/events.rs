//! What a turn of the engine does: paced connects, reads, writes, pings, deadlines.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Interest, Token};

use crate::engine::link::{Got, Link};
use crate::engine::login::{Failure, stream_error};
use crate::engine::scan::{self, Element, Item};
use crate::engine::session::{Session, State};
use crate::engine::target::TlsStart;
use crate::engine::{Engine, FAILURES_IN_A_ROW_MAX, LOGIN_SECONDS_MAX};

/// Bytes that may wait for one server that does not read.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A ping whose answer takes longer has none, at the end of a run.
const PING_NS_MAX: u64 = 10_000_000_000;

/// The longest wait of a turn.
const WAIT_MAX: Duration = Duration::from_millis(10);

impl Engine {
    /// Everything that is due; returns how long to wait for events.
    pub(super) fn prepare(&mut self, now: u64) -> Duration {
        self.connect_due(now);
        self.give_up_slow(now);
        self.ping_due(now);
        let next_send = self.send_due(now);
        if self.counters.dropped > 0
            && self.counters.dropped * 2 >= self.counters.logins
            && self.fatal.is_none()
        {
            let reason =
                self.counters.dropped_by.iter().max_by_key(|(_, n)| **n).map(|(reason, _)| reason.as_str());
            self.fatal = Some(format!(
                "the server ended {} of {} sessions: {}",
                self.counters.dropped,
                self.counters.logins,
                reason.unwrap_or("no reason")
            ));
        }
        let Some(next_send) = next_send else { return WAIT_MAX };
        let wait = Duration::from_nanos(next_send.saturating_sub(self.clock.now_ns()));
        match &self.timer {
            Some(timer) if wait < WAIT_MAX && !wait.is_zero() => {
                timer.set(wait);
                WAIT_MAX
            }
            _ => wait.min(WAIT_MAX),
        }
    }

    fn connect_due(&mut self, now: u64) {
        while self.to_retry.front().is_some_and(|&(due, _)| due <= now) {
            if let Some((_, number)) = self.to_retry.pop_front() {
                self.to_connect.push_back(number);
            }
        }
        // A pause in the loop may be made up for, but not by a burst of more than a tenth of a second.
        let earned = now.saturating_sub(self.paced_ns) as f64 / 1e9 * self.share.rate;
        self.allowance = (self.allowance + earned).min((self.share.rate / 10.0).max(1.0));
        self.paced_ns = now;
        while self.allowance >= 1.0
            && self.counters.connecting < u64::from(self.share.in_flight_max)
            && self.fatal.is_none()
        {
            let Some(number) = self.to_connect.pop_front() else { break };
            self.allowance -= 1.0;
            self.connect(number, now);
        }
    }

    fn connect(&mut self, number: u32, now: u64) {
        let (to, from) = self.target.route(self.share.first + u64::from(number));
        let session = &mut self.sessions[number as usize];
        session.attempt = session.attempt.wrapping_add(1);
        if session.started_ns == 0 {
            session.started_ns = now;
        }
        session.state = State::Connecting;
        self.counters.connecting += 1;
        self.deadlines.push_back((now + LOGIN_SECONDS_MAX * 1_000_000_000, number, session.attempt));
        let registered = Link::connect(to, from).and_then(|mut link| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(link.socket(), Token(number as usize), interest)?;
            Ok(link)
        });
        match registered {
            Ok(link) => self.sessions[number as usize].link = Some(Box::new(link)),
            Err(error) => {
                let up = self.counters.ready;
                let failure = match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => Failure::Fatal(format!(
                        "out of descriptors with {up} sessions in this worker: raise `ulimit -n` (hard limit) or \
                         fs.file-max, or use more --workers"
                    )),
                    Some(libc::EADDRNOTAVAIL) => Failure::Fatal(format!(
                        "no free port or no such source address ({}) to {to}, with {up} sessions in this worker: \
                         use more --sources, more --port, or a wider net.ipv4.ip_local_port_range",
                        from.map_or_else(|| "chosen by the kernel".to_owned(), |from| from.to_string())
                    )),
                    Some(libc::ENOBUFS | libc::ENOMEM) => Failure::Fatal(format!(
                        "the kernel has no memory for sockets with {up} sessions in this worker: see `whimbrel-perf \
                         tune`"
                    )),
                    _ => Failure::Passing(format!("cannot connect to {to}: {error}")),
                };
                self.failed(number, failure);
            }
        }
    }

    fn give_up_slow(&mut self, now: u64) {
        while let Some(&(due, number, attempt)) = self.deadlines.front() {
            let session = &self.sessions[number as usize];
            let over = session.attempt != attempt || matches!(session.state, State::Ready | State::Off);
            if !over && due > now {
                break;
            }
            let state = session.state;
            self.deadlines.pop_front();
            if !over {
                let text = format!("no login within {LOGIN_SECONDS_MAX} s, stuck in the step {state:?}");
                self.failed(number, Failure::Passing(text));
            }
        }
    }

    /// Pings sessions in turn, so that each has one in every interval.
    fn ping_due(&mut self, now: u64) {
        let interval = self.share.ping_interval_ms * 1_000_000;
        if interval == 0 || self.wanted == 0 {
            return;
        }
        let passed = now.saturating_sub(self.pinged_ns) as f64;
        self.pinged_ns = now;
        if self.traffic.draining || self.counters.connecting > 0 || !self.to_connect.is_empty() {
            // Pings belong to the time of holding: while there are logins, a server slower than it may be should have those.
            return;
        }
        self.ping_debt = (self.ping_debt + passed / interval as f64 * f64::from(self.wanted)).min(1_000.0);
        while self.ping_debt >= 1.0 {
            self.ping_debt -= 1.0;
            let number = self.next_ping % self.wanted;
            self.next_ping = number + 1;
            let session = &mut self.sessions[number as usize];
            if session.state != State::Ready {
                continue;
            }
            if std::mem::replace(&mut session.ping_waits, true) {
                self.counters.pings_unanswered += 1;
            }
            session.started_ns = now;
            session.stanzas_sent += 1;
            self.counters.pings_sent += 1;
            self.out.clear();
            let domain = std::mem::take(&mut self.target.domain);
            self.say(&["<iq type='get' id='ping' to='", &domain, "'><ping xmlns='urn:xmpp:ping'/></iq>"]);
            self.target.domain = domain;
            self.finish(number, Ok(()));
        }
    }

    /// Pings that have waited for ten seconds at the end have no answer.
    pub(crate) fn end_pings(&mut self) {
        let now = self.clock.now_ns();
        let waits = |session: &&Session| session.ping_waits && session.started_ns + PING_NS_MAX < now;
        self.counters.pings_unanswered += self.sessions.iter().filter(waits).count() as u64;
    }

    /// A session's socket is ready.
    pub(super) fn ready(&mut self, number: u32, event: &Event) {
        self.out.clear();
        let Some(session) = self.sessions.get_mut(number as usize) else { return };
        let Some(link) = &mut session.link else { return };
        if session.state == State::Connecting && !link.has_tls() {
            match link.connected() {
                None => return,
                Some(Err(error)) => {
                    let (to, _) = self.target.route(self.share.first + u64::from(number));
                    let text = format!("cannot connect to {to}: {error}");
                    return self.failed(number, Failure::Passing(text));
                }
                Some(Ok(())) if self.target.tls == Some(TlsStart::Direct) => {
                    let outcome = self.begin_tls(number);
                    return self.finish(number, outcome);
                }
                Some(Ok(())) => self.open(number),
            }
        }
        let outcome = if event.is_readable() || event.is_read_closed() { self.read(number) } else { Ok(()) };
        self.finish(number, outcome);
    }

    /// Sends what has been said, or ends the session.
    pub(super) fn finish(&mut self, number: u32, outcome: Result<(), Failure>) {
        let outcome = outcome.and_then(|()| {
            self.flush(number).map_err(|error| Failure::Passing(format!("the connection broke: {error}")))
        });
        if let Err(failure) = outcome {
            self.failed(number, failure);
        }
    }

    fn read(&mut self, number: u32) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.read_into(number, &mut buffer);
        self.buffer = buffer;
        outcome
    }

    fn read_into(&mut self, number: u32, buffer: &mut [u8]) -> Result<(), Failure> {
        let broken = |error: io::Error| Failure::Passing(format!("the connection broke: {error}"));
        loop {
            let session = &mut self.sessions[number as usize];
            let Some(link) = &mut session.link else { return Ok(()) };
            let tls = link.has_tls();
            let got = link.read(buffer).map_err(broken)?;
            if tls && session.state == State::Connecting && !link.handshaking() {
                self.open(number);
            } else if session.state == State::Upgrade && link.websocket().is_some_and(|web| web.is_open()) {
                self.open_stream(number);
            }
            let (count, last) = match got {
                Got::Nothing => return Ok(()),
                Got::Closed => return Err(Failure::Passing("the server closed the connection".into())),
                Got::More { count, last } => (count, last),
            };
            self.counters.bytes_in += count as u64;
            let session = &mut self.sessions[number as usize];
            if session.input.is_empty() {
                let used = self.items(number, &buffer[..count])?;
                if used < count {
                    self.sessions[number as usize].input.extend_from_slice(&buffer[used..count]);
                }
            } else {
                let mut input = std::mem::take(&mut session.input);
                input.extend_from_slice(&buffer[..count]);
                let used = self.items(number, &input)?;
                if used < input.len() {
                    input.drain(..used);
                    input.shrink_to_fit();
                    self.sessions[number as usize].input = input;
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Handles the whole items at the start of `bytes`; returns how many bytes they were.
    fn items(&mut self, number: u32, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            match scan::next(&bytes[used..]) {
                Err(_) => {
                    let start =
                        String::from_utf8_lossy(&bytes[used..bytes.len().min(used + 40)]).into_owned();
                    return Err(Failure::Fatal(format!("the server does not speak XMPP: it sent {start:?}")));
                }
                Ok(None) if bytes.len() - used > scan::ITEM_BYTES_MAX => {
                    let most = scan::ITEM_BYTES_MAX;
                    return Err(Failure::Fatal(format!(
                        "the server sent an element of more than {most} bytes"
                    )));
                }
                Ok(None) => return Ok(used),
                Ok(Some((item, bytes))) => {
                    used += bytes;
                    match item {
                        Item::Header(_) => {}
                        Item::End => {
                            return Err(Failure::Passing("the server ended the stream".into()));
                        }
                        Item::Element(element) => self.element(number, &element)?,
                    }
                }
            }
            if self.sessions[number as usize].link.is_none() {
                return Ok(used);
            }
        }
    }

    fn element(&mut self, number: u32, element: &Element<'_>) -> Result<(), Failure> {
        let session = &mut self.sessions[number as usize];
        let name = element.name();
        if name == b"close" {
            // RFC 7395 §3.6: a WebSocket has it instead of the end tag of a stream.
            return Err(Failure::Passing("the server ended the stream".into()));
        }
        if session.managed {
            match name {
                b"r" => {
                    let handled = session.handled.to_string();
                    self.say(&["<a xmlns='urn:xmpp:sm:3' h='", &handled, "'/>"]);
                    return Ok(());
                }
                b"a" => {
                    self.acknowledged(number, element);
                    return Ok(());
                }
                b"message" | b"presence" | b"iq" => session.handled = session.handled.wrapping_add(1),
                _ => {}
            }
        }
        if session.state != State::Ready {
            if name == b"message" {
                // A stored one may come before the answer to the ping.
                self.message(number, element);
                return Ok(());
            }
            return self.login_element(number, element);
        }
        match name {
            b"message" => self.message(number, element),
            b"presence" => self.presence_came(number, element),
            b"iq" => self.iq(number, element),
            b"error" => return Err(stream_error(element)),
            _ => {}
        }
        Ok(())
    }

    fn iq(&mut self, number: u32, iq: &Element<'_>) {
        let kind = iq.attribute(b"type").unwrap_or_default();
        let id = iq.attribute(b"id").unwrap_or_default();
        match kind {
            b"result" | b"error" if id == b"ping" => {
                let now = self.clock.now_ns();
                let session = &mut self.sessions[number as usize];
                if std::mem::take(&mut session.ping_waits) {
                    self.recorder.ping.record(now.saturating_sub(session.started_ns));
                    self.counters.pings_answered += 1;
                }
            }
            b"result" | b"error" if id == b"stored" => self.stored(),
            b"get" | b"set" => {
                // XEP-0199 for the server's pings; for roster pushes (RFC 6121 §2.1.6) the empty result is right too.
                if iq.contains(b"urn:xmpp:ping") {
                    self.counters.pings_of_server += 1;
                }
                self.sessions[number as usize].stanzas_sent += 1;
                let from = iq.attribute(b"from").map(|from| String::from_utf8_lossy(from).into_owned());
                let id = String::from_utf8_lossy(id).into_owned();
                self.say(&["<iq type='result' id='", &id, "'"]);
                if let Some(from) = from {
                    self.say(&[" to='", &from, "'"]);
                }
                self.say(&["/>"]);
            }
            _ => {}
        }
    }

    /// Writes what has been said in this turn to the session's socket.
    pub(super) fn flush(&mut self, number: u32) -> io::Result<()> {
        let session = &mut self.sessions[number as usize];
        let Some(link) = &mut session.link else { return Ok(()) };
        self.counters.bytes_out += self.out.len() as u64;
        let bytes = match link.websocket() {
            Some(web) => self.framer.frame(web, &self.out)?,
            None => &self.out[..],
        };
        if session.output.is_empty() {
            if bytes.is_empty() && !link.has_tls() {
                return Ok(());
            }
            let done = link.write(bytes)?;
            if done < bytes.len() {
                session.output.extend_from_slice(&bytes[done..]);
            }
        } else {
            session.output.extend_from_slice(bytes);
            let done = link.write(&session.output)?;
            session.output.drain(..done);
            if session.output.is_empty() {
                session.output = Vec::new();
            }
        }
        self.out.clear();
        if session.output.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other("the server does not read what is sent to it"));
        }
        Ok(())
    }

    /// A session is over, or a login has failed.
    pub(super) fn failed(&mut self, number: u32, failure: Failure) {
        let session = &self.sessions[number as usize];
        let (state, started) = (session.state, session.started_ns);
        if state == State::Off {
            return;
        }
        let (reason, fatal) = match failure {
            Failure::Passing(reason) => (reason, false),
            Failure::Fatal(reason) => (reason, true),
        };
        self.close(number);
        self.out.clear();
        if state == State::Ready {
            self.counters.ready -= 1;
            self.counters.session_dropped(&reason);
        } else {
            self.counters.connecting -= 1;
            self.counters.login_failed(&reason);
            self.failures_in_a_row += 1;
            // It tries again; the time that the login takes goes on.
            self.sessions[number as usize].started_ns = started;
            let attempt = u64::from(self.sessions[number as usize].attempt.min(10));
            let spread = u64::from(number.wrapping_mul(2_654_435_761) % 1000) * 200_000;
            self.to_retry.push_back((self.clock.now_ns() + attempt * 50_000_000 + spread, number));
        }
        // Where nobody has ever logged in, there is little to hope for.
        let patience = if self.counters.logins == 0 {
            self.wanted.clamp(10, FAILURES_IN_A_ROW_MAX)
        } else {
            FAILURES_IN_A_ROW_MAX
        };
        if self.fatal.is_none() && (fatal || self.failures_in_a_row >= patience) {
            self.fatal = Some(reason);
        }
    }
}
