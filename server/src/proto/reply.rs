//! Stanzas that the server writes itself.

use crate::proto::ns;
use crate::stanza::{Kind, Type};
use crate::xml::writer;

/// Writes `<kind type='…' from='…' to='…' id='…'` without the closing bracket. An empty `to` is left out, an empty id is
/// not.
pub fn open(kind: Kind, typ: Type, from: Option<&str>, to: &str, id: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(kind.name().as_bytes());
    let attributes =
        [("type", typ.name()), ("from", from), ("to", Some(to).filter(|to| !to.is_empty())), ("id", id)];
    for (name, value) in attributes {
        let Some(value) = value else { continue };
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"='");
        writer::escape_attribute(value, out);
        out.push(b'\'');
    }
}

/// Writes a whole iq; `content` writes what is in it.
pub fn iq(
    typ: Type,
    from: Option<&str>,
    to: &str,
    id: Option<&str>,
    out: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>),
) {
    open(Kind::Iq, typ, from, to, id, out);
    out.push(b'>');
    content(out);
    out.extend_from_slice(b"</iq>");
}

/// Bytes that [`write_in_other_context`] adds to a stanza, at most.
pub const CONTEXT_BYTES: usize = " xmlns=''".len() + ns::CLIENT.len();

/// Appends a stanza with its namespace declared, because its parent's is not `jabber:client`.
pub fn write_in_other_context(stanza: &[u8], out: &mut Vec<u8>) {
    let name = stanza.iter().position(|b| matches!(b, b' ' | b'>' | b'/' | b'\t' | b'\r' | b'\n'));
    let (start, rest) = stanza.split_at(name.unwrap_or(stanza.len()));
    out.extend_from_slice(start);
    // A prefixed name has its namespace declared already.
    if !start.contains(&b':') {
        for part in [" xmlns='", ns::CLIENT, "'"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iq_has_the_attributes_that_are_given_escaped() {
        let mut out = Vec::new();
        iq(Type::Result, None, "", Some("a'b"), &mut out, |_| {});
        iq(Type::Error, Some("x.example"), "y@x.example", None, &mut out, |out| {
            out.extend_from_slice(b"<e/>");
        });
        let expected = "<iq type='result' id='a&apos;b'></iq><iq type='error' from='x.example' to='y@x.example'><e/></iq>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_prefixed_message_keeps_its_prefix() {
        let mut out = Vec::new();
        write_in_other_context(b"<c:message xmlns:c='jabber:client'><c:body/></c:message>", &mut out);
        assert_eq!(out, b"<c:message xmlns:c='jabber:client'><c:body/></c:message>");
    }
}
