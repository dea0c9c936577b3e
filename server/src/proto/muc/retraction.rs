//! Messages of rooms that are taken back: by their authors (XEP-0424), or by moderators (XEP-0425).
//!
//! | | by its author | by a moderator |
//! | --- | --- | --- |
//! | is asked for by | a message to everybody | an iq to the room |
//! | is told by | the author | the room |
//! | takes back | what the same occupant (XEP-0421) has said, but no retraction | what any occupant has said; of a retraction it is still told what that retracts |
//!
//! A message is named by the id that the room has given to it. What stands for it afterwards says who has said it and who has
//! taken it back, and has nothing else of it.

use std::borrow::Cow;

use memchr::memmem;

use super::occupant::OccupantId;
use super::{bad, push, push_attribute, push_text, reason_of};
use crate::clock::datetime_ms;
use crate::proto::address;
use crate::proto::archive::retraction::{put, short, with_stanza};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::xml::{Child, Element, Stanza};

/// What a moderator asks for (XEP-0425 §3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moderation {
    /// The room's id of the message.
    pub target: String,
    /// Why; empty for nothing.
    pub reason: String,
}

impl Moderation {
    /// Reads `<moderate/>`.
    ///
    /// # Errors
    /// `bad-request` for one without an id, `feature-not-implemented` for another work than a retraction, `not-acceptable` for a
    /// reason that is too long.
    pub fn read(moderate: &Element) -> Result<Moderation, StanzaError> {
        let target = moderate.attribute("id").filter(|id| !id.is_empty());
        let target = target.ok_or_else(|| bad("the id of the message is not said"))?;
        if moderate.find("retract", ns::RETRACTION).is_none() {
            let text = "messages are moderated by retracting them";
            return Err(StanzaError::from(StanzaCondition::FeatureNotImplemented).with_text(text));
        }
        Ok(Moderation { target: target.to_owned(), reason: reason_of(moderate)? })
    }
}

/// What a room says when a moderator has taken something back.
#[derive(Clone, Copy, Debug)]
pub struct Moderated<'a> {
    /// What is asked for.
    pub moderation: &'a Moderation,
    /// The moderator, as others see it: its address in the room, or the room's when it is not there.
    pub by: &'a str,
    /// The moderator's id.
    pub occupant: OccupantId,
}

impl Moderated<'_> {
    /// Appends `<retract/>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<retract xmlns='", ns::RETRACTION, "'"]);
        push_attribute("id", &self.moderation.target, out);
        push(out, &["><moderated xmlns='", ns::MODERATION, "'"]);
        push_attribute("by", self.by, out);
        push(out, &[">"]);
        self.occupant.write(out);
        push(out, &["</moderated>"]);
        if !self.moderation.reason.is_empty() {
            push_text("reason", &self.moderation.reason, out);
        }
        push(out, &["</retract>"]);
    }
}

/// A retraction of the archive of a room, or one that is about to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomRetraction {
    /// The room's id of what is taken back.
    target: String,
    by: By,
    /// Its own id.
    id: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum By {
    /// The occupant with this id.
    Author(String),
    /// A moderator.
    Moderator { by: String, occupant: Option<String>, reason: String },
}

/// Whether a message is taken back by a retraction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is.
    Taken,
    /// It is somebody else's.
    NotTheirs,
    /// Nobody takes it back: the room has said it, or it is a retraction.
    Stays,
}

impl RoomRetraction {
    /// Reads a message that a room passes on or says: with the id of its occupant, and nothing forged. `None`: it retracts
    /// nothing.
    pub fn read(stanza: &[u8]) -> Option<RoomRetraction> {
        with_stanza(stanza, |stanza| {
            let retract = stanza.child("retract", ns::RETRACTION)?;
            let target = retract.attribute("id").filter(|id| !id.is_empty())?.into_owned();
            let common = stanza.common_attributes();
            let by = match is_rooms_own(&common.from?) {
                true => moderator_of(&retract)?,
                false => By::Author(occupant_of(stanza)?.into_owned()),
            };
            Some(RoomRetraction { target, by, id: common.id.map(Cow::into_owned) })
        })
    }

    /// The room's id of what is taken back, as it is written on the wire.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether it takes a message of the room's archive back. What stands for one can be asked about as well.
    pub fn judge(&self, stanza: &[u8]) -> Verdict {
        with_stanza(stanza, |stanza| Some(self.judge_stanza(stanza))).unwrap_or(Verdict::Stays)
    }

