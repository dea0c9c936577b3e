//! A dense table with generations: connection states of a driver.

use super::ConnId;

const NONE: u32 = u32::MAX;

/// Indexes stay below this, so that drivers have numbers left for listeners and wakers, and bits for the kind of an
/// operation.
pub(super) const INDEX_LIMIT: u32 = 1 << 28;

#[derive(Debug)]
enum Entry<T> {
    Free { next: u32 },
    Used(T),
}

#[derive(Debug)]
struct Slot<T> {
    entry: Entry<T>,
    generation: u32,
}

/// Bytes one slot takes, for compile-time checks of the drivers.
pub(super) const fn slot_bytes<T>() -> usize {
    std::mem::size_of::<Slot<T>>()
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    used: usize,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: NONE, used: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Takes a free slot; gives the value back when the table is full.
    pub(super) fn insert(&mut self, value: T) -> Result<ConnId, T> {
        if self.free == NONE {
            let Some(index) = u32::try_from(self.slots.len()).ok().filter(|index| *index < INDEX_LIMIT)
            else {
                return Err(value);
            };
            self.slots.push(Slot { entry: Entry::Used(value), generation: 0 });
            self.used += 1;
            return Ok(ConnId { index, generation: 0 });
        }
        let index = self.free;
        let slot = &mut self.slots[index as usize];
        match slot.entry {
            Entry::Free { next } => self.free = next,
            Entry::Used(_) => unreachable!("the free list holds free slots only"),
        }
        slot.entry = Entry::Used(value);
        self.used += 1;
        Ok(ConnId { index, generation: slot.generation })
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        match self.slots.get_mut(conn.index as usize) {
            Some(Slot { entry: Entry::Used(value), generation }) if *generation == conn.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.get_mut(conn)?;
        let slot = &mut self.slots[conn.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let entry = std::mem::replace(&mut slot.entry, Entry::Free { next: self.free });
        self.free = conn.index;
        self.used -= 1;
        match entry {
            Entry::Used(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    /// The ids of all connections, in order of index.
    #[cfg(target_os = "linux")] // The other drivers look at the values alone.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| matches!(slot.entry, Entry::Used(_)));
        // Indexes stay below INDEX_LIMIT.
        used.map(|(index, slot)| ConnId { index: index as u32, generation: slot.generation }).collect()
    }

    /// Every connection there is, in order of index.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match &slot.entry {
            Entry::Used(value) => Some(value),
            Entry::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_has_another_generation_and_the_old_id_is_inert() {
        let mut slots = Slots::new();
        let first = slots.insert("first").unwrap();
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second").unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second.generation, first.generation);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn freed_indexes_are_used_before_the_table_grows() {
        let mut slots = Slots::new();
        let ids: Vec<_> = (0..10).map(|n| slots.insert(n).unwrap()).collect();
        for id in &ids[2..5] {
            slots.remove(*id).unwrap();
        }
        let mut reused: Vec<_> = (0..3).map(|n| slots.insert(n).unwrap().index).collect();
        reused.sort_unstable();
        assert_eq!(reused, [2, 3, 4]);
        assert_eq!(slots.insert(9).unwrap().index, 10);
    }
}
