//! What those do who have a say in rooms, and what follows from it once it is answered.

use super::Managed;
use super::peer::What;
use super::rolls::{Roll, Stays};
use super::rooms::{DEN, HALL, KEPT, KEY, OWNER, SHED};
use crate::simulation::client::Stage;
use crate::simulation::rooms::{Bar, configuration, destruction, nick, opening, other_nick, room};
use crate::simulation::world::bare;
use whimbrel_storage::directory::rooms::{Affiliation, RoomFlags};

/// Of whom and of what the owner has said something.
#[derive(Clone, Debug, Default)]
pub(super) struct Rolls {
    /// Who belongs to the den.
    members: Roll,
    /// Who is banned from the hall.
    banned: Roll,
    /// Whether the hall is for members: of nobody else than [`ROOM`].
    closed: Roll,
    /// Whether it has a password.
    locked: Roll,
    /// Whether the shed stays.
    pub(super) shed: Stays,
}

/// Stands for a room itself.
const ROOM: usize = 0;

impl Managed {
    /// Whether the owner can say something now.
    fn hosts(&self) -> bool {
        !self.is_full(OWNER) && self.world.clients[OWNER].stage == Stage::Online && self.peers[OWNER].is_on
    }

    fn ask_room(&mut self, index: usize, id: &str, to: &str, query: &str) {
        self.stanza(index, What::Nothing, format!("<iq type='set' id='room-{id}' to='{to}'>{query}</iq>"));
        self.world.flush(index);
    }

    /// The owner turns somebody out who may come back.
    pub(super) fn kick_from_room(&mut self, index: usize) {
        if index != OWNER || self.is_full(index) {
            return self.say_to_room(index);
        }
        let (to, whom) = (room(KEPT[self.world.random.below(2)]), self.world.random.below(self.accounts));
        let nick = match self.world.random.below(4) {
            3 => nick(whom, super::RESOURCE),
            number => other_nick(whom, super::RESOURCE, number),
        };
        self.ask_room(index, "kick", &to, &admin(&format!("<item nick='{nick}' role='none'/>")));
    }

    /// The owner makes somebody a member of the den, or takes that away.
    pub(super) fn change_members(&mut self, _: usize) {
        let user = 1 + self.world.random.below(self.accounts - 1);
        if !self.hosts() {
            return;
        }
        let is_member = self.world.random.permille(600);
        let number = self.rolls.members.ask(user, is_member);
        if is_member {
            self.world.rooms.lets_in(user, &room(DEN), Bar::NoMember);
        }
        let affiliation = if is_member { "member" } else { "none" };
        let item = format!("<item jid='{}' affiliation='{affiliation}'/>", bare(user));
        self.ask_room(OWNER, &format!("members-{number}"), &room(DEN), &admin(&item));
    }

    /// The owner bans somebody from the hall, or lifts that.
    pub(super) fn ban(&mut self, _: usize) {
        let user = 1 + self.world.random.below(self.accounts - 1);
        if !self.hosts() {
            return;
        }
        let is_banned = self.world.random.permille(400);
        let number = self.rolls.banned.ask(user, is_banned);
        if !is_banned {
            self.world.rooms.lets_in(user, &room(HALL), Bar::Banned);
        }
        let affiliation = if is_banned { "outcast" } else { "none" };
        let item = format!("<item jid='{}' affiliation='{affiliation}'/>", bare(user));
        self.ask_room(OWNER, &format!("banned-{number}"), &room(HALL), &admin(&item));
    }

    /// The owner closes the hall to all who are no members, or opens it; or it asks for a password there, or for none.
    pub(super) fn configure_hall(&mut self, _: usize) {
        if !self.hosts() {
            return;
        }
        let (is_so, jid) = (self.world.random.permille(350), room(HALL));
        let flag = if is_so { "1" } else { "0" };
        let (id, query) = if self.world.random.permille(500) {
            if !is_so {
                self.let_all_in();
            }
            (
                format!("closed-{}", self.rolls.closed.ask(ROOM, is_so)),
                configuration(&[("membersonly", flag)]),
            )
        } else {
            if !is_so {
                self.world.rooms.locks(&jid, None);
            }
            let fields = [("passwordprotectedroom", flag), ("roomsecret", if is_so { KEY } else { "" })];
            (format!("locked-{}", self.rolls.locked.ask(ROOM, is_so)), configuration(&fields))
        };
        self.ask_room(OWNER, &id, &jid, &query);
    }

    fn let_all_in(&mut self) {
        for user in 0..self.peers.len() {
            self.world.rooms.lets_in(user, &room(HALL), Bar::Closed);
        }
    }

    fn shut_all_out(&mut self) {
        for user in (0..self.peers.len()).filter(|user| *user != OWNER) {
            self.world.rooms.bars(user, &room(HALL), (Bar::Closed, self.world.step));
        }
    }

