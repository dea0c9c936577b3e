//! A stream as messages of WebSocket (RFC 7395).
//!
//! An element is written for a stream over TCP, where the header has declared `jabber:client` and the prefix `stream`. Here it
//! stands alone, so what it has from there is declared on it. That it is missing is known when the element is written:
//! room for it is left in front, and only the name of the element moves.

use whimbrel_websocket::encode::Message;

use super::{Header, is_element};
use crate::proto::ns;
use crate::xml::writer;

/// A declaration: what stands before the namespace, and the namespace.
type Declaration = [&'static str; 2];

/// The default namespace of a stream.
const CLIENT: Declaration = [" xmlns='", ns::CLIENT];

/// The prefix of a stream.
const STREAM: Declaration = [" xmlns:stream='", ns::STREAMS];

/// Room for the usual one.
const ROOM_BYTES: usize = bytes_of(CLIENT);

const fn bytes_of(declaration: Declaration) -> usize {
    declaration[0].len() + declaration[1].len() + 1
}

/// One element, which `write` appends.
pub fn write_element(write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    // Nearly every element is a stanza; those of the other kind are moved.
    let message = Message::begin(ROOM_BYTES, out);
    let text_at = message.text_at();
    write(out);
    debug_assert!(is_element(&out[text_at..]), "not a whole element");
    let Some((name_bytes, missing)) = missing(&out[text_at..]) else { return message.end(0, out) };
    let bytes = bytes_of(missing);
    let is_usual = bytes <= ROOM_BYTES;
    let at = if is_usual { text_at - bytes } else { text_at };
    match is_usual {
        true => out.copy_within(text_at..text_at + name_bytes, at),
        false => {
            let end = out.len();
            out.resize(end + bytes, 0);
            out.copy_within(text_at + name_bytes..end, text_at + name_bytes + bytes);
        }
    }
    let mut rest = &mut out[at + name_bytes..at + name_bytes + bytes];
    for part in [missing[0], missing[1], "'"] {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part.as_bytes());
        rest = behind;
    }
    message.end(if is_usual { bytes } else { 0 }, out);
}

/// The declaration that an element needs when it stands alone, and behind how many bytes it is to be put: those of `<` and
/// the name.
fn missing(element: &[u8]) -> Option<(usize, Declaration)> {
    let is_in_name = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>');
    let name_bytes = element.iter().take_while(|byte| is_in_name(byte)).count();
    if element.starts_with(b"<stream:") {
        return Some((name_bytes, STREAM));
    }
    let mut rest = &element[name_bytes..];
    loop {
        rest = rest.trim_ascii_start();
        let equals = memchr::memchr2(b'=', b'>', rest)?;
        if rest[equals] == b'>' {
            return Some((name_bytes, CLIENT));
        }
        if rest[..equals].trim_ascii_end() == b"xmlns" {
            return None;
        }
        let value = rest[equals + 1..].trim_ascii_start();
        let (&quote, value) = value.split_first()?;
        rest = &value[memchr::memchr(quote, value)? + 1..];
    }
}

/// The stream begins (§3.4).
pub fn write_open(header: &Header<'_>, out: &mut Vec<u8>) {
    let message = Message::begin(0, out);
    text(out, &["<open xmlns='", ns::FRAMING, "' version='1.0' xml:lang='en'"]);
    for (name, value) in [("id", Some(header.id)), ("from", Some(header.from)), ("to", header.to)] {
        if let Some(value) = value {
            write_attribute(name, value, out);
        }
    }
    text(out, &["/>"]);
    message.end(0, out);
}

/// The stream ends (§3.6), and goes on at another URI unless that is empty (§3.6.1).
pub fn write_close(see_other_uri: &str, out: &mut Vec<u8>) {
    let message = Message::begin(0, out);
    text(out, &["<close xmlns='", ns::FRAMING, "'"]);
    if !see_other_uri.is_empty() {
        write_attribute("see-other-uri", see_other_uri, out);
    }
    text(out, &["/>"]);
    message.end(0, out);
}

fn write_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    text(out, &[" ", name, "='"]);
    writer::escape_attribute(value, out);
    text(out, &["'"]);
}

fn text(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the one message that an element becomes.
    fn written(element: &str) -> String {
        let mut out = Vec::new();
        write_element(|out| out.extend_from_slice(element.as_bytes()), &mut out);
        let head = match out[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        String::from_utf8(out[head..].to_vec()).unwrap()
    }

    #[test]
    fn what_an_element_has_from_the_header_is_declared_on_it() {
        let client = "xmlns='jabber:client'";
        let stream = "xmlns:stream='http://etherx.jabber.org/streams'";
        let long = "x".repeat(300);
        let table = [
            ("<presence/>".to_owned(), format!("<presence {client}/>")),
            ("<iq id='1' type='result'></iq>".into(), format!("<iq {client} id='1' type='result'></iq>")),
            (
                format!("<message><body>{long}</body></message>"),
                format!("<message {client}><body>{long}</body></message>"),
            ),
            ("<a xmlns='urn:xmpp:sm:3' h='1'/>".into(), "<a xmlns='urn:xmpp:sm:3' h='1'/>".into()),
            ("<a h='1'  xmlns = \"urn:x\"/>".into(), "<a h='1'  xmlns = \"urn:x\"/>".into()),
            // Neither a declaration of another prefix nor text that looks like one.
            ("<message xmlns:x='u'/>".into(), format!("<message {client} xmlns:x='u'/>")),
            ("<message id=\" xmlns='\"/>".into(), format!("<message {client} id=\" xmlns='\"/>")),
            (
                "<message id='>'><b xmlns='u'/></message>".into(),
                format!("<message {client} id='>'><b xmlns='u'/></message>"),
            ),
            (
                "<stream:features></stream:features>".into(),
                format!("<stream:features {stream}></stream:features>"),
            ),
            (format!("<{long}/>"), format!("<{long} {client}/>")),
        ];
        for (element, expected) in table {
            assert_eq!(written(&element), expected);
        }
    }

    #[test]
    #[should_panic(expected = "not a whole element")]
    fn half_an_element_is_noticed() {
        written("<message><body>");
    }
}
