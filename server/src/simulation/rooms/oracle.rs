//! What must be true of rooms, whatever is cut and whenever the server crashes.
//!
//! The ids that a room gives tell its order. So each seat must hear rising ids, whatever happens to others: then there is one
//! order for everybody. And between the first and the last message that a seat has heard it must have heard all that anybody has;
//! a seat that is still there when the world is at rest, up to the newest. What its author or a moderator has asked to take back may
//! be missing; once anybody has heard that it is taken back, nobody who comes then gets it any more, and the archive does not have it
//! ([`super::taken_back`]).

use std::collections::{BTreeMap, BTreeSet};

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
#[derive(Debug)]
pub(super) struct Said {
    pub(super) user: usize,
    room: String,
    /// The step in which it was said.
    step: u64,
    told: Told,
    /// The id with which it was heard first.
    id: Option<u64>,
}

/// What is known of all rooms.
#[derive(Debug, Default)]
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
    barred: BTreeMap<(usize, String), u64>,
    /// Messages heard, over all seats.
    pub(in crate::simulation) count: u64,
    /// Messages found in archives that had to be there.
    pub(in crate::simulation) kept: u64,
}

impl RoomsOracle {
    /// A session asks to enter a room.
    pub(in crate::simulation) fn asks(&mut self, session: usize, room: &str) {
        let taken_back = &self.taken_back;
        self.asked.entry((session, room.to_owned())).or_insert_with(|| taken_back.clone());
    }

    /// A user says something to a room; its number.
    pub(in crate::simulation) fn says(&mut self, user: usize, room: &str, step: u64) -> u32 {
        self.said.push(Said { user, room: room.to_owned(), step, told: Told::Nothing, id: None });
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

    /// The rooms in which a session believes to be.
    pub(in crate::simulation) fn of(&self, session: usize) -> Vec<String> {
        let seats = self.seats.keys().filter(|(of, _)| *of == session);
        seats.map(|(_, room)| room.clone()).collect()
    }

    /// A session is in a room. What it hears of itself between its farewell and the answer to that begins no stay.
    pub(super) fn enters(&mut self, session: usize, room: &str) {
        let seat = (session, room.to_owned());
        if !self.leaving.contains(&seat) {
            self.seats.entry(seat).or_default();
        }
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
            self.ended.push(ended);
        }
    }

    /// A session is over.
    pub(in crate::simulation) fn over(&mut self, session: usize) {
        for room in self.of(session) {
            self.end(session, &room);
        }
        self.leaving.retain(|(of, _)| *of != session);
    }

    /// From this step on a user is not one of those who may hear what is said in a room.
    pub(in crate::simulation) fn bars(&mut self, user: usize, room: &str, step: u64) {
        self.barred.insert((user, room.to_owned()), step);
    }

    /// A user may hear again what is said in a room, from now on or soon.
    pub(in crate::simulation) fn lets_in(&mut self, user: usize, room: &str) {
        self.barred.remove(&(user, room.to_owned()));
    }

