//! The state machine of a stream from its first header to a bound resource (RFC 6120 §4 to §7).
//!
//! It takes headers and first-level elements and appends answers to the output. Where something outside is
//! needed (TLS, the crypto pool, the table of users) it returns a [`NegotiationStep`] and is told the outcome later.
//!
//! ```text
//! Header ─► Features ─► (STARTTLS: Header again) ─► Sasl ⇄ Waiting ─► Header ─► Features ─► bound
//! ```

pub mod saved;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::CredentialsStamp;
use whimbrel_storage::jid::{self, JidRef};

use crate::config::Config;
use crate::metrics::WorkerMetrics;
use crate::phone::form;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError, StreamCondition, StreamEnd};
use crate::proto::ns;
use crate::proto::reply;
use crate::proto::sasl::audit::{FailedLogin, Why};
use crate::proto::sasl::throttle::Verdict;
use crate::proto::sasl::{
    self, ChannelBindings, Exchange, Failure, Mechanism, Offer, PlainCheck, SaslError, Setup,
};
use crate::proto::sm::StreamId;
use crate::proto::sm::element::{self, Said};
use crate::runtime::timer::TimerId;
use crate::shared::Shared;
use crate::stanza::{Kind, Type};
use crate::stream::features;
use crate::stream::form::Form;
use crate::stream::phone;
use crate::stream::registration;
use crate::xml::{CLIENT, Stanza, StreamHeader};

/// What the machine can see of the server.
pub struct NegotiationEnv<'a> {
    /// Domain, directory, throttle.
    pub shared: &'a Shared,
    /// Configuration.
    pub config: &'a Config,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// Whether TLS protects the stream.
    pub tls: bool,
    /// Milliseconds of the server's clock.
    pub now_ms: u64,
    /// The worker, whose metrics count.
    pub worker: usize,
    /// What the server says of its capabilities after the login (XEP-0115 §6.3), as it is written.
    pub capabilities: &'a str,
}

impl NegotiationEnv<'_> {
    fn metrics(&self) -> &WorkerMetrics {
        &self.shared.metrics[self.worker]
    }
}

/// The state of a stream that has no resource yet. Boxed by its session; gone once it is bound.
pub struct Negotiation {
    /// The client's header has come on the current stream.
    pub header_seen: bool,
    /// The server's header has been sent on the current stream.
    pub header_sent: bool,
    /// Something outside has to finish before input is looked at again.
    pub waiting: bool,
    /// Input that came in the meantime, at most `limits.preauth_bytes`.
    pub held: Vec<u8>,
    /// Bytes received so far.
    pub bytes_in: u32,
    /// The timer of `limits.preauth_seconds`.
    pub deadline: Option<TimerId>,
    /// The account, once SASL has succeeded; a localpart.
    pub user: Option<Box<str>>,
    /// The credentials that the current exchange, or the one that succeeded, was about. A client that binds must have used
    /// those that the account has then.
    pub stamp: Option<CredentialsStamp>,
    /// Channel bindings of the TLS connection.
    pub bindings: ChannelBindings,
    exchange: Option<Box<Exchange>>,
    /// The account that the current exchange claims to be; a localpart.
    claimed: Option<Box<str>>,
    /// Milliseconds for which the answer to the password or proof is to be held back.
    delay_ms: u64,
    /// An answer that is held back. Everything it depends on is decided and counted.
    held_back: Option<Box<sasl::SaslStep>>,
    failures: u8,
}

/// What the caller has to do.
pub enum NegotiationStep {
    /// Nothing.
    Continue,
    /// `<proceed/>` is to be sent in the clear, and TLS begins.
    StartTls,
    /// Run the check on the crypto pool, then call [`Negotiation::plain_checked`].
    CheckPassword(PlainCheck),
    /// Call [`Negotiation::answer_due`] after so many milliseconds; until then no input is looked at.
    AnswerLater(u64),
    /// SASL has succeeded; the stream restarts on the user's home worker.
    Authenticated,
    /// Make an account (XEP-0077), answer the iq with this id, then look at input again.
    Register {
        /// The iq's id.
        id: String,
        /// Username and password.
        form: Form,
    },
    /// Register a phone number, answer the iq with this id, then look at input again.
    RegisterNumber {
        /// The iq's id.
        id: String,
        /// The form.
        fields: form::Fields,
    },
    /// Bind this resource, or one that the server makes up, and answer the iq with this id.
    Bind {
        /// The iq's id.
        id: String,
        /// The resource, normalised.
        resource: Option<String>,
    },
    /// Go on with an earlier stream (XEP-0198 §5).
    Resume {
        /// Its name; `None` when this server never gave such a one.
        id: Option<StreamId>,
        /// The stanzas that the client has handled on it.
        h: u32,
    },
}

