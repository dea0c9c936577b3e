//! Ids that the server gives to stanzas (XEP-0359), and those that somebody else has given in its name.
//!
//! An id is worth something because only the entity named in `by` gives it. So whoever stamps ids takes out those that
//! came in with its own name (§3), before anything is stamped. Only direct children of a stanza are ids of that stanza: one
//! inside a forwarded message is the id of that message and stays.

use std::ops::Range;

use smallvec::SmallVec;
use whimbrel_storage::jid::JidRef;

use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::xml::{Stanza, writer};

/// Where forged ids lie in the bytes of a stanza, in order. Nothing is allocated while there is at most one.
pub type Forged = SmallVec<[Range<usize>; 1]>;

/// Finds the ids among the direct children of a stanza that claim to be given by an address that `is_ours`. What is no
/// address is nobody's. The ranges are those of [`Stanza::bytes`], for [`Stamp::without`](crate::xml::Stamp::without).
pub fn forged(stanza: &Stanza<'_>, is_ours: impl Fn(&JidRef<'_>) -> bool) -> Forged {
    let (mut found, letters) = (Forged::new(), Letters::of_marks());
    for child in stanza.children() {
        // Where there is too much to look at, all of it is taken for ours.
        if child.is("stanza-id", ns::STANZA_ID)
            && let Some(by) = child.attribute("by")
            && (!letters.has(&by) || JidRef::parse(&by).is_ok_and(|by| is_ours(&by)))
        {
            found.push(child.range());
        }
    }
    found
}

/// Appends `<stanza-id/>`.
pub fn write(by: &str, id: &str, out: &mut Vec<u8>) {
    for part in ["<stanza-id xmlns='", ns::STANZA_ID, "' by='"] {
        out.extend_from_slice(part.as_bytes());
    }
    writer::escape_attribute(by, out);
    out.extend_from_slice(b"' id='");
    writer::escape_attribute(id, out);
    out.extend_from_slice(b"'/>");
}

/// As [`write`], of the archive of a user: `local@domain`. The id needs no escaping. Allocates nothing.
pub fn write_of_user(local: &str, domain: &str, id: &str, out: &mut Vec<u8>) {
    for part in ["<stanza-id xmlns='", ns::STANZA_ID, "' by='"] {
        out.extend_from_slice(part.as_bytes());
    }
    writer::escape_attribute(local, out);
    out.push(b'@');
    writer::escape_attribute(domain, out);
    for part in ["' id='", id, "'/>"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::address;
    use crate::xml::{Element, Frame, Framer, Limits, Phase, Stamp, StreamNamespaces};

    fn with_stanza<T>(bytes: &str, look: impl FnOnce(&Stanza<'_>) -> T) -> T {
        let mut framer = Framer::new();
        let none: Option<&StreamNamespaces> = None;
        let read = framer.next(Phase::InStream, none, &mut None, bytes.as_bytes(), &Limits::default());
        match read {
            Ok((_, Some(Frame::Stanza(stanza)))) => look(&stanza),
            other => panic!("{bytes}: {other:?}"),
        }
    }

    /// As the message goes on to juliet.
    fn stripped(inside: &str) -> String {
        let bytes = format!("<message id='1'>{inside}</message>");
        let out = with_stanza(&bytes, |stanza| {
            let ours =
                |by: &JidRef<'_>| address::is_domain(by, "x") || address::is_account(by, "juliet", "x");
            let forged = forged(stanza, ours);
            let mut out = Vec::new();
            stanza.write_stamped(&Stamp { from: "a@x/r", without: &forged, ..Stamp::default() }, &mut out);
            out
        });
        Element::parse(&out).expect("it is well-formed");
        let out = String::from_utf8(out).unwrap();
        let inside = out.strip_prefix("<message from=\"a@x/r\" id='1'>").expect("the start tag is as it was");
        inside.strip_suffix("</message>").expect("and so is the end").to_owned()
    }

    #[test]
    fn forged_ids_go_and_all_others_stay() {
        let id = |by: &str| format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='7'/>");
        for by in ["juliet@x", "JULIET@X", "x", "&#x78;"] {
            assert_eq!(stripped(&id(by)), "", "{by}");
        }
        for by in ["romeo@x", "juliet@x/r", "juliet@y", "y", "x/r", "", "@", "juliet"] {
            assert_eq!(stripped(&id(by)), id(by), "{by}");
        }
        for other in [
            "<stanza-id by='x' id='7'/>",
            "<origin-id xmlns='urn:xmpp:sid:0' by='x' id='7'/>",
            "<stanza-id xmlns='urn:xmpp:sid:0' id='7'/>",
            "<stanza-id xmlns='urn:xmpp:sid:0' xmlns:b='urn:b' b:by='x' id='7'/>",
            "<forwarded xmlns='urn:xmpp:forward:0'><stanza-id xmlns='urn:xmpp:sid:0' by='x' id='7'/></forwarded>",
        ] {
            assert_eq!(stripped(other), other);
        }
    }

    #[test]
    fn what_stands_around_a_forged_id_stays() {
        let prefixed =
            "<s:stanza-id xmlns:s='urn:xmpp:sid:0'\n id = \"by='y'>\"  by = 'x' ><b/>t</s:stanza-id>";
        let several = format!("<body>a</body>{prefixed} <c xmlns='d'/>{prefixed}{prefixed}<e xmlns='f'/>");
        assert_eq!(stripped(&several), "<body>a</body> <c xmlns='d'/><e xmlns='f'/>");
        assert_eq!(stripped(&format!("]]{prefixed}>")), "]]&gt;");
    }

    #[test]
    fn nothing_is_allocated_for_a_single_forged_id() {
        let bytes = "<message><stanza-id xmlns='urn:xmpp:sid:0' by='x' id='7'/></message>";
        with_stanza(bytes, |stanza| assert!(!forged(stanza, |_| true).spilled()));
    }

    #[test]
    fn our_own_id_is_written_escaped() {
        let mut out = Vec::new();
        write("juliet@x", "<'>", &mut out);
        let expected = "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@x' id='&lt;&apos;&gt;'/>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
