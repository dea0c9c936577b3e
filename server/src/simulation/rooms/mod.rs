//! Rooms: what must be true of them, and what clients make of what they hear from there.
//!
//! | module | what |
//! | --- | --- |
//! | here | names, and what stanzas of rooms say |
//! | [`oracle`] | the rules for what is heard, and for archives |
//! | [`fleeting`] | what is in no archive |
//! | [`taken_back`] | what its author or a moderator takes back |
//! | [`server`] | what the server itself has of rooms: archives, seats |

mod fleeting;
mod oracle;
mod server;
mod taken_back;

pub(super) use oracle::{Bar, RoomsOracle, Told};

use super::client::Wanted;
use super::oracle::Broken;
use super::world::{DOMAIN, World, local};
use crate::xml::{CLIENT, Element};

const USER: &str = "http://jabber.org/protocol/muc#user";
const RETRACT: &str = "urn:xmpp:message-retract:1";
const OWNER: &str = "http://jabber.org/protocol/muc#owner";

/// Rooms of a world.
pub(super) const ROOMS: usize = 3;

/// The address of a room.
pub(super) fn room(number: usize) -> String {
    format!("hall{number}@conference.{DOMAIN}")
}

/// The nick of a client in every room. All clients of every second user have the same.
pub(super) fn nick(user: usize, resource: &str) -> String {
    let resource = if user.is_multiple_of(2) { "" } else { resource };
    format!("{}.{resource}", local(user))
}

/// Another nick of the same client.
pub(super) fn other_nick(user: usize, resource: &str, number: usize) -> String {
    format!("{}-{number}", nick(user, resource))
}

/// The request that has a room configured, by the names and values of fields without what all names begin with.
pub(super) fn configuration(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("<field var='muc#roomconfig_{name}'><value>{value}</value></field>")
    };
    let fields: String = fields.iter().map(field).collect();
    let typ = "http://jabber.org/protocol/muc#roomconfig";
    let form = format!("<field var='FORM_TYPE' type='hidden'><value>{typ}</value></field>{fields}");
    format!("<query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'>{form}</x></query>")
}

/// The request that ends a room.
pub(super) fn destruction() -> String {
    format!("<query xmlns='{OWNER}'><destroy><reason>over</reason></destroy></query>")
}

/// The text of message `n` to a room.
pub(super) fn text(n: u32) -> String {
    format!("g:{n}:{}", "y".repeat(n as usize % 50))
}

/// The number of a message to a room, from its text.
pub(super) fn number_of(body: &str) -> Option<u32> {
    let number = body.strip_prefix("g:")?.split(':').next()?.parse().ok()?;
    (text(number) == body).then_some(number)
}

/// The room of an address.
pub(super) fn room_of(from: &str) -> Option<&str> {
    let bare = from.split('/').next()?;
    bare.ends_with(&format!("@conference.{DOMAIN}")).then_some(bare)
}

/// What a presence of a room says to the session that gets it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is in the room; whether it has made it.
    Begins { is_made: bool },
    /// It is not in it any more.
    Ends,
    /// It does not come in, or is answered with another error.
    Refused,
    /// Something else.
    Other,
}

/// Reads a presence of a room.
pub(super) fn stay(element: &Element) -> Stay {
    let x = element.find("x", USER);
    let statuses = x.into_iter().flat_map(Element::elements).filter(|child| child.name() == "status");
    let codes: Vec<&str> = statuses.filter_map(|status| status.attribute("code")).collect();
    let is_destroyed = x.is_some_and(|x| x.find("destroy", USER).is_some());
    match element.attribute("type") {
        // It has another nick (§7.6).
        Some("unavailable") if codes.contains(&"303") => Stay::Other,
        Some("error") => Stay::Refused,
        None if codes.contains(&"110") => Stay::Begins { is_made: codes.contains(&"201") },
        Some("unavailable") if codes.contains(&"110") || is_destroyed => Stay::Ends,
        _ => Stay::Other,
    }
}

/// The request that opens a room as it is.
pub(super) fn opening() -> String {
    format!("<query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'/></query>")
}

impl World {
    /// A session of a client hears something that was said in a room.
    pub(super) fn room_message_heard(
        &mut self,
        (session, index): (usize, usize),
        room: &str,
        element: &Element,
    ) {
        if element.attribute("type") == Some("groupchat")
            && let Err(what) = self.hear_in_room((session, index), room, element)
        {
            self.fail(what);
        }
    }

    fn hear_in_room(
        &mut self,
        (session, index): (usize, usize),
        room: &str,
        element: &Element,
    ) -> Result<(), Broken> {
        let is_history = element.find("delay", "urn:xmpp:delay").is_some();
        if let Some(retract) = element.find("retract", RETRACT).filter(|_| !is_history) {
            return self.room_takes_back(room, element, retract);
        }
        let Some(body) = element.find("body", CLIENT) else { return Ok(()) };
        if let Some(n) = fleeting::number_of(&body.content()) {
            return self.rooms.fleeting.hears(session, room, n);
        }
        let number = number_of(&body.content());
        if is_history {
            return number.map_or(Ok(()), |n| self.rooms.recalls(session, room, n));
        }
        let id = element.find("stanza-id", "urn:xmpp:sid:0").and_then(|id| id.attribute("id"));
        let id = id.and_then(|id| self.shared.archive_ids.open(id));
        let Some(heard) = number.zip(id) else {
            return Err(format!("client {index} hears in {room} what nobody has said: {element:?}"));
        };
        self.rooms.hears((session, self.clients[index].user), room, heard)
    }

    /// Presence comes from a room to a session of a user. Whether it has made the room just now.
    pub(super) fn room_presence_heard(
        &mut self,
        (session, user): (usize, usize),
        room: &str,
        element: &Element,
    ) -> bool {
        match stay(element) {
            Stay::Begins { is_made } => {
                let from = element.attribute("from").and_then(|from| from.split_once('/'));
                let nick = from.map_or("", |(_, nick)| nick);
                if let Err(what) = self.rooms.enters((session, user), room, nick) {
                    self.fail(what);
                }
                is_made
            }
            Stay::Refused => {
                self.rooms.is_refused(session, room);
                false
            }
            Stay::Ends => {
                self.rooms.leaves(session, room);
                false
            }
            Stay::Other => false,
        }
    }

    /// A client has made a room and opens it.
    pub(super) fn open_room(&mut self, index: usize, room: &str) {
        self.ask(index, "set", Some(room), &opening(), Wanted::Anything);
    }
}
