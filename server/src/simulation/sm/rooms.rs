//! Rooms in a world of stream management and crashes.
//!
//! There are a hall, which is open, a den, which is a private group, both made before the server starts, and a shed, which peers
//! make by entering it and which is gone with its last occupant. Peer 0 owns the hall and the den, and says who belongs to the
//! den. The rules, beside those of [`crate::simulation::rooms`]:
//!
//! - a seat goes on as long as its stream does, through cuts, resumptions and upgrades;
//! - nobody is in any room after a crash, hall and den are there with their archives, and sheds are gone;
//! - an acknowledged message is in the archive of hall or den, after any crash;
//! - nobody hears what was said in the den after its membership had ended;
//! - members of the den have its bookmark, and nobody else has.

use std::collections::BTreeMap;

use whimbrel_storage::directory::rooms::{Affiliation, AffiliationChange, NewRoom, RoomConfig, RoomFlags};
use whimbrel_storage::directory::{Directory, Item, WriteTransaction, run_inline};

use super::peer::{UNACKED_MAX, What};
use super::{Managed, RESOURCE};
use crate::proto::address;
use crate::simulation::client::Stage;
use crate::simulation::rooms::{ROOMS, Told, nick, opening, room, room_of, text};
use crate::simulation::world::{bare, local};
use crate::xml::{CLIENT, Element};

/// The open room that stays.
const HALL: usize = 0;

/// The private group.
const DEN: usize = 1;

/// Rooms that outlive a crash.
const KEPT: [usize; 2] = [HALL, DEN];

/// The peer that owns them.
const OWNER: usize = 0;

/// A change of who belongs to the den.
#[derive(Copy, Clone, Debug)]
struct Change {
    user: usize,
    is_member: bool,
    /// The server has not answered: it may have been made, or may yet be.
    is_open: bool,
}

/// Who belongs to the den.
#[derive(Debug, Default)]
pub(super) struct Members {
    changes: Vec<Change>,
    /// What is certain of each user; the others do not belong to it.
    certain: BTreeMap<usize, bool>,
}

impl Members {
    fn is_certain(&self, user: usize) -> bool {
        self.certain.get(&user).copied().unwrap_or(false)
    }

    /// Changes of a user that may be made or not.
    fn open(&self, user: usize) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.user == user && change.is_open)
    }

    /// The owner asks for a change; its number.
    fn ask(&mut self, user: usize, is_member: bool) -> usize {
        self.changes.push(Change { user, is_member, is_open: true });
        self.changes.len() - 1
    }

    /// A change was made: those of the same user before it were made before it, or never are.
    fn made(&mut self, number: usize) {
        let Change { user, is_member, .. } = self.changes[number];
        self.certain.insert(user, is_member);
        for change in self.changes[..=number].iter_mut().filter(|change| change.user == user) {
            change.is_open = false;
        }
    }

    /// Nothing is under way: a user is a member, or is none.
    fn found(&mut self, user: usize, is_member: bool) -> Result<(), String> {
        let certain = self.is_certain(user);
        if is_member != certain && self.open(user).all(|change| change.is_member != is_member) {
            return Err(format!("user {user} is a member of the den: {is_member}, and was not made so"));
        }
        self.certain.insert(user, is_member);
        for change in self.changes.iter_mut().filter(|change| change.user == user) {
            change.is_open = false;
        }
        Ok(())
    }
}

/// Makes hall and den, and puts their owner into everybody's roster: what a contact grants, it grants with a bookmark.
pub(super) fn prepare(directory: &Directory, users: usize) -> Result<(), String> {
    let hall =
        RoomConfig { flags: RoomFlags::default().with(RoomFlags::PERSISTENT), ..RoomConfig::default() };
    let configs = [(HALL, hall), (DEN, RoomConfig::private_group())];
    let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        for (number, config) in configs {
            let (jid, owner, localpart) = (room(number), bare(OWNER), local(OWNER));
            let new =
                NewRoom { name: address::local_of(&jid), config, secret: [number as u8; 32], now_ms: 0 };
            let Some(mut made) = transaction.create_room(new)? else { continue };
            let change = AffiliationChange {
                jid: &owner,
                localpart: Some(&localpart),
                affiliation: Affiliation::Owner,
                reason: "",
                now_ms: 0,
            };
            transaction.affiliate(&mut made, &change)?;
        }
        for user in (0..users).filter(|user| *user != OWNER) {
            let owner = Item { contact: bare(OWNER), listed: true, ..Item::default() };
            transaction.put_roster_item(&local(user), &owner)?;
        }
        Ok(())
    });
    run_inline(directory, job).map_err(|error| error.to_string())
}