impl Negotiation {
    /// A connection that has just been accepted.
    pub fn new(deadline: Option<TimerId>) -> Negotiation {
        Negotiation {
            header_seen: false,
            header_sent: false,
            waiting: false,
            held: Vec::new(),
            bytes_in: 0,
            deadline,
            user: None,
            stamp: None,
            bindings: ChannelBindings::default(),
            exchange: None,
            claimed: None,
            delay_ms: 0,
            held_back: None,
            failures: 0,
        }
    }

    /// A stream header came.
    ///
    /// # Errors
    /// The stream error to send, after the server's own header (RFC 6120 §4.9.1.2), which has been written.
    pub fn header(
        &mut self,
        at: &NegotiationEnv<'_>,
        header: &StreamHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamEnd> {
        self.header_seen = true;
        let from = header.from.as_deref().filter(|from| JidRef::parse(from).is_ok());
        self.send_header(at, from, out);
        let Some(to) = &header.to else {
            return Err((StreamCondition::ImproperAddressing, Some("the stream header has no 'to'")));
        };
        if !JidRef::parse(to).is_ok_and(|to| address::is_domain(&to, &at.shared.domain)) {
            return Err((StreamCondition::HostUnknown, None));
        }
        if header.version_numbers().is_none_or(|(major, _)| major < 1) {
            return Err((StreamCondition::UnsupportedVersion, None));
        }
        if self.user.is_some() {
            features::write_after_login(at, out);
        } else {
            let registration = at.config.auth.open_registration || at.config.registration.in_band;
            features::write_before_login(self.offer(at), !at.tls, registration, &self.bindings, out);
        }
        Ok(())
    }

    /// The stream begins anew (RFC 6120 §4.3.3).
    pub fn restart(&mut self) {
        self.header_seen = false;
        self.header_sent = false;
    }

    /// Sends the server's header unless this stream has had it: also before an error that comes first.
    pub fn send_header(&mut self, at: &NegotiationEnv<'_>, to: Option<&str>, out: &mut Vec<u8>) {
        if !self.header_sent {
            self.header_sent = true;
            features::write_header(&at.shared.domain, &at.shared.unique_id(), to, out);
        }
    }

    fn offer(&self, at: &NegotiationEnv<'_>) -> Offer {
        Offer { tls: at.tls, bindings: !self.bindings.is_empty(), allow_plaintext: at.config.allow_plaintext }
    }

    /// A first-level element came.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn element(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let name = stanza.name();
        match stanza.namespace() {
            ns::STARTTLS if name == "starttls" && !at.tls && self.user.is_none() => {
                Ok(NegotiationStep::StartTls)
            }
            ns::SASL if self.user.is_none() => self.sasl(at, stanza, out),
            ns::SM => managed(self.user.is_some(), stanza, out),
            CLIENT if Kind::from_name(name).is_some() => self.stanza(at, stanza, out),
            _ if Kind::from_name(name).is_some() => Err((StreamCondition::InvalidNamespace, None)),
            _ => Err((StreamCondition::UnsupportedStanzaType, None)),
        }
    }

    /// RFC 6120 §4.3.5, §7.1: before binding, only the iq that binds (or registers) is a stanza to look at.
    fn stanza(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let child = stanza.children().next().map(|child| (child.name(), child.namespace()));
        let refused = Err((StreamCondition::NotAuthorized, None));
        if stanza.name() != "iq" {
            return refused;
        }
        match child {
            Some(("bind", ns::BIND)) if self.user.is_some() => Ok(bind(at, stanza, out)),
            Some(("query", ns::REGISTER)) if self.may_register(at) => {
                let step = match at.config.registration.in_band {
                    true => phone::request(at, stanza, out),
                    false => registration::request(at, stanza, out),
                };
                self.waiting =
                    matches!(step, NegotiationStep::Register { .. } | NegotiationStep::RegisterNumber { .. });
                Ok(step)
            }
            _ => refused,
        }
    }

    /// Where the features have offered it: before login, and never in the clear unless passwords may be.
    fn may_register(&self, at: &NegotiationEnv<'_>) -> bool {
        self.user.is_none()
            && (at.config.auth.open_registration || at.config.registration.in_band)
            && self.offer(at).mechanisms().next().is_some()
    }

    fn sasl(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let step = match stanza.name() {
            "auth" => {
                let Some(mechanism) =
                    stanza.attribute("mechanism").and_then(|name| Mechanism::from_name(&name))
                else {
                    return self.failed(at, SaslError::InvalidMechanism.into(), Why::Protocol, out);
                };
                self.claimed = None;
                let setup = Setup {
                    mechanism,
                    offer: self.offer(at),
                    domain: Arc::from(&*at.shared.domain),
                    bindings: self.bindings.clone(),
                    server_nonce: at.shared.chance.bytes(),
                };
                let (exchange, step) = Exchange::start(setup, &stanza.to_element().content());
                self.exchange = Some(Box::new(exchange));
                step
            }
            "response" => return self.response(at, stanza, out),
            "abort" => match &mut self.exchange {
                Some(exchange) => exchange.abort(),
                None => return self.failed(at, SaslError::Aborted.into(), Why::Aborted, out),
            },
            _ => return Err((StreamCondition::UnsupportedStanzaType, None)),
        };
        self.go_on(at, step, out)
    }

