//! What is asked of rooms: what is certain of it, and what may have been done or may yet be.

use std::collections::BTreeMap;

/// A change of what is so of a user, or of a room.
#[derive(Copy, Clone, Debug)]
pub(super) struct Change {
    pub(super) user: usize,
    pub(super) is_so: bool,
    /// The server has not answered: it may have been made, or may yet be.
    is_open: bool,
}

/// Of whom something is so, by the word of one owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Roll {
    changes: Vec<Change>,
    /// What is certain of each user; of the others it is not so.
    certain: BTreeMap<usize, bool>,
}

impl Roll {
    fn is_certain(&self, user: usize) -> bool {
        self.certain.get(&user).copied().unwrap_or(false)
    }

    /// Changes of a user that may be made or not.
    fn open(&self, user: usize) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.user == user && change.is_open)
    }

    /// The owner asks for a change; its number.
    pub(super) fn ask(&mut self, user: usize, is_so: bool) -> usize {
        self.changes.push(Change { user, is_so, is_open: true });
        self.changes.len() - 1
    }

    /// A change was made: those of the same user before it were made before it, or never are. Returns it, and whether it is certain now
    /// that nothing else is so.
    pub(super) fn made(&mut self, number: usize) -> (Change, bool) {
        let change = self.changes[number];
        let Change { user, is_so, .. } = change;
        self.certain.insert(user, is_so);
        for earlier in self.changes[..=number].iter_mut().filter(|change| change.user == user) {
            earlier.is_open = false;
        }
        (change, self.open(user).all(|later| later.is_so == is_so))
    }

    /// A change is refused.
    pub(super) fn refused(&mut self, number: usize) {
        self.changes[number].is_open = false;
    }

    /// Nothing is under way: so it is of a user, or not.
    pub(super) fn found(&mut self, user: usize, is_so: bool) -> Result<(), String> {
        let certain = self.is_certain(user);
        if is_so != certain && self.open(user).all(|change| change.is_so != is_so) {
            return Err(format!("of user {user} it is {is_so}, and was not made so: {certain}"));
        }
        self.certain.insert(user, is_so);
        for change in self.changes.iter_mut().filter(|change| change.user == user) {
            change.is_open = false;
        }
        Ok(())
    }
}

/// Somebody has asked that a room stays, or that it is destroyed. Much can be asked and answered within one step, so moments are counted.
#[derive(Copy, Clone, Debug)]
struct Order {
    stays: bool,
    asked: u64,
    asked_in_step: u64,
    answered: Option<u64>,
    is_refused: bool,
}

/// Whether a room outlives its occupants, of which everybody may have a say.
#[derive(Clone, Debug, Default)]
pub(super) struct Stays {
    orders: Vec<Order>,
    /// Each question and each answer has one of its own.
    moment: u64,
}

impl Stays {
    /// Somebody asks for it; the number of the order.
    pub(super) fn ask(&mut self, stays: bool, step: u64) -> usize {
        self.moment += 1;
        let asked = self.moment;
        self.orders.push(Order { stays, asked, asked_in_step: step, answered: None, is_refused: false });
        self.orders.len() - 1
    }

    /// An order was carried out. If that has ended a room: between which steps.
    pub(super) fn made(&mut self, number: usize, step: u64) -> Option<(u64, u64)> {
        self.moment += 1;
        let order = &mut self.orders[number];
        order.answered = Some(self.moment);
        (!order.stays).then_some((order.asked_in_step, step))
    }

    /// An order is refused.
    pub(super) fn refused(&mut self, number: usize) {
        self.orders[number].is_refused = true;
    }

    /// The server has crashed: the room is there, or is not.
    pub(super) fn found(&mut self, is_there: bool, step: u64) -> Result<(), String> {
        let orders = || self.orders.iter().filter(|order| !order.is_refused);
        // Every order of the other kind was carried out before the one was asked for.
        let is_last = |one: &Order| {
            let mut others = orders().filter(|other| other.stays != one.stays);
            one.answered.is_some()
                && others.all(|other| other.answered.is_some_and(|moment| moment < one.asked))
        };
        if let Some(last) = orders().find(|order| is_last(order)).filter(|last| last.stays != is_there) {
            return Err(format!(
                "a room is there after a crash: {is_there}, and its last order was {last:?}"
            ));
        }
        if is_there && orders().all(|order| !order.stays) {
            return Err("a room has outlived a crash, and nobody has asked for that".into());
        }
        self.orders.iter_mut().for_each(|order| order.is_refused = true);
        if is_there {
            let number = self.ask(true, step);
            self.made(number, step);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_is_what_was_answered_last_or_may_have_been_made_since() {
        let mut roll = Roll::default();
        let (first, second) = (roll.ask(1, true), roll.ask(1, false));
        assert!(!roll.made(first).1);
        assert!(roll.is_certain(1) && roll.open(1).count() == 1);
        roll.found(1, false).unwrap();
        assert!(roll.found(1, true).unwrap_err().contains("not made so"));
        assert!(roll.made(second).1);
        let third = roll.ask(2, true);
        roll.refused(third);
        assert!(roll.found(2, true).is_err() && roll.found(2, false).is_ok());
    }

    #[test]
    fn orders_of_one_step_count_in_the_order_in_which_they_were_answered() {
        for stays_at_last in [false, true] {
            let mut stays = Stays::default();
            for is_staying in [!stays_at_last, stays_at_last] {
                let number = stays.ask(is_staying, 7);
                stays.made(number, 7);
            }
            assert!(stays.clone().found(stays_at_last, 7).is_ok() && stays.found(!stays_at_last, 7).is_err());
        }
    }

    #[test]
    fn a_room_stays_by_the_last_order_that_was_carried_out() {
        // Asked, answered, whether it stays; whether it may be there and may be gone.
        type Case = (&'static [(u64, Option<u64>, bool)], bool, bool);
        let cases: [Case; 7] = [
            (&[], false, true),
            (&[(1, None, true)], true, true),
            (&[(1, Some(2), true)], true, false),
            (&[(1, Some(2), true), (3, None, false)], true, true),
            (&[(1, Some(2), true), (3, Some(4), false)], false, true),
            (&[(1, Some(5), true), (3, Some(4), false)], true, true),
            (&[(1, Some(2), false), (3, Some(4), true)], true, false),
        ];
        for (orders, there, gone) in cases {
            let mut stays = Stays::default();
            for moment in 1..6 {
                for (number, (asked, answered, is_staying)) in orders.iter().enumerate() {
                    if *asked == moment {
                        assert_eq!(stays.ask(*is_staying, moment), number);
                    }
                    if *answered == Some(moment) {
                        let ended = (!is_staying).then_some((*asked, moment));
                        assert_eq!(stays.made(number, moment), ended);
                    }
                }
            }
            assert_eq!(stays.clone().found(true, 9).is_ok(), there, "{orders:?}");
            assert_eq!(stays.found(false, 9).is_ok(), gone, "{orders:?}");
            if gone {
                assert!(stays.found(false, 10).is_ok() && stays.found(true, 10).is_err(), "{orders:?}");
            }
        }
    }
}
