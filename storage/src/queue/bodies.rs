//! Texts that several messages share, by id: where each lies and how many waiting messages refer to it.
//!
//! A text of one message is part of its record and is not here. A body is needed as long as a reference to it waits; when
//! the journal is read, its copy by compaction may come after references that have stayed where they were, so a reference
//! may be known before its body is.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Where a body lies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Place {
    /// Where its record begins; 0, where no record can be, for not known yet.
    pub(super) position: u64,
    /// Bytes of its record, divided by eight.
    pub(super) words: u32,
    references: u32,
}

impl Place {
    /// Bytes of its record.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.words) * 8
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    // Nobody chooses an id, so the table needs no secret.
    places: HashMap<u64, Place, foldhash::fast::FixedState>,
}

impl Bodies {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Notes where a body lies. Returns where it lay before.
    pub(super) fn put(&mut self, id: u64, position: u64, words: u32) -> Option<Place> {
        let place = self.places.entry(id).or_default();
        let old = (place.position != 0).then_some(*place);
        (place.position, place.words) = (position, words);
        old
    }

    /// Another message refers to it.
    pub(super) fn refer(&mut self, id: u64) {
        self.places.entry(id).or_default().references += 1;
    }

    /// A message no longer does. Returns where the body lay, if that was the last one.
    pub(super) fn release(&mut self, id: u64) -> Option<Place> {
        let Entry::Occupied(mut found) = self.places.entry(id) else { return None };
        let place = found.get_mut();
        place.references = place.references.saturating_sub(1);
        if place.references > 0 {
            return None;
        }
        let place = found.remove();
        (place.position != 0).then_some(place)
    }

    /// Forgets a body that no message refers to.
    pub(super) fn take_unreferenced(&mut self, id: u64) -> Option<Place> {
        let Entry::Occupied(found) = self.places.entry(id) else { return None };
        (found.get().references == 0).then(|| found.remove())
    }

    /// Forgets all bodies that no message refers to.
    pub(super) fn take_all_unreferenced(&mut self) -> Vec<Place> {
        self.places.extract_if(|_, place| place.references == 0).map(|(_, place)| place).collect()
    }

    /// What lies at these positions is gone.
    pub(super) fn forget_places(&mut self, is_gone: impl Fn(u64) -> bool) {
        for place in self.places.values_mut().filter(|place| is_gone(place.position)) {
            (place.position, place.words) = (0, 0);
        }
    }

    /// Whether a message refers to a body that is nowhere.
    pub(super) fn has_unknown(&self) -> bool {
        self.places.values().any(|place| place.position == 0)
    }

    /// Where a body lies, as far as is known.
    pub(super) fn place(&self, id: u64) -> Option<Place> {
        self.places.get(&id).copied().filter(|place| place.position != 0)
    }

    /// Whether the body at this position is the one that waiting messages refer to.
    pub(super) fn is_needed_at(&self, id: u64, position: u64) -> bool {
        self.places.get(&id).is_some_and(|place| place.position == position && place.references > 0)
    }

    /// All of them: id and place.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = (u64, &Place)> + '_ {
        self.places.iter().map(|(id, place)| (*id, place))
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.places.allocation_size()
    }
}
