//! Rooms: what must be true of them, and what clients make of what they hear from there.
//!
//! The ids that a room gives tell its order. So each seat must hear rising ids, whatever happens to others: then there is one
//! order for everybody. And between the first and the last message that a seat has heard it must have heard all that anybody has;
//! a seat that is still there when the world is at rest, up to the newest.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Wanted;
use super::oracle::Broken;
use super::world::{DOMAIN, World, local};
use crate::xml::{CLIENT, Element};

const USER: &str = "http://jabber.org/protocol/muc#user";
const OWNER: &str = "http://jabber.org/protocol/muc#owner";

/// Rooms of a world.
pub(super) const ROOMS: usize = 3;

/// The address of a room.
pub(super) fn room(number: usize) -> String {
    format!("hall{number}@conference.{DOMAIN}")
}

/// The nick of a client in every room.
pub(super) fn nick(user: usize, resource: &str) -> String {
    format!("{}.{resource}", local(user))
}

/// The text of message `n` to a room.
pub(super) fn text(n: u32) -> String {
    format!("g:{n}:{}", "y".repeat(n as usize % 50))
}

/// What is known of all rooms.
#[derive(Debug, Default)]
pub(super) struct RoomsOracle {
    /// By number: which session has said it, and where.
    said: Vec<(usize, String)>,
    /// Rooms that a session has ever asked to enter.
    asked: BTreeSet<(usize, String)>,
    /// Seats that sessions believe to have: ids of the messages heard.
    seats: BTreeMap<(usize, String), Vec<u64>>,
    /// Seats that have ended.
    ended: Vec<(String, Vec<u64>)>,
    /// Everything that anybody has heard: in which room, with which id, which number.
    heard: BTreeMap<(String, u64), u32>,
    /// Messages heard, over all seats.
    pub(super) count: u64,
}

impl RoomsOracle {
    /// A session asks to enter a room.
    pub(super) fn asks(&mut self, session: usize, room: &str) {
        self.asked.insert((session, room.to_owned()));
    }

    /// A session says something to a room; its number.
    pub(super) fn says(&mut self, session: usize, room: &str) -> u32 {
        self.said.push((session, room.to_owned()));
        u32::try_from(self.said.len() - 1).expect("a world says less")
    }

    /// The rooms in which a session believes to be.
    pub(super) fn of(&self, session: usize) -> Vec<String> {
        let seats = self.seats.keys().filter(|(of, _)| *of == session);
        seats.map(|(_, room)| room.clone()).collect()
    }

    fn enters(&mut self, session: usize, room: &str) {
        self.seats.entry((session, room.to_owned())).or_default();
    }

    fn leaves(&mut self, session: usize, room: &str) {
        if let Some(heard) = self.seats.remove(&(session, room.to_owned())) {
            self.ended.push((room.to_owned(), heard));
        }
    }

    /// A session is over.
    pub(super) fn over(&mut self, session: usize) {
        for room in self.of(session) {
            self.leaves(session, &room);
        }
    }

    fn hears(&mut self, session: usize, room: &str, (n, id): (u32, u64)) -> Result<(), Broken> {
        let known = self.said.get(n as usize);
        if known.is_none_or(|(_, of)| of != room) {
            return Err(format!("session {session} hears in {room} what was not said there: {n}"));
        }
        if self.heard.insert((room.to_owned(), id), n).is_some_and(|other| other != n) {
            return Err(format!("two messages of {room} have the id {id}"));
        }
        let Some(seat) = self.seats.get_mut(&(session, room.to_owned())) else {
            // It has just left, or is about to enter.
            return match self.asked.contains(&(session, room.to_owned())) {
                true => Ok(()),
                false => Err(format!("session {session} hears of {room}, where it never wanted to be")),
            };
        };
        if seat.last().is_some_and(|last| *last >= id) {
            return Err(format!("session {session} hears message {n} of {room} out of order, or twice"));
        }
        seat.push(id);
        self.count += 1;
        Ok(())
    }

    /// Whether every seat has heard all between the first and the last message that it heard, and those that are still there
    /// all up to the newest. Called when the world is at rest.
    pub(super) fn judge(&mut self) -> Result<(), Broken> {
        let ended = std::mem::take(&mut self.ended);
        let whole = |room: &str, seat: &[u64], is_there: bool| {
            let Some((first, last)) = seat.first().zip(seat.last()) else { return Ok(()) };
            let until = if is_there { u64::MAX } else { *last };
            let all = self.heard.range((room.to_owned(), *first)..=(room.to_owned(), until)).count();
            match all == seat.len() {
                true => Ok(()),
                false => Err(format!("a seat in {room} has heard {} of {all} messages", seat.len())),
            }
        };
        for (room, seat) in &ended {
            whole(room, seat, false)?;
        }
        self.seats.iter().try_for_each(|((_, room), seat)| whole(room, seat, true))
    }
}

/// The room of an address.
pub(super) fn room_of(from: &str) -> Option<&str> {
    let bare = from.split('/').next()?;
    bare.ends_with(&format!("@conference.{DOMAIN}")).then_some(bare)
}

impl World {
    /// A message comes from a room.
    pub(super) fn room_message_heard(&mut self, index: usize, room: &str, element: &Element) {
        let Some(session) = self.clients[index].live.as_ref().map(|live| live.id) else { return };
        let is_history = element.find("delay", "urn:xmpp:delay").is_some();
        let Some(body) = element.find("body", CLIENT).filter(|_| !is_history) else { return };
        if element.attribute("type") != Some("groupchat") {
            return;
        }
        let body = body.content();
        let number = body.strip_prefix("g:").and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
        let id = element.find("stanza-id", "urn:xmpp:sid:0").and_then(|id| id.attribute("id"));
        let id = id.and_then(|id| self.shared.archive_ids.open(id));
        let (Some(n), Some(id)) = (number.filter(|n| text(*n) == body), id) else {
            return self.fail(format!("client {index} hears in {room} what nobody has said: {element:?}"));
        };
        if let Err(what) = self.rooms.hears(session, room, (n, id)) {
            self.fail(what);
        }
    }

    /// Presence comes from a room.
    pub(super) fn room_presence_heard(&mut self, index: usize, room: &str, element: &Element) {
        let Some(session) = self.clients[index].live.as_ref().map(|live| live.id) else { return };
        let codes: Vec<&str> = element
            .find("x", USER)
            .into_iter()
            .flat_map(|x| x.elements().filter(|child| child.name() == "status"))
            .filter_map(|status| status.attribute("code"))
            .collect();
        let is_destroyed = element.find("x", USER).is_some_and(|x| x.find("destroy", USER).is_some());
        match element.attribute("type") {
            None if codes.contains(&"110") => {
                self.rooms.enters(session, room);
                if codes.contains(&"201") {
                    let form = "<x xmlns='jabber:x:data' type='submit'/>";
                    let query = format!("<query xmlns='{OWNER}'>{form}</query>");
                    self.ask(index, "set", Some(room), &query, Wanted::Anything);
                }
            }
            Some("unavailable") if codes.contains(&"110") || is_destroyed => self.rooms.leaves(session, room),
            _ => {}
        }
    }
}
