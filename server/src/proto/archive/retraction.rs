//! Retractions of messages (XEP-0424), and what stands for a retracted message in an archive.
//!
//! | a message is retracted by `<retract id='…'/>` if it has | |
//! | --- | --- |
//! | the same author, by bare JID | XEP-0424 §5 |
//! | this id, or this origin-id (XEP-0359) | what clients name |
//! | `<replace id='…'/>` with this id | a correction (XEP-0308): else what is retracted could still be read |
//! | no `<retract/>` itself | those who were away learn of it from the archive |

use std::borrow::Cow;

use memchr::memmem;
use smallvec::SmallVec;
use whimbrel_storage::jid::JidRef;

use crate::clock::datetime_ms;
use crate::proto::address;
use crate::proto::ns;
use crate::proto::stanza_id;
use crate::xml::{self, CLIENT, Element, Frame, Framer, Stanza, StreamNamespaces, writer};

/// A longer id of a message is left out of what stands for it.
const ID_BYTES_MAX: usize = 512;

/// What a retraction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Bare JID of its author.
    author: String,
    /// Whom it is for, as the author wrote it; `None`: the author.
    to: Option<String>,
    /// The id of what is retracted.
    target: String,
    /// Its own id.
    id: Option<String>,
}

/// A retracted message of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Tombstone<'a> {
    /// Whose archive it is: a bare JID.
    pub archive: &'a str,
    /// The id of the message there.
    pub id: &'a str,
    /// When it was retracted, in milliseconds since 1970.
    pub retracted_ms: u64,
}

impl Retraction {
    /// Reads a message that this server has stamped. `None`: it retracts nothing.
    pub fn read(stanza: &[u8]) -> Option<Retraction> {
        with_stanza(stanza, |stanza| {
            let retract = stanza.children().find(|child| child.is("retract", ns::RETRACTION))?;
            let target = retract.attribute("id").filter(|id| !id.is_empty())?.into_owned();
            let common = stanza.common_attributes();
            let author = address::bare_of(&common.from?).to_owned();
            let (to, id) = (common.to.map(Cow::into_owned), common.id.map(Cow::into_owned));
            Some(Retraction { author, to, target, id })
        })
    }

    /// The localparts of its author and of its recipient: one of them is the owner of an archive that has it.
    pub fn sides(&self) -> (&str, Option<String>) {
        let recipient = self.to.as_deref().and_then(|to| JidRef::parse(to).ok());
        (address::local_of(&self.author), recipient.and_then(|to| to.local().map(str::to_owned)))
    }

    /// What stands for a message from now on; `None`: it is not retracted by this.
    pub fn replace(&self, stanza: &[u8], about: &Tombstone<'_>) -> Option<Vec<u8>> {
        with_stanza(stanza, |stanza| self.means(stanza).then(|| self.tombstone(stanza, about)))
    }

    fn means(&self, stanza: &Stanza<'_>) -> bool {
        Named::of(stanza).is_some_and(|named| self.is_about(&named))
    }

    fn is_about(&self, message: &Named<'_>) -> bool {
        message.author == self.author && message.ids.iter().any(|id| *id == self.target)
    }

    /// The message with nothing in it but which it was, and what has become of it (§4).
    fn tombstone(&self, stanza: &Stanza<'_>, about: &Tombstone<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let common = stanza.common_attributes();
        out.extend_from_slice(b"<message");
        let attributes = [("from", common.from), ("to", common.to), ("type", common.typ)];
        for (name, value) in attributes {
            put(name, value.as_deref(), &mut out);
        }
        put("id", short(common.id.as_deref()), &mut out);
        out.push(b'>');
        stanza_id::write(about.archive, about.id, &mut out);
        let origin = stanza.children().find(|child| child.is("origin-id", ns::STANZA_ID));
        let origin = origin.and_then(|child| child.attribute("id"));
        if let Some(origin) = short(origin.as_deref()) {
            out.extend_from_slice(b"<origin-id");
            put("xmlns", Some(ns::STANZA_ID), &mut out);
            put("id", Some(origin), &mut out);
            out.extend_from_slice(b"/>");
        }
        out.extend_from_slice(b"<retracted");
        put("xmlns", Some(ns::RETRACTION), &mut out);
        put("stamp", Some(&datetime_ms(about.retracted_ms)), &mut out);
        put("id", short(self.id.as_deref()), &mut out);
        out.extend_from_slice(b"/></message>");
        out
    }
}

/// Whether a message is retracted by one of these. It is read once, however many there are.
pub fn is_retracted<'r>(stanza: &[u8], mut by: impl Iterator<Item = &'r Retraction>) -> bool {
    with_stanza(stanza, |stanza| {
        let named = Named::of(stanza)?;
        by.any(|retraction| retraction.is_about(&named)).then_some(())
    })
    .is_some()
}

