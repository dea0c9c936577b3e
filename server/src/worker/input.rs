//! From received bytes to stanzas: TLS, framing, and the hand-over to negotiation or to the user.

use whimbrel_websocket::Code;

use crate::effects::work;
use crate::env::Env;
use crate::memory::{Pressure, SHORT_BYTES};
use crate::proto::errors::{StreamCondition, StreamEnd};
use crate::proto::ns;
use crate::proto::sm::TooHigh;
use crate::router::inbound;
use crate::runtime::driver::ConnId;
use crate::session::{Holds, Session, SessionPhase, StreamContext};
use crate::stream::machine::{Negotiation, NegotiationEnv, NegotiationStep};
use crate::transport::{Output, Transport};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inactive;
use crate::user::push;
use crate::user::tables::ResourceKey;
use crate::user::tables::Users;
use crate::user::writes::Place;
use crate::worker::core::Core;
use crate::worker::deferred::Parked;
use crate::worker::login::negotiation_env;
use crate::worker::message::{self, Part};
use crate::worker::run_queue::InputEnd;
use crate::worker::sm::{self, SmOutcome};
use crate::xml::{self, Condition, Frame, FramingError, Stanza};

/// The language of the server's stream header.
const SERVER_LANGUAGE: &str = "en";

/// What to do with the rest of the input after a frame.
enum Next {
    /// Read on.
    Continue,
    /// The frame waits, with all of its bytes, for a write of its connection.
    Held,
    /// Nothing is read from the stream any more, or what comes is put to what waits for something outside.
    Over,
    /// The negotiation asks for something.
    Negotiated(NegotiationStep),
    /// The client has closed its stream.
    StreamClosed,
    /// End the stream.
    Fail(StreamEnd),
    /// End the stream: the client acknowledges what it was not sent.
    TooHigh(TooHigh),
}

/// What a session expects next; `None` when it expects nothing: its stream is closed, or the bytes have been put to what
/// waits for something outside.
fn expected(phase: &mut SessionPhase, bytes: &[u8]) -> Option<xml::Phase> {
    match phase {
        SessionPhase::Closing => None,
        SessionPhase::Leaving(negotiation) => {
            negotiation.held.extend_from_slice(bytes);
            None
        }
        SessionPhase::Negotiating(negotiation) if negotiation.waiting => {
            negotiation.held.extend_from_slice(bytes);
            None
        }
        SessionPhase::Negotiating(negotiation) if !negotiation.header_seen => Some(xml::Phase::BeforeHeader),
        SessionPhase::Negotiating(_) | SessionPhase::Bound(_) => Some(xml::Phase::InStream),
    }
}