    /// A session of a user hears a message, with this number and id.
    pub(super) fn hears(
        &mut self,
        (session, user): (usize, usize),
        room: &str,
        (n, id): (u32, u64),
    ) -> Result<(), Broken> {
        let Some(said) = self.said.get_mut(n as usize).filter(|said| said.room == room) else {
            return Err(format!("session {session} hears in {room} what was not said there: {n}"));
        };
        if said.told == Told::Refused {
            return Err(format!("session {session} hears a message that was refused: {said:?}"));
        }
        if *said.id.get_or_insert(id) != id {
            return Err(format!("message {n} of {room} is heard twice, as {id} as well: {said:?}"));
        }
        let since = self.barred.get(&(user, room.to_owned()));
        if since.is_some_and(|since| *since < said.step) {
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

    /// Whether every seat has heard all between the first and the last message that it heard, and those that are still there
    /// all up to the newest. Called when the world is at rest.
    pub(in crate::simulation) fn judge(&mut self) -> Result<(), Broken> {
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
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("ids in the archive of {room} do not rise: {pair:?}"));
        }
        let mut ids = BTreeMap::new();
        for &(id, n) in found {
            let said = self.said.get(n as usize).filter(|said| said.room == room);
            let Some(said) = said.filter(|said| said.told != Told::Refused) else {
                return Err(format!("the archive of {room} has message {n}, which is not its own: {said:?}"));
            };
            if said.id.is_some_and(|heard| heard != id) || ids.insert(n, id).is_some() {
                return Err(format!(
                    "message {n} is in the archive of {room} twice, or with another id: {said:?}"
                ));
            }
        }
        for (n, said) in (0..).zip(&self.said).filter(|(_, said)| said.room == room) {
            // Whatever was heard was not refused.
            let is_sure = said.told == Told::Surely || said.told == Told::Perhaps && said.id.is_some();
            if is_sure && !ids.contains_key(&n) {
                return Err(format!("message {n} was acknowledged and is not in the archive: {said:?}"));
            }
            self.kept += u64::from(is_sure);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALL: &str = "hall@x";

    /// Session 0 of user 0 is in the room, and so is session 1 of user 1.
    fn two() -> RoomsOracle {
        let mut oracle = RoomsOracle::default();
        for session in [0, 1] {
            oracle.asks(session, HALL);
            oracle.enters(session, HALL);
        }
        oracle
    }

    #[test]
    fn a_hole_another_order_and_a_second_time_are_noticed() {
        let mut oracle = two();
        let all: Vec<u32> = (0..3).map(|_| oracle.says(0, HALL, 1)).collect();
        for (n, id) in [(all[0], 10), (all[1], 20), (all[2], 30)] {
            oracle.hears((0, 0), HALL, (n, id)).unwrap();
        }
        oracle.judge().unwrap();
        oracle.hears((1, 1), HALL, (all[0], 10)).unwrap();
        assert!(oracle.judge().unwrap_err().contains("1 of 3"));
        oracle.hears((1, 1), HALL, (all[2], 30)).unwrap();
        assert!(oracle.judge().unwrap_err().contains("2 of 3"));
        assert!(oracle.hears((1, 1), HALL, (all[1], 20)).unwrap_err().contains("out of order"));
        assert!(oracle.hears((1, 1), HALL, (all[2], 30)).unwrap_err().contains("or twice"));
        assert!(oracle.hears((1, 1), HALL, (all[2], 40)).unwrap_err().contains("heard twice"));
        assert!(oracle.hears((1, 1), HALL, (7, 50)).unwrap_err().contains("not said"));
        assert!(oracle.hears((2, 2), HALL, (all[0], 10)).unwrap_err().contains("never wanted"));
    }

    #[test]
    fn what_a_user_may_not_hear_any_more_is_noticed() {
        let mut oracle = two();
        let (before, after) = (oracle.says(0, HALL, 5), oracle.says(0, HALL, 9));
        oracle.bars(1, HALL, 7);
        oracle.hears((1, 1), HALL, (before, 10)).unwrap();
        assert!(oracle.hears((1, 1), HALL, (after, 20)).unwrap_err().contains("may not"));
        oracle.lets_in(1, HALL);
        oracle.hears((1, 1), HALL, (after, 20)).unwrap();
    }

    #[test]
    fn an_archive_that_lacks_repeats_or_swaps_something_is_noticed() {
        let mut oracle = two();
        let said: Vec<u32> = (0..3).map(|_| oracle.says(0, HALL, 1)).collect();
        oracle.told(said[0], Told::Surely).unwrap();
        oracle.told(said[1], Told::Perhaps).unwrap();
        oracle.told(said[2], Told::Refused).unwrap();
        let mut look = |found: &[(u64, u32)]| oracle.check_archive(HALL, found);
        look(&[(1, 0)]).unwrap();
        look(&[(1, 0), (2, 1)]).unwrap();
        for (found, what) in [
            (&[][..], "not in the archive"),
            (&[(2, 1), (1, 0)], "do not rise"),
            (&[(1, 0), (2, 0)], "twice"),
            (&[(1, 0), (2, 2)], "not its own"),
            (&[(1, 0), (2, 9)], "not its own"),
        ] {
            let error = look(found).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        oracle.hears((0, 0), HALL, (1, 20)).unwrap();
        assert!(oracle.check_archive(HALL, &[(1, 0)]).unwrap_err().contains("acknowledged"));
        assert!(oracle.check_archive(HALL, &[(1, 0), (2, 1)]).unwrap_err().contains("another id"));
        assert!(oracle.told(1, Told::Refused).unwrap_err().contains("heard and refused"));
        assert!(oracle.hears((0, 0), HALL, (2, 30)).unwrap_err().contains("refused"));
    }
}