/// What a message that a client is sent may carry another one in: a copy (XEP-0280), a message of an archive (XEP-0313).
const WRAPPERS: [(&str, &str); 3] =
    [("sent", ns::CARBONS), ("received", ns::CARBONS), ("result", ns::ARCHIVE)];

/// Whether a message that was sent to a client, or the one that it forwards as a copy or from an archive, is retracted.
pub fn is_retracted_or_forwards(stanza: &[u8], by: &Retraction) -> bool {
    // Most are not of its author. In a bare address nothing is ever escaped (RFC 7622 §3.3.1).
    if memmem::find(stanza, by.author.as_bytes()).is_none() {
        return false;
    }
    // One that is too large for a tree may be the message itself.
    let Ok(sent) = Element::parse(stanza) else { return is_retracted(stanza, std::iter::once(by)) };
    let wrapped = WRAPPERS.into_iter().filter_map(|(name, namespace)| sent.find(name, namespace));
    let forwarded = wrapped.filter_map(|wrapped| wrapped.find("forwarded", ns::FORWARD));
    let inner = forwarded.filter_map(|forwarded| forwarded.find("message", CLIENT));
    // Anybody may put such an element into a message: then the message counts as well.
    let mut messages = inner.chain([&sent]);
    messages.any(|message| Named::of_element(message).is_some_and(|named| by.is_about(&named)))
}

/// Who has written a message, and all that a retraction may name it by.
struct Named<'a> {
    author: Cow<'a, str>,
    ids: SmallVec<[Cow<'a, str>; 3]>,
}