impl Core {
    /// Bytes from a client, as they came.
    pub(super) fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = self.seconds();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        self.env.shared.metrics[self.env.worker].bytes_in.add(bytes.len() as u64);
        session.heard = now;
        session.marks.pinged = false;
        self.fx.work.add(work::RECEIVE);
        self.fx.work.add_bytes(bytes.len());
        if self.env.shared.memory.pressure() >= Pressure::Short {
            self.refuse_unfinished(conn);
        }
        let Some(session) = self.sessions.get(conn) else { return };
        let is_websocket = session.transport == Transport::WebSocket;
        match session.tls.as_ref().map(|tls| tls.is_established()) {
            None if is_websocket => self.copied(conn, bytes),
            None => self.input(conn, bytes),
            Some(established) if established || self.admit_handshake(conn, bytes) => self.open(conn, bytes),
            Some(_) => {}
        }
    }

    /// Bytes of a TLS session.
    pub(super) fn open(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(Session { tls: Some(tls), marks, .. }) = self.sessions.get(conn) else { return };
        let bytes = match tls.is_fresh() && !marks.direct_tls {
            true => self.behind_starttls(conn, bytes),
            false => bytes,
        };
        let Some(Session { tls: Some(tls), .. }) = self.sessions.get_mut(conn) else { return };
        let established = tls.is_established();
        let mut plain = self.fx.buffers.lend();
        let wire = self.fx.out.wire(conn);
        let before = wire.len();
        let opened = tls.open(bytes, &mut plain, wire);
        if !established && wire.len() > before {
            self.fx.work.add_handshake();
        }
        match opened {
            Ok(progress) => {
                if progress.handshake_done_now {
                    self.handshake_done(conn);
                }
                if !plain.is_empty() {
                    self.opened(conn, &mut plain);
                }
                if progress.peer_closed {
                    self.tls_ended(conn);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "TLS ended a connection");
                self.env.metrics().tls_failures.add(1);
                // As a reset. Nothing of a broken record was believed, so it says nothing about the session.
                self.lost(conn);
                self.close(conn);
            }
        }
        self.fx.buffers.give_back(plain);
    }

    /// What TLS has opened.
    fn opened(&mut self, conn: ConnId, plain: &mut Vec<u8>) {
        match self.sessions.get(conn).map(|session| session.transport) {
            Some(Transport::WebSocket) => self.unframe(conn, plain),
            _ => self.input(conn, plain),
        }
    }

    /// The white space that clients in use send behind `<starttls/>` can come by itself, when TLS has begun here.
    fn behind_starttls<'b>(&mut self, conn: ConnId, bytes: &'b [u8]) -> &'b [u8] {
        let space = bytes.iter().take_while(|byte| is_white_space(**byte)).count();
        match space == 0 || self.admit_unauthenticated_bytes(conn, space) {
            true => &bytes[space..],
            false => &[],
        }
    }

    /// An unfinished stanza may not grow long while memory is short. The session can be resumed.
    fn refuse_unfinished(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(conn) else { return };
        if session.partial.as_ref().is_some_and(|partial| partial.bytes().len() > SHORT_BYTES) {
            self.env.metrics().refused_memory.add(1);
            let text = "the server is short of memory; try again later";
            self.end_stream_with(conn, true, |out| {
                out.error(StreamCondition::ResourceConstraint, Some(text));
            });
        }
    }

    /// The peer has ended TLS, or WebSocket, without a closed stream: an end like a FIN (XEP-0198 §5).
    pub(super) fn tls_ended(&mut self, conn: ConnId) {
        if !self.turns.end_later(conn, InputEnd::Tls) {
            self.close_frames(conn, Code::NORMAL);
            self.lost(conn);
            self.close(conn);
        }
    }

    fn handshake_done(&mut self, conn: ConnId) {
        let metrics = self.env.metrics();
        metrics.tls_handshakes.add(1);
        metrics.tls_sessions.add(1);
        if let Some(session) = self.sessions.get_mut(conn)
            && let Some(tls) = &mut session.tls
            && let SessionPhase::Negotiating(negotiation) = &mut session.phase
        {
            negotiation.bindings = tls.channel_bindings();
        }
    }

    /// Handles the frames in bytes of a client's stream, as far as the gate lets them through. Returns what is left
    /// of the bytes, and why. `until`: the work at which the connection's share of the turn is used up.
    pub(super) fn frames<'b>(
        &mut self,
        conn: ConnId,
        mut bytes: &'b [u8],
        until: u64,
    ) -> (&'b [u8], Option<Holds>) {
        while !bytes.is_empty() {
            let Some(session) = self.sessions.get(conn) else { break };
            if let SessionPhase::Bound(key) = session.phase
                && let Some(reason) = self.gate(conn, key, until)
            {
                return (bytes, Some(reason));
            }
            let (consumed, next) = self.frame(conn, bytes);
            match next {
                Next::Held => return (bytes, Some(Holds::WRITE)),
                Next::Over => break,
                _ => {}
            }
            bytes = &bytes[consumed..];
            self.fx.work.add_stanza(consumed);
            match next {
                Next::Continue | Next::Held | Next::Over => {}
                Next::Negotiated(step) => self.negotiated(conn, step, &mut bytes),
                Next::StreamClosed => {
                    // First: what its end leads to may not follow the close.
                    self.forget_resource(conn);
                    self.fx.out.stream(conn).end();
                    self.close(conn);
                }
                Next::Fail(end) => self.fail(conn, end),
                Next::TooHigh(too_high) => self.too_high(conn, too_high),
            }
            if self.fx.is_pending() {
                self.carry_out();
            }
        }
        (&[], None)
    }

    /// Reads a frame, or the beginning of one, and hands it to where the session is. Returns how many bytes it took.
    fn frame(&mut self, conn: ConnId, bytes: &[u8]) -> (usize, Next) {
        let Some(session) = self.sessions.get_mut(conn) else { return (0, Next::Over) };
        let Some(mut phase) = expected(&mut session.phase, bytes) else { return (0, Next::Over) };
        let (channel, transport, mut bytes) = (session.channel(), session.transport, bytes);
        if transport == Transport::WebSocket {
            match message::next(session, bytes) {
                Part::Element(piece) => (phase, bytes) = (xml::Phase::InStream, piece),
                Part::Read(count) => return (count, Next::Continue),
                Part::Bad(text) => {
                    return (bytes.len(), Next::Fail((StreamCondition::BadFormat, Some(text))));
                }
            }
        }
        let Session { phase: place, partial, context, marks, .. } = session;
        let namespaces = context.as_ref().and_then(|context| context.namespaces.as_deref());
        // What has come of the frame before: to be put back if it has to wait.
        let begun = partial.as_ref().map(|partial| partial.len());
        let (consumed, frame) = match self.framer.next(phase, namespaces, partial, bytes, &self.xml_limits) {
            Ok((consumed, Some(frame))) => (consumed, frame),
            Ok((consumed, None)) => return (consumed, Next::Continue),
            Err(error) => {
                self.env.shared.metrics[self.env.worker].refused_framing.add(1);
                return (bytes.len(), Next::Fail(framing_end(&error)));
            }
        };
        let frame = match transport {
            Transport::Tcp => frame,
            Transport::WebSocket => match message::framed(place, frame) {
                Ok(frame) => frame,
                Err(text) => return (bytes.len(), Next::Fail((StreamCondition::BadFormat, Some(text)))),
            },
        };
        let language = context.as_ref().and_then(|context| context.language.as_deref());
        let next = match place {
            SessionPhase::Bound(key) => {
                let length = if let Frame::Stanza(stanza) = &frame { stanza.bytes().len() } else { 0 };
                let place = || place_of(&self.actors.users, &self.env, *key, &frame);
                let parked = match self.actors.under_way.is_empty() {
                    true => None,
                    false => Parked::of(&self.actors, &self.env, (conn, *key), &frame),
                };
                if parked.is_some() || self.actors.writes.hold(conn, length, place) {
                    // It is read once more when it comes to its turn, and this once is paid for.
                    self.fx.work.add_bytes(length);
                    *partial = begun.map(|begun| self.framer.unread(begun));
                    parked.into_iter().for_each(|parked| self.park(parked));
                    return (0, Next::Held);
                }
                let next = bound_frame(&mut self.actors, &self.env, &mut self.fx, *key, language, &frame);
                self.actors.writes.add_bytes(conn, length);
                next
            }
            SessionPhase::Negotiating(negotiation) => {
                let at = negotiation_env(&self.env, &self.capabilities, channel);
                negotiation_frame(negotiation, &at, &frame, &mut self.fx.out.stream(conn))
            }
            SessionPhase::Leaving(_) | SessionPhase::Closing => Next::Continue,
        };
        marks.element_seen = transport == Transport::WebSocket;
        // A new header replaces what the old one said.
        if let Frame::StreamOpen(header) = frame {
            *context = unusual(header);
        }
        (consumed, next)
    }

    /// Counts what a client sends before it has authenticated, and ends the stream past the limit.
    pub(super) fn admit_unauthenticated_bytes(&mut self, conn: ConnId, length: usize) -> bool {
        let limit = self.env.config.limits.preauth_bytes;
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let (SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation)) =
            &mut session.phase
        else {
            return true;
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        negotiation.bytes_in = negotiation.bytes_in.saturating_add(length);
        if negotiation.bytes_in <= limit {
            return true;
        }
        self.env.metrics().refused_preauth_bytes.add(1);
        let text = "too many bytes before a resource was bound";
        self.end_stream(conn, StreamCondition::PolicyViolation, Some(text));
        false
    }
}

