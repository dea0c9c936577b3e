//! A block of an archive's index with anything in it: nothing panics, and what is read is written as the same bytes.
//!
//! The first eight bytes are the id of its first message, the rest is the block.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Packed, Row};
use whimbrel_storage::log::Sequence;

fuzz_target!(|data: &[u8]| {
    let Some((first, block)) = data.split_first_chunk::<8>() else { return };
    let first = Sequence(u64::from_le_bytes(*first));
    let Ok(packed) = Packed::open(first, block) else { return };
    let Ok(slots) = packed.slots() else { return };
    assert_eq!((slots.len(), slots[0].id), (packed.messages(), first));
    assert!(slots.is_sorted_by(|one, other| one.id < other.id), "ids rise");
    assert!(slots.iter().all(|slot| packed.has_peer(slot.peer)), "its peers are those of its messages");
    let row = Row { actor: ActorId::user(1), journal: 1, slots };
    let again = row.encode();
    let read = Packed::open(first, &again).and_then(|packed| packed.slots());
    assert_eq!(read.as_ref(), Ok(&row.slots));
    // Peers in another order, or peers that no message has, are the only freedom there is.
    assert!(again.len() <= block.len());
});
