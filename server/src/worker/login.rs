//! What a negotiation asks of the worker: TLS, password checks, the move to the user's home, binding.

use std::sync::atomic::Ordering;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::CredentialsStamp;
use whimbrel_websocket::Decoder;

use crate::env::Env;
use crate::proto::ns;

use crate::config::ResourceConflict;
use crate::effects::jobs::Guess;
use crate::phone::request::InBand;
use crate::proto::errors::{StanzaCondition, StreamCondition, StreamEnd};
use crate::proto::reply;
use crate::proto::sasl::PlainCheck;
use crate::proto::sasl::audit::{FailedLogin, Why};
use crate::runtime::driver::ConnId;
use crate::runtime::outbox::Action;
use crate::service::open_account;
use crate::session::{Channel, Migration, Session, SessionPhase};
use crate::stanza::Type;
use crate::stream::features;
use crate::stream::machine::{self, Negotiation, NegotiationEnv, NegotiationStep};
use crate::stream::phone;
use crate::transport::Output;
use crate::user::jobs::Done;
use crate::user::tables::ResourceKey;
use crate::user::{archive, blocking, offline};
use crate::worker::connections::{metrics_connection_closed, metrics_connection_opened};
use crate::worker::core::{Core, Timer};
use crate::worker::input::is_white_space;
use crate::xml::{CLIENT, Element};

/// What a stream that negotiates can see of the server.
pub(super) fn negotiation_env<'a>(
    env: &'a Env,
    capabilities: &'a str,
    channel: Channel,
) -> NegotiationEnv<'a> {
    NegotiationEnv {
        shared: &env.shared,
        config: &env.config,
        peer: channel.peer,
        tls: channel.secured,
        may_start_tls: channel.may_start_tls,
        now_ms: env.now.0,
        worker: env.worker,
        capabilities,
    }
}

impl Core {
    /// Does what a negotiation asked for. `rest` is the input behind the element that asked.
    pub(super) fn negotiated(&mut self, conn: ConnId, step: NegotiationStep, rest: &mut &[u8]) {
        match step {
            NegotiationStep::Continue => {}
            NegotiationStep::StartTls => self.start_tls(conn, rest),
            NegotiationStep::CheckPassword(check) => self.check_password(conn, check),
            NegotiationStep::AnswerLater(after_ms) => {
                // Without room for a timer the connection ends unanswered, at `limits.preauth_seconds`.
                self.set_timer(after_ms, Timer::Answer(conn));
            }
            NegotiationStep::Authenticated => self.authenticated(conn),
            NegotiationStep::Register { id, form } => {
                if let Some(session) = self.sessions.get(conn) {
                    open_account::start(&self.env, &mut self.fx, conn, session.peer, id, form);
                    self.send_answers();
                }
            }
            NegotiationStep::RegisterNumber { id, fields } => {
                let Some(session) = self.sessions.get(conn) else { return };
                let form = InBand { worker: self.env.worker, conn, peer: session.peer, id, fields };
                if let Err(answer) = phone::submit(&self.env.shared, form) {
                    self.answer_now(conn, &answer);
                }
            }
            NegotiationStep::Bind { id, resource } => self.bind(conn, &id, resource),
            NegotiationStep::Resume { id, h } => self.resume(conn, id, h),
        }
    }