impl Managed {
    pub(super) fn enter_room(&mut self, index: usize) {
        if self.is_full(index) {
            return;
        }
        let to = room(self.world.random.below(ROOMS));
        self.world.rooms.asks(self.peers[index].session, &to);
        let nick = nick(index, RESOURCE);
        // What it hears is what is said from now on.
        let x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
        self.stanza(index, What::Nothing, format!("<presence to='{to}/{nick}'>{x}</presence>"));
    }

    /// Whether a peer sends nothing new.
    fn is_full(&self, index: usize) -> bool {
        self.peers[index].unacked.len() >= UNACKED_MAX || self.world.clients[index].deaf
    }

    /// A room in which a peer is, if it may say something.
    fn its_room(&mut self, index: usize) -> Option<String> {
        if self.is_full(index) {
            return None;
        }
        let rooms = self.world.rooms.of(self.peers[index].session);
        self.world.random.pick(&rooms).cloned()
    }

    pub(super) fn leave_room(&mut self, index: usize) {
        let Some(to) = self.its_room(index) else { return };
        self.world.rooms.asks_to_leave(self.peers[index].session, &to);
        let nick = nick(index, RESOURCE);
        self.stanza(index, What::Nothing, format!("<presence to='{to}/{nick}' type='unavailable'/>"));
    }

    pub(super) fn say_to_room(&mut self, index: usize) {
        let Some(to) = self.its_room(index) else { return };
        let n = self.world.rooms.says(index, &to, self.world.step);
        let body = text(n);
        let message = format!("<message type='groupchat' id='g{n}' to='{to}'><body>{body}</body></message>");
        self.stanza(index, What::Said(n), message);
    }

    /// The owner turns somebody out who may come back.
    pub(super) fn kick_from_room(&mut self, index: usize) {
        if index != OWNER || self.is_full(index) {
            return self.say_to_room(index);
        }
        let (to, nick) = (
            room(KEPT[self.world.random.below(2)]),
            nick(self.world.random.below(self.peers.len()), RESOURCE),
        );
        self.ask_room(index, "kick", &to, &format!("<item nick='{nick}' role='none'/>"));
    }

    /// The owner makes somebody a member of the den, or takes that away.
    pub(super) fn change_members(&mut self, _: usize) {
        let user = 1 + self.world.random.below(self.peers.len() - 1);
        if self.is_full(OWNER) || self.world.clients[OWNER].stage != Stage::Online || !self.peers[OWNER].is_on
        {
            return;
        }
        let is_member = self.world.random.permille(600);
        let number = self.members.ask(user, is_member);
        if is_member {
            self.world.rooms.lets_in(user, &room(DEN));
        }
        let affiliation = if is_member { "member" } else { "none" };
        let item = format!("<item jid='{}' affiliation='{affiliation}'/>", bare(user));
        self.ask_room(OWNER, &format!("member-{number}"), &room(DEN), &item);
        self.world.flush(OWNER);
    }

    fn ask_room(&mut self, index: usize, id: &str, to: &str, item: &str) {
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        self.stanza(index, What::Nothing, format!("<iq type='set' id='room-{id}' to='{to}'>{query}</iq>"));
    }

    /// A room answers a request.
    pub(super) fn room_answers(&mut self, id: &str, is_done: bool) {
        let Some(number) = id.strip_prefix("member-").and_then(|number| number.parse::<usize>().ok()) else {
            return;
        };
        if !is_done {
            self.members.changes[number].is_open = false;
            return;
        }
        self.tally.memberships += 1;
        self.members.made(number);
        let Change { user, is_member, .. } = self.members.changes[number];
        if !is_member && self.members.open(user).all(|change| !change.is_member) {
            self.world.rooms.bars(user, &room(DEN), self.world.step);
        }
    }

