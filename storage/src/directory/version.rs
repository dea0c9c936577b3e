//! What names one state of a roster (RFC 6121 §2.6).
//!
//! A number that counts changes is not enough: after a backup is served, the next change gets a number that stood for
//! another one before, and a client that knows the old one would be told that nothing has changed. So a version also
//! names the *incarnation* in which the change was made: a random number drawn whenever the directory is opened. A
//! roster remembers which of its numbers belong to which incarnation; a version that does not fit is unknown, and its
//! client gets the whole roster.

use std::fmt;
use std::str::FromStr;

/// Incarnations that are remembered for each roster. Versions of earlier ones are unknown.
pub const INCARNATIONS_MAX: usize = 16;

/// A version of a roster. Opaque to clients; `NUMBER-INCARNATION` on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RosterVersion {
    /// Counts the changes of the roster.
    pub number: u64,
    /// In which opening of the directory the change was made; 0 for a roster that was never changed.
    pub incarnation: u64,
}

impl RosterVersion {
    /// Of a roster that was never changed, and so is empty.
    pub const NEVER_CHANGED: Self = Self { number: 0, incarnation: 0 };
}

impl fmt::Display for RosterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(f, "{}", self.number),
            incarnation => write!(f, "{}-{incarnation:016x}", self.number),
        }
    }
}

/// A text that is no version: the client has it from another server, or from nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no version of a roster")]
pub struct NoVersion;

impl FromStr for RosterVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let (number, incarnation) = match text.split_once('-') {
            Some((number, incarnation)) => {
                (number, u64::from_str_radix(incarnation, 16).map_err(|_| NoVersion)?)
            }
            None => (text, 0),
        };
        Ok(Self { number: number.parse().map_err(|_| NoVersion)?, incarnation })
    }
}

/// Which numbers of a roster's versions belong to which incarnation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct History(
    /// Incarnation, and the number of its first change, in order.
    pub(super) Box<[(u64, u64)]>,
);

impl History {
    /// A change is made.
    pub(super) fn note(&mut self, version: RosterVersion) {
        if self.0.last().is_none_or(|(incarnation, _)| *incarnation != version.incarnation) {
            let mut all = std::mem::take(&mut self.0).into_vec();
            all.push((version.incarnation, version.number));
            if all.len() > INCARNATIONS_MAX {
                all.remove(0);
            }
            self.0 = all.into_boxed_slice();
        }
    }

    /// The version with this number; `None` when it is older than all that is remembered.
    pub(super) fn version(&self, number: u64) -> Option<RosterVersion> {
        let found = self.0.iter().rev().find(|(_, first)| *first <= number);
        found.map(|(incarnation, _)| RosterVersion { number, incarnation: *incarnation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_was_written() {
        for version in [
            RosterVersion::NEVER_CHANGED,
            RosterVersion { number: 7, incarnation: 0 },
            RosterVersion { number: 7, incarnation: 1 },
            RosterVersion { number: u64::MAX, incarnation: u64::MAX },
        ] {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for text in ["", "x", "7-", "-7", "7-x", "7-1-1", "-", "18446744073709551616"] {
            assert_eq!(text.parse::<RosterVersion>(), Err(NoVersion), "{text}");
        }
    }

    #[test]
    fn a_number_belongs_to_the_incarnation_that_gave_it() {
        let mut history = History::default();
        for (number, incarnation) in [(3, 8), (4, 8), (5, 9), (6, 8)] {
            history.note(RosterVersion { number, incarnation });
        }
        let of = |number| history.version(number).map(|version| version.incarnation);
        assert_eq!([2, 3, 4, 5, 6, 7].map(of), [None, Some(8), Some(8), Some(9), Some(8), Some(8)]);
        for number in 7..40 {
            history.note(RosterVersion { number, incarnation: number });
        }
        assert_eq!(history.0.len(), INCARNATIONS_MAX);
        assert_eq!(history.version(23), None);
    }
}
