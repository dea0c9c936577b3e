//! What a negotiation asks of the worker: TLS, password checks, the move to the user's home, binding.

use std::sync::atomic::Ordering;

use crate::config::ResourceConflict;
use crate::registration::request::InBand;
use crate::reply;
use crate::runtime::driver::ConnId;
use crate::runtime::jobs::{Done, Guess};
use crate::runtime::outbox::Action;
use crate::session::{Phase, Session, Traveller};
use crate::stanza::Type;
use crate::stream::errors::{StanzaCondition, StreamCondition, StreamEnd};
use crate::stream::features::NS_BIND;
use crate::stream::machine::{self, Negotiation, Step, Surroundings};
use crate::stream::phone;
use crate::stream::registration;
use crate::stream::sasl::PlainCheck;
use crate::stream::sasl::audit::{self, FailedLogin, Why};
use crate::user::{blocking, offline};
use crate::worker::core::{Core, Timer, metrics_connection_closed, metrics_connection_opened};
use crate::worker::input::is_white_space;
use crate::xml::{CLIENT, Element};

impl Core {
    /// Does what a negotiation asked for. `rest` is the input behind the element that asked.
    pub(super) fn negotiated(&mut self, conn: ConnId, step: Step, rest: &mut &[u8]) {
        match step {
            Step::Continue => {}
            Step::StartTls => self.start_tls(conn, rest),
            Step::CheckPassword(check) => self.check_password(conn, check),
            Step::AnswerLater(after_ms) => {
                // Without room for a timer the connection ends unanswered, at `limits.preauth_seconds`.
                self.set_timer(after_ms, Timer::Answer(conn));
            }
            Step::Authenticated => self.authenticated(conn),
            Step::Register { id, form } => {
                if let Some(session) = self.sessions.get(conn) {
                    registration::start(&mut self.home, conn, session.peer, id, form);
                    self.send_answers();
                }
            }
            Step::RegisterNumber { id, fields } => {
                let Some(session) = self.sessions.get(conn) else { return };
                let form = InBand { worker: self.home.worker, conn, peer: session.peer, id, fields };
                if let Err(answer) = phone::submit(&self.home.shared, form) {
                    self.answer_now(conn, &answer);
                }
            }
            Step::Bind { id, resource } => self.bind(conn, &id, resource),
            Step::Resume { id, h } => self.resume(conn, id, h),
        }
    }

