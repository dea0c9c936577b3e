//! What must be true of rooms, whatever is cut and whenever the server crashes.
//!
//! The ids that a room gives tell its order. So each seat must hear rising ids, whatever happens to others: then there is one
//! order for everybody. And between the first and the last message that a seat has heard it must have heard all that anybody has;
//! a seat that is still there when the world is at rest, up to the newest. What its author or a moderator has asked to take back may
//! be missing; once anybody has heard that it is taken back, nobody who comes then gets it any more, and the archive does not have it
//! ([`super::taken_back`]).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::fleeting::Fleeting;
use crate::simulation::oracle::Broken;

/// What the server has told a sender of its message. What it says last counts: an error about a message comes before its
/// acknowledgement.
#[derive(Copy, Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::simulation) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// It is acknowledged, in the answer to a resumption: an error about it may have been lost with the connection.
    Perhaps,
    /// It is acknowledged, behind everything else that there was to say of it.
    Surely,
    /// It is refused.
    Refused,
}

/// A message to a room.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) user: usize,
    room: String,
    /// The step in which it was said.
    step: u64,
    told: Told,
    /// The id with which it was heard first.
    id: Option<u64>,
    /// When its sender knew that it is durable.
    acknowledged: Option<u64>,
    /// The room that it was said in may be gone, or is for certain.
    is_adrift: bool,
    is_gone: bool,
}

impl Said {
    /// Whether it is in the archive, whatever happens. What was heard was not refused.
    fn is_sure(&self) -> bool {
        !self.is_adrift && (self.told == Told::Surely || self.told == Told::Perhaps && self.id.is_some())
    }
}

/// Why a user may not hear what is said in a room.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::simulation) enum Bar {
    /// It is banned.
    Banned,
    /// It does not belong to the room, which is for those who do from its beginning.
    NoMember,
    /// The room is for its members, for now.
    Closed,
}

/// What a session has asked for that wants to enter a room.
#[derive(Clone, Debug)]
struct Knock {
    /// When it did first.
    since: u64,
    /// It has told the room's password.
    has_key: bool,
    /// Times that it has asked, less those in which it was refused.
    count: u32,
}

/// What is known of all rooms.
#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct RoomsOracle {
    /// By number.
    pub(super) said: Vec<Said>,
    /// Rooms that a session has ever asked to enter, and what it can never hear there: it had been taken back before.
    pub(super) asked: BTreeMap<(usize, String), BTreeSet<u32>>,
    /// What somebody who may has asked to take back.
    pub(super) doubtful: BTreeSet<u32>,
    /// What is taken back, as somebody has heard.
    pub(super) taken_back: BTreeSet<u32>,
    /// Seats that sessions believe to have: ids of the messages heard.
    pub(super) seats: BTreeMap<(usize, String), Vec<u64>>,
    /// Seats that sessions have asked to end, and of whose end they have not heard.
    leaving: BTreeSet<(usize, String)>,
    /// Seats that have ended.
    ended: Vec<((usize, String), Vec<u64>)>,
    /// Everything that anybody has heard: in which room, with which id, which number.
    pub(super) heard: BTreeMap<(String, u64), u32>,
    /// Since which step users must hear nothing that is said in a room.
    barred: BTreeMap<(usize, String), BTreeMap<Bar, u64>>,
    /// Since which step nobody enters a room without its password but its owner.
    locked: BTreeMap<String, (u64, usize)>,
    /// Sessions that want to enter.
    knocks: BTreeMap<(usize, String), Knock>,
    /// What is in no archive.
    pub(in crate::simulation) fleeting: Fleeting,
    /// By which nicks sessions are known.
    nicks: BTreeMap<(usize, String), String>,
    /// Messages heard, over all seats.
    pub(in crate::simulation) count: u64,
    /// Messages found in archives that had to be there.
    pub(in crate::simulation) kept: u64,
}

