//! Taking back what others have said (XEP-0425): what a moderator asks for, and what the room tells everybody.

use super::occupant::OccupantId;
use super::{bad, push, push_attribute, push_text, reason_of};
use crate::proto::errors::StanzaError;
use crate::proto::ns;
use crate::xml::Element;

/// A message is to be taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moderate {
    /// The id that the room's archive has given it.
    pub id: String,
    /// Why; empty for nothing.
    pub reason: String,
}

impl Moderate {
    /// Reads `<moderate/>`.
    ///
    /// # Errors
    /// `bad-request` for what names no message or asks for something else; `not-acceptable` for too long a reason.
    pub fn read(moderate: &Element) -> Result<Moderate, StanzaError> {
        let id = moderate.attribute("id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| bad("the message is not named"))?;
        if moderate.find("retract", ns::RETRACTION).is_none() {
            return Err(bad("there is no other way of moderation than <retract/>"));
        }
        Ok(Moderate { id: id.to_owned(), reason: reason_of(moderate)? })
    }
}

/// Appends `<retract/>` as everybody in the room gets it, and as it lies in the archive.
pub fn write_retract(id: &str, by: &str, moderator: &OccupantId, reason: &str, out: &mut Vec<u8>) {
    push(out, &["<retract xmlns='", ns::RETRACTION, "'"]);
    push_attribute("id", id, out);
    push(out, &[">"]);
    write_moderated(by, moderator, out);
    if !reason.is_empty() {
        push_text("reason", reason, out);
    }
    push(out, &["</retract>"]);
}

/// Appends `<moderated/>`, which says by whose hand something was taken back: occupant JID and id.
pub fn write_moderated(by: &str, moderator: &OccupantId, out: &mut Vec<u8>) {
    push(out, &["<moderated xmlns='", ns::MODERATION, "'"]);
    push_attribute("by", by, out);
    push(out, &[">"]);
    moderator.write(out);
    push(out, &["</moderated>"]);
}

#[cfg(test)]
mod tests {
    use super::super::occupant::OccupantIds;
    use super::*;
    use whimbrel_storage::actor::ActorId;

    fn read(attributes: &str, inside: &str) -> Option<Moderate> {
        let text = format!("<moderate xmlns='urn:xmpp:message-moderate:1' {attributes}>{inside}</moderate>");
        Moderate::read(&Element::parse(text.as_bytes()).unwrap()).ok()
    }

    #[test]
    fn a_request_names_the_message_and_what_is_to_be_done() {
        let retract = "<retract xmlns='urn:xmpp:message-retract:1'/>";
        let reasoned = format!("{retract}<reason>bad</reason>");
        let expected = |reason: &str| Some(Moderate { id: "7".into(), reason: reason.into() });
        assert_eq!(read("id='7'", retract), expected(""));
        assert_eq!(read("id='7'", &reasoned), expected("bad"));
        for (attributes, inside) in
            [("id=''", retract), ("", retract), ("id='7'", ""), ("id='7'", "<retract/>")]
        {
            assert_eq!(read(attributes, inside), None);
        }
    }

    #[test]
    fn everybody_hears_by_whose_hand_and_why() {
        let id = OccupantIds::new(&[1; 32]).of("a@x", ActorId::user(1));
        let mut out = Vec::new();
        write_retract("i'd", "r@c.x/n'", &id, "<b>", &mut out);
        let found = Element::parse(&out).unwrap();
        assert!(found.is("retract", "urn:xmpp:message-retract:1"));
        assert_eq!(found.attribute("id"), Some("i'd"));
        let moderated = found.find("moderated", "urn:xmpp:message-moderate:1").unwrap();
        assert_eq!(moderated.attribute("by"), Some("r@c.x/n'"));
        let by = moderated.find("occupant-id", "urn:xmpp:occupant-id:0").unwrap();
        assert_eq!(by.attribute("id"), Some(id.as_str()));
        assert_eq!(found.find("reason", "urn:xmpp:message-retract:1").unwrap().content(), "<b>");
    }
}