    /// A proof is a guess: it is counted before it is looked at.
    fn response(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let proof = self.exchange.as_ref().is_some_and(|exchange| exchange.awaits_proof());
        if proof && !self.may_guess(at) {
            return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
        }
        let Some(exchange) = &mut self.exchange else {
            return self.failed(at, SaslError::MalformedRequest.into(), Why::Protocol, out);
        };
        let step = exchange.step(&stanza.to_element().content());
        match proof {
            true => self.judged(at, step, out),
            false => self.go_on(at, step, out),
        }
    }

    /// Does what an exchange asks for before a password or proof has been looked at.
    fn go_on(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match step {
            sasl::SaslStep::NeedCredentials { username } => {
                self.claimed = Some(username.clone());
                let found = match credentials(at, &username) {
                    Ok(found) => found,
                    Err(error) => return self.failed(at, error.into(), Why::Unavailable, out),
                };
                self.stamp = stamp(at, &username, found.as_ref());
                let Some(exchange) = &mut self.exchange else { return Ok(NegotiationStep::Continue) };
                let next = exchange.credentials_found(found.as_ref(), &at.shared.unknown_users);
                self.go_on(at, next, out)
            }
            sasl::SaslStep::NeedPlainCheck { username, password } => {
                self.claimed = Some(username.clone());
                if !self.may_guess(at) {
                    return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
                }
                match credentials(at, &username) {
                    Ok(found) => {
                        self.stamp = stamp(at, &username, found.as_ref());
                        self.waiting = true;
                        Ok(NegotiationStep::CheckPassword(
                            at.shared.unknown_users.plain_check(found, &username, password),
                        ))
                    }
                    Err(error) => self.failed(at, error.into(), Why::Unavailable, out),
                }
            }
            sasl::SaslStep::Failure(failure) => {
                let why = match failure.error {
                    SaslError::Aborted => Why::Aborted,
                    _ => Why::Protocol,
                };
                self.failed(at, failure, why, out)
            }
            // Nothing succeeds without a password or proof.
            step @ (sasl::SaslStep::Challenge(_) | sasl::SaslStep::Success { .. }) => {
                self.answer(at, step, out)
            }
        }
    }

    /// Counts a guess, and notes for how long its answer is to be held back. `false`: it is not to be looked at.
    fn may_guess(&mut self, at: &NegotiationEnv<'_>) -> bool {
        let Some(claimed) = &self.claimed else { return false };
        match at.shared.throttle().begin(claimed, at.peer, at.now_ms) {
            Verdict::Proceed { delay_ms } => {
                self.delay_ms = delay_ms;
                true
            }
            Verdict::Refuse => false,
        }
    }

    /// A password or proof has been looked at: what came of it is counted now and answered when it is due.
    fn judged(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match &step {
            sasl::SaslStep::Success { username, .. } => {
                at.shared.throttle().succeeded(username, at.peer, at.now_ms);
            }
            _ => self.tell(at, Why::Credentials),
        }
        if self.delay_ms == 0 {
            return self.answer(at, step, out);
        }
        at.metrics().login_delayed.add(1);
        self.waiting = true;
        self.held_back = Some(Box::new(step));
        Ok(NegotiationStep::AnswerLater(std::mem::take(&mut self.delay_ms)))
    }

