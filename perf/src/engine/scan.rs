//! Finds the items of a server's XML stream: header, first-level elements, end.
//!
//! The generator reads what a server sends to count it and to time it, not to judge it, so this scanner checks only
//! what it needs to find where an element ends. It is restartable: an unfinished item is looked at again from its
//! beginning when more bytes have come.

use memchr::{memchr, memchr3, memmem};

/// Bytes of one element at most; a server that sends more is given up on.
pub(crate) const ITEM_BYTES_MAX: usize = 1024 * 1024;

/// What a stream is made of (RFC 6120 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// The start tag of the stream; of it only the attributes are there.
    Header(Element<'a>),
    /// A first-level element, whole.
    Element(Element<'a>),
    /// The end tag of the stream.
    End,
}

/// Bytes that are no XML stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotXml;

/// The first item of `bytes` and the number of bytes up to its end; `None` until it is whole.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, NotXml> {
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let rest = &bytes[at..];
        match rest {
            [] | [b'<'] => return Ok(None),
            [b'<', b'?', ..] => match memmem::find(rest, b"?>") {
                Some(end) => at += end + 2,
                None => return Ok(None),
            },
            [b'<', b'/', ..] => {
                return Ok(memchr(b'>', rest).map(|end| (Item::End, at + end + 1)));
            }
            [b'<', ..] => {
                let Some(end) = tag_end(rest) else { return Ok(None) };
                let name = name(rest);
                if name == b"stream" {
                    return Ok(Some((Item::Header(Element { raw: &rest[..end] }), at + end)));
                }
                return Ok(element_end(rest, end).map(|end| {
                    let raw = &rest[..end];
                    (Item::Element(Element { raw }), at + end)
                }));
            }
            _ => return Err(NotXml),
        }
    }
}

/// One byte past the `>` of the tag at the start of `bytes`; quoted values may hold a `>`.
fn tag_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = at + memchr3(b'>', b'\'', b'"', &bytes[at..])?;
        match bytes[found] {
            b'>' => return Some(found + 1),
            quote => at = found + 1 + memchr(quote, &bytes[found + 1..])? + 1,
        }
    }
}

/// One byte past the end of the element whose start tag ends at `at`.
fn element_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes[at - 2] == b'/' {
        return Some(at);
    }
    let mut depth = 1_u32;
    loop {
        at += memchr(b'<', &bytes[at..])?;
        let rest = &bytes[at..];
        if rest.starts_with(b"<![CDATA[") {
            at += memmem::find(rest, b"]]>")? + 3;
            continue;
        }
        let end = tag_end(rest)?;
        if rest[1] == b'/' {
            depth -= 1;
            if depth == 0 {
                return Some(at + end);
            }
        } else if rest[end - 2] != b'/' {
            depth += 1;
        }
        at += end;
    }
}

/// The local name of the tag at the start of `bytes`.
fn name(bytes: &[u8]) -> &[u8] {
    let inside = &bytes[1..];
    let end = inside
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
        .unwrap_or(inside.len());
    let qualified = &inside[..end];
    match memchr(b':', qualified) {
        Some(colon) => &qualified[colon + 1..],
        None => qualified,
    }
}

/// A whole first-level element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    raw: &'a [u8],
}

