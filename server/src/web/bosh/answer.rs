//! What a client is answered: `<body/>` with elements, or the end of its session.

use axum::body::Bytes;

use crate::proto::errors::StreamCondition;
use crate::proto::ns;
use crate::xml::{Element, writer};

/// Why a session ends (XEP-0124 §17.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The request is no XML, or not as the XEP wants it.
    BadRequest,
    /// The domain is not served here.
    HostUnknown,
    /// The domain is missing.
    ImproperAddressing,
    /// There is no way to a worker.
    InternalServerError,
    /// There is no such session, the request id is outside of its window, or the key is wrong.
    ItemNotFound,
    /// Another request that was under way has ended the session.
    OtherRequest,
    /// A client that polls does so too often (§12), or there are too many connections.
    PolicyViolation,
    /// The way to the worker is gone.
    RemoteConnectionFailed,
    /// The stream has ended with an error, which is the payload.
    RemoteStreamError,
    /// The client is to go on elsewhere.
    SeeOtherUri,
    /// The server stops.
    SystemShutdown,
    /// Something else.
    UndefinedCondition,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 12] = [
        Condition::BadRequest,
        Condition::HostUnknown,
        Condition::ImproperAddressing,
        Condition::InternalServerError,
        Condition::ItemNotFound,
        Condition::OtherRequest,
        Condition::PolicyViolation,
        Condition::RemoteConnectionFailed,
        Condition::RemoteStreamError,
        Condition::SeeOtherUri,
        Condition::SystemShutdown,
        Condition::UndefinedCondition,
    ];

    /// As it stands in `condition`.
    pub fn name(self) -> &'static str {
        match self {
            Condition::BadRequest => "bad-request",
            Condition::HostUnknown => "host-unknown",
            Condition::ImproperAddressing => "improper-addressing",
            Condition::InternalServerError => "internal-server-error",
            Condition::ItemNotFound => "item-not-found",
            Condition::OtherRequest => "other-request",
            Condition::PolicyViolation => "policy-violation",
            Condition::RemoteConnectionFailed => "remote-connection-failed",
            Condition::RemoteStreamError => "remote-stream-error",
            Condition::SeeOtherUri => "see-other-uri",
            Condition::SystemShutdown => "system-shutdown",
            Condition::UndefinedCondition => "undefined-condition",
        }
    }
}

/// The attributes of an answer, and its payload.
pub struct Answer(Vec<u8>);

impl Answer {
    /// Begins it.
    pub fn begin() -> Answer {
        Answer(format!("<body xmlns='{}'", ns::HTTP_BIND).into_bytes())
    }

    /// An attribute.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(format!(" {name}='").as_bytes());
        writer::escape_attribute(value, &mut self.0);
        self.0.push(b'\'');
    }

    /// A number.
    pub fn set_number(&mut self, name: &str, value: impl Into<u64>) {
        self.set(name, &value.into().to_string());
    }

    /// What XMPP says of its stream (XEP-0206 §3).
    pub fn extend_stream(&mut self) {
        self.0.extend_from_slice(
            format!(" xmlns:xmpp='{}' xmlns:stream='{}'", ns::XBOSH, ns::STREAMS).as_bytes(),
        );
        self.set("xmpp:version", "1.0");
        self.set("xmpp:restartlogic", "true");
    }

    /// Ends it, with elements that declare their namespaces.
    pub fn end<'a>(mut self, elements: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_none() {
            self.0.extend_from_slice(b"/>");
        } else {
            self.0.push(b'>');
            elements.for_each(|element| self.0.extend_from_slice(element));
            self.0.extend_from_slice(b"</body>");
        }
        self.0.into()
    }
}

/// The end of a session (§13, §17.2); without a condition it is the one that the client has asked for.
pub fn terminate<'a>(condition: Option<Condition>, elements: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut answer = Answer::begin();
    answer.set("type", "terminate");
    if let Some(condition) = condition {
        answer.set("condition", condition.name());
    }
    answer.end(elements)
}

/// The end of a session because the server stops. `elsewhere` is where clients are sent then, unless that is empty.
pub fn shutdown(elsewhere: &str) -> Bytes {
    if elsewhere.is_empty() {
        return terminate(Some(Condition::SystemShutdown), []);
    }
    let mut uri = b"<uri>".to_vec();
    writer::escape_text(elsewhere, &mut uri);
    uri.extend_from_slice(b"</uri>");
    terminate(Some(Condition::SeeOtherUri), [&uri[..]])
}

/// The end of a session whose stream has ended: with an error, or as the client wanted it. `elsewhere` is where clients are
/// sent when the server stops, unless that is empty.
pub fn ended(error: Option<&[u8]>, elsewhere: &str) -> Bytes {
    let Some(error) = error else { return terminate(None, []) };
    let parsed = Element::parse(error).ok();
    let is = |condition: StreamCondition| {
        parsed.as_ref().is_some_and(|parsed| parsed.find(condition.name(), ns::STREAM_ERRORS).is_some())
    };
    if is(StreamCondition::HostUnknown) {
        return terminate(Some(Condition::HostUnknown), []);
    }
    if is(StreamCondition::ImproperAddressing) {
        return terminate(Some(Condition::ImproperAddressing), []);
    }
    match is(StreamCondition::SystemShutdown) {
        true => shutdown(elsewhere),
        false => terminate(Some(Condition::RemoteStreamError), [error]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(bytes: &Bytes) -> Element {
        Element::parse(bytes).expect("an element")
    }

    #[test]
    fn the_end_of_a_stream_has_its_condition() {
        let error = |condition: &str| {
            format!(
                "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><{condition} \
                 xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
            )
        };
        let table = [
            ("host-unknown", "", "host-unknown"),
            ("improper-addressing", "", "improper-addressing"),
            ("system-shutdown", "", "system-shutdown"),
            ("system-shutdown", "https://b.example/?a&b", "see-other-uri"),
            ("conflict", "https://b.example/", "remote-stream-error"),
        ];
        for (stream, elsewhere, condition) in table {
            let body = element(&ended(Some(error(stream).as_bytes()), elsewhere));
            assert_eq!(body.attribute("type"), Some("terminate"));
            assert_eq!(body.attribute("condition"), Some(condition), "{stream}");
            let uri = body.find("uri", "http://jabber.org/protocol/httpbind").map(|uri| uri.content());
            assert_eq!(uri.as_deref(), (condition == "see-other-uri").then_some(elsewhere));
            let has_error = body.find("error", "http://etherx.jabber.org/streams").is_some();
            assert_eq!(has_error, condition == "remote-stream-error");
        }
        assert_eq!(element(&ended(None, "")).attribute("condition"), None);
    }

    #[test]
    fn each_condition_has_the_name_that_the_xep_gives_it() {
        let names: Vec<_> = Condition::ALL.into_iter().map(Condition::name).collect();
        // XEP-0124, table 4.
        let table = "bad-request host-unknown improper-addressing internal-server-error item-not-found other-request \
                     policy-violation remote-connection-failed remote-stream-error see-other-uri system-shutdown \
                     undefined-condition";
        assert_eq!(names.join(" "), table);
    }
}
