//! Invitations: through the room (XEP-0045 §7.8.2), around it (XEP-0249), and declining them.

use whimbrel_storage::jid::Jid;

use super::{bad, malformed, push, push_attribute, push_text, reason_of};
use crate::proto::errors::StanzaError;
use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::xml::Element;

/// Invitations that one message may have.
pub const INVITES_MAX: usize = 32;

/// Most bytes of the thread that goes on in a room.
const THREAD_BYTES_MAX: usize = 1023;

/// An invitation that the room is to pass on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invite {
    /// Who is invited.
    pub to: Jid,
    /// Why; empty for nothing.
    pub reason: String,
    /// A conversation of two goes on in the room (§7.9): its thread, perhaps empty.
    pub thread: Option<String>,
}

/// An answer to an invitation that the room is to pass on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decline {
    /// Who has invited.
    pub to: Jid,
    /// Why; empty for nothing.
    pub reason: String,
}

/// What a message to a room asks it to pass on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mediated {
    /// Invitations.
    Invites(Vec<Invite>),
    /// An answer to one.
    Decline(Decline),
}

impl Mediated {
    /// Reads `<x/>` of `muc#user` in a message to a room; `None`: it is neither.
    ///
    /// # Errors
    /// `jid-malformed`; `bad-request` for an invitation of nobody, or too many; `not-acceptable` for too long a reason.
    pub fn read(x: &Element) -> Result<Option<Mediated>, StanzaError> {
        let (mut invites, letters) = (Vec::new(), Letters::of_list());
        for child in x.elements().filter(|child| child.namespace() == ns::MUC_USER) {
            match child.name() {
                "invite" if invites.len() >= INVITES_MAX => {
                    return Err(bad("there are too many invitations in one message"));
                }
                "invite" => {
                    child.attribute("to").map_or(Ok(()), |to| letters.check(to))?;
                    invites.push(invite_of(child)?);
                }
                "decline" if invites.is_empty() => {
                    let decline = Decline { to: address_of(child)?, reason: reason_of(child)? };
                    return Ok(Some(Mediated::Decline(decline)));
                }
                _ => {}
            }
        }
        Ok(Some(invites).filter(|invites| !invites.is_empty()).map(Mediated::Invites))
    }
}

fn address_of(child: &Element) -> Result<Jid, StanzaError> {
    let to = child.attribute("to").ok_or_else(|| bad("it is not said whom this is for"))?;
    Jid::parse(to).map_err(malformed)
}

fn invite_of(child: &Element) -> Result<Invite, StanzaError> {
    let thread =
        child.find("continue", ns::MUC_USER).map(|again| again.attribute("thread").unwrap_or("").to_owned());
    if thread.as_ref().is_some_and(|thread| thread.len() > THREAD_BYTES_MAX) {
        return Err(bad("the thread's name is too long"));
    }
    Ok(Invite { to: address_of(child)?, reason: reason_of(child)?, thread })
}

/// An invitation as it is passed on: who invites, as far as the invitee may know, and what else there is to say.
#[derive(Clone, Copy, Debug)]
pub struct PassedInvite<'a> {
    /// Who invites: bare JID, or occupant JID.
    pub from: &'a str,
    /// Why; empty for nothing.
    pub reason: &'a str,
    /// As in [`Invite::thread`].
    pub thread: Option<&'a str>,
    /// The room's password; empty for none.
    pub password: &'a str,
}

impl PassedInvite<'_> {
    /// Appends `<x/>` of `muc#user`.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<x xmlns='", ns::MUC_USER, "'><invite"]);
        push_attribute("from", self.from, out);
        if self.reason.is_empty() && self.thread.is_none() {
            push(out, &["/>"]);
        } else {
            push(out, &[">"]);
            if !self.reason.is_empty() {
                push_text("reason", self.reason, out);
            }
            if let Some(thread) = self.thread {
                push(out, &["<continue"]);
                if !thread.is_empty() {
                    push_attribute("thread", thread, out);
                }
                push(out, &["/>"]);
            }
            push(out, &["</invite>"]);
        }
        if !self.password.is_empty() {
            push_text("password", self.password, out);
        }
        push(out, &["</x>"]);
    }
}

/// Appends `<x/>` of `muc#user` with a declined invitation, as it is passed on to whoever has invited.
pub fn write_decline(from: &str, reason: &str, out: &mut Vec<u8>) {
    push(out, &["<x xmlns='", ns::MUC_USER, "'><decline"]);
    push_attribute("from", from, out);
    if reason.is_empty() {
        return push(out, &["/></x>"]);
    }
    push(out, &[">"]);
    push_text("reason", reason, out);
    push(out, &["</decline></x>"]);
}

