//! Namespaces in XML: what a prefix stands for, and what the stream header declared for every stanza.

use std::borrow::Cow;

use super::chars;

/// The namespace of the stream's content between client and server.
pub const CLIENT: &str = "jabber:client";
/// The namespace of `<stream:stream>`, `<stream:features>` and `<stream:error>`.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// What the prefix `xml` always means.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// What the prefix `xmlns` always means.
pub(super) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The most prefixes a stream header may declare beyond `stream`.
pub const STREAM_DECLARATIONS_MAX: usize = 32;

/// The most prefixes that may be declared at one place of a stanza, by the elements around it. What a prefix stands for is
/// looked up for each name that has one.
pub const PREFIXES_MAX: usize = 256;

/// As [`PREFIXES_MAX`], of what becomes a tree: written anew it may need a prefix for each namespace, those of the stream
/// header included.
pub(super) const TREE_PREFIXES_MAX: usize = 2 * PREFIXES_MAX;
const _: () = assert!(STREAM_DECLARATIONS_MAX < PREFIXES_MAX);

/// The longest name of a namespace, in bytes after its references are decoded. A tree repeats the name on every element and attribute in it, so that
/// without this limit a stanza of many small elements in one huge namespace would cost thousands of times its size.
pub const NAMESPACE_BYTES_MAX: usize = 512;

/// Prefixes that a stream header declared beyond the usual two namespaces; they hold inside every stanza.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamNamespaces {
    /// Prefix and namespace.
    declared: Vec<(Box<str>, Box<str>)>,
}

impl StreamNamespaces {
    /// The declarations, prefix and namespace, in the order of the header.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.declared.iter().map(|(prefix, uri)| (&**prefix, &**uri))
    }

    /// Adds a declaration.
    pub fn push(&mut self, prefix: &str, uri: &str) {
        self.declared.push((prefix.into(), uri.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    pub(super) fn get(&self, index: u32) -> Option<(&str, &str)> {
        self.declared.get(index as usize).map(|(prefix, uri)| (&**prefix, &**uri))
    }

    pub(super) fn find(&self, prefix: &[u8]) -> Option<u32> {
        let at = self.declared.iter().position(|(declared, _)| declared.as_bytes() == prefix)?;
        u32::try_from(at).ok()
    }
}

/// Where the name of a namespace is kept.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Uri {
    /// No namespace.
    #[default]
    None,
    Client,
    Streams,
    Xml,
    /// Verbatim in the frame.
    Frame {
        start: u32,
        end: u32,
    },
    /// Had references or white space to normalise: in the scan's `decoded`.
    Decoded {
        start: u32,
        end: u32,
    },
    /// Declared by the stream header.
    Inherited(u32),
}

/// The places a [`Uri`] points into.
#[derive(Copy, Clone, Debug)]
pub(super) struct Sources<'a> {
    pub(super) frame: &'a [u8],
    pub(super) decoded: &'a [u8],
    pub(super) inherited: Option<&'a StreamNamespaces>,
}

impl<'a> Sources<'a> {
    #[inline]
    pub(super) fn bytes(&self, uri: Uri) -> &'a [u8] {
        match uri {
            Uri::None => b"",
            Uri::Client => CLIENT.as_bytes(),
            Uri::Streams => STREAMS.as_bytes(),
            Uri::Xml => XML.as_bytes(),
            Uri::Frame { start, end } => &self.frame[start as usize..end as usize],
            Uri::Decoded { start, end } => &self.decoded[start as usize..end as usize],
            Uri::Inherited(index) => {
                self.inherited.and_then(|declared| declared.get(index)).map_or(b"", |(_, uri)| uri.as_bytes())
            }
        }
    }

    pub(super) fn str(&self, uri: Uri) -> &'a str {
        match uri {
            // The namespace of nearly everything.
            Uri::Client => CLIENT,
            _ => text(self.bytes(uri)),
        }
    }
}

/// Bytes that framing has validated, as text. Names and namespaces are mostly short ASCII, for which this is one look;
/// everything else is checked as a whole.
#[inline]
#[expect(unsafe_code, reason = "the path of a message reads each name of a namespace")]
pub(super) fn text(validated: &[u8]) -> &str {
    if validated.len() <= SHORT_BYTES && is_ascii(validated) {
        // SAFETY: bytes below 0x80 are ASCII, and so UTF-8.
        return unsafe { std::str::from_utf8_unchecked(validated) };
    }
    std::str::from_utf8(validated).expect("framing accepted these bytes as UTF-8")
}

/// Up to this length it is quicker than the library's check.
const SHORT_BYTES: usize = 48;

/// Whether all bytes are ASCII. Looks at eight or four at once; the last of them may have been looked at already.
#[inline]
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        return words.iter().chain([last]).all(|word| u64::from_ne_bytes(*word) & TOPS == 0);
    }
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & TOPS as u32 == 0
        }
        _ => bytes.iter().all(u8::is_ascii),
    }
}

/// The value of an attribute as XML 1.0 §3.3.3 normalises it: references decoded, white space made spaces.
pub(super) fn attribute_value(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().any(|b| matches!(b, b'&' | b'\t' | b'\n' | b'\r')) {
        return Cow::Borrowed(raw);
    }
    decode(raw, true)
}

/// Text as the reader of the document sees it: references decoded, line ends made `\n` (XML 1.0 §2.11).
pub(super) fn text_value(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().any(|b| matches!(b, b'&' | b'\r')) {
        return Cow::Borrowed(raw);
    }
    decode(raw, false)
}

/// The content of a CDATA section: line ends made `\n`, nothing else.
pub(super) fn cdata_value(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\r') {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(raw.replace("\r\n", "\n").replace('\r', "\n"))
}

fn decode(raw: &str, attribute: bool) -> Cow<'_, str> {
    let mut out = String::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    let mut run = 0;
    let mut pos = 0;
    while let Some(&b) = bytes.get(pos) {
        match b {
            b'&' => {
                out.push_str(&raw[run..pos]);
                match chars::reference(bytes, pos) {
                    Ok(Some((c, end))) => {
                        out.push(c);
                        pos = end;
                    }
                    // Cannot be: the run was validated. Kept verbatim rather than lost.
                    _ => {
                        out.push('&');
                        pos += 1;
                    }
                }
                run = pos;
            }
            b'\r' => {
                out.push_str(&raw[run..pos]);
                out.push(if attribute { ' ' } else { '\n' });
                pos += if bytes.get(pos + 1) == Some(&b'\n') { 2 } else { 1 };
                run = pos;
            }
            b'\t' | b'\n' if attribute => {
                out.push_str(&raw[run..pos]);
                out.push(' ');
                pos += 1;
                run = pos;
            }
            _ => pos += 1,
        }
    }
    out.push_str(&raw[run..]);
    Cow::Owned(out)
}
