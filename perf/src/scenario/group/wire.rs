//! The stanzas. What is sent to the bare fan-out of `floor` has the same bytes, so that it moves as many.

use crate::engine::scan::Element;

/// What somebody of the crowd has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scenario) enum Heard {
    /// Message of this number, by the room.
    Message(u32),
    /// Message of this number, from the other of the pair.
    Beside(u32),
    /// It has entered: all presences have come.
    Entered,
    /// It has left.
    Left,
    /// The room that it has made is open.
    Opened,
    /// Something was refused.
    Refused,
    /// Anything else.
    Nothing,
}

/// A room's address.
pub(in crate::scenario) fn room(domain: &str, name: &str) -> String {
    format!("{name}@conference.{domain}")
}

/// Enters without history.
pub(in crate::scenario) fn join(room: &str, nick: u64) -> String {
    format!(
        "<presence to='{room}/n{nick}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"
    )
}

/// Leaves.
pub(in crate::scenario) fn leave(room: &str, nick: u64) -> String {
    format!("<presence to='{room}/n{nick}' type='unavailable'/>")
}

/// Opens a room that was just made, as it comes (XEP-0045 §10.1.2).
pub(in crate::scenario) fn open(room: &str) -> String {
    format!(
        "<iq type='set' to='{room}' id='open'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='submit'/></query></iq>"
    )
}

/// As [`open`], a room that stays when its last occupant has left.
pub(in crate::scenario) fn open_for_good(room: &str) -> String {
    format!(
        "<iq type='set' to='{room}' id='open'><query xmlns='http://jabber.org/protocol/muc#owner'>\
         <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_persistentroom'><value>1</value></field></x></query></iq>"
    )
}

/// A message to all in the room.
pub(in crate::scenario) fn message(room: &str, number: u32, body_bytes: usize) -> String {
    let mut text = format!("<message to='{room}' type='groupchat' id='g{number}'><body>");
    text.extend(std::iter::repeat_n('x', body_bytes));
    text.push_str("</body></message>");
    text
}

/// A message to the other of the pair.
pub(in crate::scenario) fn beside(to: &str, number: u32) -> String {
    format!("<message to='{to}' type='chat' id='b{number}'><body>beside</body></message>")
}

/// What a stanza says to one of the crowd.
pub(in crate::scenario) fn heard(element: &Element<'_>) -> Heard {
    let is_error = element.attribute(b"type") == Some(b"error");
    match element.name() {
        b"message" | b"presence" | b"iq" if is_error => Heard::Refused,
        b"iq" if element.attribute(b"id") == Some(b"open") => Heard::Opened,
        b"presence" if element.contains(b"'110'") || element.contains(b"\"110\"") => {
            match element.attribute(b"type") {
                Some(b"unavailable") => Heard::Left,
                _ => Heard::Entered,
            }
        }
        b"message" => numbered(element.attribute(b"id").unwrap_or_default()),
        _ => Heard::Nothing,
    }
}

fn numbered(id: &[u8]) -> Heard {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    match id {
        [b'g', digits @ ..] => number(digits).map_or(Heard::Nothing, Heard::Message),
        [b'b', digits @ ..] => number(digits).map_or(Heard::Nothing, Heard::Beside),
        _ => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    fn heard_in(text: &str) -> Heard {
        match scan::next(text.as_bytes()) {
            Ok(Some((Item::Element(element), _))) => heard(&element),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_comes_is_told_apart() {
        let room = room("x", "r");
        let own =
            "<presence><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>";
        let table = [
            (message(&room, 7, 3), Heard::Message(7)),
            (beside("a@x", 8), Heard::Beside(8)),
            (own.to_owned(), Heard::Entered),
            (own.replace("<presence>", "<presence type=\"unavailable\">").replace('\'', "\""), Heard::Left),
            ("<presence from='r@x/n'/>".into(), Heard::Nothing),
            ("<presence type='error'/>".into(), Heard::Refused),
            ("<iq type='result' id='open'/>".into(), Heard::Opened),
            ("<message type='groupchat'><subject/></message>".into(), Heard::Nothing),
            ("<message id='gx'/>".into(), Heard::Nothing),
        ];
        for (text, expected) in table {
            assert_eq!(heard_in(&text), expected, "{text}");
        }
    }
}
