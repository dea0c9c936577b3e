//! The beginning of a stream: the XML declaration and the stream header (RFC 6120 §4.7, §4.8, §11.4 to §11.6).

use super::chars::{SPACE, skip};
use super::error::{FramingError, Problem};
use super::framer::Phase;
use super::namespace::{self, CLIENT, STREAMS, StreamNamespaces};
use super::tokenizer::{AttributeKind, Context, QName, Scan};

/// The longest XML declaration accepted, in bytes.
const DECLARATION_BYTES_MAX: usize = 128;

/// What `<stream:stream …>` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamHeader {
    /// The domain the client wants to talk to.
    pub to: Option<Box<str>>,
    /// Who the client claims to be.
    pub from: Option<Box<str>>,
    /// The version of XMPP; absent before 1.0.
    pub version: Option<Box<str>>,
    /// The default language of the stream (`xml:lang`).
    pub language: Option<Box<str>>,
    /// Prefixes declared beyond `stream`: to be kept with the session and passed to [`super::Framer::next`].
    /// `None` in the usual case.
    pub namespaces: Option<Box<StreamNamespaces>>,
}

impl StreamHeader {
    /// The version as major and minor number, `(0, 9)` if absent (RFC 6120 §4.7.5). `None` if malformed.
    #[must_use]
    pub fn version_numbers(&self) -> Option<(u16, u16)> {
        let Some(version) = &self.version else { return Some((0, 9)) };
        let (major, minor) = version.split_once('.')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        Some((number(major)?, number(minor)?))
    }
}

/// Why `first` may not stand where markup is expected.
pub(super) fn problem_before_markup(phase: Phase, first: u8) -> Problem {
    match (phase, first) {
        // Byte order marks of UTF-16.
        (Phase::BeforeHeader, 0xFE | 0xFF) => Problem::Encoding,
        (Phase::BeforeHeader, _) => Problem::UnexpectedByte(first),
        (Phase::InStream, 0..0x20) => Problem::ForbiddenCharacter,
        (Phase::InStream, _) => Problem::TextBetweenStanzas,
    }
}

/// Reads on in the prolog and header. `Some` with the position after it once it is complete.
pub(super) fn scan(
    scan: &mut Scan,
    prolog: &mut usize,
    context: &Context<'_>,
    frame: &[u8],
) -> Result<Option<(StreamHeader, usize)>, FramingError> {
    if *prolog == 0 {
        if frame.get(1) == Some(&b'?') {
            match declaration(frame)? {
                Some(end) => *prolog = end,
                None => return Ok(None),
            }
        } else if frame.len() < 2 {
            return Ok(None);
        }
    }
    let shift = |mut error: FramingError, start: usize| {
        error.offset += start;
        error
    };
    // White space after the declaration is walked once: the prolog grows over it.
    *prolog = skip(frame, *prolog, SPACE);
    let rest = &frame[*prolog..];
    match rest {
        [] | [b'<'] => return Ok(None),
        [b'<', b'!' | b'?', ..] => return Err(FramingError::new(Problem::Restricted, *prolog)),
        [b'<', b'/', ..] => return Err(FramingError::new(Problem::UnexpectedEndTag, *prolog)),
        [b'<', ..] => {}
        [b, ..] => return Err(FramingError::new(Problem::UnexpectedByte(*b), *prolog)),
    }
    let Some((end, open)) = scan.header(rest, context).map_err(|error| shift(error, *prolog))? else {
        return Ok(None);
    };
    let header = read(scan, rest, open).map_err(|error| shift(error, *prolog))?;
    Ok(Some((header, *prolog + end)))
}