    /// A peer has made a room and opens it. Some sheds stay.
    pub(super) fn open_room(&mut self, index: usize, jid: &str) {
        if jid != room(SHED) {
            return self.ask_room(index, "open", jid, &opening());
        }
        self.peers[index].owns_shed = true;
        match self.world.random.permille(500) {
            true => {
                let number = self.rolls.shed.ask(true, self.world.step);
                self.ask_room(
                    index,
                    &format!("stays-{number}"),
                    jid,
                    &configuration(&[("persistentroom", "1")]),
                );
            }
            false => self.ask_room(index, "open", jid, &opening()),
        }
    }

    /// One who has made a shed destroys it.
    pub(super) fn destroy_shed(&mut self, index: usize) {
        if self.is_full(index) || !self.peers[index].owns_shed || self.world.random.permille(600) {
            return self.say_to_room(index);
        }
        let number = self.rolls.shed.ask(false, self.world.step);
        self.ask_room(index, &format!("gone-{number}"), &room(SHED), &destruction());
    }

    /// A room answers a request.
    pub(super) fn room_answers(&mut self, id: &str, is_done: bool) {
        let Some((what, number)) = id.rsplit_once('-') else { return };
        let Ok(number) = number.parse() else { return };
        let step = self.world.step;
        self.tally.memberships += u64::from(is_done && what == "members");
        self.tally.orders += u64::from(is_done && what != "members");
        if what == "stays" || what == "gone" {
            return match is_done {
                false => self.rolls.shed.refused(number),
                true => {
                    if let Some(between) = self.rolls.shed.made(number, step) {
                        self.world.rooms.is_destroyed(&room(SHED), between);
                    }
                }
            };
        }
        let Some(roll) = self.rolls.of(what) else { return };
        if !is_done {
            return roll.refused(number);
        }
        let (change, is_certain) = roll.made(number);
        if is_certain {
            match (what, change.is_so) {
                ("members", false) => {
                    self.world.rooms.bars(change.user, &room(DEN), (Bar::NoMember, step));
                }
                ("banned", true) => self.world.rooms.bars(change.user, &room(HALL), (Bar::Banned, step)),
                ("closed", true) => self.shut_all_out(),
                ("locked", true) => self.world.rooms.locks(&room(HALL), Some((step, OWNER))),
                _ => {}
            }
        }
    }

    /// Nothing is under way: what the owner has said is so. Members of the den have its bookmark, and nobody else has.
    pub(super) fn check_rolls(&mut self) -> Result<(), String> {
        let (den_jid, hall_jid, step) = (room(DEN), room(HALL), self.world.step);
        let found = self.world.stored_room(&den_jid)?.zip(self.world.stored_room(&hall_jid)?);
        let Some((den, hall)) = found else { return Err("a room that stays is gone".into()) };
        for user in (0..self.accounts).filter(|user| *user != OWNER) {
            let is_member = self.world.affiliation(&den, user)? >= Affiliation::Member;
            self.rolls.members.found(user, is_member).map_err(|what| format!("membership: {what}"))?;
            if self.world.has_bookmark(&den_jid, user)? != is_member {
                return Err(format!(
                    "user {user} is a member of the den: {is_member}, and its bookmark differs"
                ));
            }
            let is_banned = self.world.affiliation(&hall, user)? == Affiliation::Outcast;
            self.rolls.banned.found(user, is_banned).map_err(|what| format!("bans: {what}"))?;
            for (jid, why, is_so) in
                [(&den_jid, Bar::NoMember, !is_member), (&hall_jid, Bar::Banned, is_banned)]
            {
                match is_so {
                    true => self.world.rooms.bars(user, jid, (why, step)),
                    false => self.world.rooms.lets_in(user, jid, why),
                }
            }
        }
        let is_closed = hall.config.flags.has(RoomFlags::MEMBERS_ONLY);
        self.rolls.closed.found(ROOM, is_closed).map_err(|what| format!("closed: {what}"))?;
        match is_closed {
            true => self.shut_all_out(),
            false => self.let_all_in(),
        }
        let is_locked = !hall.config.password.is_empty();
        self.rolls.locked.found(ROOM, is_locked).map_err(|what| format!("locked: {what}"))?;
        self.world.rooms.locks(&hall_jid, is_locked.then_some((step, OWNER)));
        Ok(())
    }
}

impl Rolls {
    fn of(&mut self, what: &str) -> Option<&mut Roll> {
        match what {
            "members" => Some(&mut self.members),
            "banned" => Some(&mut self.banned),
            "closed" => Some(&mut self.closed),
            "locked" => Some(&mut self.locked),
            _ => None,
        }
    }
}

fn admin(item: &str) -> String {
    format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>")
}