impl<'a> Element<'a> {
    /// All of it, as written.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The name without its prefix.
    pub(crate) fn name(&self) -> &'a [u8] {
        name(self.raw)
    }

    /// The value of an attribute of the element itself, as written.
    pub(crate) fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        let tag = &self.raw[..tag_end(self.raw)?];
        let mut at = 1;
        loop {
            let equals = at + memchr(b'=', &tag[at..])?;
            let open = equals + 1 + tag[equals + 1..].iter().position(|byte| matches!(byte, b'\'' | b'"'))?;
            let close = open + 1 + memchr(tag[open], &tag[open + 1..])?;
            let before = tag[..equals].trim_ascii_end();
            let start = before.iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1);
            if &before[start..] == name {
                return Some(&tag[open + 1..close]);
            }
            at = close + 1;
        }
    }

    /// Whether these bytes occur anywhere in it.
    pub(crate) fn contains(&self, bytes: &[u8]) -> bool {
        memmem::find(self.raw, bytes).is_some()
    }

    /// The text between the start tag and whatever comes next.
    pub(crate) fn text(&self) -> &'a [u8] {
        let Some(start) = tag_end(self.raw) else { return &[] };
        let rest = &self.raw[start..];
        &rest[..memchr(b'<', rest).unwrap_or(rest.len())]
    }

    /// The text of the first descendant whose start tag is exactly `<name>`.
    pub(crate) fn text_of(&self, name: &str) -> Option<&'a [u8]> {
        let open = format!("<{name}>");
        let start = memmem::find(self.raw, open.as_bytes())? + open.len();
        let rest = &self.raw[start..];
        Some(&rest[..memchr(b'<', rest)?])
    }

    /// The first descendant of this local name, whole.
    pub(crate) fn find(&self, wanted: &[u8]) -> Option<Element<'a>> {
        let mut at = tag_end(self.raw)?;
        loop {
            at += memchr(b'<', &self.raw[at..])?;
            let rest = &self.raw[at..];
            if rest.starts_with(b"<![CDATA[") {
                at += memmem::find(rest, b"]]>")? + 3;
                continue;
            }
            let end = tag_end(rest)?;
            if rest[1] != b'/' && name(rest) == wanted {
                return element_end(rest, end).map(|end| Element { raw: &rest[..end] });
            }
            at += end;
        }
    }

    /// The local name of the first child.
    pub(crate) fn first_child(&self) -> Option<&'a [u8]> {
        let start = tag_end(self.raw)?;
        let rest = &self.raw[start..];
        let child = &rest[memchr(b'<', rest)?..];
        (child.len() > 1 && child[1] != b'/').then(|| name(child))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='a>b'>\
        <stream:features><mechanisms xmlns='x'><mechanism>PLAIN</mechanism></mechanisms></stream:features> \
        <presence from=\"a\" to='b'/><message  id = '7'  to='x'><body>&lt;<![CDATA[</message>]]></body></message>\
        </stream:stream>";

    #[test]
    fn a_stream_is_taken_apart_whatever_the_pieces_it_comes_in() {
        for piece in 1..STREAM.len() {
            let (mut held, mut seen) = (Vec::new(), Vec::new());
            for chunk in STREAM.chunks(piece) {
                held.extend_from_slice(chunk);
                while let Some((item, used)) = next(&held).unwrap() {
                    seen.push(match item {
                        Item::Header(header) => {
                            assert_eq!(header.attribute(b"id"), Some(&b"a>b"[..]));
                            "header".to_owned()
                        }
                        Item::Element(element) => String::from_utf8_lossy(element.name()).into_owned(),
                        Item::End => "end".to_owned(),
                    });
                    held.drain(..used);
                }
            }
            assert_eq!(seen, ["header", "features", "presence", "message", "end"], "pieces of {piece}");
            assert!(held.is_empty());
        }
    }

    #[test]
    fn attributes_and_texts_are_found() {
        let bytes = b"<a:message  id = '7'  xx='id' to=\"x>y\"><body>hi</body></a:message>";
        let Ok(Some((Item::Element(message), _))) = next(bytes) else { panic!("no element") };
        assert_eq!(message.attribute(b"id"), Some(&b"7"[..]));
        assert_eq!(message.attribute(b"to"), Some(&b"x>y"[..]));
        assert_eq!(message.attribute(b"from"), None);
        assert_eq!(message.text_of("body"), Some(&b"hi"[..]));
        assert_eq!(message.first_child(), Some(&b"body"[..]));
    }

    #[test]
    fn a_descendant_is_found_whole_whatever_its_prefix() {
        let bytes =
            b"<message><a x='<message/>'/><![CDATA[<message/>]]><f:fwd><message id='1'><message/></message>\
            </f:fwd></message>";
        let Ok(Some((Item::Element(outer), _))) = next(bytes) else { panic!("no element") };
        let inner = outer.find(b"message").unwrap();
        assert_eq!(inner.raw, b"<message id='1'><message/></message>");
        assert_eq!(outer.find(b"fwd").unwrap().find(b"message"), Some(inner));
        assert_eq!(inner.find(b"message").unwrap().find(b"message"), None);
        assert_eq!(outer.find(b"body"), None);
    }

    #[test]
    fn what_is_no_xml_is_told() {
        assert_eq!(next(b"HTTP/1.1 400 Bad Request"), Err(NotXml));
    }
}
