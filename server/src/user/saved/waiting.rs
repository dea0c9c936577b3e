//! Numbers of messages between logs. The same log knows a message by the same number; in another one, after a change of
//! the number of workers, it is found by its rank among those that wait for its user.

use whimbrel_storage::log::Sequence;

use crate::proto::sm::saved::LogPlace;

/// What waits in the log for one user.
pub enum Waiting {
    /// The log is the one that the numbers are of.
    SameLog,
    /// The messages, in order.
    Ranked(Vec<Sequence>),
}

impl Waiting {
    /// A message that is no longer in the log has no place among those that wait.
    const GONE: u64 = u64::MAX;

    fn ranked(&self) -> &[Sequence] {
        match self {
            Waiting::SameLog => &[],
            Waiting::Ranked(messages) => messages,
        }
    }

    /// The place of a message.
    pub fn place_of(&self, sequence: Sequence) -> LogPlace {
        let rank = self.ranked().binary_search(&sequence).map_or(Waiting::GONE, |rank| rank as u64);
        LogPlace { sequence: sequence.0, rank }
    }

    /// The place behind a message.
    pub fn place_after(&self, sequence: Sequence) -> LogPlace {
        let rank = self.ranked().partition_point(|other| *other <= sequence) as u64;
        LogPlace { sequence: sequence.0, rank }
    }

    /// The message that has this place here; one that no log has when it is gone.
    pub fn message_at(&self, place: LogPlace) -> Sequence {
        let Waiting::Ranked(messages) = self else { return Sequence(place.sequence) };
        let rank = usize::try_from(place.rank).ok();
        rank.and_then(|rank| messages.get(rank)).copied().unwrap_or(Sequence::ZERO)
    }

    /// What a cursor at this place is here.
    pub fn cursor_at(&self, place: LogPlace) -> Sequence {
        let Waiting::Ranked(messages) = self else { return Sequence(place.sequence) };
        let before = usize::try_from(place.rank).ok().and_then(|rank| rank.checked_sub(1));
        before.map_or(Sequence::ZERO, |before| messages.get(before).copied().unwrap_or(Sequence::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_log_finds_a_message_by_its_rank() {
        let before = Waiting::Ranked([10, 20, 30].map(Sequence).to_vec());
        let after = Waiting::Ranked([7, 8, 9].map(Sequence).to_vec());
        assert_eq!(after.message_at(before.place_of(Sequence(20))), Sequence(8));
        assert_eq!(after.message_at(before.place_of(Sequence(25))), Sequence::ZERO, "it is gone");
        assert_eq!(after.cursor_at(before.place_after(Sequence(20))), Sequence(8));
        assert_eq!(after.cursor_at(before.place_after(Sequence(5))), Sequence::ZERO);
        assert_eq!(Waiting::SameLog.message_at(before.place_of(Sequence(20))), Sequence(20));
        assert_eq!(Waiting::SameLog.cursor_at(before.place_after(Sequence(5))), Sequence(5));
    }
}
