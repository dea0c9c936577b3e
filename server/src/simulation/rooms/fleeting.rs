//! What is said in rooms and is in no archive: who hears it hears all of it, once, and everybody in one order.
//!
//! It has no ids, so seats are compared with one another: between the first and the last message that two have both heard, each has
//! heard what the other has; and those that are there at the end, up to the newest one.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::oracle::Broken;

/// A session in a room.
type Seat = (usize, String);

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct Fleeting {
    /// Messages that were ever said.
    said: u32,
    /// What seats have heard, in their order.
    seats: BTreeMap<Seat, Vec<u32>>,
    ended: Vec<(Seat, Vec<u32>)>,
    /// Messages heard, over all seats.
    pub(in crate::simulation) count: u64,
}

/// The text of such a message.
fn text(n: u32) -> String {
    format!("f:{n}:{}", "z".repeat(n as usize % 50))
}

/// The number of a message, from its text.
pub(super) fn number_of(body: &str) -> Option<u32> {
    let number = body.strip_prefix("f:")?.split(':').next()?.parse().ok()?;
    (text(number) == body).then_some(number)
}

impl Fleeting {
    /// Somebody says something; the whole message to `room`.
    pub(in crate::simulation) fn says(&mut self, room: &str) -> String {
        self.said += 1;
        let (n, text) = (self.said, text(self.said));
        let hint = "<no-permanent-store xmlns='urn:xmpp:hints'/>";
        format!("<message type='groupchat' id='f{n}' to='{room}'><body>{text}</body>{hint}</message>")
    }

    /// A stay in a room begins.
    pub(super) fn begins(&mut self, seat: &Seat) {
        self.seats.insert(seat.clone(), Vec::new());
    }

    /// A stay in a room is over.
    pub(super) fn ends(&mut self, seat: &Seat) {
        self.ended.extend(self.seats.remove_entry(seat).filter(|(_, heard)| !heard.is_empty()));
    }

    /// A session hears a message.
    pub(super) fn hears(&mut self, session: usize, room: &str, n: u32) -> Result<(), Broken> {
        if n > self.said {
            return Err(format!("session {session} hears in {room} what nobody has said: f{n}"));
        }
        // It may have just left, or be about to enter.
        let Some(heard) = self.seats.get_mut(&(session, room.to_owned())) else { return Ok(()) };
        if heard.contains(&n) {
            return Err(format!("session {session} hears f{n} in {room} twice: {heard:?}"));
        }
        heard.push(n);
        self.count += 1;
        Ok(())
    }

    /// Whether all have heard the same. Called when the world is at rest.
    pub(super) fn judge(&mut self) -> Result<(), Broken> {
        let ended = std::mem::take(&mut self.ended);
        let there = self.seats.iter().map(|(seat, heard)| (seat, heard, true));
        let all: Vec<_> = ended.iter().map(|(seat, heard)| (seat, heard, false)).chain(there).collect();
        for (at, one) in all.iter().enumerate() {
            all[..at]
                .iter()
                .filter(|other| other.0.1 == one.0.1)
                .try_for_each(|other| compare(one, other))?;
        }
        Ok(())
    }
}

/// A seat, what it has heard, and whether it is there.
type Listener<'a> = (&'a Seat, &'a Vec<u32>, bool);

fn compare(one: &Listener<'_>, other: &Listener<'_>) -> Result<(), Broken> {
    let numbers: BTreeSet<u32> = other.1.iter().copied().collect();
    let both: Vec<u32> = one.1.iter().copied().filter(|n| numbers.contains(n)).collect();
    let Some((first, last)) = both.first().zip(both.last()) else { return Ok(()) };
    let between = |heard: &[u32]| {
        let place = |n: &u32| heard.iter().position(|heard| heard == n).unwrap_or_default();
        let end = if one.2 && other.2 { heard.len() } else { place(last) + 1 };
        heard.get(place(first)..end).map(<[u32]>::to_vec)
    };
    match between(one.1) == between(other.1) && between(one.1).is_some() {
        true => Ok(()),
        false => Err(format!("two seats have not heard the same: {one:?}, {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seats of one room, with what they have heard, and whether they stay.
    fn judged(seats: &[(&[u32], bool)]) -> Result<(), Broken> {
        let mut fleeting = Fleeting::default();
        (0..9).for_each(|_| drop(fleeting.says("hall")));
        for (session, (heard, stays)) in seats.iter().enumerate() {
            let seat = (session, "hall".to_owned());
            fleeting.begins(&seat);
            heard.iter().try_for_each(|n| fleeting.hears(session, "hall", *n))?;
            if !stays {
                fleeting.ends(&seat);
            }
        }
        fleeting.judge()
    }

    #[test]
    fn a_hole_a_wrong_order_and_a_double_are_noticed() {
        let whole: &[u32] = &[1, 2, 3, 4, 5];
        for right in [
            &[(whole, true), (&[3, 4, 5], true), (&[2, 3], false), (&[], true)][..],
            &[(whole, false), (&[6, 7], true)],
            &[(&[4, 2, 6], true), (&[2, 6], true)],
        ] {
            assert_eq!(judged(right), Ok(()), "{right:?}");
        }
        for wrong in [
            &[(whole, true), (&[2, 4, 5], true)][..],
            &[(whole, false), (&[2, 4], false)],
            &[(whole, true), (&[3, 4], true)],
            &[(whole, true), (&[5, 4], false)],
            &[(&[1, 1], true)],
            &[(&[10], true)],
        ] {
            assert!(judged(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_come_back_from_texts() {
        assert!((0..200).all(|n| number_of(&text(n)) == Some(n)));
        assert_eq!((number_of("f:7"), number_of("g:7:")), (None, None));
    }
}
