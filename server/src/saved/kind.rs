//! Kinds of blocks: a name, the versions of the content, and whether a program that does not know it may go on without.

use std::collections::BTreeMap;

use super::owner::Row;

/// Bytes of a kind's name at most: its place in the head of a block.
pub const NAME_BYTES_MAX: usize = 16;

/// A kind of block. Its owner declares it once, as a constant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Tells it from all others, in the file and to operators: lower-case letters and hyphens.
    pub name: &'static str,
    /// The oldest version of the content that this program reads and writes.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
    /// A program that does not know it leaves it out and says so, instead of refusing the state.
    pub is_droppable: bool,
}

impl Kind {
    /// A kind without which there is no taking over.
    #[must_use]
    pub const fn required(name: &'static str) -> Kind {
        Kind { name: checked(name), oldest: 1, newest: 1, is_droppable: false }
    }

    /// A kind that only makes things better, as counts do that begin anew otherwise.
    #[must_use]
    pub const fn droppable(name: &'static str) -> Kind {
        Kind { is_droppable: true, ..Kind::required(name) }
    }

    /// The name as it stands in the head of a block.
    pub(super) fn bytes(&self) -> [u8; NAME_BYTES_MAX] {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..self.name.len()].copy_from_slice(self.name.as_bytes());
        bytes
    }
}

/// The name itself, if it fits into a block's head. Kinds are constants, so another one does not compile.
const fn checked(name: &'static str) -> &'static str {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX, "a kind's name has 1 to 16 bytes");
    let mut at = 0;
    while at < bytes.len() {
        assert!(bytes[at].is_ascii_lowercase() || bytes[at] == b'-', "lower-case letters and hyphens");
        at += 1;
    }
    name
}

/// The versions of its kinds that a program reads, as it says them to the one that it is to replace.
pub type Readable = BTreeMap<String, [u16; 2]>;

/// What this program says to one that it is to replace.
#[must_use]
pub fn readable(known: &[Row]) -> Readable {
    known.iter().map(|row| (row.kind.name.to_owned(), [row.kind.oldest, row.kind.newest])).collect()
}

/// In which version each kind is written: for each the newest that writer and reader know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<&'static str, u16>);

impl Versions {
    /// For a reader that is this same program.
    #[must_use]
    pub fn own(known: &[Row]) -> Versions {
        Versions(known.iter().map(|row| (row.kind.name, row.kind.newest)).collect())
    }

    /// For another reader. Kinds that have no version in common are missing.
    #[must_use]
    pub fn common(known: &[Row], theirs: &Readable) -> Versions {
        let version = |row: &Row| {
            let [oldest, newest] = *theirs.get(row.kind.name)?;
            let common = newest.min(row.kind.newest);
            (common >= oldest.max(row.kind.oldest)).then_some((row.kind.name, common))
        };
        Versions(known.iter().filter_map(version).collect())
    }

    /// In which version a kind is written; `None`: the reader cannot read it.
    #[must_use]
    pub fn of(&self, kind: &Kind) -> Option<u16> {
        self.0.get(kind.name).copied()
    }

    /// The kinds that the reader cannot read.
    pub fn missing(&self, known: &[Row]) -> impl Iterator<Item = Kind> {
        known.iter().map(|row| row.kind).filter(|kind| self.of(kind).is_none())
    }
}