/// An invitation that one user sends another (XEP-0249).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectInvite {
    /// The room: bare JID.
    pub room: Jid,
    /// Its password; empty for none.
    pub password: String,
    /// Why; empty for nothing.
    pub reason: String,
}

impl DirectInvite {
    /// Reads `<x/>` of `jabber:x:conference`; `None`: it names no room.
    pub fn read(x: &Element) -> Option<DirectInvite> {
        let room = Jid::parse(x.attribute("jid")?).ok()?;
        let text = |name| x.attribute(name).unwrap_or_default().to_owned();
        Some(DirectInvite { room: room.to_bare(), password: text("password"), reason: text("reason") })
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<x xmlns='", ns::CONFERENCE, "'"]);
        push_attribute("jid", self.room.as_str(), out);
        for (name, text) in [("password", &self.password), ("reason", &self.reason)] {
            if !text.is_empty() {
                push_attribute(name, text, out);
            }
        }
        push(out, &["/>"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::errors::StanzaCondition;

    fn element(text: &str) -> Element {
        Element::parse(text.as_bytes()).unwrap()
    }

    fn read(inside: &str) -> Result<Option<Mediated>, StanzaCondition> {
        let x = element(&format!("<x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x>"));
        Mediated::read(&x).map_err(|error| error.condition)
    }

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    #[test]
    fn invitations_and_answers_are_told_from_other_things() {
        let invite = |to: &str, reason: &str, thread: Option<&str>| Invite {
            to: jid(to),
            reason: reason.into(),
            thread: thread.map(str::to_owned),
        };
        let table = [
            ("", None),
            ("<item affiliation='none'/>", None),
            ("<invite xmlns='urn:x' to='a@x'/>", None),
            ("<invite to='a@x'/>", Some(Mediated::Invites(vec![invite("a@x", "", None)]))),
            (
                "<invite to='A@x/r'><reason>a &lt; b</reason><continue thread='t'/></invite><invite to='b@x'><continue/></invite>",
                Some(Mediated::Invites(vec![
                    invite("a@x/r", "a < b", Some("t")),
                    invite("b@x", "", Some("")),
                ])),
            ),
            (
                "<decline to='a@x'><reason>no</reason></decline>",
                Some(Mediated::Decline(Decline { to: jid("a@x"), reason: "no".into() })),
            ),
        ];
        for (inside, expected) in table {
            assert_eq!(read(inside), Ok(expected), "{inside}");
        }
    }

    #[test]
    fn invitations_of_nobody_are_refused() {
        let many = "<invite to='a@x'/>".repeat(INVITES_MAX + 1);
        let table = [
            ("<invite/>", StanzaCondition::BadRequest),
            ("<invite to='@'/>", StanzaCondition::JidMalformed),
            ("<decline to=''/>", StanzaCondition::JidMalformed),
            (&many, StanzaCondition::BadRequest),
        ];
        for (inside, expected) in table {
            assert_eq!(read(inside), Err(expected), "{inside:.80}");
        }
    }

    #[test]
    fn what_is_passed_on_is_escaped() {
        let mut out = Vec::new();
        PassedInvite { from: "a@x/'r'", reason: "", thread: None, password: "" }.write(&mut out);
        PassedInvite { from: "a@x", reason: "<", thread: Some("t'"), password: "&" }.write(&mut out);
        write_decline("b@x", "", &mut out);
        write_decline("b@x", ">", &mut out);
        let x = "<x xmlns='http://jabber.org/protocol/muc#user'>";
        let expected = format!(
            "{x}<invite from='a@x/&apos;r&apos;'/></x>\
             {x}<invite from='a@x'><reason>&lt;</reason><continue thread='t&apos;'/></invite><password>&amp;</password></x>\
             {x}<decline from='b@x'/></x>{x}<decline from='b@x'><reason>&gt;</reason></decline></x>"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_direct_invitation_reads_back_as_it_was_written() {
        let invite = DirectInvite { room: jid("r@c.x"), password: "p'".into(), reason: "<r>".into() };
        let mut out = Vec::new();
        invite.write(&mut out);
        assert_eq!(DirectInvite::read(&Element::parse(&out).unwrap()), Some(invite));
        for nothing in ["<x xmlns='jabber:x:conference'/>", "<x xmlns='jabber:x:conference' jid='@'/>"] {
            assert_eq!(DirectInvite::read(&element(nothing)), None);
        }
    }
}