/// XML's white space. No record of TLS begins with it.
pub(super) fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn unusual(header: xml::StreamHeader) -> Option<Box<StreamContext>> {
    let language = header.language.filter(|language| !language.eq_ignore_ascii_case(SERVER_LANGUAGE));
    let namespaces = header.namespaces;
    (language.is_some() || namespaces.is_some()).then(|| Box::new(StreamContext { namespaces, language }))
}

fn framing_end(error: &FramingError) -> StreamEnd {
    let condition = match error.condition() {
        Condition::BadFormat => StreamCondition::BadFormat,
        Condition::BadNamespacePrefix => StreamCondition::BadNamespacePrefix,
        Condition::InvalidNamespace => StreamCondition::InvalidNamespace,
        Condition::NotWellFormed => StreamCondition::NotWellFormed,
        Condition::PolicyViolation => StreamCondition::PolicyViolation,
        Condition::RestrictedXml => StreamCondition::RestrictedXml,
        Condition::UnsupportedEncoding => StreamCondition::UnsupportedEncoding,
    };
    (condition, None)
}

fn negotiation_frame(
    negotiation: &mut Negotiation,
    at: &NegotiationEnv<'_>,
    frame: &Frame<'_>,
    out: &mut Output<'_>,
) -> Next {
    let stepped = match frame {
        Frame::StreamOpen(header) => negotiation.header(at, header, out).map(|()| NegotiationStep::Continue),
        Frame::Stanza(stanza) => negotiation.element(at, stanza, out),
        Frame::StreamClose => return Next::StreamClosed,
    };
    match stepped {
        Ok(NegotiationStep::Continue) => Next::Continue,
        Ok(step) => Next::Negotiated(step),
        Err(end) => Next::Fail(end),
    }
}