    /// RFC 6120 §5.4.2.3, §5.4.3.3: proceed, then TLS. Anything that came behind `<starttls/>` in the clear would be an
    /// injection and ends the stream, except white space: clients in use end their writes with a line feed, and
    /// nothing that is dropped can do harm. It is no part of TLS, whose first byte is never white space; what of it comes
    /// later is dropped when it comes.
    fn start_tls(&mut self, conn: ConnId, rest: &mut &[u8]) {
        if !std::mem::take(rest).iter().all(|byte| is_white_space(*byte)) {
            let text = "data behind starttls";
            return self.end_stream(conn, StreamCondition::PolicyViolation, Some(text));
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &mut session.phase else { return };
        negotiation.restart();
        session.tls = Some(Box::new(self.env.shared.acceptor.begin()));
        self.fx.out.stream(conn).element(features::write_proceed);
        self.fx.out.plain_to_wire(conn);
    }

    fn check_password(&mut self, conn: ConnId, check: PlainCheck) {
        let Some(session) = self.sessions.get(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &session.phase else { return };
        let guess = negotiation.guess().map(|(account, mechanism)| {
            let peer = session.peer;
            Box::new(Guess { account, mechanism, peer })
        });
        let queued =
            self.fx.jobs.hash(Box::new(move || Done::Password { conn, accepted: check.run(), guess }));
        if !queued {
            self.env.metrics().refused_crypto.add(1);
            self.negotiate(conn, Negotiation::plain_refused);
        }
    }

    /// Goes on with a negotiation that waited, then with the input that came in the meantime.
    fn negotiate(
        &mut self,
        conn: ConnId,
        act: impl FnOnce(
            &mut Negotiation,
            &NegotiationEnv<'_>,
            &mut Output<'_>,
        ) -> Result<NegotiationStep, StreamEnd>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let channel = session.channel();
        let SessionPhase::Negotiating(negotiation) = &mut session.phase else { return };
        let at = negotiation_env(&self.env, &self.capabilities, channel);
        match act(negotiation, &at, &mut self.fx.out.stream(conn)) {
            Ok(step) => self.negotiated(conn, step, &mut &[][..]),
            Err(end) => self.fail(conn, end),
        }
        self.read_held(conn);
    }

    /// A job has come back from another thread.
    pub fn completed(&mut self, done: Done) {
        match done {
            Done::Write(job_id, result) => {
                self.actors.written(&self.env, &mut self.fx, job_id, result);
            }
            Done::Derived(then) | Done::Found(then) => then(&mut self.actors, &self.env, &mut self.fx),
            Done::Password { conn, accepted, .. } if self.is_negotiating(conn) => {
                self.negotiate(conn, |negotiation, at, out| negotiation.plain_checked(at, accepted, out));
            }
            Done::Password { accepted, guess, .. } => self.left_alone(accepted, guess),
        }
        self.send_answers();
        self.carry_out();
        self.count_users();
    }

    fn is_negotiating(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(|session| matches!(session.phase, SessionPhase::Negotiating(_)))
    }

    /// A password has been checked whose client is gone: a guess it was all the same.
    fn left_alone(&self, accepted: bool, guess: Option<Box<Guess>>) {
        let Some(guess) = guess else { return };
        let Guess { account, mechanism, peer } = &*guess;
        let (shared, now_ms) = (&self.env.shared, self.env.now.0);
        if accepted {
            return shared.throttle().succeeded(account, *peer, now_ms);
        }
        let why = Why::Credentials;
        let login = FailedLogin { account: Some(account), address: *peer, mechanism, why };
        shared.note_failed_login(self.env.worker, &login, now_ms);
    }

    /// Sends the answers of jobs to negotiations that waited for them.
    fn send_answers(&mut self) {
        for (conn, bytes) in self.fx.jobs.take_answers() {
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
            out.written(bytes);
            Ok(NegotiationStep::Continue)
        });
    }

    /// Goes on with a negotiation that waited for something of this worker, then with the input that came in the
    /// meantime.
    pub(super) fn with_input_held(&mut self, conn: ConnId, act: impl FnOnce(&mut Core)) {
        let Some(Session { phase: SessionPhase::Negotiating(negotiation), .. }) = self.sessions.get_mut(conn)
        else {
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
        if let SessionPhase::Negotiating(negotiation) = &mut session.phase
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
        self.env.metrics().logins.add(1);
        if self.env.shared.draining.load(Ordering::Relaxed) {
            return self.end_stream(conn, StreamCondition::SystemShutdown, Some("the server is going down"));
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &mut session.phase else { return };
        let home = negotiation.user.as_ref().map(|user| self.env.shared.home_of(user));
        if home.is_none_or(|home| home == self.env.worker) {
            return;
        }
        if let Some(deadline) = negotiation.deadline.take() {
            self.timers.cancel(deadline);
        }
        if let SessionPhase::Negotiating(negotiation) =
            std::mem::replace(&mut session.phase, SessionPhase::Closing)
        {
            session.phase = SessionPhase::Leaving(negotiation);
            self.fx.out.act(conn, Action::Detach);
        }
    }

    /// The driver has let go of a socket: it goes to its user's home.
    pub(super) fn depart(&mut self, migration: Migration) {
        let session = &migration.session;
        let user = match &session.phase {
            SessionPhase::Leaving(negotiation) => negotiation.user.as_deref(),
            _ => None,
        };
        metrics_connection_closed(&self.env, &mut self.fx, session);
        let Some(user) = user else {
            // It was closed while the driver let go of it; the socket closes with it.
            self.env.shared.admission.release(session.peer, session.marks.established);
            return;
        };
        let home = self.env.home_of(user);
        self.env.metrics().migrations.add(1);
        self.fx.links.to(home).migration(Box::new(migration));
    }

    /// Connections from other workers, to be attached to the driver and then adopted.
    pub fn take_arrivals(&mut self) -> Vec<Migration> {
        std::mem::take(&mut self.arrivals)
    }

    /// Takes over a session whose socket the driver has attached as `conn`. `unsent` bytes still wait in it.
    pub fn adopt(&mut self, conn: ConnId, mut session: Session, unsent: usize, frames: Option<Box<Decoder>>) {
        session.conn = conn;
        if let Some(frames) = frames {
            self.frames.insert(conn, frames);
        }
        self.fx.out.set_with_driver(conn, unsent);
        metrics_connection_opened(&self.env, session.transport);
        let metrics = self.env.metrics();
        metrics.backlog_bytes.add(unsent as u64);
        if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
            metrics.tls_sessions.add(1);
        }
        if let SessionPhase::Leaving(mut negotiation) =
            std::mem::replace(&mut session.phase, SessionPhase::Closing)
        {
            let waited = self.seconds().saturating_sub(session.connected);
            let left = self.env.config.limits.preauth_seconds.saturating_sub(waited).max(1);
            negotiation.deadline = self.set_timer(u64::from(left) * 1000, Timer::Preauth(conn));
            session.phase = SessionPhase::Negotiating(negotiation);
        }
        self.places.enter(session.peer, conn);
        self.enter(session);
        self.read_held(conn);
        self.carry_out();
    }

    /// Binds a resource (RFC 6120 §7.6, §7.7).
    fn bind(&mut self, conn: ConnId, id: &str, asked: Option<String>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &mut session.phase else { return };
        let Some(local) = negotiation.user.clone() else { return };
        let stamp = negotiation.stamp;
        let account = match self.account_to_bind(&local, stamp) {
            Ok(account) => account,
            Err((condition, text)) => return self.end_stream(conn, condition, text),
        };
        let (name, replaced) = match self.choose_resource(&local, asked) {
            Ok(chosen) => chosen,
            Err(condition) => return self.refuse_bind(conn, id, condition),
        };
        if let Some(Session { phase: SessionPhase::Negotiating(negotiation), .. }) =
            self.sessions.get_mut(conn)
            && let Some(deadline) = negotiation.deadline.take()
        {
            self.timers.cancel(deadline);
        }
        if let Some(older) = replaced {
            match self.actors.users.resource(older).conn {
                ConnId::NONE => self.forget_detached(older),
                conn => {
                    let text = "replaced by a new session of this resource";
                    self.end_stream(conn, StreamCondition::Conflict, Some(text));
                }
            }
        }
        let blocked = blocking::load(&self.env, &self.fx, &local);
        archive::load_preferences(&mut self.actors, &self.env, &self.fx, (account, &local));
        let key = self.actors.users.insert(account, &local, &name, conn, || blocked);
        let full = self.actors.users.full_jid(&self.env, key);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.phase = SessionPhase::Bound(key);
        session.marks.established = true;
        let peer = session.peer;
        self.env.shared.admission.established(peer);
        self.places.tidy(peer, &self.sessions);
        self.env.metrics().binds.add(1);
        self.count_users();
        let mut out = self.fx.out.stream(conn);
        let bind = Element::new("bind", ns::BIND).child(Element::new("jid", ns::BIND).text(&full));
        out.element(|out| reply::iq(Type::Result, None, "", Some(id), out, |out| bind.write(CLIENT, out)));
        // What waits for this very resource comes before what is sent to it from now on; but not before it is known
        // whether the client will acknowledge it.
        offline::offer_to(&mut self.actors, &mut self.fx, key);
    }

    /// The account of a stream that has authenticated.
    ///
    /// # Errors
    /// It is not what it was then: why the stream ends.
    fn account_to_bind(&self, local: &str, stamp: Option<CredentialsStamp>) -> Result<ActorId, StreamEnd> {
        match self.env.shared.directory.account_login(local) {
            Ok(Some((account, current))) if stamp == Some(current) => Ok(account),
            // A device that has lost the account to another one must not slip in behind the change.
            Ok(Some(_)) => {
                Err((StreamCondition::NotAuthorized, Some("the account's credentials have changed")))
            }
            // It has been removed since this stream has authenticated.
            Ok(None) => Err((StreamCondition::NotAuthorized, Some("the account has been removed"))),
            Err(error) => {
                tracing::error!(user = local, %error, "cannot read the directory");
                Err((StreamCondition::InternalServerError, None))
            }
        }
    }

    /// The name under which a resource is bound, and the resource that goes for it (RFC 6120 §7.7.2.2).
    ///
    /// # Errors
    /// The name is taken, or the account has as many resources as it may.
    fn choose_resource(
        &self,
        local: &str,
        asked: Option<String>,
    ) -> Result<(String, Option<ResourceKey>), StanzaCondition> {
        let existing = self.actors.users.find(local);
        let mut name = asked.unwrap_or_else(|| self.env.shared.unique_id());
        let taken = existing.and_then(|user| self.actors.users.find_resource(user, &name));
        if let Some(key) = taken {
            match self.env.config.auth.resource_conflict {
                // Of one device, which has lost its connection: it never stands in the way.
                _ if self.actors.users.is_detached(key) => return Ok((name, Some(key))),
                ResourceConflict::ReplaceOlder => return Ok((name, Some(key))),
                ResourceConflict::Rename => name = format!("{name}-{}", self.env.shared.unique_id()),
                ResourceConflict::RefuseNewer => return Err(StanzaCondition::Conflict),
            }
        }
        let bound = existing.map_or(0, |user| self.actors.users.user(user).resources.len());
        if bound < self.env.config.limits.resources_per_user as usize {
            return Ok((name, None));
        }
        // One that waits to be resumed makes room.
        let oldest = self.actors.users.oldest_detached(local);
        if oldest.is_none() {
            self.env.metrics().refused_resources.add(1);
        }
        oldest.map(|oldest| (name, Some(oldest))).ok_or(StanzaCondition::ResourceConstraint)
    }

    fn refuse_bind(&mut self, conn: ConnId, id: &str, condition: StanzaCondition) {
        let domain = self.env.shared.domain.clone();
        let mut out = self.fx.out.stream(conn);
        out.element(|out| machine::bind_error(&domain, Some(id), condition.into(), out));
    }
}