    fn judge_stanza(&self, stanza: &Stanza<'_>) -> Verdict {
        if stanza.common_attributes().from.is_none_or(|from| is_rooms_own(&from)) {
            return Verdict::Stays;
        }
        match &self.by {
            By::Moderator { .. } => Verdict::Taken,
            By::Author(author) if occupant_of(stanza).is_none_or(|occupant| occupant != *author) => {
                Verdict::NotTheirs
            }
            By::Author(_) if stanza.child("retract", ns::RETRACTION).is_some() => Verdict::Stays,
            By::Author(_) => Verdict::Taken,
        }
    }

    /// What stands for a message from now on, which was retracted at this time, in milliseconds since 1970; `None`: it is not taken
    /// back by this.
    pub fn replace(&self, stanza: &[u8], retracted_ms: u64) -> Option<Vec<u8>> {
        with_stanza(stanza, |stanza| {
            (self.judge_stanza(stanza) == Verdict::Taken).then(|| self.tombstone(stanza, retracted_ms))
        })
    }

    fn tombstone(&self, stanza: &Stanza<'_>, retracted_ms: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let common = stanza.common_attributes();
        push(&mut out, &["<message"]);
        put("from", common.from.as_deref(), &mut out);
        put("type", common.typ.as_deref(), &mut out);
        put("id", short(common.id.as_deref()), &mut out);
        push(&mut out, &[">"]);
        for (name, namespace) in
            [("occupant-id", ns::OCCUPANT_ID), ("origin-id", ns::STANZA_ID), ("retract", ns::RETRACTION)]
        {
            let id = stanza.child(name, namespace).and_then(|child| child.attribute("id"));
            if let Some(id) = short(id.as_deref()) {
                push(&mut out, &["<", name, " xmlns='", namespace, "'"]);
                push_attribute("id", id, &mut out);
                push(&mut out, &["/>"]);
            }
        }
        push(&mut out, &["<retracted xmlns='", ns::RETRACTION, "'"]);
        put("stamp", Some(&datetime_ms(retracted_ms)), &mut out);
        put("id", short(self.id.as_deref()), &mut out);
        match &self.by {
            By::Author(_) => push(&mut out, &["/>"]),
            By::Moderator { by, occupant, reason } => {
                push(&mut out, &["><moderated xmlns='", ns::MODERATION, "'"]);
                push_attribute("by", by, &mut out);
                push(&mut out, &[">"]);
                if let Some(occupant) = occupant {
                    push(&mut out, &["<occupant-id xmlns='", ns::OCCUPANT_ID, "'"]);
                    push_attribute("id", occupant, &mut out);
                    push(&mut out, &["/>"]);
                }
                push(&mut out, &["</moderated>"]);
                if !reason.is_empty() {
                    push_text("reason", reason, &mut out);
                }
                push(&mut out, &["</retracted>"]);
            }
        }
        push(&mut out, &["</message>"]);
        out
    }
}

/// Whether a stanza that a client has been sent is the message of a room with this id, or a page of the room's archive with it.
pub fn shows(stanza: &[u8], room: &str, target: &str) -> bool {
    // Most are not.
    if memmem::find(stanza, target.as_bytes()).is_none() {
        return false;
    }
    with_stanza(stanza, |stanza| {
        let from = stanza.common_attributes().from?;
        let names_it = |child: &Child<'_>| {
            child.attribute("id").is_some_and(|id| id == target)
                && (child.is("result", ns::ARCHIVE)
                    || child.is("stanza-id", ns::STANZA_ID)
                        && child.attribute("by").is_some_and(|by| by == room))
        };
        (address::bare_of(&from) == room && stanza.children().any(|child| names_it(&child))).then_some(())
    })
    .is_some()
}

/// Whether a message is from the room itself, and from no occupant.
fn is_rooms_own(from: &str) -> bool {
    address::bare_of(from).len() == from.len()
}

fn occupant_of<'a>(stanza: &Stanza<'a>) -> Option<Cow<'a, str>> {
    stanza.child("occupant-id", ns::OCCUPANT_ID)?.attribute("id")
}