impl RoomsOracle {
    /// A session asks to enter a room, with its password or without.
    pub(in crate::simulation) fn asks(&mut self, session: usize, room: &str, (step, has_key): (u64, bool)) {
        let knock = self.knocks.entry((session, room.to_owned()));
        let knock = knock.or_insert(Knock { since: step, has_key, count: 0 });
        knock.count += 1;
        knock.has_key |= has_key;
        let taken_back = &self.taken_back;
        self.asked.entry((session, room.to_owned())).or_insert_with(|| taken_back.clone());
    }

    /// A user says something to a room; its number.
    pub(in crate::simulation) fn says(&mut self, user: usize, room: &str, step: u64) -> u32 {
        self.said.push(Said {
            user,
            room: room.to_owned(),
            step,
            told: Told::Nothing,
            id: None,
            acknowledged: None,
            is_adrift: false,
            is_gone: false,
        });
        u32::try_from(self.said.len() - 1).expect("a world says less")
    }

    /// The server tells the sender of a message something about it.
    pub(in crate::simulation) fn told(&mut self, n: u32, told: Told) -> Result<(), Broken> {
        let Some(said) = self.said.get_mut(n as usize) else {
            return Err(format!("nobody has said message {n} to a room"));
        };
        said.told = said.told.max(told);
        match said.told == Told::Refused && said.id.is_some() {
            true => Err(format!("message {n} was heard and refused: {said:?}")),
            false => Ok(()),
        }
    }

    /// A message is acknowledged.
    pub(in crate::simulation) fn acknowledged(&mut self, n: u32, step: u64) {
        if let Some(said) = self.said.get_mut(n as usize) {
            said.acknowledged.get_or_insert(step);
        }
    }

    /// A room was destroyed at some time between two steps: if there is one of its name, it is another one.
    pub(in crate::simulation) fn is_destroyed(&mut self, room: &str, (asked, answered): (u64, u64)) {
        let until = self.said.iter_mut().filter(|said| said.room == room && said.step <= answered);
        for said in until {
            said.is_adrift = true;
            said.is_gone |= said.acknowledged.is_some_and(|step| step < asked);
        }
    }

    /// The rooms in which a session believes to be.
    pub(in crate::simulation) fn of(&self, session: usize) -> Vec<String> {
        let seats = self.seats.keys().filter(|(of, _)| *of == session);
        seats.map(|(_, room)| room.clone()).collect()
    }

    /// A session of a user is in a room, under this nick. What it hears of itself between its farewell and the answer to that
    /// begins no stay.
    pub(super) fn enters(
        &mut self,
        (session, user): (usize, usize),
        room: &str,
        nick: &str,
    ) -> Result<(), Broken> {
        let seat = (session, room.to_owned());
        self.nicks.insert(seat.clone(), nick.to_owned());
        let knock = self.knocks.remove(&seat);
        if self.seats.contains_key(&seat) || self.leaving.contains(&seat) {
            return Ok(());
        }
        self.fleeting.begins(&seat);
        self.seats.insert(seat, Vec::new());
        let Some(Knock { since, has_key, .. }) = knock else { return Ok(()) };
        if self.barred_since(user, room).is_some_and(|barred| barred < since) {
            return Err(format!("user {user} enters {room}, which it may not: it has asked in step {since}"));
        }
        match self.locked.get(room) {
            Some((locked, owner)) if *locked < since && !has_key && *owner != user => {
                Err(format!("user {user} enters {room} without its password, asked for in step {since}"))
            }
            _ => Ok(()),
        }
    }

    /// A session is not let in.
    pub(super) fn is_refused(&mut self, session: usize, room: &str) {
        let seat = (session, room.to_owned());
        if let Some(knock) = self.knocks.get_mut(&seat) {
            knock.count -= 1;
            if knock.count == 0 {
                self.knocks.remove(&seat);
            }
        }
    }

    /// By which nick a session is known in a room.
    pub(in crate::simulation) fn nick_of(&self, session: usize, room: &str) -> Option<String> {
        self.nicks.get(&(session, room.to_owned())).cloned()
    }

