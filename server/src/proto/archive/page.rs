//! The answer to a query: messages (XEP-0313 §4.2), the end of a page (§4.3), the bounds of an archive (§6).

use crate::clock::datetime_ms;
use crate::proto::delay;
use crate::proto::ns;
use crate::proto::reply::write_in_other_context;
use crate::proto::rsm::Page;
use crate::xml::{Element, writer};

/// One message of an archive, as it goes to the client that has asked for it.
#[derive(Clone, Copy, Debug)]
pub struct ArchivedMessage<'a> {
    /// Whose archive it is: a bare JID.
    pub archive: &'a str,
    /// The full JID that has asked.
    pub to: &'a str,
    /// The query's id.
    pub query_id: Option<&'a str>,
    /// The message's id.
    pub id: &'a str,
    /// When the server received it, in milliseconds since 1970.
    pub time_ms: u64,
    /// The stanza as it was delivered, whose namespace is that of clients.
    pub stanza: &'a [u8],
}

impl ArchivedMessage<'_> {
    /// Appends the message that carries it.
    pub fn write(&self, domain: &str, out: &mut Vec<u8>) {
        out.reserve(self.stanza.len() + 512);
        out.extend_from_slice(b"<message from='");
        writer::escape_attribute(self.archive, out);
        out.extend_from_slice(b"' to='");
        writer::escape_attribute(self.to, out);
        out.extend_from_slice(b"'>");
        self.write_result(domain, out);
        out.extend_from_slice(b"</message>");
    }

    /// Appends what is in that message.
    pub fn write_result(&self, domain: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<result xmlns='");
        out.extend_from_slice(ns::ARCHIVE.as_bytes());
        if let Some(query_id) = self.query_id {
            out.extend_from_slice(b"' queryid='");
            writer::escape_attribute(query_id, out);
        }
        out.extend_from_slice(b"' id='");
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(b"'><forwarded xmlns='");
        out.extend_from_slice(ns::FORWARD.as_bytes());
        out.extend_from_slice(b"'>");
        delay::write(domain, self.time_ms, out);
        write_in_other_context(self.stanza, out);
        out.extend_from_slice(b"</forwarded></result>");
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
        let message = ArchivedMessage {
            archive: "juliet@x",
            to: "juliet@x/balcony",
            query_id: Some("<q>"),
            id: "abc",
            time_ms: 1_000_000_000_007,
            stanza: b"<message from='romeo@x/1'><body>hi</body></message>",
        };
        let mut out = Vec::new();
        message.write("x", &mut out);
        let read = Element::parse(&out).expect("it is well-formed");
        let result = read.find("result", "urn:xmpp:mam:2").unwrap();
        assert_eq!((result.attribute("queryid"), result.attribute("id")), (Some("<q>"), Some("abc")));
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
