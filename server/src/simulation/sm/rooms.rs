//! Rooms in a world of stream management and crashes.
//!
//! There are a hall, which is open, a den, which is a private group, both made before the server starts, and a shed, which peers
//! make by entering it, and which is gone with its last occupant unless its maker has made it one that stays. Peer 0 owns the hall
//! and the den: it says who belongs to the den, bans from the hall, closes the hall to all who are no members and asks for a password
//! there ([`super::host`]). The rules, beside those of [`crate::simulation::rooms`]:
//!
//! - a seat goes on as long as its stream does, through cuts, resumptions and upgrades;
//! - nobody is in any room after a crash, hall and den are there with their archives, and so is a shed that stays, unless it was
//!   destroyed;
//! - an acknowledged message is in the archive of hall or den, after any crash, and in none that has come after its room was
//!   destroyed;
//! - nobody hears what was said, nor enters, nor reads, after a ban, the end of a membership, or the closing of the hall, and nobody
//!   enters without the password;
//! - what is in no archive is heard as it is by all who are there, cuts and upgrades or not;
//! - members of the den have its bookmark, and nobody else has.

use whimbrel_storage::directory::rooms::{Affiliation, AffiliationChange, NewRoom, RoomConfig, RoomFlags};
use whimbrel_storage::directory::{Directory, DirectoryError, Item, WriteTransaction, run_inline};

use super::peer::{UNACKED_MAX, What};
use super::{Managed, RESOURCE};
use crate::proto::address;
use crate::simulation::rooms::{ROOMS, Told, nick, other_nick, room, room_of, text};
use crate::simulation::world::{bare, local};
use crate::xml::{CLIENT, Element};

/// The open room that stays.
pub(super) const HALL: usize = 0;

/// The private group.
pub(super) const DEN: usize = 1;

/// The room that peers make, and destroy.
pub(super) const SHED: usize = 2;

/// Nicks of a peer, beside the one with which it enters.
const NICKS: usize = 3;

/// The password of the hall, when it has one.
pub(super) const KEY: &str = "sesame";

/// Rooms that outlive a crash.
pub(super) const KEPT: [usize; 2] = [HALL, DEN];

/// The peer that owns them.
pub(super) const OWNER: usize = 0;

/// The owner of hall and den is in somebody's roster: what a contact grants, it grants with a bookmark.
pub(super) fn befriend(transaction: &mut WriteTransaction<'_>, user: usize) -> Result<(), DirectoryError> {
    let owner = Item { contact: bare(OWNER), listed: true, ..Item::default() };
    transaction.put_roster_item(&local(user), &owner).map(|_| ())
}

/// Makes hall and den, and puts their owner into the rosters of those who are there.
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
        (0..users).filter(|user| *user != OWNER).try_for_each(|user| befriend(transaction, user))
    });
    run_inline(directory, job).map_err(|error| error.to_string())
}

impl Managed {
    pub(super) fn enter_room(&mut self, index: usize) {
        if self.is_full(index) {
            return;
        }
        let (to, has_key) = (room(self.world.random.below(ROOMS)), self.world.random.permille(600));
        self.world.rooms.asks(self.peers[index].session, &to, (self.world.step, has_key));
        let nick = nick(index, RESOURCE);
        let key = if has_key { format!("<password>{KEY}</password>") } else { String::new() };
        // What it hears is what is said from now on.
        let x = format!("<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/>{key}</x>");
        self.stanza(index, What::Nothing, format!("<presence to='{to}/{nick}'>{x}</presence>"));
    }

    /// Whether a peer sends nothing new.
    pub(super) fn is_full(&self, index: usize) -> bool {
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
        let session = self.peers[index].session;
        self.world.rooms.asks_to_leave(session, &to);
        let nick = self.world.rooms.nick_of(session, &to).unwrap_or_else(|| nick(index, RESOURCE));
        self.stanza(index, What::Nothing, format!("<presence to='{to}/{nick}' type='unavailable'/>"));
    }

    pub(super) fn say_to_room(&mut self, index: usize) {
        let Some(to) = self.its_room(index) else { return };
        if self.world.random.permille(250) {
            let message = self.world.rooms.fleeting.says(&to);
            return self.stanza(index, What::Nothing, message);
        }
        let n = self.world.rooms.says(index, &to, self.world.step);
        let body = text(n);
        let message = format!("<message type='groupchat' id='g{n}' to='{to}'><body>{body}</body></message>");
        self.stanza(index, What::Said(n), message);
    }

    /// A peer takes another nick in a room.
    pub(super) fn change_nick(&mut self, index: usize) {
        let Some(to) = self.its_room(index) else { return };
        let nick = other_nick(index, RESOURCE, self.world.random.below(NICKS));
        self.stanza(index, What::Nothing, format!("<presence to='{to}/{nick}'/>"));
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
        if self.world.room_presence_heard((self.peers[index].session, index), from, element) {
            self.open_room(index, from);
        }
    }

    /// A message to a room was acknowledged, in this way.
    pub(super) fn said_is_told(&mut self, n: u32, element: &Element) {
        let told = if element.name() == "a" { Told::Surely } else { Told::Perhaps };
        self.tally.acknowledged_in_rooms += 1;
        self.world.rooms.acknowledged(n, self.world.step);
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
        self.check_shed()?;
        self.check_kept_rooms()
    }

    /// Another server has begun, which knows of no session: a shed is there that is one to stay, and no other.
    pub(super) fn check_shed(&mut self) -> Result<(), String> {
        let (jid, step) = (room(SHED), self.world.step);
        let is_there = self.world.stored_room(&jid)?.is_some();
        self.rolls.shed.found(is_there, step)?;
        if !is_there {
            self.world.rooms.is_destroyed(&jid, (step, step));
        }
        Ok(())
    }

    /// Nothing is under way: what has been said is where it must be, and so are those who are members.
    pub(super) fn check_rooms_at_rest(&mut self) -> Result<(), String> {
        self.world.rooms.judge()?;
        let sessions: Vec<(usize, usize)> = self
            .peers
            .iter()
            .enumerate()
            .take(self.accounts)
            .map(|(index, peer)| (peer.session, index))
            .collect();
        self.world.check_seats(&sessions)?;
        self.check_kept_rooms()
    }

    pub(super) fn check_kept_rooms(&mut self) -> Result<(), String> {
        for number in KEPT {
            self.world.check_room_archive(&room(number))?;
        }
        self.world.check_late_archive(&room(SHED))?;
        self.check_rolls()
    }
}

/// Whether a stanza is of a room or about one: its address.
pub(super) fn of_room(element: &Element) -> Option<&str> {
    room_of(element.attribute("from")?).filter(|_| element.namespace() == CLIENT)
}