impl<'a> Named<'a> {
    /// `None` for a message that cannot be retracted: it retracts another, or comes from nobody.
    fn of(stanza: &Stanza<'a>) -> Option<Named<'a>> {
        let common = stanza.common_attributes();
        let author = match common.from? {
            Cow::Borrowed(from) => Cow::Borrowed(address::bare_of(from)),
            Cow::Owned(from) => Cow::Owned(address::bare_of(&from).to_owned()),
        };
        let mut ids: SmallVec<_> = common.id.into_iter().collect();
        for child in stanza.children() {
            if child.is("retract", ns::RETRACTION) {
                return None;
            }
            if names_message(|name, namespace| child.is(name, namespace)) {
                ids.extend(child.attribute("id"));
            }
        }
        Some(Named { author, ids })
    }

    fn of_element(message: &'a Element) -> Option<Named<'a>> {
        let author = Cow::Borrowed(address::bare_of(message.attribute("from")?));
        let mut ids: SmallVec<_> = message.attribute("id").map(Cow::Borrowed).into_iter().collect();
        for child in message.elements() {
            if child.is("retract", ns::RETRACTION) {
                return None;
            }
            if names_message(|name, namespace| child.is(name, namespace)) {
                ids.extend(child.attribute("id").map(Cow::Borrowed));
            }
        }
        Some(Named { author, ids })
    }
}

/// Whether an element of a message has another id by which it is retracted.
fn names_message(is: impl Fn(&str, &str) -> bool) -> bool {
    is("origin-id", ns::STANZA_ID) || is("replace", ns::CORRECTION)
}

/// An id that is not too long to be kept of a message.
pub(in crate::proto) fn short(id: Option<&str>) -> Option<&str> {
    id.filter(|id| id.len() <= ID_BYTES_MAX)
}

/// Appends ` name='value'`, if there is a value.
pub(in crate::proto) fn put(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    for part in [" ", name, "='"] {
        out.extend_from_slice(part.as_bytes());
    }
    writer::escape_attribute(value, out);
    out.push(b'\'');
}

/// Looks at a whole stanza without making a tree of it. `None` for what is none.
pub(in crate::proto) fn with_stanza<T>(
    stanza: &[u8],
    look: impl FnOnce(&Stanza<'_>) -> Option<T>,
) -> Option<T> {
    let none: Option<&StreamNamespaces> = None;
    let limits = xml::Limits { stanza_bytes_max: stanza.len(), ..xml::Limits::default() };
    let mut framer = Framer::new();
    match framer.next(xml::Phase::InStream, none, &mut None, stanza, &limits) {
        Ok((_, Some(Frame::Stanza(stanza)))) => look(&stanza),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::archive::page::Frame;

    const RETRACT: &str = "<message from='romeo@x/1' to='juliet@x' id='r&amp;1' type='chat'>\
                           <retract xmlns='urn:xmpp:message-retract:1' id='o&lt;1'/><body>it is gone</body></message>";
    const ABOUT: Tombstone<'static> = Tombstone { archive: "juliet@x", id: "abc", retracted_ms: 7 };

    fn retraction() -> Retraction {
        Retraction::read(RETRACT.as_bytes()).expect("it is one")
    }

    #[test]
    fn only_the_author_retracts_and_only_what_is_named() {
        let table = [
            ("romeo@x/1", "id='o&lt;1'", "<body>a</body>", true),
            ("romeo@x/other", "id='o&lt;1'", "<body>a</body>", true),
            ("romeo@x", "id='o&#60;1'", "<body>a</body>", true),
            ("romeo@x/1", "id='2'", "<origin-id xmlns='urn:xmpp:sid:0' id='o&lt;1'/>", true),
            ("romeo@x/1", "id='2'", "<replace xmlns='urn:xmpp:message-correct:0' id='o&lt;1'/>", true),
            ("juliet@x/1", "id='o&lt;1'", "<body>a</body>", false),
            ("romeo@y/1", "id='o&lt;1'", "<body>a</body>", false),
            ("romeo@x/1", "id='o'", "<body>o&lt;1</body>", false),
            ("romeo@x/1", "", "<body>a</body>", false),
            ("romeo@x/1", "id='2'", "<stanza-id xmlns='urn:xmpp:sid:0' id='o&lt;1'/>", false),
            ("romeo@x/1", "id='o&lt;1'", "<retract xmlns='urn:xmpp:message-retract:1' id='x'/>", false),
        ];
        for (from, id, inside, expected) in table {
            let message = format!("<message from='{from}' {id}>{inside}</message>");
            let retraction = retraction();
            let other = Retraction { target: "else".into(), ..retraction.clone() };
            assert_eq!(
                is_retracted(message.as_bytes(), [&other, &retraction].into_iter()),
                expected,
                "{message}"
            );
            assert!(!is_retracted(message.as_bytes(), [&other].into_iter()));
            assert_eq!(retraction.replace(message.as_bytes(), &ABOUT).is_some(), expected);
            let in_context = message.replacen("<message", "<message xmlns='jabber:client'", 1);
            let forwarded = format!("<forwarded xmlns='urn:xmpp:forward:0'>{in_context}</forwarded>");
            let mut sent = vec![message.clone()];
            for (wrapper, namespace) in WRAPPERS {
                sent.push(format!(
                    "<message from='juliet@x' to='juliet@x/2'><{wrapper} xmlns='{namespace}'>{forwarded}</{wrapper}>\
                     </message>"
                ));
                // It is retracted whatever its author has put into it.
                let inside = format!(
                    "{inside}<{wrapper} xmlns='{namespace}'><forwarded xmlns='urn:xmpp:forward:0'/></{wrapper}>"
                );
                sent.push(format!("<message from='{from}' {id}>{inside}</message>"));
            }
            let frame = Frame::of_message("juliet@x", "juliet@x/2", None, "x");
            let mut of_page = Vec::new();
            frame.write(b"abcdefghijklm", 7, message.as_bytes(), &mut of_page);
            sent.push(String::from_utf8(of_page).unwrap());
            for sent in sent {
                assert_eq!(is_retracted_or_forwards(sent.as_bytes(), &retraction), expected, "{sent}");
                assert!(!is_retracted_or_forwards(sent.as_bytes(), &other));
            }
        }
        for none in [
            "<message from='romeo@x/1'><body/></message>",
            "<message from='romeo@x/1'><retract xmlns='urn:xmpp:message-retract:1'/></message>",
            "<message from='romeo@x/1'><retract xmlns='urn:xmpp:message-retract:1' id=''/></message>",
            "<message from='romeo@x/1'><retract xmlns='urn:xmpp:message-retract:0' id='1'/></message>",
            "<message",
        ] {
            assert_eq!(Retraction::read(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn nothing_of_the_text_is_in_what_stands_for_it() {
        let long = "y".repeat(600);
        let message = format!(
            "<message from='romeo@x/1' to='juliet@x/&apos;' type='chat' id='o&lt;1' xml:lang='en'><body>secret</body>\
             <origin-id xmlns='urn:xmpp:sid:0' id='{long}'/><x xmlns='y' secret='secret'/></message>"
        );
        let tombstone = retraction().replace(message.as_bytes(), &ABOUT).unwrap();
        let text = String::from_utf8(tombstone.clone()).unwrap();
        assert!(!text.contains("secret") && !text.contains("yyy"), "{text}");
        let read = Element::parse(&tombstone).expect("it is well-formed");
        let attributes = ["from", "to", "type", "id"].map(|name| read.attribute(name));
        assert_eq!(attributes, [Some("romeo@x/1"), Some("juliet@x/'"), Some("chat"), Some("o<1")]);
        let retracted = read.find("retracted", ns::RETRACTION).unwrap();
        let (stamp, id) = (retracted.attribute("stamp"), retracted.attribute("id"));
        assert_eq!((stamp, id), (Some("1970-01-01T00:00:00.007Z"), Some("r&1")));
        let stanza_id = read.find("stanza-id", ns::STANZA_ID).unwrap();
        assert_eq!((stanza_id.attribute("by"), stanza_id.attribute("id")), (Some("juliet@x"), Some("abc")));
        assert_eq!(read.elements().count(), 2, "an id that is too long is left out");
    }
}
