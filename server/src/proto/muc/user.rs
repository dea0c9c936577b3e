//! What a room tells of an occupant, or of somebody who belongs to it: `<x/>` of `muc#user` (XEP-0045 §7.2.2 and others).

use super::role::{Affiliation, Role, affiliation_name};
use super::status::Status;
use super::versions::Versions;
use super::{push, push_attribute, push_text};
use crate::proto::ns;

/// `<item/>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserItem<'a> {
    /// What it is to the room.
    pub affiliation: Affiliation,
    /// What it may do; `None`: it is not said.
    pub role: Option<Role>,
    /// Its JID, where the recipient may see it.
    pub jid: Option<&'a str>,
    /// Its nick, where the address of the stanza does not say it, or its new nick.
    pub nick: Option<&'a str>,
    /// The nick of whoever has changed it.
    pub actor: Option<&'a str>,
    /// Why; empty for nothing.
    pub reason: &'a str,
    /// Which change of the list this is, or which list it belongs to: said beside it.
    pub versions: Option<Versions<'a>>,
}

/// What becomes of a room that is destroyed (§10.9).
#[derive(Clone, Copy, Debug, Default)]
pub struct DestroyedRoom<'a> {
    /// Where to go instead.
    pub alternate: Option<&'a str>,
    /// The password there.
    pub password: Option<&'a str>,
    /// Why; empty for nothing.
    pub reason: &'a str,
}

impl UserItem<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<item affiliation='", affiliation_name(self.affiliation), "'"]);
        if let Some(role) = self.role {
            push(out, &[" role='", role.name(), "'"]);
        }
        for (name, value) in [("jid", self.jid), ("nick", self.nick)] {
            if let Some(value) = value {
                push_attribute(name, value, out);
            }
        }
        if self.actor.is_none() && self.reason.is_empty() {
            return push(out, &["/>"]);
        }
        push(out, &[">"]);
        if let Some(actor) = self.actor {
            push(out, &["<actor"]);
            push_attribute("nick", actor, out);
            push(out, &["/>"]);
        }
        if !self.reason.is_empty() {
            push_text("reason", self.reason, out);
        }
        push(out, &["</item>"]);
    }
}

/// Appends `<x>` with what `content` writes in it.
pub fn write_x(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    push(out, &["<x xmlns='", ns::MUC_USER, "'>"]);
    content(out);
    push(out, &["</x>"]);
}

/// Appends `<x>` of a presence: an item and status codes.
pub fn write_presence(item: &UserItem<'_>, statuses: impl IntoIterator<Item = Status>, out: &mut Vec<u8>) {
    write_x(out, |out| {
        if let Some(versions) = &item.versions {
            versions.write(out);
        }
        item.write(out);
        statuses.into_iter().for_each(|status| status.write(out));
    });
}

/// Appends `<x>` of a message that tells of the configuration or of the room itself: status codes alone.
pub fn write_statuses(statuses: impl IntoIterator<Item = Status>, out: &mut Vec<u8>) {
    write_x(out, |out| statuses.into_iter().for_each(|status| status.write(out)));
}

/// Appends `<x>` of the presence by which occupants hear that the room is destroyed.
pub fn write_destroyed(destroyed: &DestroyedRoom<'_>, out: &mut Vec<u8>) {
    write_x(out, |out| {
        UserItem { role: Some(Role::None), ..UserItem::default() }.write(out);
        push(out, &["<destroy"]);
        if let Some(alternate) = destroyed.alternate {
            push_attribute("jid", alternate, out);
        }
        if destroyed.password.is_none() && destroyed.reason.is_empty() {
            return push(out, &["/>"]);
        }
        push(out, &[">"]);
        if let Some(password) = destroyed.password {
            push_text("password", password, out);
        }
        if !destroyed.reason.is_empty() {
            push_text("reason", destroyed.reason, out);
        }
        push(out, &["</destroy>"]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        Element::parse(&out).unwrap_or_else(|error| panic!("{error}: {}", out.escape_ascii()));
        String::from_utf8(out).unwrap()
    }

    const X: &str = "<x xmlns='http://jabber.org/protocol/muc#user'>";

    #[test]
    fn a_presence_has_its_item_and_its_codes() {
        let item = UserItem {
            affiliation: Affiliation::Member,
            role: Some(Role::Participant),
            ..UserItem::default()
        };
        let out = written(|out| {
            write_presence(&item, [Status::NonAnonymous, Status::SelfPresence], out);
        });
        let expected =
            "<item affiliation='member' role='participant'/><status code='100'/><status code='110'/></x>";
        assert_eq!(out, format!("{X}{expected}"));
    }

    #[test]
    fn an_item_is_escaped_and_says_who_and_why() {
        let item = UserItem {
            affiliation: Affiliation::Outcast,
            role: Some(Role::None),
            jid: Some("a&b@x/'r'"),
            nick: Some("<n>"),
            actor: Some("a'c"),
            reason: "x < y",
            versions: Some(Versions { since: Some("1"), until: "2" }),
        };
        let out = written(|out| write_presence(&item, [Status::Banned], out));
        let expected = "<mav xmlns='urn:xmpp:muc:affiliations:1' since='1' until='2'/>\
            <item affiliation='outcast' role='none' jid='a&amp;b@x/&apos;r&apos;' nick='&lt;n&gt;'>\
            <actor nick='a&apos;c'/><reason>x &lt; y</reason></item><status code='301'/></x>";
        assert_eq!(out, format!("{X}{expected}"));
    }

    #[test]
    fn a_destroyed_room_says_where_to_go() {
        let nothing = written(|out| write_destroyed(&DestroyedRoom::default(), out));
        assert_eq!(nothing, format!("{X}<item affiliation='none' role='none'/><destroy/></x>"));
        let destroyed = DestroyedRoom { alternate: Some("b@c.x"), password: Some("p&q"), reason: "moved" };
        let out = written(|out| write_destroyed(&destroyed, out));
        let expected = "<item affiliation='none' role='none'/>\
            <destroy jid='b@c.x'><password>p&amp;q</password><reason>moved</reason></destroy></x>";
        assert_eq!(out, format!("{X}{expected}"));
    }
}
