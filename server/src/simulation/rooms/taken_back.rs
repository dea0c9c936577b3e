//! Messages of rooms that are taken back, by their authors or by moderators.

use super::oracle::RoomsOracle;
use super::{RETRACT, ROOMS, room};
use crate::proto::address;
use crate::simulation::oracle::Broken;
use crate::simulation::world::{World, local};
use crate::xml::{CLIENT, Element};
use whimbrel_storage::log::Sequence;

impl RoomsOracle {
    /// What a session has heard in a room since it entered, with the journal's ids; only what one user has said, or what anybody
    /// has.
    pub(in crate::simulation) fn known(
        &self,
        session: usize,
        room: &str,
        of: Option<usize>,
    ) -> Vec<(u32, u64)> {
        let Some(seat) = self.seats.get(&(session, room.to_owned())) else { return Vec::new() };
        let all = seat.iter().filter_map(|id| Some((*self.heard.get(&(room.to_owned(), *id))?, *id)));
        all.filter(|(n, _)| of.is_none_or(|user| self.said[*n as usize].user == user)).collect()
    }

    /// A user, or a moderator (`None`), asks to take a message back.
    pub(in crate::simulation) fn takes_back(&mut self, n: u32, user: Option<usize>) {
        if user.is_none_or(|user| self.said[n as usize].user == user) {
            self.doubtful.insert(n);
        }
    }

    /// Somebody hears that a message is taken back, by a user or by a moderator.
    fn is_taken_back(&mut self, room: &str, id: u64, nick: Option<&str>) -> Result<(), Broken> {
        let Some(n) = self.heard.get(&(room.to_owned(), id)) else {
            return Err(format!("in {room} something is taken back that nobody has heard"));
        };
        let author = self.said[*n as usize].user;
        let is_theirs = nick.is_none_or(|nick| nick.starts_with(&format!("{}.", local(author))));
        if !is_theirs || !self.doubtful.contains(n) {
            return Err(format!("{nick:?} takes message {n} of {room} back, which user {author} has said"));
        }
        self.taken_back.insert(*n);
        Ok(())
    }

    /// A session hears something that was said before it entered.
    pub(super) fn recalls(&self, session: usize, room: &str, n: u32) -> Result<(), Broken> {
        match self.asked.get(&(session, room.to_owned())) {
            Some(gone) if gone.contains(&n) => {
                Err(format!("session {session} hears message {n} of {room}, which was taken back before"))
            }
            _ => Ok(()),
        }
    }
}

impl World {
    /// A message says that another one of the room is taken back.
    pub(super) fn room_takes_back(
        &mut self,
        room: &str,
        element: &Element,
        retract: &Element,
    ) -> Result<(), Broken> {
        let id = retract.attribute("id").and_then(|id| self.shared.archive_ids.open(id)).unwrap_or_default();
        let nick = element.attribute("from").and_then(|from| from.split_once('/')).map(|(_, nick)| nick);
        match self.rooms.is_taken_back(room, id, nick) {
            // Of a message that the room does not have any more it cannot tell whose it was.
            Err(what) if self.is_archived(room, id) => Err(what),
            _ => Ok(()),
        }
    }

    /// What is taken back is in no archive any more. Called when the world is at rest.
    pub(in crate::simulation) fn check_rooms_archives(&mut self) {
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
    pub(in crate::simulation) fn room_archive(&self, jid: &str) -> Result<Vec<(Sequence, Element)>, Broken> {
        match self.stored_room(jid)? {
            Some(record) => self.stanzas_of(record.actor, self.shared.home_of_room(address::local_of(jid))),
            None => Ok(Vec::new()),
        }
    }

    fn is_archived(&self, room: &str, id: u64) -> bool {
        self.room_archive(room).is_ok_and(|all| all.iter().any(|(of, _)| of.0 == id))
    }
}