    /// A message comes from a room.
    pub(super) fn room_message(&mut self, index: usize, from: &str, element: &Element) {
        if element.attribute("type") != Some("error") {
            let session = self.peers[index].session;
            return self.world.room_message_heard((session, index), from, element);
        }
        let number = element.attribute("id").and_then(|id| id.strip_prefix('g')?.parse().ok());
        if let Some(n) = number {
            self.tally.refused_in_rooms += 1;
            let outcome = self.world.rooms.told(n, Told::Refused);
            self.note(outcome);
        }
    }

    /// Presence comes from a room.
    pub(super) fn room_presence(&mut self, index: usize, from: &str, element: &Element) {
        if self.world.room_presence_heard(self.peers[index].session, from, element) {
            let form = opening();
            self.stanza(
                index,
                What::Nothing,
                format!("<iq type='set' id='room-open' to='{from}'>{form}</iq>"),
            );
        }
    }

    /// A message to a room was acknowledged, in this way.
    pub(super) fn said_is_told(&mut self, n: u32, element: &Element) {
        let told = if element.name() == "a" { Told::Surely } else { Told::Perhaps };
        self.tally.acknowledged_in_rooms += 1;
        let outcome = self.world.rooms.told(n, told);
        self.note(outcome);
    }

    /// The server has crashed: nobody is in any room now, hall and den are there with all that was acknowledged, and nothing that
    /// was only there for its occupants is.
    pub(super) fn check_rooms_after_crash(&mut self) -> Result<(), String> {
        for peer in &self.peers {
            self.world.rooms.over(peer.session);
        }
        for jid in (0..ROOMS).map(room) {
            if !self.world.seats_in(&jid).is_empty() {
                return Err(format!("somebody is in {jid} after a crash"));
            }
        }
        for jid in (0..ROOMS).filter(|number| !KEPT.contains(number)).map(room) {
            if self.world.stored_room(&jid)?.is_some() {
                return Err(format!("{jid} has outlived a crash"));
            }
        }
        self.check_kept_rooms()
    }

    /// Nothing is under way: what has been said is where it must be, and so are those who are members.
    pub(super) fn check_rooms_at_rest(&mut self) -> Result<(), String> {
        self.world.rooms.judge()?;
        let sessions: Vec<(usize, usize)> =
            self.peers.iter().enumerate().map(|(index, peer)| (peer.session, index)).collect();
        self.world.check_seats(&sessions)?;
        self.check_kept_rooms()
    }

    fn check_kept_rooms(&mut self) -> Result<(), String> {
        for number in KEPT {
            self.world.check_room_archive(&room(number))?;
        }
        let jid = room(DEN);
        let Some(den) = self.world.stored_room(&jid)? else { return Err("the den is gone".into()) };
        for user in (0..self.peers.len()).filter(|user| *user != OWNER) {
            let is_member = self.world.is_member(&den, user)?;
            self.members.found(user, is_member)?;
            if self.world.has_bookmark(&jid, user)? != is_member {
                return Err(format!(
                    "user {user} is a member of the den: {is_member}, and its bookmark differs"
                ));
            }
            match is_member {
                true => self.world.rooms.lets_in(user, &jid),
                false => self.world.rooms.bars(user, &jid, self.world.step),
            }
        }
        Ok(())
    }
}

/// Whether a stanza is of a room or about one: its address.
pub(super) fn of_room(element: &Element) -> Option<&str> {
    room_of(element.attribute("from")?).filter(|_| element.namespace() == CLIENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_what_was_answered_last_or_may_have_been_made_since() {
        let mut members = Members::default();
        let (first, second) = (members.ask(1, true), members.ask(1, false));
        members.made(first);
        assert!(members.is_certain(1) && members.open(1).count() == 1);
        members.found(1, false).unwrap();
        assert!(members.found(1, true).unwrap_err().contains("not made so"));
        members.made(second);
        let third = members.ask(2, true);
        members.changes[third].is_open = false;
        assert!(members.found(2, true).is_err() && members.found(2, false).is_ok());
    }
}