/// The XML declaration at the beginning of the frame: where it ends. `None`: incomplete.
fn declaration(frame: &[u8]) -> Result<Option<usize>, FramingError> {
    const START: &[u8] = b"<?xml";
    let have = &frame[..frame.len().min(START.len())];
    if !START.starts_with(have) {
        return Err(FramingError::new(Problem::Restricted, 0));
    }
    let Some(&after) = frame.get(START.len()) else { return Ok(None) };
    if !matches!(after, b' ' | b'\t' | b'\n' | b'\r') {
        return Err(FramingError::new(Problem::Restricted, 0));
    }
    let window = &frame[..frame.len().min(DECLARATION_BYTES_MAX)];
    let bad = FramingError::new(Problem::BadXmlDeclaration, 0);
    let Some(close) = window.windows(2).position(|pair| pair == b"?>") else {
        return if window.len() == DECLARATION_BYTES_MAX { Err(bad) } else { Ok(None) };
    };
    let body = std::str::from_utf8(&window[START.len()..close]).map_err(|_| bad)?;
    let mut rest = body;
    let version = pseudo_attribute(&mut rest, "version").ok_or(bad)?;
    if version != "1.0" {
        return Err(bad);
    }
    if let Some(encoding) = pseudo_attribute(&mut rest, "encoding") {
        let mut letters = encoding.bytes();
        let name = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !name {
            return Err(bad);
        }
        if !encoding.eq_ignore_ascii_case("utf-8") {
            return Err(FramingError::new(Problem::Encoding, 0));
        }
    }
    if let Some(standalone) = pseudo_attribute(&mut rest, "standalone")
        && !matches!(standalone, "yes" | "no")
    {
        return Err(bad);
    }
    if rest.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
        Ok(Some(close + 2))
    } else {
        Err(bad)
    }
}

/// ` name = "value"` at the beginning of `rest`, which moves behind it.
fn pseudo_attribute<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let trimmed = rest.trim_start_matches(space);
    if trimmed.len() == rest.len() {
        return None;
    }
    let value = trimmed.strip_prefix(name)?.trim_start_matches(space).strip_prefix('=')?;
    let value = value.trim_start_matches(space);
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, after) = value[1..].split_once(quote)?;
    *rest = after;
    Some(value)
}

/// What the start tag in `scan` says as a stream header.
fn read(scan: &Scan, frame: &[u8], open: bool) -> Result<StreamHeader, FramingError> {
    let bad = |problem| Err(FramingError::new(problem, 0));
    let Some(root) = scan.root else { return bad(Problem::NotAStream) };
    let sources = scan.sources(frame, None);
    if sources.bytes(root.namespace) != STREAMS.as_bytes() {
        return bad(Problem::StreamNamespace);
    }
    if root.name.prefix(frame) != b"stream" {
        return bad(Problem::StreamPrefix);
    }
    if root.name.local(frame) != b"stream" || !open {
        return bad(Problem::NotAStream);
    }
    let mut header = StreamHeader::default();
    let mut declared = StreamNamespaces::default();
    let mut content_ok = false;
    for attribute in scan.tag_attributes() {
        let value = namespace::attribute_value(namespace::text(attribute.value(frame)));
        let local = attribute.name.local(frame);
        match attribute.kind {
            AttributeKind::Default => content_ok = value == CLIENT,
            AttributeKind::Declaration => {
                let other = local != b"stream" && local != b"xml";
                if other && value == STREAMS {
                    return bad(Problem::StreamPrefix);
                }
                if other {
                    if declared.iter().count() >= namespace::STREAM_DECLARATIONS_MAX {
                        return bad(Problem::TooManyDeclarations);
                    }
                    declared.push(namespace::text(local), &value);
                }
            }
            AttributeKind::Plain => {
                let place = match local {
                    b"to" => &mut header.to,
                    b"from" => &mut header.from,
                    b"version" => &mut header.version,
                    _ => continue,
                };
                *place = Some(value.into());
            }
            AttributeKind::Prefixed => {
                if attribute.name.bytes(frame) == b"xml:lang" {
                    header.language = Some(value.into());
                }
            }
        }
    }
    if !content_ok {
        return bad(Problem::ContentNamespace);
    }
    if !declared.is_empty() {
        header.namespaces = Some(Box::new(declared));
    }
    Ok(header)
}

/// Prefixes of first-level elements (RFC 6120 §4.8.5): none in `jabber:client`, `stream` in the one of streams.
pub(super) fn check_first_level(name: QName, frame: &[u8], namespace: &[u8]) -> Result<(), FramingError> {
    if namespace == STREAMS.as_bytes() && name.prefix(frame) != b"stream" {
        return Err(FramingError::new(Problem::StreamPrefix, 0));
    }
    if namespace == CLIENT.as_bytes() && name.has_prefix() {
        return Err(FramingError::new(Problem::StanzaPrefix, 0));
    }
    Ok(())
}
