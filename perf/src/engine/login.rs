//! From the stream header to a bound resource with presence (RFC 6120 §4 to §7).

use crate::account::Accounts;
use crate::engine::Engine;
use crate::engine::sasl::{Exchange, Mechanism};
use crate::engine::scan::Element;
use crate::engine::session::State;
use crate::engine::target::{Protocol, TlsStart, Transport};
use crate::engine::websocket::WebSocket;

/// Why a session cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Passing(String),
    /// No attempt will, for any session.
    Fatal(String),
}

/// What a server offers, as far as a login depends on it. It lets the sessions after the first one send what needs no
/// answer without waiting (XEP-0305): the header with `<auth/>`, then `<response/>` with all the rest.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    mechanism: Mechanism,
    stream_management: bool,
}

impl Engine {
    /// The connection (and TLS, where it comes first) is there: opens the WebSocket, or the stream.
    pub(super) fn open(&mut self, number: u32) {
        match self.target.transport {
            Transport::Tcp => self.open_stream(number),
            Transport::WebSocket => self.open_websocket(number),
        }
    }

    fn open_websocket(&mut self, number: u32) {
        let (to, _) = self.target.route(self.share.first + u64::from(number));
        let host = format!("{}:{}", self.target.domain, to.port());
        let (web, request) = WebSocket::begin(&host, &self.target.path, &mut self.framer);
        let session = &mut self.sessions[number as usize];
        if let Some(link) = &mut session.link {
            link.start_websocket(web);
        }
        session.state = State::Upgrade;
        self.say(&[&request]);
    }

    /// Whatever carries the stream is there: opens it.
    pub(super) fn open_stream(&mut self, number: u32) {
        match self.target.protocol {
            Protocol::Xmpp => {
                self.write_header();
                match self.offer {
                    Some(offer) if self.target.tls.is_none() => self.authenticate(number, offer.mechanism),
                    _ => self.sessions[number as usize].state = State::Features,
                }
            }
            Protocol::Floor => {
                let name = Accounts::name(self.target.account(self.share.first + u64::from(number)));
                self.say(&["<hello user='", &name, "'/>"]);
                self.sessions[number as usize].state = State::Presence;
            }
        }
    }

