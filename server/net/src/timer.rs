//! A hierarchical timer wheel: constant-time insert and cancel, bounded, in milliseconds.
//!
//! Six levels of 64 slots. Level 0 holds what is due within 64 ms, one slot a millisecond; each level above covers 64
//! times as much with 64 times coarser slots. When time enters a coarse slot, its timers move down. A timer that lies
//! beyond the top level (about two years) waits in the farthest slot and moves again from there.

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const SPAN_MS: u64 = 1 << (SLOT_BITS * LEVELS as u32);
const NONE: u32 = u32::MAX;

/// Milliseconds of a monotonic clock whose origin the caller chooses.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// This time plus `ms` milliseconds; saturating.
    #[must_use]
    pub fn after(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; 0 if `earlier` is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A timer of one wheel. After it fired or was cancelled the id is inert.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// The wheel holds as many timers as it may; the value that was to be inserted comes back.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the timer wheel is full")]
pub struct TimerWheelFull<T>(pub T);

struct Node<T> {
    deadline: u64,
    prev: u32,
    next: u32,
    generation: u32,
    /// Which list the node is in: level * SLOTS + slot. Of no meaning in the free list.
    list: u16,
    value: Option<T>,
}

/// Timers that carry a `T`.
///
/// Time only moves in [`TimerWheel::advance`]; nothing reads a clock.
pub struct TimerWheel<T> {
    /// Every slot whose time has come by `now` is empty.
    now: u64,
    nodes: Vec<Node<T>>,
    free: u32,
    len: usize,
    limit: usize,
    /// First and last node of each list.
    heads: [[(u32, u32); SLOTS]; LEVELS],
    /// One bit a slot that is not empty.
    occupied: [u64; LEVELS],
}

impl<T> TimerWheel<T> {
    /// An empty wheel at time `now`, for at most `limit` timers at a time (and never more than 2^32 - 1).
    pub fn new(now: Millis, limit: usize) -> TimerWheel<T> {
        TimerWheel {
            now: now.0,
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            limit: limit.min(NONE as usize),
            heads: [[(NONE, NONE); SLOTS]; LEVELS],
            occupied: [0; LEVELS],
        }
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer. One whose deadline is past fires at the next [`TimerWheel::advance`] that moves time.
    ///
    /// # Errors
    /// [`TimerWheelFull`] with the value when the limit is reached.
    pub fn insert(&mut self, deadline: Millis, value: T) -> Result<TimerId, TimerWheelFull<T>> {
        if self.len == self.limit {
            return Err(TimerWheelFull(value));
        }
        let index = if self.free == NONE {
            self.nodes.push(Node {
                deadline: 0,
                prev: NONE,
                next: NONE,
                generation: 0,
                list: 0,
                value: None,
            });
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            index
        };
        let node = &mut self.nodes[index as usize];
        node.deadline = deadline.0;
        node.value = Some(value);
        let id = TimerId { index, generation: node.generation };
        self.len += 1;
        self.link(index);
        Ok(id)
    }

    /// When a timer is due. `None` if it fired or was cancelled.
    pub fn deadline(&self, timer: TimerId) -> Option<Millis> {
        let node = self.nodes.get(timer.index as usize)?;
        let is_set = node.generation == timer.generation && node.value.is_some();
        is_set.then_some(Millis(node.deadline))
    }

    /// Takes a timer out. `None` if it fired or was cancelled before.
    pub fn cancel(&mut self, timer: TimerId) -> Option<T> {
        let node = self.nodes.get(timer.index as usize)?;
        if node.generation != timer.generation || node.value.is_none() {
            return None;
        }
        self.unlink(timer.index);
        self.release(timer.index)
    }

    /// Moves time to `now` and hands over what is due, in order of deadlines (timers that were late when they were
    /// set come with the first millisecond). Time never moves back.
    pub fn advance(&mut self, now: Millis, mut fire: impl FnMut(T)) {
        while self.now < now.0 {
            let Some(next) = self.next_slot() else {
                self.now = now.0;
                return;
            };
            if next > now.0 {
                self.now = now.0;
                return;
            }
            self.now = next;
            for level in (1..LEVELS).rev() {
                if next.trailing_zeros() >= SLOT_BITS * level as u32 {
                    self.cascade(level, slot_at(next, level));
                }
            }
            self.fire_slot(slot_at(next, 0), &mut fire);
        }
    }

    /// When [`TimerWheel::advance`] should be called next: never later than the earliest deadline (or one millisecond
    /// from now, if that is past), perhaps earlier, so that far timers can move down. `None` when no timer is set.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.next_slot().map(Millis)
    }

    /// The time at which the next slot that is not empty begins.
    fn next_slot(&self) -> Option<u64> {
        (0..LEVELS)
            .filter(|level| self.occupied[*level] != 0)
            .map(|level| {
                let shift = SLOT_BITS * level as u32;
                let current = slot_at(self.now, level) as u32;
                // The slot of the current time is empty, or stands for the next turn of its level.
                let ahead =
                    self.occupied[level].rotate_right((current + 1) % SLOTS as u32).trailing_zeros() + 1;
                ((self.now >> shift) + u64::from(ahead)) << shift
            })
            .min()
    }

    fn link(&mut self, index: u32) {
        let deadline = self.nodes[index as usize].deadline;
        // What is late fires with the next millisecond; what is too far waits in the farthest slot.
        let at = deadline.clamp(self.now.saturating_add(1), self.now.saturating_add(SPAN_MS - 1));
        let apart = (at ^ self.now).max(1);
        let level = ((63 - apart.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1) as usize;
        self.push(index, level, slot_at(at, level));
    }

    fn push(&mut self, index: u32, level: usize, slot: usize) {
        let tail = self.heads[level][slot].1;
        let node = &mut self.nodes[index as usize];
        node.list = (level * SLOTS + slot) as u16;
        node.prev = tail;
        node.next = NONE;
        if tail == NONE {
            self.heads[level][slot].0 = index;
            self.occupied[level] |= 1 << slot;
        } else {
            self.nodes[tail as usize].next = index;
        }
        self.heads[level][slot].1 = index;
    }

    fn unlink(&mut self, index: u32) {
        let Node { prev, next, list, .. } = self.nodes[index as usize];
        let (level, slot) = (list as usize / SLOTS, list as usize % SLOTS);
        if prev == NONE {
            self.heads[level][slot].0 = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NONE {
            self.heads[level][slot].1 = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if self.heads[level][slot].0 == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
        node.value.take()
    }

    fn cascade(&mut self, level: usize, slot: usize) {
        let (mut index, _) = std::mem::replace(&mut self.heads[level][slot], (NONE, NONE));
        self.occupied[level] &= !(1 << slot);
        while index != NONE {
            let next = self.nodes[index as usize].next;
            if self.nodes[index as usize].deadline <= self.now {
                // Due in this very millisecond: level 0 is fired next.
                self.push(index, 0, slot_at(self.now, 0));
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    fn fire_slot(&mut self, slot: usize, fire: &mut impl FnMut(T)) {
        while self.heads[0][slot].0 != NONE {
            let index = self.heads[0][slot].0;
            self.unlink(index);
            if let Some(value) = self.release(index) {
                fire(value);
            }
        }
    }
}

fn slot_at(time: u64, level: usize) -> usize {
    (time >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut TimerWheel<u32>, now: u64) -> Vec<u32> {
        let mut values = Vec::new();
        wheel.advance(Millis(now), |value| values.push(value));
        values
    }

    #[test]
    fn timers_fire_in_order_of_their_deadlines_across_levels() {
        let mut wheel = TimerWheel::new(Millis(1_000_000), 100);
        let deadlines =
            [1_000_001, 1_000_063, 1_000_064, 1_004_095, 1_004_096, 1_262_144, 17_777_216, 9_999_999_999];
        for (n, deadline) in deadlines.iter().enumerate().rev() {
            wheel.insert(Millis(*deadline), n as u32).unwrap();
        }
        for (n, deadline) in deadlines.iter().enumerate() {
            assert_eq!(fired(&mut wheel, deadline - 1), [] as [u32; 0], "before {deadline}");
            assert_eq!(fired(&mut wheel, *deadline), [n as u32], "at {deadline}");
        }
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_full_wheel_gives_the_value_back_and_has_room_again_after_a_cancel() {
        let mut wheel = TimerWheel::new(Millis(0), 2);
        let first = wheel.insert(Millis(5), "first").unwrap();
        wheel.insert(Millis(5), "second").unwrap();
        assert_eq!(wheel.insert(Millis(5), "third"), Err(TimerWheelFull("third")));
        assert_eq!(wheel.cancel(first), Some("first"));
        wheel.insert(Millis(5), "third").unwrap();
    }

    #[test]
    fn a_fired_or_cancelled_id_is_inert_even_when_its_place_is_used_again() {
        let mut wheel = TimerWheel::new(Millis(0), 10);
        let first = wheel.insert(Millis(1), 1).unwrap();
        assert_eq!(fired(&mut wheel, 1), [1]);
        let second = wheel.insert(Millis(2), 2).unwrap();
        assert_eq!(wheel.cancel(first), None);
        assert_eq!(wheel.cancel(second), Some(2));
        assert_eq!(wheel.cancel(second), None);
        assert_eq!(fired(&mut wheel, 100), [] as [u32; 0]);
    }

    #[test]
    fn a_late_timer_fires_with_the_next_millisecond() {
        let mut wheel = TimerWheel::new(Millis(500), 10);
        wheel.insert(Millis(3), 1).unwrap();
        assert_eq!(wheel.next_deadline(), Some(Millis(501)));
        assert_eq!(fired(&mut wheel, 501), [1]);
    }

    #[test]
    fn a_timer_beyond_the_span_fires_at_its_time_and_not_before() {
        let far = 3 * SPAN_MS + 12_345;
        let mut wheel = TimerWheel::new(Millis(7), 10);
        wheel.insert(Millis(far), 1).unwrap();
        wheel.insert(Millis(u64::MAX), 2).unwrap();
        assert_eq!(fired(&mut wheel, far - 1), [] as [u32; 0]);
        assert_eq!(fired(&mut wheel, far), [1]);
        assert_eq!(wheel.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { ahead: u64 },
        Cancel { which: usize },
        Advance { by: u64 },
        AdvanceToNext,
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance =
            prop_oneof![0..4u64, 0..70u64, 0..5_000u64, 0..300_000u64, 0..20_000_000u64, 0..SPAN_MS * 2];
        prop_oneof![
            4 => distance.clone().prop_map(|ahead| Step::Insert { ahead }),
            2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
            2 => distance.prop_map(|by| Step::Advance { by }),
            1 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_sorted_map_does(start in 0..SPAN_MS, steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut wheel = TimerWheel::new(Millis(now), 64);
            let mut model: BTreeMap<(u64, u32), TimerId> = BTreeMap::new();
            let mut serial = 0u32;
            for step in steps {
                match step {
                    Step::Insert { ahead } => {
                        let result = wheel.insert(Millis(now + ahead), serial);
                        prop_assert_eq!(result.is_ok(), model.len() < 64);
                        if let Ok(id) = result {
                            model.insert(((now + ahead).max(now + 1), serial), id);
                        }
                        serial += 1;
                    }
                    Step::Cancel { which } if !model.is_empty() => {
                        let key = *model.keys().nth(which % model.len()).unwrap();
                        let id = model.remove(&key).unwrap();
                        prop_assert_eq!(wheel.cancel(id), Some(key.1));
                        prop_assert_eq!(wheel.cancel(id), None);
                    }
                    Step::Cancel { .. } => {}
                    Step::Advance { .. } | Step::AdvanceToNext => {
                        let next = wheel.next_deadline();
                        prop_assert_eq!(next.is_some(), !model.is_empty());
                        if let (Some(next), Some(((earliest, _), _))) = (next, model.first_key_value()) {
                            prop_assert!(next.0 > now && next.0 <= *earliest);
                        }
                        now = match step {
                            Step::Advance { by } => now + by,
                            _ => next.map_or(now, |next| next.0),
                        };
                        let mut values = Vec::new();
                        wheel.advance(Millis(now), |value| values.push(value));
                        let rest = model.split_off(&(now + 1, 0));
                        let due = std::mem::replace(&mut model, rest);
                        let deadline = |value: &u32| due.keys().find(|key| key.1 == *value).map(|key| key.0);
                        let deadlines: Vec<_> = values.iter().map(deadline).collect();
                        prop_assert!(deadlines.iter().all(Option::is_some), "fired early: {:?}", values);
                        prop_assert!(deadlines.is_sorted());
                        prop_assert_eq!(values.len(), due.len());
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
