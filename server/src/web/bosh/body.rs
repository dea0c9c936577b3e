//! The body of a request: `<body/>` (XEP-0124 §7 to §16, XEP-0206), checked completely, with its payload as a worker reads it.
//!
//! An element of the payload stands alone from here on, so prefixes that only the wrapper declares are declared on it. An
//! element without a namespace of its own is taken to be in `jabber:client`, as older clients mean it.

use crate::proto::ns;
use crate::xml::{Frame, Framer, Limits, Phase, STREAM_DECLARATIONS_MAX, Stanza, StreamNamespaces};

use super::link;

/// The largest request id (XEP-0124 §14.1).
pub const RID_MAX: u64 = (1 << 53) - 1;

/// Characters of a key: a SHA-1 in hexadecimal digits (§15.1).
pub const KEY_CHARACTERS: usize = 40;

/// What a payload may grow by when prefixes are declared on its elements: to so many times the whole request.
const GROWTH_MAX: usize = 2;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub rid: u64,
    /// The session; `None`: it asks for one.
    pub sid: Option<Box<str>>,
    /// The next key of the sequence (§15.3).
    pub key: Option<Box<str>>,
    /// The first key of a new sequence (§15.5).
    pub newkey: Option<Box<str>>,
    /// The answers up to this one have arrived (§9.2).
    pub ack: Option<u64>,
    /// The client will be away for so many seconds (§10).
    pub pause: Option<u32>,
    /// The session is to end (§13).
    pub terminates: bool,
    /// The stream begins anew (XEP-0206 §5).
    pub restarts: bool,
    /// What only the first request of a session says.
    pub start: Start,
    /// Its elements, each as a frame for a worker.
    pub payload: Vec<u8>,
}

/// What a client wants of a session (§7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The domain.
    pub to: Option<Box<str>>,
    /// Who it claims to be.
    pub from: Option<Box<str>>,
    /// The default language.
    pub language: Option<Box<str>>,
    /// The version of XMPP.
    pub version: Option<Box<str>>,
    /// The version of BOSH: major and minor.
    pub ver: Option<(u32, u32)>,
    /// Seconds that an answer may take.
    pub wait: Option<u32>,
    /// Requests that may wait for an answer.
    pub hold: Option<u32>,
    /// It wants to know that the way behind this server is protected.
    pub secure: bool,
    /// It will acknowledge answers (§9.2).
    pub acks: bool,
}

/// How large a request may be in its parts.
#[derive(Copy, Clone, Debug)]
pub struct Bounds {
    /// Depth of an element of the payload.
    pub depth_max: u16,
}

/// Why a request is none (`bad-request`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(pub &'static str);

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not well-formed, or not as XEP-0124 wants it.
    pub fn read(text: &[u8], bounds: Bounds) -> Result<Request, Bad> {
        let text = behind_declaration(text.trim_ascii())?;
        let limits = Limits {
            stanza_bytes_max: text.len(),
            depth_max: bounds.depth_max.saturating_add(1),
            ..Limits::default()
        };
        let (mut framer, mut partial) = (Framer::new(), None);
        let read = framer.next(Phase::InStream, None, &mut partial, text, &limits);
        let (used, frame) = read.map_err(|_| Bad("the body is not XML as XMPP has it"))?;
        let Some(Frame::Stanza(wrapper)) = frame else { return Err(Bad("the body is not a whole element")) };
        if used != text.len() {
            return Err(Bad("something follows the element"));
        }
        if !wrapper.is("body", ns::HTTP_BIND) {
            return Err(Bad("the element is not the <body/> of BOSH"));
        }
        let mut request = attributes(&wrapper)?;
        request.payload = payload(&wrapper, &limits, text.len().saturating_mul(GROWTH_MAX))?;
        Ok(request)
    }

    /// Whether it brings nothing and asks for nothing but an answer (§12).
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty() && !self.terminates && !self.restarts && self.pause.is_none()
    }
}

fn behind_declaration(text: &[u8]) -> Result<&[u8], Bad> {
    if !text.starts_with(b"<?") {
        return Ok(text);
    }
    let end = memchr::memmem::find(text, b"?>").ok_or(Bad("the XML declaration does not end"))?;
    Ok(text[end + 2..].trim_ascii_start())
}

