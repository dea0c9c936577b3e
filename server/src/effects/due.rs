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

/// Looks at those that are due as far as `units` of work go; one that is begun is finished, and the others are the first of the next
/// time. `list` and `spent` find the list and the work so far in what `each` is handed.
pub fn in_turn<C>(
    of: &mut C,
    list: impl Fn(&mut C) -> &mut Due,
    spent: impl Fn(&C) -> u64,
    units: u64,
    mut each: impl FnMut(&mut C, ResourceKey),
) {
    if list(of).is_empty() {
        return;
    }
    let mut due = list(of).take();
    let until = spent(of) + units;
    let mut done = 0;
    while done < due.len() && spent(of) < until {
        each(of, due[done]);
        done += 1;
    }
    due.drain(..done);
    list(of).put_back(due);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_in_its_turn_and_no_more_than_there_is_work_for() {
        /// A list, the work so far, and who was looked at.
        #[derive(Default)]
        struct Place(Due, u64, Vec<u32>);
        let mut place = Place::default();
        for key in 0..5 {
            place.0.note(ResourceKey(key));
        }
        let look = |place: &mut Place| {
            in_turn(
                place,
                |place| &mut place.0,
                |place| place.1,
                128,
                |place, key| {
                    place.1 += 100;
                    place.2.push(key.0);
                    // It has more to say.
                    place.0.note(key);
                },
            );
            std::mem::take(&mut place.2)
        };
        let turns: Vec<_> = (0..5).flat_map(|_| look(&mut place)).collect();
        assert_eq!(turns, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    }

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