    /// A session asks to leave a room: what it hears until it enters again may have holes.
    pub(in crate::simulation) fn asks_to_leave(&mut self, session: usize, room: &str) {
        self.end(session, room);
        self.leaving.insert((session, room.to_owned()));
    }

    /// A session hears that it is not in a room any more.
    pub(super) fn leaves(&mut self, session: usize, room: &str) {
        self.end(session, room);
        self.leaving.remove(&(session, room.to_owned()));
    }

    fn end(&mut self, session: usize, room: &str) {
        if let Some(ended) = self.seats.remove_entry(&(session, room.to_owned())) {
            self.fleeting.ends(&ended.0);
            self.ended.push(ended);
        }
    }

    /// A session is over.
    pub(in crate::simulation) fn over(&mut self, session: usize) {
        for room in self.of(session) {
            self.end(session, &room);
        }
        self.leaving.retain(|(of, _)| *of != session);
        self.knocks.retain(|(of, _), _| *of != session);
    }

    /// From this step on a user is not one of those who may hear what is said in a room.
    pub(in crate::simulation) fn bars(&mut self, user: usize, room: &str, (why, step): (Bar, u64)) {
        self.barred.entry((user, room.to_owned())).or_default().entry(why).or_insert(step);
    }

    /// This does not keep a user from hearing what is said in a room any more, from now on or soon.
    pub(in crate::simulation) fn lets_in(&mut self, user: usize, room: &str, why: Bar) {
        if let Some(reasons) = self.barred.get_mut(&(user, room.to_owned())) {
            reasons.remove(&why);
        }
    }

    /// Since when a user may not hear what is said in a room.
    pub(super) fn barred_since(&self, user: usize, room: &str) -> Option<u64> {
        self.barred.get(&(user, room.to_owned()))?.values().min().copied()
    }

    /// From this step on a room's password is asked of everybody but its owner; `None`: of nobody, from now on or soon.
    pub(in crate::simulation) fn locks(&mut self, room: &str, since: Option<(u64, usize)>) {
        match since {
            Some(since) => _ = self.locked.entry(room.to_owned()).or_insert(since),
            None => _ = self.locked.remove(room),
        }
    }

