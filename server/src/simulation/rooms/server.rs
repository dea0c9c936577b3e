//! What the server itself has of rooms, beside what clients have heard: archives, seats, memberships.

use std::collections::BTreeSet;

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::rooms::{Affiliation, Room};

use super::{ROOMS, number_of, room};
use crate::proto::{address, ns};
use crate::simulation::oracle::Broken;
use crate::simulation::world::{World, bare, local, user_of};
use crate::xml::CLIENT;

impl World {
    /// The room of an address, as the directory has it.
    pub(in crate::simulation) fn stored_room(&self, jid: &str) -> Result<Option<Room>, Broken> {
        self.shared.directory.room(address::local_of(jid)).map_err(words)
    }

    /// Checks the archive of a room that must be there.
    pub(in crate::simulation) fn check_room_archive(&mut self, jid: &str) -> Result<(), Broken> {
        if self.stored_room(jid)?.is_none() {
            return Err(format!("{jid} is gone"));
        }
        let found = self.said_in(jid)?;
        self.rooms.check_archive(jid, &found)
    }

    /// Checks the archive of a room that may be another one than was spoken in.
    pub(in crate::simulation) fn check_late_archive(&self, jid: &str) -> Result<(), Broken> {
        let found = self.said_in(jid)?;
        self.rooms.check_found(jid, &found).map(|_| ())
    }

    /// What was said in a room, as its archive has it: ids and numbers.
    fn said_in(&self, jid: &str) -> Result<Vec<(u64, u32)>, Broken> {
        let all = self.room_archive(jid).map_err(|what| format!("the archive of {jid}: {what}"))?;
        let found = all.iter().map(|(id, stanza)| {
            let body = stanza.find("body", CLIENT).map(|body| body.content().into_owned());
            body.and_then(|body| number_of(&body)).map(|n| (id.0, n))
        });
        found
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("the archive of {jid} has what nobody has said"))
    }

    /// Checks that those are in a room who believe so, with these sessions of clients: session, client.
    pub(in crate::simulation) fn check_seats(&self, sessions: &[(usize, usize)]) -> Result<(), Broken> {
        for jid in (0..ROOMS).map(room) {
            let inside = sessions.iter().filter(|(session, _)| self.rooms.of(*session).contains(&jid));
            let believed: BTreeSet<(usize, String)> = inside
                .map(|(_, index)| (self.clients[*index].user, self.clients[*index].resource.to_string()))
                .collect();
            let seats = self.seats_in(&jid);
            if seats != believed {
                return Err(format!("in {jid} are {seats:?}, and {believed:?} believe to be there"));
            }
            if let Some((user, _)) =
                seats.iter().find(|(user, _)| self.rooms.barred_since(*user, &jid).is_some())
            {
                return Err(format!("user {user} is in {jid}, and may not"));
            }
        }
        Ok(())
    }

    /// Everybody who is in a room by what its home knows: users and their resources.
    pub(in crate::simulation) fn seats_in(&self, jid: &str) -> BTreeSet<(usize, String)> {
        let home = self.shared.home_of_room(address::local_of(jid));
        let room = self.workers[home].core().actors().rooms.room(address::local_of(jid));
        let occupants = room.into_iter().flat_map(|room| room.occupants.iter());
        let seats = occupants.flat_map(|(_, occupant)| {
            let user = user_of(&format!("{}@{}", occupant.local(), self.shared.domain));
            occupant.seats.iter().filter_map(move |seat| Some((user?, seat.resource().to_owned())))
        });
        seats.collect()
    }

    /// What a user is to a room.
    pub(in crate::simulation) fn affiliation(&self, room: &Room, user: usize) -> Result<Affiliation, Broken> {
        let found =
            self.shared.directory.rooms(|rooms| rooms.affiliate(room.actor, &bare(user), Some(&local(user))));
        Ok(found.map_err(words)?.map_or(Affiliation::None, |found| found.affiliation))
    }

    /// Whether a user has a bookmark of a room.
    pub(in crate::simulation) fn has_bookmark(&self, jid: &str, user: usize) -> Result<bool, Broken> {
        let found = self.shared.directory.pubsub(&local(user), |pubsub| {
            let Some(node) = pubsub.node(ns::BOOKMARKS)? else { return Ok(false) };
            Ok(pubsub.item(&node, jid)?.is_some())
        });
        Ok(found.map_err(words)? == Some(true))
    }
}

fn words(error: DirectoryError) -> Broken {
    error.to_string()
}