fn attributes(wrapper: &Stanza<'_>) -> Result<Request, Bad> {
    let owned = |name: &str| wrapper.attribute(name).map(|value| Box::from(&*value));
    let number = |name: &'static str| match wrapper.attribute(name) {
        None => Ok(None),
        Some(text) => digits(&text).and_then(|number| u32::try_from(number).ok()).map(Some).ok_or(Bad(name)),
    };
    let rid = wrapper.attribute("rid").ok_or(Bad("there is no rid"))?;
    let rid = digits(&rid).filter(|rid| (1..=RID_MAX).contains(rid)).ok_or(Bad("rid"))?;
    let ack = match wrapper.attribute("ack") {
        None => None,
        Some(text) => Some(digits(&text).ok_or(Bad("ack"))?),
    };
    let start = Start {
        to: owned("to"),
        from: owned("from"),
        language: wrapper.lang().map(|value| Box::from(&*value)),
        version: extended(wrapper, "version").map(Box::from),
        ver: wrapper.attribute("ver").map(|text| version(&text).ok_or(Bad("ver"))).transpose()?,
        wait: number("wait")?,
        hold: number("hold")?,
        secure: wrapper.attribute("secure").is_some_and(|text| is_true(&text)),
        acks: ack == Some(1),
    };
    Ok(Request {
        rid,
        sid: owned("sid"),
        key: key(wrapper, "key")?,
        newkey: key(wrapper, "newkey")?,
        ack,
        pause: number("pause")?,
        terminates: wrapper.attribute("type").is_some_and(|text| text == "terminate"),
        restarts: extended(wrapper, "restart").is_some_and(is_true),
        start,
        payload: Vec::new(),
    })
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1")
}

/// A number in decimal digits.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let part = |text| digits(text).and_then(|number| u32::try_from(number).ok());
    Some((part(major)?, part(minor)?))
}

fn key(wrapper: &Stanza<'_>, name: &'static str) -> Result<Option<Box<str>>, Bad> {
    let Some(text) = wrapper.attribute(name) else { return Ok(None) };
    let is_hash = text.len() == KEY_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| Some(text.to_ascii_lowercase().into())).ok_or(Bad(name))
}

/// An attribute that XEP-0206 adds, whatever its prefix.
fn extended<'a>(wrapper: &Stanza<'a>, name: &str) -> Option<&'a str> {
    let prefixes = wrapper
        .raw_attributes()
        .filter(|(_, uri, _)| *uri == ns::XBOSH)
        .filter_map(|(attribute, ..)| attribute.strip_prefix("xmlns:"));
    let mut values = prefixes.filter_map(|prefix| {
        let is_it = |attribute: &str| {
            attribute.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')) == Some(name)
        };
        wrapper.raw_attributes().find(|(attribute, ..)| is_it(attribute)).map(|(_, value, _)| value)
    });
    values.next()
}

/// The elements as frames.
fn payload(wrapper: &Stanza<'_>, limits: &Limits, bytes_max: usize) -> Result<Vec<u8>, Bad> {
    if wrapper.children().len() == 0 {
        return Ok(Vec::new());
    }
    let outside = declared(wrapper)?;
    let (mut framer, mut frames, mut alone) = (Framer::new(), Vec::new(), Vec::new());
    for child in wrapper.children() {
        let mut partial = None;
        let read = framer.next(Phase::InStream, Some(&outside), &mut partial, child.bytes(), limits);
        let Ok((_, Some(Frame::Stanza(element)))) = read else {
            return Err(Bad("an element of the payload cannot stand in a stream"));
        };
        alone.clear();
        element.write_alone(&mut alone);
        link::write(&alone, &mut frames);
        if frames.len() > bytes_max.saturating_add(link::HEAD_BYTES_MAX) {
            return Err(Bad("prefixes are declared for too many elements"));
        }
    }
    Ok(frames)
}