/// How a frame of a bound session stands to the writes under way that the session has begun.
fn place_of(users: &Users, env: &Env, key: ResourceKey, frame: &Frame<'_>) -> Place {
    match frame {
        // What is acknowledged and asked for here counts only what has come back.
        Frame::Stanza(stanza) if stanza.namespace() == ns::SM => Place::Anywhere,
        Frame::Stanza(stanza) => inbound::place_of(users, env, key, stanza),
        Frame::StreamClose | Frame::StreamOpen(_) => Place::Behind,
    }
}

fn bound_frame(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    language: Option<&str>,
    frame: &Frame<'_>,
) -> Next {
    match frame {
        Frame::Stanza(stanza) if stanza.namespace() == ns::CSI => client_state(actors, env, fx, key, stanza),
        Frame::Stanza(stanza) if stanza.namespace() == ns::SM => {
            match sm::handle(actors, env, fx, key, stanza) {
                SmOutcome::Done => Next::Continue,
                SmOutcome::TooHigh(too_high) => Next::TooHigh(too_high),
                SmOutcome::Unsupported => Next::Fail((StreamCondition::UnsupportedStanzaType, None)),
            }
        }
        Frame::Stanza(stanza) => match inbound::accept(actors, env, fx, key, language, stanza) {
            Ok(()) => Next::Continue,
            Err(end) => Next::Fail(end),
        },
        Frame::StreamClose => Next::StreamClosed,
        // The framer reports a header only where one is expected.
        Frame::StreamOpen(_) => Next::Fail((StreamCondition::BadFormat, None)),
    }
}

fn client_state(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    stanza: &Stanza<'_>,
) -> Next {
    match stanza.name() {
        "active" => {
            inactive::set(actors, env, fx, key, false);
            push::returned(actors, key);
        }
        "inactive" => inactive::set(actors, env, fx, key, true),
        _ => return Next::Fail((StreamCondition::UnsupportedStanzaType, None)),
    }
    Next::Continue
}