fn moderator_of(retract: &Child<'_>) -> Option<By> {
    let retract = Element::parse(retract.bytes()).ok()?;
    let moderated = retract.find("moderated", ns::MODERATION)?;
    let occupant = moderated.find("occupant-id", ns::OCCUPANT_ID).and_then(|id| id.attribute("id"));
    Some(By::Moderator {
        by: moderated.attribute("by")?.to_owned(),
        occupant: occupant.map(str::to_owned),
        reason: reason_of(&retract).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::muc::occupant::OccupantIds;
    use whimbrel_storage::actor::ActorId;

    const RETRACT: &str = "<message from=\"hall@c.x/Romeo\" id='r&amp;1' type='groupchat'>\
        <retract xmlns='urn:xmpp:message-retract:1' id='abc'/><body>it is gone</body>\
        <occupant-id xmlns='urn:xmpp:occupant-id:0' id='romeo'/></message>";

    fn said(from: &str, occupant: &str, inside: &str) -> Vec<u8> {
        format!(
            "<message from='{from}' id='o&lt;1' type='groupchat' xml:lang='en'>{inside}\
             <occupant-id xmlns='urn:xmpp:occupant-id:0' id='{occupant}'/></message>"
        )
        .into_bytes()
    }

    fn occupant() -> OccupantId {
        OccupantIds::new(&[7; 32]).of("nurse@x", ActorId::user(1))
    }

    /// What the room says when the nurse has taken back `abc`.
    fn moderated(reason: &str) -> RoomRetraction {
        let moderation = Moderation { target: "abc".into(), reason: reason.into() };
        let mut out = b"<message from='hall@c.x' id='m1' type='groupchat'>".to_vec();
        Moderated { moderation: &moderation, by: "hall@c.x/N'urse", occupant: occupant() }.write(&mut out);
        out.extend_from_slice(b"</message>");
        RoomRetraction::read(&out).expect("it is one")
    }

    #[test]
    fn a_moderation_says_which_message_and_why() {
        let read = |inside: &str, id: &str| {
            let text = format!("<moderate xmlns='urn:xmpp:message-moderate:1' {id}>{inside}</moderate>");
            Moderation::read(&Element::parse(text.as_bytes()).unwrap())
        };
        let retract = "<retract xmlns='urn:xmpp:message-retract:1'/>";
        let good = read(&format!("{retract}<reason>x &lt; y</reason>"), "id='abc'").unwrap();
        assert_eq!(good, Moderation { target: "abc".into(), reason: "x < y".into() });
        assert_eq!(read(retract, "id='abc'").unwrap().reason, "");
        let long = "x".repeat(1024);
        for (inside, id) in [
            (retract, ""),
            (retract, "id=''"),
            ("<retract/>", "id='abc'"),
            ("", "id='abc'"),
            (&*format!("{retract}<reason>{long}</reason>"), "id='abc'"),
        ] {
            assert!(read(inside, id).is_err(), "{inside} {id}");
        }
    }

    #[test]
    fn authors_take_back_their_own_and_moderators_what_anybody_has_said() {
        let own = RoomRetraction::read(RETRACT.as_bytes()).expect("it is one");
        let by_moderator = moderated("");
        assert_eq!((own.target(), by_moderator.target()), ("abc", "abc"));
        let retract = "<retract xmlns='urn:xmpp:message-retract:1' id='x'/>";
        let table = [
            // The nick may be another by now; the occupant is the same.
            ("hall@c.x/Romeo", "romeo", "<body>a</body>", Verdict::Taken, Verdict::Taken),
            ("hall@c.x/Other", "romeo", "<body>a</body>", Verdict::Taken, Verdict::Taken),
            ("hall@c.x/Romeo", "juliet", "<body>a</body>", Verdict::NotTheirs, Verdict::Taken),
            ("hall@c.x/Romeo", "romeo", retract, Verdict::Stays, Verdict::Taken),
            ("hall@c.x/Juliet", "juliet", retract, Verdict::NotTheirs, Verdict::Taken),
            ("hall@c.x", "romeo", "<body>a</body>", Verdict::Stays, Verdict::Stays),
        ];
        for (from, occupant, inside, by_author, by_other) in table {
            let message = said(from, occupant, inside);
            assert_eq!(
                (own.judge(&message), by_moderator.judge(&message)),
                (by_author, by_other),
                "{from} {inside}"
            );
            assert_eq!(own.replace(&message, 7).is_some(), by_author == Verdict::Taken);
            assert_eq!(by_moderator.replace(&message, 7).is_some(), by_other == Verdict::Taken);
        }
        for none in [
            "<message from='hall@c.x/R'><body/></message>",
            "<message from='hall@c.x/R'><retract xmlns='urn:xmpp:message-retract:1'/></message>",
            "<message from='hall@c.x/R'><retract xmlns='urn:xmpp:message-retract:1' id='a'/></message>",
            "<message from='hall@c.x'><retract xmlns='urn:xmpp:message-retract:1' id='a'/></message>",
            "<message",
        ] {
            assert_eq!(RoomRetraction::read(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn what_stands_for_a_message_says_who_and_why_and_nothing_of_the_text() {
        let inside = "<body>secret</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/><x xmlns='y' secret='secret'/>\
                      <retract xmlns='urn:xmpp:message-retract:1' id='x'><secret/></retract>";
        let tombstone = moderated("a & b").replace(&said("hall@c.x/Romeo", "romeo", inside), 7).unwrap();
        let text = String::from_utf8(tombstone.clone()).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let read = Element::parse(&tombstone).expect("it is well-formed");
        let attributes = ["from", "type", "id"].map(|name| read.attribute(name));
        assert_eq!(attributes, [Some("hall@c.x/Romeo"), Some("groupchat"), Some("o<1")]);
        let id =
            |name: &str, namespace: &str| read.find(name, namespace).and_then(|child| child.attribute("id"));
        assert_eq!(id("occupant-id", ns::OCCUPANT_ID), Some("romeo"));
        assert_eq!((id("origin-id", ns::STANZA_ID), id("retract", ns::RETRACTION)), (Some("o"), Some("x")));
        let retracted = read.find("retracted", ns::RETRACTION).unwrap();
        assert_eq!(retracted.attribute("stamp"), Some("1970-01-01T00:00:00.007Z"));
        assert_eq!(retracted.attribute("id"), Some("m1"));
        let moderated = retracted.find("moderated", ns::MODERATION).unwrap();
        assert_eq!(moderated.attribute("by"), Some("hall@c.x/N'urse"));
        let by = moderated.find("occupant-id", ns::OCCUPANT_ID).and_then(|id| id.attribute("id"));
        assert_eq!(by, Some(occupant().text().as_str()));
        assert_eq!(retracted.find("reason", ns::RETRACTION).unwrap().content(), "a & b");

        let own = RoomRetraction::read(RETRACT.as_bytes()).unwrap();
        let tombstone = own.replace(&said("hall@c.x/Romeo", "romeo", "<body>secret</body>"), 7).unwrap();
        let read = Element::parse(&tombstone).unwrap();
        let retracted = read.find("retracted", ns::RETRACTION).unwrap();
        assert_eq!((retracted.attribute("id"), retracted.elements().count()), (Some("r&1"), 0));
        assert_eq!(own.judge(&tombstone), Verdict::Taken, "it is still known whose it was");
    }

    #[test]
    fn what_a_client_was_sent_of_a_message_is_recognised() {
        let id = "<stanza-id xmlns='urn:xmpp:sid:0' by='hall@c.x' id='abc'/>";
        let result =
            "<result xmlns='urn:xmpp:mam:2' id='abc'><forwarded xmlns='urn:xmpp:forward:0'/></result>";
        let table = [
            ("hall@c.x/Romeo", id, true),
            ("hall@c.x", result, true),
            ("hall@c.x/Romeo", "<reply xmlns='urn:xmpp:reply:0' id='abc'/>", false),
            ("hall@c.x/Romeo", "<stanza-id xmlns='urn:xmpp:sid:0' by='other@c.x' id='abc'/>", false),
            ("hall@c.x", "<retract xmlns='urn:xmpp:message-retract:1' id='abc'/>", false),
            ("garden@c.x/Romeo", id, false),
            ("romeo@x", result, false),
        ];
        for (from, inside, expected) in table {
            assert_eq!(shows(&said(from, "romeo", inside), "hall@c.x", "abc"), expected, "{from} {inside}");
        }
        assert!(!shows(&said("hall@c.x/R", "romeo", id), "hall@c.x", "abd"));
    }
}
