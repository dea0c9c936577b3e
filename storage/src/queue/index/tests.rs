//! The index against a map of maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn slot(sequence: u64, position: u64) -> Slot {
    Slot { sequence, position: position * 8, words: (position % 300) as u32 + 8 }
}

#[derive(Clone, Debug)]
enum Step {
    Append { user: u64 },
    Move { user: u64, nth: usize, to: u64 },
    Remove { user: u64, nth: usize },
    RemoveUpTo { user: u64, nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..3_u64;
    prop_oneof![
        6 => user.clone().prop_map(|user| Step::Append { user }),
        2 => (user.clone(), 0..400_usize, 0..1_u64 << 40).prop_map(|(user, nth, to)| Step::Move { user, nth, to }),
        2 => (user.clone(), 0..400_usize).prop_map(|(user, nth)| Step::Remove { user, nth }),
        1 => (user, 0..40_usize).prop_map(|(user, nth)| Step::RemoveUpTo { user, nth }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_agrees_with_a_map_of_maps(steps in prop::collection::vec(step(), 1..1500), seed in any::<u32>()) {
        let mut index = Index::default();
        let mut model: BTreeMap<u64, BTreeMap<u64, Slot>> = BTreeMap::new();
        let mut next = u64::from(seed);
        for (at, step) in steps.iter().enumerate() {
            next += 1 + at as u64 % 7;
            let nth = |model: &BTreeMap<u64, BTreeMap<u64, Slot>>, user, nth: usize| {
                model.get(&user).and_then(|of| of.keys().nth(nth % of.len().max(1)).copied()).unwrap_or(next + 1)
            };
            match *step {
                Step::Append { user } => {
                    let new = slot(next, next);
                    assert_eq!(index.put(ActorId::user(user), new), model.entry(user).or_default().insert(next, new));
                }
                Step::Move { user, nth: n, to } => {
                    let moved = slot(nth(&model, user, n), to);
                    let old = model.entry(user).or_default().insert(moved.sequence, moved);
                    assert_eq!(index.put(ActorId::user(user), moved), old);
                }
                Step::Remove { user, nth: n } => {
                    let sequence = nth(&model, user, n);
                    let old = model.get_mut(&user).and_then(|of| of.remove(&sequence));
                    assert_eq!(index.remove(ActorId::user(user), sequence), old);
                }
                Step::RemoveUpTo { user, nth: n } => {
                    let sequence = nth(&model, user, n);
                    let of = model.entry(user).or_default();
                    let rest = of.split_off(&(sequence + 1));
                    let expected: Vec<Slot> = std::mem::replace(of, rest).into_values().collect();
                    let mut gone = Vec::new();
                    let count = index.remove_up_to(ActorId::user(user), sequence, |slot| gone.push(slot));
                    assert_eq!((count, &gone), (expected.len() as u64, &expected));
                }
            }
        }
        model.retain(|_, of| !of.is_empty());
        assert_eq!(index.actors().len(), model.len());
        assert_eq!(index.messages(), model.values().map(|of| of.len() as u64).sum::<u64>());
        for (user, of) in &model {
            let id = ActorId::user(*user);
            assert!(index.slots_from(id, 0).eq(of.values().copied()));
            let backlog = index.backlog(id).unwrap();
            assert_eq!(backlog.messages, of.len() as u64);
            assert_eq!(backlog.bytes, of.values().map(Slot::bytes).sum::<u64>());
            assert_eq!(backlog.last.0, *of.last_key_value().unwrap().0);
            assert_eq!(index.load(id).2, of.last_key_value().unwrap().1.position);
            for (sequence, slot) in of {
                assert_eq!(index.get(id, *sequence), Some(*slot));
                assert!(index.slots_from(id, sequence + 1).eq(of.range(sequence + 1..).map(|(_, slot)| *slot)));
            }
        }
    }
}

#[test]
fn a_user_with_one_message_costs_less_than_100_bytes_and_a_further_message_less_than_12() {
    let mut one = Index::default();
    for user in 0..100_000 {
        one.put(ActorId::user(user), slot(user + 1, user * 27));
    }
    assert!(one.memory_bytes() / 100_000 < 100, "{}", one.memory_bytes() / 100_000);
    let mut many = Index::default();
    // A thousand users taking turns, a message each millisecond.
    for n in 0..100_000 {
        let slot = Slot { sequence: Sequence::at(1_700_000_000_000 + n).0, position: n * 216, words: 27 };
        many.put(ActorId::user(n % 1000), slot);
    }
    assert!(many.memory_bytes() / 100_000 < 12, "{}", many.memory_bytes() / 100_000);
}

#[test]
fn an_id_costs_few_bytes_however_far_apart_messages_come() {
    // Milliseconds between two messages of a user, and most bytes for each.
    for (interval_ms, most) in [(1, 9), (1_000, 9), (60_000, 13), (3_600_000, 17), (86_400_000, 17)] {
        let mut index = Index::default();
        // A hundred users with 640 messages each.
        for n in 0..64_000 {
            let sequence = Sequence::at(1_700_000_000_000 + n / 100 * interval_ms).0 + n % 2;
            index.put(ActorId::user(n % 100), Slot { sequence, position: n * 216, words: 27 });
        }
        let each = index.memory_bytes() / 64_000;
        assert!(each <= most, "{each} bytes, {interval_ms} ms apart");
    }
}

/// Messages that lie as far from each other as they can, with numbers as far apart.
fn far_apart(n: u64) -> Slot {
    let position = if n.is_multiple_of(2) { 0 } else { 16 << 30 };
    // A day apart, each the last of a burst.
    Slot { sequence: (n * 86_400_000) << 20 | 0xf_ffff, position: position + n * 8, words: 1 << 15 }
}

#[test]
fn a_message_costs_no_more_than_is_said_whatever_waits_and_was_taken_out() {
    const COUNT: u64 = 20_000;
    let user = ActorId::user(1);
    type Keeps = fn(u64) -> bool;
    let kept: [(&str, Keeps); 5] = [
        ("all", |_| true),
        ("one of each chunk", |n| n.is_multiple_of(64)),
        ("one of each chunk, the last", |n| n % 64 == 63),
        ("a half of each chunk", |n| n % 64 >= 32),
        ("every third", |n| n.is_multiple_of(3)),
    ];
    for (what, keeps) in kept {
        for backwards in [false, true] {
            let mut index = Index::default();
            for n in 0..COUNT {
                index.put(user, far_apart(n));
            }
            let mut gone: Vec<u64> = (0..COUNT).filter(|n| !keeps(*n)).collect();
            if backwards {
                gone.reverse();
            }
            for n in gone {
                assert!(index.remove(user, far_apart(n).sequence).is_some());
            }
            assert!(index.slots_from(user, 0).eq((0..COUNT).filter(|n| keeps(*n)).map(far_apart)));
            let bytes = index.memory_bytes() as u64 - index.spare.memory_bytes() as u64;
            let each = bytes / index.messages();
            assert!(each <= MESSAGE_BYTES_MAX, "{what}, backwards: {backwards}: {each} bytes each");
        }
    }
}
