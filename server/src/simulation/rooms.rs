//! Rooms: what must be true of them, and what clients make of what they hear from there.
//!
//! The ids that a room gives tell its order. So each seat must hear rising ids, whatever happens to others: then there is one
//! order for everybody. And between the first and the last message that a seat has heard it must have heard all that anybody has;
//! a seat that is still there when the world is at rest, up to the newest. What its author or a moderator has asked to take back may
//! be missing; once anybody has heard that it is taken back, nobody who comes then gets it any more, and the archive does not have it.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_storage::log::Sequence;

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
    /// By number: which user has said it, and where.
    said: Vec<(usize, String)>,
    /// Rooms that a session has ever asked to enter, and what it can never hear there: it had been taken back before.
    asked: BTreeMap<(usize, String), BTreeSet<u32>>,
    /// What somebody who may has asked to take back.
    doubtful: BTreeSet<u32>,
    /// What is taken back, as somebody has heard.
    taken_back: BTreeSet<u32>,
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
        let taken_back = &self.taken_back;
        self.asked.entry((session, room.to_owned())).or_insert_with(|| taken_back.clone());
    }

    /// A user says something to a room; its number.
    pub(super) fn says(&mut self, user: usize, room: &str) -> u32 {
        self.said.push((user, room.to_owned()));
        u32::try_from(self.said.len() - 1).expect("a world says less")
    }

    /// What a session has heard in a room since it entered, with the journal's ids; only what one user has said, or what anybody
    /// has.
    pub(super) fn known(&self, session: usize, room: &str, of: Option<usize>) -> Vec<(u32, u64)> {
        let Some(seat) = self.seats.get(&(session, room.to_owned())) else { return Vec::new() };
        let all = seat.iter().filter_map(|id| Some((*self.heard.get(&(room.to_owned(), *id))?, *id)));
        all.filter(|(n, _)| of.is_none_or(|user| self.said[*n as usize].0 == user)).collect()
    }

    /// A user, or a moderator (`None`), asks to take a message back.
    pub(super) fn takes_back(&mut self, n: u32, user: Option<usize>) {
        if user.is_none_or(|user| self.said[n as usize].0 == user) {
            self.doubtful.insert(n);
        }
    }

    /// Somebody hears that a message is taken back, by a user or by a moderator.
    fn is_taken_back(&mut self, room: &str, id: u64, nick: Option<&str>) -> Result<(), Broken> {
        let Some(n) = self.heard.get(&(room.to_owned(), id)) else {
            return Err(format!("in {room} something is taken back that nobody has heard"));
        };
        let author = &self.said[*n as usize].0;
        let is_theirs = nick.is_none_or(|nick| nick.starts_with(&format!("{}.", local(*author))));
        if !is_theirs || !self.doubtful.contains(n) {
            return Err(format!("{nick:?} takes message {n} of {room} back, which user {author} has said"));
        }
        self.taken_back.insert(*n);
        Ok(())
    }

    /// A session hears something that was said before it entered.
    fn recalls(&self, session: usize, room: &str, n: u32) -> Result<(), Broken> {
        match self.asked.get(&(session, room.to_owned())) {
            Some(gone) if gone.contains(&n) => {
                Err(format!("session {session} hears message {n} of {room}, which was taken back before"))
            }
            _ => Ok(()),
        }
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
            return match self.asked.contains_key(&(session, room.to_owned())) {
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
            let is_sure = |n: &u32| !self.doubtful.contains(n);
            let all = self.heard.range((room.to_owned(), *first)..=(room.to_owned(), until));
            let all = all.filter(|(_, n)| is_sure(n)).count();
            let number = |id: &u64| self.heard.get(&(room.to_owned(), *id));
            let heard = seat.iter().filter_map(number).filter(|n| is_sure(n)).count();
            match all == heard {
                true => Ok(()),
                false => Err(format!("a seat in {room} has heard {heard} of {all} messages")),
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
        if element.attribute("type") != Some("groupchat") {
            return;
        }
        let is_history = element.find("delay", "urn:xmpp:delay").is_some();
        if let Some(retract) = element.find("retract", RETRACT).filter(|_| !is_history) {
            let id = retract.attribute("id").and_then(|id| self.shared.archive_ids.open(id));
            let id = id.unwrap_or_default();
            let nick = element.attribute("from").and_then(|from| from.split_once('/')).map(|(_, nick)| nick);
            // Of a message that the room does not have any more it cannot tell whose it was.
            if let Err(what) = self.rooms.is_taken_back(room, id, nick)
                && self.is_archived(room, id)
            {
                self.fail(what);
            }
            return;
        }
        let Some(body) = element.find("body", CLIENT) else { return };
        let body = body.content();
        let number = body.strip_prefix("g:").and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
        if is_history {
            let recalled = number.map_or(Ok(()), |n| self.rooms.recalls(session, room, n));
            return recalled.unwrap_or_else(|what| self.fail(what));
        }
        let id = element.find("stanza-id", "urn:xmpp:sid:0").and_then(|id| id.attribute("id"));
        let id = id.and_then(|id| self.shared.archive_ids.open(id));
        let (Some(n), Some(id)) = (number.filter(|n| text(*n) == body), id) else {
            return self.fail(format!("client {index} hears in {room} what nobody has said: {element:?}"));
        };
        if let Err(what) = self.rooms.hears(session, room, (n, id)) {
            self.fail(what);
        }
    }

    /// What is taken back is in no archive any more. Called when the world is at rest.
    pub(super) fn check_rooms_archives(&mut self) {
        for number in 0..ROOMS {
            if let Err(what) = self.check_rooms_archive(number) {
                return self.fail(format!("the archive of room {number}: {what}"));
            }
        }
    }

    fn check_rooms_archive(&self, number: usize) -> Result<(), Broken> {
        let jid = room(number);
        for (id, stanza) in self.room_archive(&jid)? {
            let n = self.rooms.heard.get(&(jid.clone(), id.0));
            let Some(n) = n.filter(|n| self.rooms.taken_back.contains(n)) else { continue };
            if stanza.find("retracted", RETRACT).is_none() || stanza.find("body", CLIENT).is_some() {
                return Err(format!("message {n} was taken back and can be read"));
            }
        }
        Ok(())
    }

    /// What the archive of a room has; nothing, if there is no such room now. It may be another one than was spoken in.
    fn room_archive(&self, jid: &str) -> Result<Vec<(Sequence, Element)>, Broken> {
        let name = jid.split('@').next().unwrap_or_default();
        match self.shared.directory.room(name).map_err(|error| error.to_string())? {
            Some(record) => self.stanzas_of(record.actor, self.shared.home_of_room(name)),
            None => Ok(Vec::new()),
        }
    }

    fn is_archived(&self, room: &str, id: u64) -> bool {
        self.room_archive(room).is_ok_and(|all| all.iter().any(|(of, _)| of.0 == id))
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
