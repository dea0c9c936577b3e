//! Resources to be looked at once in an iteration, however often something happens to them.

use crate::keys::ResourceKey;

/// Resources that are due. One that is noted while the list is worked through is due the next time.
#[derive(Default)]
pub struct Due {
    noted: Vec<ResourceKey>,
    /// The first that could not be looked at the last time: it is the first of the next.
    first: Option<ResourceKey>,
    /// An emptied list, kept for its memory.
    spare: Vec<ResourceKey>,
}

impl Due {
    /// Whether nothing is due.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Notes a resource.
    #[inline]
    pub fn note(&mut self, key: ResourceKey) {
        self.noted.push(key);
    }

    /// What is due, each once, in the order of the keys, and from that on which came to be the first that was left. [`Due::put_back`]
    /// must follow.
    pub fn take(&mut self) -> Vec<ResourceKey> {
        let mut due = std::mem::replace(&mut self.noted, std::mem::take(&mut self.spare));
        due.sort_unstable();
        due.dedup();
        let first = due.partition_point(|key| self.first.is_some_and(|first| *key < first));
        due.rotate_left(first);
        due
    }

    /// Takes back what could not be looked at, in its order: it is due again.
    pub fn put_back(&mut self, mut left: Vec<ResourceKey>) {
        self.first = left.first().copied();
        left.append(&mut self.noted);
        self.spare = std::mem::replace(&mut self.noted, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_what_is_left_again() {
        let mut due = Due::default();
        for key in [3, 1, 3, 2] {
            due.note(ResourceKey(key));
        }
        let mut taken = due.take();
        assert_eq!(taken, [1, 2, 3].map(ResourceKey));
        assert!(due.is_empty());
        due.note(ResourceKey(1));
        taken.drain(..2);
        due.put_back(taken);
        assert_eq!(due.take(), [3, 1].map(ResourceKey), "those that were left come first");
        due.put_back(Vec::new());
        due.note(ResourceKey(7));
        due.note(ResourceKey(1));
        assert_eq!(due.take(), [1, 7].map(ResourceKey));
    }
}
