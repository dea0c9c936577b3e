//! The answer to a query: messages (XEP-0313 §4.2), the end of a page (§4.3), the bounds of an archive (§6).

use crate::clock::datetime_ms;
use crate::proto::archive::ids;
use crate::proto::delay;
use crate::proto::ns;
use crate::proto::reply::{CONTEXT_BYTES, write_in_other_context};
use crate::proto::rsm::Page;
use crate::xml::{Element, writer};

/// What is around every message of a page, written once for all of them.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Up to the message's id.
    before_id: Vec<u8>,
    /// From there to its time.
    before_time: Vec<u8>,
    /// Behind it.
    end: &'static [u8],
}

impl Frame {
    /// Of messages from the archive of an account.
    ///
    /// | | |
    /// | --- | --- |
    /// | `archive` | whose archive it is: a bare JID |
    /// | `to` | the full JID that has asked |
    /// | `query_id` | the query's id |
    /// | `domain` | the server's |
    pub fn of_message(archive: &str, to: &str, query_id: Option<&str>, domain: &str) -> Frame {
        let mut before_id = b"<message from='".to_vec();
        writer::escape_attribute(archive, &mut before_id);
        before_id.extend_from_slice(b"' to='");
        writer::escape_attribute(to, &mut before_id);
        before_id.extend_from_slice(b"'>");
        Frame { end: b"</forwarded></result></message>", ..Frame::around(before_id, query_id, domain) }
    }

    /// Of what is in such a message.
    pub fn of_result(query_id: Option<&str>, domain: &str) -> Frame {
        Frame::around(Vec::new(), query_id, domain)
    }

    fn around(mut before_id: Vec<u8>, query_id: Option<&str>, domain: &str) -> Frame {
        before_id.extend_from_slice(b"<result xmlns='");
        before_id.extend_from_slice(ns::ARCHIVE.as_bytes());
        if let Some(query_id) = query_id {
            before_id.extend_from_slice(b"' queryid='");
            writer::escape_attribute(query_id, &mut before_id);
        }
        before_id.extend_from_slice(b"' id='");
        let mut before_time = b"'><forwarded xmlns='".to_vec();
        before_time.extend_from_slice(ns::FORWARD.as_bytes());
        before_time.extend_from_slice(b"'>");
        delay::write_start(domain, &mut before_time);
        Frame { before_id, before_time, end: b"</forwarded></result>" }
    }

    /// Appends one message. `time_ms`: when the server received it, in milliseconds since 1970; `stanza`: as it was delivered, its
    /// namespace that of clients.
    pub fn write(&self, id: &[u8; ids::BYTES], time_ms: u64, stanza: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.bytes() + stanza.len());
        out.extend_from_slice(&self.before_id);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.before_time);
        delay::write_end(time_ms, out);
        write_in_other_context(stanza, out);
        out.extend_from_slice(self.end);
    }

    /// Bytes that it adds to a stanza, at most.
    pub fn bytes(&self) -> usize {
        self.before_id.len()
            + self.before_time.len()
            + self.end.len()
            + ids::BYTES
            + delay::END_BYTES
            + CONTEXT_BYTES
    }
}

/// `<fin/>`: a page has come. `is_complete`: there is nothing behind it (or, for pages that are asked for backwards, nothing
/// before it).
pub fn fin(page: &Page, is_complete: bool) -> Element {
    let fin = Element::new("fin", ns::ARCHIVE);
    let fin = if is_complete { fin.attr("complete", "true") } else { fin };
    fin.child(page.to_element())
}

/// `<metadata/>`: the oldest and the newest message, each with its id and its time in milliseconds since 1970; `None` for an
/// empty archive.
pub fn metadata(bounds: Option<[(String, u64); 2]>) -> Element {
    let metadata = Element::new("metadata", ns::ARCHIVE);
    let Some([(first, first_ms), (last, last_ms)]) = bounds else { return metadata };
    let bound = |name: &'static str, id: String, time_ms| {
        Element::new(name, ns::ARCHIVE).attr("id", id).attr("timestamp", datetime_ms(time_ms))
    };
    metadata.child(bound("start", first, first_ms)).child(bound("end", last, last_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_forwarded_with_its_id_and_its_time() {
        let frame = Frame::of_message("juliet@x", "juliet@x/balcony", Some("<q>"), "x");
        let stanza = b"<message from='romeo@x/1'><body>hi</body></message>";
        let mut out = Vec::new();
        frame.write(b"abcdefghijklm", 1_000_000_000_007, stanza, &mut out);
        assert_eq!(out.len(), frame.bytes() + stanza.len());
        let read = Element::parse(&out).expect("it is well-formed");
        let result = read.find("result", "urn:xmpp:mam:2").unwrap();
        assert_eq!(
            (result.attribute("queryid"), result.attribute("id")),
            (Some("<q>"), Some("abcdefghijklm"))
        );
        let forwarded = result.find("forwarded", "urn:xmpp:forward:0").unwrap();
        let delay = forwarded.find("delay", "urn:xmpp:delay").unwrap();
        assert_eq!(delay.attribute("stamp"), Some("2001-09-09T01:46:40.007Z"));
        let inner = forwarded.find("message", "jabber:client").unwrap();
        assert_eq!(&*inner.find("body", "jabber:client").unwrap().content(), "hi");
    }

    #[test]
    fn an_empty_archive_has_no_bounds() {
        assert_eq!(metadata(None).elements().count(), 0);
        let bounds = metadata(Some([("a".into(), 0), ("b".into(), 1500)]));
        let end = bounds.find("end", "urn:xmpp:mam:2").unwrap();
        assert_eq!(
            (end.attribute("id"), end.attribute("timestamp")),
            (Some("b"), Some("1970-01-01T00:00:01.500Z"))
        );
    }
}