    /// A session of a user hears a message, with this number and id.
    pub(super) fn hears(
        &mut self,
        (session, user): (usize, usize),
        room: &str,
        (n, id): (u32, u64),
    ) -> Result<(), Broken> {
        let since = self.barred_since(user, room);
        let Some(said) = self.said.get_mut(n as usize).filter(|said| said.room == room) else {
            return Err(format!("session {session} hears in {room} what was not said there: {n}"));
        };
        if said.told == Told::Refused {
            return Err(format!("session {session} hears a message that was refused: {said:?}"));
        }
        if *said.id.get_or_insert(id) != id {
            return Err(format!("message {n} of {room} is heard twice, as {id} as well: {said:?}"));
        }
        if since.is_some_and(|since| since < said.step) {
            return Err(format!("user {user} hears what it may not since {since:?}: {said:?}"));
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

    /// What a user who asks for a room's archive now must find there.
    pub(in crate::simulation) fn to_be_read(&self, room: &str) -> BTreeSet<u32> {
        let all = (0..).zip(&self.said);
        all.filter(|(_, said)| said.room == room && said.is_sure()).map(|(n, _)| n).collect()
    }

    /// Whether somebody who may has asked to take a message back.
    pub(in crate::simulation) fn is_doubtful(&self, n: u32) -> bool {
        self.doubtful.contains(&n)
    }

    /// A page of a room's archive, for which a user asked in a step, has come, or an answer in its place: whether it may.
    pub(in crate::simulation) fn may_read(
        &self,
        user: usize,
        room: &str,
        (asked, is_given): (u64, bool),
    ) -> Result<(), Broken> {
        let since = self.barred_since(user, room);
        match is_given && since.is_some_and(|since| since < asked) {
            true => Err(format!("user {user} gets a page of {room}, and may not since {since:?}")),
            false => Ok(()),
        }
    }

    /// A user reads a message in a room's archive, with this number and id; `asked`: when it asked for the page, if it waits for it.
    pub(in crate::simulation) fn reads(
        &mut self,
        user: usize,
        room: &str,
        (n, id): (u32, u64),
        asked: Option<u64>,
    ) -> Result<(), Broken> {
        let Some(said) = self.said.get_mut(n as usize).filter(|said| said.room == room) else {
            return Err(format!("user {user} reads in the archive of {room} what was not said there: {n}"));
        };
        if said.told == Told::Refused {
            return Err(format!("user {user} reads a message that was refused: {said:?}"));
        }
        if *said.id.get_or_insert(id) != id {
            return Err(format!("message {n} of {room} is read as {id}: {said:?}"));
        }
        asked.map_or(Ok(()), |asked| self.may_read(user, room, (asked, true)))
    }

    /// Whether every seat has heard all between the first and the last message that it heard, and those that are still there
    /// all up to the newest. Called when the world is at rest.
    pub(in crate::simulation) fn judge(&mut self) -> Result<(), Broken> {
        self.fleeting.judge()?;
        let ended = std::mem::take(&mut self.ended);
        let whole = |(session, room): &(usize, String), seat: &[u64], is_there: bool| {
            let Some((first, last)) = seat.first().zip(seat.last()) else { return Ok(()) };
            let until = if is_there { u64::MAX } else { *last };
            let is_sure = |n: &u32| !self.doubtful.contains(n);
            let all = self.heard.range((room.clone(), *first)..=(room.clone(), until));
            let all = all.filter(|(_, n)| is_sure(n)).count();
            let number = |id: &u64| self.heard.get(&(room.clone(), *id));
            let heard = seat.iter().filter_map(number).filter(|n| is_sure(n)).count();
            match all == heard {
                true => Ok(()),
                false => {
                    let lacks = |((_, id), n): (&(String, u64), &u32)| (!seat.contains(id)).then_some(*n);
                    let between = self.heard.range((room.clone(), *first)..=(room.clone(), until));
                    let lacking: Vec<u32> = between.filter_map(lacks).collect();
                    let last = self.heard.get(&(room.clone(), *last));
                    let what =
                        format!("a seat of session {session} in {room} has heard {heard} of {all} messages");
                    Err(format!("{what}, the last one {last:?}; it lacks {lacking:?}; it stays: {is_there}"))
                }
            }
        };
        for (whose, seat) in &ended {
            whole(whose, seat, false)?;
        }
        self.seats.iter().try_for_each(|(whose, seat)| whole(whose, seat, true))
    }

    /// Whether the archive of a room, ids and numbers in its order, has what it must, each message once, and nothing else.
    pub(super) fn check_archive(&mut self, room: &str, found: &[(u64, u32)]) -> Result<(), Broken> {
        let ids = self.check_found(room, found)?;
        for (n, said) in (0..).zip(&self.said).filter(|(_, said)| said.room == room) {
            let is_sure = said.is_sure();
            if is_sure && !ids.contains_key(&n) {
                return Err(format!("message {n} was acknowledged and is not in the archive: {said:?}"));
            }
            self.kept += u64::from(is_sure);
        }
        Ok(())
    }

    /// Whether an archive has each message once, and nothing that was said elsewhere, or in a room of this name that is gone.
    pub(super) fn check_found(&self, room: &str, found: &[(u64, u32)]) -> Result<BTreeMap<u32, u64>, Broken> {
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("ids in the archive of {room} do not rise: {pair:?}"));
        }
        let mut ids = BTreeMap::new();
        for &(id, n) in found {
            let said = self.said.get(n as usize).filter(|said| said.room == room);
            let Some(said) = said.filter(|said| said.told != Told::Refused && !said.is_gone) else {
                return Err(format!("the archive of {room} has message {n}, which is not its own: {said:?}"));
            };
            if said.id.is_some_and(|heard| heard != id) || ids.insert(n, id).is_some() {
                return Err(format!(
                    "message {n} is in the archive of {room} twice, or with another id: {said:?}"
                ));
            }
        }
        Ok(ids)
    }
}