    /// RFC 6120 §5.4.2.3, §5.4.3.3: proceed, then TLS. What came behind `<starttls/>` in the clear would be an
    /// injection and ends the stream, except white space: clients in use end their writes with a line feed, and
    /// nothing that is dropped can do harm. It is no part of TLS, whose first byte is never white space; what of it comes
    /// later is dropped when it comes.
    fn start_tls(&mut self, conn: ConnId, rest: &mut &[u8]) {
        if !std::mem::take(rest).iter().all(|byte| is_white_space(*byte)) {
            let text = "data behind starttls";
            return self.end_stream(conn, StreamCondition::PolicyViolation, Some(text));
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Phase::Negotiating(negotiation) = &mut session.phase else { return };
        negotiation.restart();
        session.tls = Some(Box::new(self.home.shared.acceptor.begin()));
        self.home.out.plain_to_wire(conn);
        self.home.out.wire(conn).extend_from_slice(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    }

    fn check_password(&mut self, conn: ConnId, check: PlainCheck) {
        let Some(session) = self.sessions.get(conn) else { return };
        let Phase::Negotiating(negotiation) = &session.phase else { return };
        let guess = negotiation.guess().map(|(account, mechanism)| {
            let peer = session.peer;
            Box::new(Guess { account, mechanism, peer })
        });
        let queued =
            self.home.jobs.hash(Box::new(move || Done::Password { conn, accepted: check.run(), guess }));
        if !queued {
            self.home.metrics().refused_crypto.add(1);
            self.negotiate(conn, Negotiation::plain_refused);
        }
    }

    /// Goes on with a negotiation that waited, then with the input that came in the meantime.
    fn negotiate(
        &mut self,
        conn: ConnId,
        act: impl FnOnce(&mut Negotiation, &Surroundings<'_>, &mut Vec<u8>) -> Result<Step, StreamEnd>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Session { phase: Phase::Negotiating(negotiation), tls, peer, .. } = session else { return };
        let at = Surroundings {
            shared: &self.home.shared,
            config: &self.home.config,
            peer: *peer,
            tls: tls.is_some(),
            now_ms: self.home.now.0,
            worker: self.home.worker,
        };
        match act(negotiation, &at, self.home.out.plain(conn)) {
            Ok(step) => self.negotiated(conn, step, &mut &[][..]),
            Err(end) => self.fail(conn, end),
        }
        self.read_held(conn);
    }

    /// A job has come back from another thread.
    pub fn completed(&mut self, done: Done) {
        match done {
            Done::Write(ticket, result) => self.home.written(ticket, result),
            Done::Home(then) => then(&mut self.home),
            Done::Password { conn, accepted, .. } if self.is_negotiating(conn) => {
                self.negotiate(conn, |negotiation, at, out| negotiation.plain_checked(at, accepted, out));
            }
            Done::Password { accepted, guess, .. } => self.left_alone(accepted, guess),
        }
        self.send_answers();
        self.end_streams();
        self.count_users();
    }

    fn is_negotiating(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(|session| matches!(session.phase, Phase::Negotiating(_)))
    }

    /// A password has been checked whose client is gone: a guess it was all the same.
    fn left_alone(&self, accepted: bool, guess: Option<Box<Guess>>) {
        let Some(guess) = guess else { return };
        let Guess { account, mechanism, peer } = &*guess;
        let (shared, now_ms) = (&self.home.shared, self.home.now.0);
        if accepted {
            return shared.throttle().succeeded(account, *peer, now_ms);
        }
        let why = Why::Credentials;
        let login = FailedLogin { account: Some(account), address: *peer, mechanism, why };
        audit::note(shared, self.home.worker, &login, now_ms);
    }

    /// Sends the answers of jobs to negotiations that waited for them.
    fn send_answers(&mut self) {
        for (conn, bytes) in self.home.jobs.take_answers() {
            self.answer_now(conn, &bytes);
        }
    }

    /// An answer to a password or proof that was held back is due.
    pub(super) fn answer_due(&mut self, conn: ConnId) {
        self.negotiate(conn, Negotiation::answer_due);
    }

    /// A job has an answer.
    pub(super) fn answer_now(&mut self, conn: ConnId, bytes: &[u8]) {
        self.negotiate(conn, |negotiation, _, out| {
            negotiation.waiting = false;
            out.extend_from_slice(bytes);
            Ok(Step::Continue)
        });
    }

    /// Goes on with a negotiation that waited for something of this worker, then with the input that came in the
    /// meantime.
    pub(super) fn with_input_held(&mut self, conn: ConnId, act: impl FnOnce(&mut Core)) {
        let Some(Session { phase: Phase::Negotiating(negotiation), .. }) = self.sessions.get_mut(conn) else {
            return;
        };
        negotiation.waiting = false;
        let held = std::mem::take(&mut negotiation.held);
        act(self);
        self.input(conn, &held);
    }

    /// Reads the input that was held while the negotiation waited.
    fn read_held(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let Phase::Negotiating(negotiation) = &mut session.phase
            && !negotiation.waiting
        {
            let held = std::mem::take(&mut negotiation.held);
            let counted = u32::try_from(held.len()).unwrap_or(u32::MAX);
            negotiation.bytes_in = negotiation.bytes_in.saturating_sub(counted);
            self.input(conn, &held);
        }
    }

    /// SASL has succeeded: the session belongs on its user's home worker.
    fn authenticated(&mut self, conn: ConnId) {
        self.home.metrics().logins.add(1);
        if self.home.shared.draining.load(Ordering::Relaxed) {
            return self.end_stream(conn, StreamCondition::SystemShutdown, Some("the server is going down"));
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Phase::Negotiating(negotiation) = &mut session.phase else { return };
        let home = negotiation.user.as_ref().map(|user| self.home.shared.home_of(user));
        if home.is_none_or(|home| home == self.home.worker) {
            return;
        }
        if let Some(deadline) = negotiation.deadline.take() {
            self.timers.cancel(deadline);
        }
        if let Phase::Negotiating(negotiation) = std::mem::replace(&mut session.phase, Phase::Closing) {
            session.phase = Phase::Leaving(negotiation);
            self.home.out.act(conn, Action::Detach);
        }
    }

    /// The driver has let go of a socket: it goes to its user's home.
    pub(super) fn depart(&mut self, traveller: Traveller) {
        let session = &traveller.session;
        let user = match &session.phase {
            Phase::Leaving(negotiation) => negotiation.user.as_deref(),
            _ => None,
        };
        metrics_connection_closed(&mut self.home, session);
        let Some(user) = user else {
            // It was closed while the driver let go of it; the socket closes with it.
            self.home.shared.admission.release(session.peer, session.marks.established);
            return;
        };
        let home = self.home.home_of(user);
        self.home.metrics().migrations.add(1);
        self.home.post.to(home).traveller(Box::new(traveller));
    }

    /// Connections from other workers, to be attached to the driver and then adopted.
    pub fn take_arrivals(&mut self) -> Vec<Traveller> {
        std::mem::take(&mut self.arrivals)
    }

    /// Takes over a session whose socket the driver has attached as `conn`. `unsent` bytes still wait in it.
    pub fn adopt(&mut self, conn: ConnId, mut session: Session, unsent: usize) {
        session.conn = conn;
        self.home.out.set_with_driver(conn, unsent);
        metrics_connection_opened(&self.home);
        let metrics = self.home.metrics();
        metrics.backlog_bytes.add(unsent as u64);
        if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
            metrics.tls_sessions.add(1);
        }
        if let Phase::Leaving(mut negotiation) = std::mem::replace(&mut session.phase, Phase::Closing) {
            let waited = self.seconds().saturating_sub(session.connected);
            let left = self.home.config.limits.preauth_seconds.saturating_sub(waited).max(1);
            negotiation.deadline = self.set_timer(u64::from(left) * 1000, Timer::Preauth(conn));
            session.phase = Phase::Negotiating(negotiation);
        }
        self.places.enter(session.peer, conn);
        self.sessions.insert(session);
        self.read_held(conn);
        self.end_streams();
    }

    /// Binds a resource (RFC 6120 §7.6, §7.7).
    fn bind(&mut self, conn: ConnId, id: &str, asked: Option<String>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Phase::Negotiating(negotiation) = &mut session.phase else { return };
        let Some(local) = negotiation.user.clone() else { return };
        let stamp = negotiation.stamp;
        let account = match self.home.shared.directory.account_login(&local) {
            Ok(Some((account, current))) if stamp == Some(current) => account,
            Ok(Some(_)) => {
                // Whoever has lost the account to another device must not slip in behind the change.
                let text = "the account's credentials have changed";
                return self.end_stream(conn, StreamCondition::NotAuthorized, Some(text));
            }
            Ok(None) => {
                // It has been removed since this stream has authenticated.
                let text = "the account has been removed";
                return self.end_stream(conn, StreamCondition::NotAuthorized, Some(text));
            }
            Err(error) => {
                tracing::error!(user = &*local, %error, "cannot read the directory");
                return self.end_stream(conn, StreamCondition::InternalServerError, None);
            }
        };
        let limits = &self.home.config.limits;
        let existing = self.home.users.find(&local);
        let mut name = asked.unwrap_or_else(|| self.home.shared.unique_id());
        let taken = existing.and_then(|user| self.home.users.find_resource(user, &name));
        let mut replaced = None;
        if let Some(key) = taken {
            match self.home.config.auth.resource_conflict {
                ResourceConflict::ReplaceOlder => replaced = Some(key),
                ResourceConflict::Rename => name = format!("{name}-{}", self.home.shared.unique_id()),
                ResourceConflict::RefuseNewer => {
                    return self.refuse_bind(conn, id, StanzaCondition::Conflict);
                }
            }
        }
        let bound = existing.map_or(0, |user| self.home.users.user(user).resources.len());
        if replaced.is_none() && bound >= limits.resources_per_user as usize {
            // One that waits to be resumed makes room.
            replaced = self.home.users.oldest_detached(&local);
            if replaced.is_none() {
                self.home.metrics().refused_resources.add(1);
                return self.refuse_bind(conn, id, StanzaCondition::ResourceConstraint);
            }
        }
        if let Some(deadline) = negotiation.deadline.take() {
            self.timers.cancel(deadline);
        }
        if let Some(older) = replaced {
            match self.home.users.resource(older).conn {
                ConnId::NONE => self.forget_detached(older),
                conn => {
                    let text = "replaced by a new session of this resource";
                    self.end_stream(conn, StreamCondition::Conflict, Some(text));
                }
            }
        }
        let blocked = blocking::load(&self.home, &local);
        let key = self.home.users.insert(account, &local, &name, conn, || blocked);
        let full = self.home.full_jid(key);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.phase = Phase::Bound(key);
        session.marks.established = true;
        let peer = session.peer;
        self.home.shared.admission.established(peer);
        self.places.tidy(peer, &self.sessions);
        self.home.metrics().binds.add(1);
        self.count_users();
        let out = self.home.out.plain(conn);
        let bind = Element::new("bind", NS_BIND).child(Element::new("jid", NS_BIND).text(&full));
        reply::iq(Type::Result, None, "", Some(id), out, |out| bind.write(CLIENT, out));
        // What waits for this very resource comes before what is sent to it from now on; but not before it is known
        // whether the client will acknowledge it.
        offline::offer_to(&mut self.home, key);
    }

    fn refuse_bind(&mut self, conn: ConnId, id: &str, condition: StanzaCondition) {
        let domain = self.home.shared.domain.clone();
        machine::bind_error(&domain, Some(id), condition.into(), self.home.out.plain(conn));
    }
}