/// The prefixes that the wrapper declares.
fn declared(wrapper: &Stanza<'_>) -> Result<StreamNamespaces, Bad> {
    let mut outside = StreamNamespaces::default();
    let declarations = wrapper
        .raw_attributes()
        .filter_map(|(name, ..)| name.strip_prefix("xmlns:"))
        // A stream has these.
        .filter(|prefix| !matches!(*prefix, "stream" | "xml"));
    for prefix in declarations {
        if outside.iter().count() >= STREAM_DECLARATIONS_MAX {
            return Err(Bad("the wrapper declares too many prefixes"));
        }
        let name = format!("xmlns:{prefix}");
        let raw = wrapper.raw_attributes().find(|(attribute, ..)| *attribute == name);
        let uri = raw.map(|(_, value, _)| value).unwrap_or_default();
        if uri.contains('&') {
            return Err(Bad("the name of a namespace has references"));
        }
        outside.push(prefix, uri);
    }
    Ok(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { depth_max: 10 };

    fn read(text: &str) -> Result<Request, Bad> {
        Request::read(text.as_bytes(), BOUNDS)
    }

    /// The elements of a payload.
    fn elements(request: &Request) -> Vec<String> {
        let mut frames = &request.payload[..];
        let mut elements = Vec::new();
        while let [0x81, length, rest @ ..] = frames {
            assert_ne!(length & 0x80, 0, "clients mask");
            let (length, rest) = match length & 0x7F {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                length => (usize::from(length), rest),
            };
            assert_eq!(rest[..4], [0; 4]);
            elements.push(String::from_utf8(rest[4..4 + length].to_vec()).unwrap());
            frames = &rest[4 + length..];
        }
        elements
    }

    /// Example 1 of XEP-0124 with what XEP-0206 adds.
    #[test]
    fn the_first_request_of_a_session_is_read() {
        let request = read(
            "<?xml version='1.0'?>\n<body content='text/xml; charset=utf-8' from='user@example.com' hold='1' \
             rid='1573741820' to='example.com' ver='1.6' wait='60' ack='1' xml:lang='en' xmpp:version='1.0' \
             xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'/>\n",
        )
        .unwrap();
        let start = Start {
            to: Some("example.com".into()),
            from: Some("user@example.com".into()),
            language: Some("en".into()),
            version: Some("1.0".into()),
            ver: Some((1, 6)),
            wait: Some(60),
            hold: Some(1),
            secure: false,
            acks: true,
        };
        let expected = Request { rid: 1_573_741_820, ack: Some(1), start, ..Request::default() };
        assert_eq!(request, expected);
        assert!(request.is_empty());
    }

    #[test]
    fn elements_stand_alone() {
        let request = read(
            "<body rid='1' sid='s' xmlns='http://jabber.org/protocol/httpbind' xmlns:x='urn:x' xmlns:y='urn:y'>\n \
             <message xmlns='jabber:client' to='a@b'><x:z/></message> <presence/><y:w xmlns:y='urn:other'/></body>",
        )
        .unwrap();
        assert_eq!(
            elements(&request),
            [
                "<message xmlns:x=\"urn:x\" xmlns='jabber:client' to='a@b'><x:z/></message>",
                "<presence/>",
                "<y:w xmlns:y='urn:other'/>",
            ]
        );
    }

    #[test]
    fn what_a_later_request_says_is_read() {
        let key = "A".repeat(40);
        let text = |more: &str| {
            format!(
                "<body rid='2' sid='s' {more} xmlns='http://jabber.org/protocol/httpbind' xmlns:b='urn:xmpp:xbosh'/>"
            )
        };
        assert!(read(&text("b:restart='true'")).unwrap().restarts);
        assert!(!read(&text("restart='true'")).unwrap().restarts, "it is in no namespace");
        assert!(read(&text("type='terminate'")).unwrap().terminates);
        assert_eq!(read(&text("pause='60'")).unwrap().pause, Some(60));
        assert_eq!(read(&text(&format!("key='{key}'"))).unwrap().key.as_deref(), Some(&*"a".repeat(40)));
        assert!(read(&text("")).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let xmlns = "xmlns='http://jabber.org/protocol/httpbind'";
        let many: String = (0..40).map(|n| format!(" xmlns:p{n}='urn:{n}'")).collect();
        let uri = "u".repeat(400);
        let used = "<p:a/>".repeat(300);
        let table = [
            String::new(),
            "nonsense".into(),
            "<body".into(),
            "<?xml".into(),
            "<body rid='1'/>".into(),
            format!("<boy rid='1' {xmlns}/>"),
            format!("<body {xmlns}/>"),
            format!("<body rid='0' {xmlns}/>"),
            format!("<body rid='-1' {xmlns}/>"),
            format!("<body rid='9007199254740992' {xmlns}/>"),
            format!("<body rid='1' wait='x' {xmlns}/>"),
            format!("<body rid='1' hold='4294967296' {xmlns}/>"),
            format!("<body rid='1' ver='1' {xmlns}/>"),
            format!("<body rid='1' key='abc' {xmlns}/>"),
            format!("<body rid='1' {xmlns}/><body rid='2' {xmlns}/>"),
            format!("<body rid='1' {xmlns}><a></b></body>"),
            format!("<body rid='1' {xmlns} xmlns:c='jabber:client'><c:message/></body>"),
            format!("<body rid='1' {xmlns}{many}><a/></body>"),
            format!("<body rid='1' {xmlns} xmlns:p='{uri}'>{used}</body>"),
            format!("<body rid='1' {xmlns}>{}{}</body>", "<a>".repeat(11), "</a>".repeat(11)),
        ];
        for text in table {
            assert!(read(&text).is_err(), "{text}");
        }
        assert!(read(&format!("<body rid='9007199254740991' {xmlns}/>")).is_ok());
    }
}