    fn write_header(&mut self) {
        let domain = std::mem::take(&mut self.target.domain);
        self.say(&[
            "<?xml version='1.0'?><stream:stream to='",
            &domain,
            "' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        ]);
        self.target.domain = domain;
    }

    /// Appends to what the session at hand sends.
    pub(super) fn say(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// An element came before the session is up.
    pub(super) fn login_element(&mut self, number: u32, element: &Element<'_>) -> Result<(), Failure> {
        let state = self.sessions[number as usize].state;
        match (state, element.name()) {
            (_, b"error") if !element.contains(b"<body") => Err(stream_error(element)),
            (State::Features, b"features") => self.first_features(number, element),
            (State::Proceed, b"proceed") => self.begin_tls(number),
            (State::Sasl, b"challenge") => {
                let Some(mut exchange) = self.sessions[number as usize].login.take() else { return Ok(()) };
                let outcome = exchange.challenge(element, &self.accounts, &mut self.keys, &mut self.out);
                self.counters.keys_computed = self.keys.computed;
                self.sessions[number as usize].login = Some(exchange);
                if let (Ok(()), Some(offer)) = (&outcome, self.offer) {
                    self.say_the_rest(number, offer);
                }
                outcome.map_err(Failure::Fatal)
            }
            (State::Sasl, b"success") => {
                if let Some(exchange) = self.sessions[number as usize].login.take() {
                    exchange.success(element).map_err(Failure::Fatal)?;
                }
                self.sessions[number as usize].state = State::FeaturesAfterSasl;
                if !self.sessions[number as usize].pipelined {
                    self.write_header();
                }
                Ok(())
            }
            (State::Sasl, b"failure") => Err(self.refused(number, element)),
            (State::FeaturesAfterSasl, b"features") => {
                if self.sessions[number as usize].pipelined {
                    self.sessions[number as usize].state = State::Bind;
                } else {
                    self.bind(number, element);
                }
                Ok(())
            }
            (State::Bind, b"iq") => self.bound(number, element),
            (State::Session, b"iq") if element.attribute(b"id") == Some(b"session") => {
                self.after_session(number);
                Ok(())
            }
            (State::StreamManagement, b"enabled") => {
                let session = &mut self.sessions[number as usize];
                session.managed = true;
                self.counters.stream_management += 1;
                self.presence(number);
                Ok(())
            }
            (State::StreamManagement, b"failed") => {
                self.presence(number);
                Ok(())
            }
            (State::Presence, b"iq") if element.attribute(b"id") == Some(b"up") => {
                self.up(number);
                Ok(())
            }
            (State::Presence, b"hello") => {
                self.up(number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn first_features(&mut self, number: u32, features: &Element<'_>) -> Result<(), Failure> {
        let session = &mut self.sessions[number as usize];
        let has_tls = session.link.as_ref().is_some_and(|link| link.has_tls());
        if self.target.tls == Some(TlsStart::StartTls) && !has_tls {
            if !features.contains(b"urn:ietf:params:xml:ns:xmpp-tls") {
                return Err(Failure::Fatal("the server does not offer STARTTLS; try --tls none".into()));
            }
            session.state = State::Proceed;
            self.say(&["<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"]);
            return Ok(());
        }
        let mechanism = Mechanism::choose(self.target.sasl, features).map_err(Failure::Fatal)?;
        self.authenticate(number, mechanism);
        Ok(())
    }

    fn authenticate(&mut self, number: u32, mechanism: Mechanism) {
        self.mechanism = Some(mechanism);
        let account = self.target.account(self.share.first + u64::from(number));
        let exchange = Exchange::start(mechanism, account, &self.accounts, &mut self.out);
        let session = &mut self.sessions[number as usize];
        session.login = Some(Box::new(exchange));
        session.state = State::Sasl;
    }

    /// Everything after `<response/>`, behind it in the same bytes.
    fn say_the_rest(&mut self, number: u32, offer: Offer) {
        self.sessions[number as usize].pipelined = true;
        self.sessions[number as usize].sm_offered = offer.stream_management;
        self.write_header();
        self.say_bind(number);
        if offer.stream_management && self.target.stream_management {
            self.say_enable();
        }
        self.say_presence(number);
    }

    /// Puts TLS on the connection; the stream opens when the handshake is through.
    pub(super) fn begin_tls(&mut self, number: u32) -> Result<(), Failure> {
        let session = &mut self.sessions[number as usize];
        session.state = State::Connecting;
        let (Some(config), Some(link)) = (&self.tls, &mut session.link) else { return Ok(()) };
        link.start_tls(config, &self.target.domain).map_err(Failure::Fatal)?;
        link.write(&[]).map(|_| ()).map_err(|error| Failure::Passing(format!("TLS handshake: {error}")))
    }

    fn refused(&self, number: u32, failure: &Element<'_>) -> Failure {
        let condition = String::from_utf8_lossy(failure.first_child().unwrap_or(b"no reason")).into_owned();
        let account = Accounts::name(self.target.account(self.share.first + u64::from(number)));
        if condition == "temporary-auth-failure" {
            return Failure::Passing("login refused: temporary-auth-failure".into());
        }
        Failure::Fatal(format!(
            "the server refused the login of {account}@{}: {condition}; make the accounts with `whimbrel-perf \
             accounts` and the same --seed, or check --domain and --sasl",
            self.target.domain
        ))
    }

    fn bind(&mut self, number: u32, features: &Element<'_>) {
        let session = &mut self.sessions[number as usize];
        session.state = State::Bind;
        session.sm_offered = features.contains(b"urn:xmpp:sm:3");
        // RFC 3921 §3, unless the server says that it is optional.
        session.ping_waits = features.contains(b"urn:ietf:params:xml:ns:xmpp-session")
            && !features.contains(b"<optional/></session>");
        if self.target.pipeline
            && !session.ping_waits
            && let Some(mechanism) = self.mechanism
        {
            self.offer = Some(Offer { mechanism, stream_management: session.sm_offered });
        }
        self.say_bind(number);
    }

    fn say_bind(&mut self, number: u32) {
        let resource = self.target.resource(self.share.first + u64::from(number));
        self.say(&[
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>p",
            &resource.to_string(),
            "</resource></bind></iq>",
        ]);
    }

    fn bound(&mut self, number: u32, iq: &Element<'_>) -> Result<(), Failure> {
        if iq.attribute(b"id") != Some(b"bind") {
            return Ok(());
        }
        if iq.attribute(b"type") != Some(b"result") {
            return Err(Failure::Passing(format!("binding refused: {}", condition(iq))));
        }
        let jid = iq.text_of("jid").map(|jid| String::from_utf8_lossy(jid).into_owned()).unwrap_or_default();
        if jid != self.expected_jid(number) {
            self.sessions[number as usize].jid = Some(jid.into_boxed_str());
        }
        if std::mem::take(&mut self.sessions[number as usize].ping_waits) {
            self.sessions[number as usize].state = State::Session;
            self.say(&[
                "<iq type='set' id='session'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
            ]);
        } else {
            self.after_session(number);
        }
        Ok(())
    }

    fn after_session(&mut self, number: u32) {
        let session = &mut self.sessions[number as usize];
        if session.sm_offered && self.target.stream_management {
            session.state = State::StreamManagement;
            if !session.pipelined {
                self.say_enable();
            }
        } else {
            self.presence(number);
        }
    }

    fn say_enable(&mut self) {
        self.say(&["<enable xmlns='urn:xmpp:sm:3'/>"]);
    }

    fn presence(&mut self, number: u32) {
        self.sessions[number as usize].state = State::Presence;
        if !self.sessions[number as usize].pipelined {
            self.say_presence(number);
        }
    }

    /// Presence, and a ping whose answer shows that the server has dealt with it.
    fn say_presence(&mut self, number: u32) {
        self.sessions[number as usize].stanzas_sent += 2;
        let domain = std::mem::take(&mut self.target.domain);
        self.say(&[
            "<presence/><iq type='get' id='up' to='",
            &domain,
            "'><ping xmlns='urn:xmpp:ping'/></iq>",
        ]);
        self.target.domain = domain;
    }

    fn up(&mut self, number: u32) {
        let now = self.clock.now_ns();
        let session = &mut self.sessions[number as usize];
        session.state = State::Ready;
        self.recorder.login.record(now.saturating_sub(session.started_ns));
        self.failures_in_a_row = 0;
        self.counters.connecting -= 1;
        self.counters.ready += 1;
        self.counters.logins += 1;
        // Where there are rooms, one that comes back enters its own again.
        self.enter_room(number);
    }

    /// The full JID that a session asks for.
    pub(super) fn expected_jid(&self, number: u32) -> String {
        let session = self.share.first + u64::from(number);
        format!(
            "{}@{}/p{}",
            Accounts::name(self.target.account(session)),
            self.target.domain,
            self.target.resource(session)
        )
    }
}

/// A stream error (RFC 6120 §4.9).
pub(super) fn stream_error(error: &Element<'_>) -> Failure {
    let condition = String::from_utf8_lossy(error.first_child().unwrap_or(b"undefined")).into_owned();
    let text = format!("the server ended the stream: {condition}");
    match condition.as_str() {
        "host-unknown" => Failure::Fatal(format!("{text}; name its domain with --domain")),
        _ => Failure::Passing(text),
    }
}

fn condition(iq: &Element<'_>) -> String {
    const KNOWN: [&str; 6] = [
        "resource-constraint",
        "conflict",
        "not-allowed",
        "bad-request",
        "forbidden",
        "internal-server-error",
    ];
    KNOWN.into_iter().find(|known| iq.contains(known.as_bytes())).unwrap_or("no known condition").to_owned()
}