    /// The answer that was held back is due.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn answer_due(
        &mut self,
        at: &NegotiationEnv<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let Some(step) = self.held_back.take() else { return Ok(NegotiationStep::Continue) };
        self.waiting = false;
        self.answer(at, *step, out)
    }

    /// Tells the client what came of its exchange so far.
    fn answer(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match step {
            sasl::SaslStep::Challenge(message) => {
                sasl::write_challenge(&message, out);
                Ok(NegotiationStep::Continue)
            }
            sasl::SaslStep::Success { username, additional_data } => {
                sasl::write_success(&additional_data, out);
                self.user = Some(username);
                self.exchange = None;
                self.restart();
                Ok(NegotiationStep::Authenticated)
            }
            sasl::SaslStep::Failure(failure) => self.refuse(at, failure, out),
            // These come before a password or proof.
            sasl::SaslStep::NeedCredentials { .. } | sasl::SaslStep::NeedPlainCheck { .. } => {
                Ok(NegotiationStep::Continue)
            }
        }
    }

    /// The crypto pool has checked a password.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn plain_checked(
        &mut self,
        at: &NegotiationEnv<'_>,
        accepted: bool,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.waiting = false;
        let Some(exchange) = &mut self.exchange else { return Ok(NegotiationStep::Continue) };
        let step = exchange.plain_checked(accepted);
        self.judged(at, step, out)
    }

    /// The crypto pool had no room for a check.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn plain_refused(
        &mut self,
        at: &NegotiationEnv<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.waiting = false;
        self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Unavailable, out)
    }

    /// The account and mechanism of a check that the crypto pool is to make, for the case that the connection ends first.
    pub fn guess(&self) -> Option<(Box<str>, &'static str)> {
        let mechanism = self.exchange.as_ref().map_or("-", |exchange| exchange.mechanism().name());
        self.claimed.clone().map(|account| (account, mechanism))
    }

    /// Ends an exchange in failure without a password or proof having been looked at.
    fn failed(
        &mut self,
        at: &NegotiationEnv<'_>,
        failure: Failure,
        why: Why,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.tell(at, why);
        self.refuse(at, failure, out)
    }

    /// Counts a failure, also that which ends the stream, and leaves a line about it.
    fn tell(&self, at: &NegotiationEnv<'_>, why: Why) {
        let mechanism = self.exchange.as_ref().map_or("-", |exchange| exchange.mechanism().name());
        let login = FailedLogin { account: self.claimed.as_deref(), address: at.peer, mechanism, why };
        at.shared.note_failed_login(at.worker, &login, at.now_ms);
    }

    /// Answers with `<failure/>`; the last one that a stream may have ends it (RFC 6120 §6.4.5).
    fn refuse(
        &mut self,
        at: &NegotiationEnv<'_>,
        failure: Failure,
        out: &mut Vec<u8>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.exchange = None;
        self.failures = self.failures.saturating_add(1);
        failure.write(out);
        if self.failures >= at.config.limits.sasl_attempts {
            return Err((StreamCondition::PolicyViolation, Some("too many failed authentication attempts")));
        }
        Ok(NegotiationStep::Continue)
    }
}

/// The stamp of an account's credentials. One is made of made-up credentials where there is no account, and forgotten,
/// so that it takes as long.
fn stamp(at: &NegotiationEnv<'_>, username: &str, found: Option<&Credentials>) -> Option<CredentialsStamp> {
    let fake = at.shared.unknown_users.credentials(username);
    let stamp = CredentialsStamp::of(found.unwrap_or(&fake));
    found.map(|_| stamp)
}

fn credentials(at: &NegotiationEnv<'_>, username: &str) -> Result<Option<Credentials>, SaslError> {
    at.shared.credentials(username).map_err(|error| {
        tracing::error!(user = username, %error, "cannot read the credentials of an account");
        SaslError::TemporaryAuthFailure
    })
}

/// RFC 6120 §7.6, §7.7: reads the request to bind; a bad one is answered and changes nothing.
fn bind(at: &NegotiationEnv<'_>, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> NegotiationStep {
    let id = stanza.attribute("id").map(Cow::into_owned);
    let iq = stanza.to_element();
    let asked =
        iq.find("bind", ns::BIND).and_then(|bind| bind.find("resource", ns::BIND)).map(|r| r.content());
    let set = Type::parse(Kind::Iq, stanza.attribute("type").as_deref()) == Some(Type::Set);
    let asked = asked.as_deref().filter(|name| !name.is_empty()).map(jid::normalise_resource).transpose();
    match (asked, id) {
        (Ok(resource), Some(id)) if set => {
            NegotiationStep::Bind { id, resource: resource.map(Cow::into_owned) }
        }
        (_, id) => {
            bind_error(&at.shared.domain, id.as_deref(), StanzaCondition::BadRequest.into(), out);
            NegotiationStep::Continue
        }
    }
}

/// XEP-0198 §5: after the login a client may resume a stream; anything else has to wait until a resource is bound.
/// Before the login even that is refused, with `<failed/>` and not with the end of the stream (§3): the client may go
/// on and log in.
fn managed(logged_in: bool, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Result<NegotiationStep, StreamEnd> {
    match Said::read(stanza) {
        Some(Said::Resume(id, h)) if logged_in => Ok(NegotiationStep::Resume { id, h }),
        Some(_) => {
            element::write_failed(StanzaCondition::UnexpectedRequest, None, out);
            Ok(NegotiationStep::Continue)
        }
        None => Err((StreamCondition::UnsupportedStanzaType, None)),
    }
}

/// Writes the error answer to a request to bind or to register.
pub fn bind_error(domain: &str, id: Option<&str>, error: StanzaError, out: &mut Vec<u8>) {
    reply::iq(Type::Error, Some(domain), "", id, out, |out| error.write(out));
}
