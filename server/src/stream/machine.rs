//! The state machine of a stream from its first header to a bound resource (RFC 6120 §4 to §7).
//!
//! It takes headers and first-level elements and appends answers to the output. Where something outside is
//! needed (TLS, the crypto pool, the table of users) it returns a [`NegotiationStep`] and is told the outcome later.
//!
//! ```text
//! Header ─► Features ─► (STARTTLS: Header again) ─► Sasl ⇄ Waiting ─► Header ─► Features ─► bound
//! ```

mod authentication;
pub mod saved;

use std::borrow::Cow;
use std::net::IpAddr;

use whimbrel_storage::directory::CredentialsStamp;
use whimbrel_storage::jid::{self, JidRef};

use crate::config::Config;
use crate::metrics::WorkerMetrics;
use crate::phone::form;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError, StreamCondition, StreamEnd};
use crate::proto::ns;
use crate::proto::reply;
use crate::proto::sasl::{self, ChannelBindings, Exchange, Offer, PlainCheck};
use crate::proto::sm::StreamId;
use crate::proto::sm::element::{self, Said};
use crate::runtime::timer::TimerId;
use crate::shared::Shared;
use crate::stanza::{Kind, Type};
use crate::stream::features;
use crate::stream::form::Form;
use crate::stream::machine::authentication::Unheard;
use crate::stream::phone;
use crate::stream::registration;
use crate::transport::{Header, Output};
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
    /// Whether TLS can begin on it (STARTTLS).
    pub may_start_tls: bool,
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
    /// A password or proof that may not be looked at yet.
    unheard: Option<Box<Unheard>>,
    /// When it is refused, in milliseconds of the server's clock.
    unheard_until_ms: Option<u64>,
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
            unheard: None,
            unheard_until_ms: None,
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
        out: &mut Output<'_>,
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
            out.element(|out| features::write_after_login(at, out));
        } else {
            let registration = at.config.auth.open_registration || at.config.registration.in_band;
            out.element(|out| {
                features::write_before_login(
                    self.offer(at),
                    at.may_start_tls,
                    registration,
                    &self.bindings,
                    out,
                );
            });
        }
        Ok(())
    }

    /// The stream begins anew (RFC 6120 §4.3.3).
    pub fn restart(&mut self) {
        self.header_seen = false;
        self.header_sent = false;
    }

    /// Sends the server's header unless this stream has had it: also before an error that comes first.
    pub fn send_header(&mut self, at: &NegotiationEnv<'_>, to: Option<&str>, out: &mut Output<'_>) {
        if !self.header_sent {
            self.header_sent = true;
            let id = at.shared.unique_id();
            out.header(&Header { from: &at.shared.domain, id: &id, to });
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
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let name = stanza.name();
        match stanza.namespace() {
            ns::STARTTLS if name == "starttls" && at.may_start_tls && self.user.is_none() => {
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
        out: &mut Output<'_>,
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
}

/// RFC 6120 §7.6, §7.7: reads the request to bind; a bad one is answered and changes nothing.
fn bind(at: &NegotiationEnv<'_>, stanza: &Stanza<'_>, out: &mut Output<'_>) -> NegotiationStep {
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
            let error = StanzaCondition::BadRequest.into();
            out.element(|out| bind_error(&at.shared.domain, id.as_deref(), error, out));
            NegotiationStep::Continue
        }
    }
}

/// XEP-0198 §5: after the login a client may resume a stream; anything else has to wait until a resource is bound.
/// Before the login even that is refused, with `<failed/>` and not with the end of the stream (§3): the client may go
/// on and log in.
fn managed(logged_in: bool, stanza: &Stanza<'_>, out: &mut Output<'_>) -> Result<NegotiationStep, StreamEnd> {
    match Said::read(stanza) {
        Some(Said::Resume(id, h)) if logged_in => Ok(NegotiationStep::Resume { id, h }),
        Some(_) => {
            out.element(|out| element::write_failed(StanzaCondition::UnexpectedRequest, None, out));
            Ok(NegotiationStep::Continue)
        }
        None => Err((StreamCondition::UnsupportedStanzaType, None)),
    }
}

/// Writes the error answer to a request to bind or to register.
pub fn bind_error(domain: &str, id: Option<&str>, error: StanzaError, out: &mut Vec<u8>) {
    reply::iq(Type::Error, Some(domain), "", id, out, |out| error.write(out));
}
