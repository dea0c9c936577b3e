//! What occupants' presences say, and their hats. A client sends the same to all its rooms, many clients say the same, and few have
//! hats; a worker keeps each pair of both once.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;

use crate::occupancy::interned::{Interned, Interner};

/// What presence is made of.
#[derive(Debug, Default)]
struct Texts {
    presence: Box<[u8]>,
    hats: Box<[u8]>,
}

/// What an occupant's presence says and its hats, which a worker keeps once for all who have the same.
#[derive(Clone, Debug, Default)]
pub struct Payload(Arc<Texts>);

impl Payload {
    /// One that is kept by nobody else, without hats.
    pub fn alone(presence: &[u8]) -> Payload {
        Payload(Arc::new(Texts { presence: presence.into(), hats: Box::default() }))
    }

    /// What the occupant's last presence says: the elements that others see.
    pub fn presence(&self) -> &[u8] {
        &self.0.presence
    }

    /// What an operator says of it, as it stands in presence (XEP-0317); empty for nothing.
    pub fn hats(&self) -> &[u8] {
        &self.0.hats
    }

    /// The same without hats.
    pub fn without_hats(&self) -> Payload {
        if self.hats().is_empty() { self.clone() } else { Payload::alone(self.presence()) }
    }
}

impl Interned for Texts {
    fn hash(&self, hasher: &SeedableRandomState) -> u64 {
        hasher.hash_one((&*self.presence, &*self.hats))
    }
}

/// The texts of one worker.
pub struct Payloads {
    kept: Interner<Texts>,
}

impl Payloads {
    /// None yet.
    pub fn new(hasher: SeedableRandomState) -> Payloads {
        Payloads { kept: Interner::new(hasher) }
    }

    /// Presence and hats, as they are kept for everybody who has the same.
    pub fn intern(&mut self, presence: &[u8], hats: &[u8]) -> Payload {
        let hash = self.kept.hasher().hash_one((presence, hats));
        let is_it = |known: &Texts| *known.presence == *presence && *known.hats == *hats;
        let make = || Texts { presence: presence.into(), hats: hats.into() };
        Payload(self.kept.get(hash, is_it, make))
    }

    /// Nobody is in any room: nothing is kept.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// How many there are, those included that nobody has had since the last sweep.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::occupancy::interned::SWEEP_MIN;

    #[test]
    fn a_text_is_kept_once_as_long_as_somebody_has_it() {
        let mut payloads = Payloads::new(SeedableRandomState::random());
        let (one, same) =
            (payloads.intern(b"<show>away</show>", b""), payloads.intern(b"<show>away</show>", b""));
        assert!(Arc::ptr_eq(&one.0, &same.0) && payloads.len() == 1);
        for number in 0..10 * SWEEP_MIN {
            payloads.intern(number.to_string().as_bytes(), b"");
        }
        assert!(payloads.len() <= SWEEP_MIN + 1, "{} that nobody has", payloads.len());
        assert!(
            Arc::ptr_eq(&one.0, &payloads.intern(b"<show>away</show>", b"").0),
            "one that is in use stays"
        );
        let held: Vec<_> =
            (0..10 * SWEEP_MIN).map(|number| payloads.intern(number.to_string().as_bytes(), b"")).collect();
        assert!(payloads.len() > held.len(), "none in use is forgotten");
        payloads.clear();
        assert!(payloads.is_empty());
    }

    #[test]
    fn presence_and_hats_are_told_apart() {
        let mut payloads = Payloads::new(SeedableRandomState::random());
        let (both, turned) = (payloads.intern(b"<a/>", b"<b/>"), payloads.intern(b"<b/>", b"<a/>"));
        let (first, second) = (payloads.intern(b"<a/><b/>", b""), payloads.intern(b"", b"<a/><b/>"));
        assert_eq!(payloads.len(), 4);
        for (payload, presence, hats) in [
            (&both, &b"<a/>"[..], &b"<b/>"[..]),
            (&turned, b"<b/>", b"<a/>"),
            (&first, b"<a/><b/>", b""),
            (&second, b"", b"<a/><b/>"),
            (&both.without_hats(), b"<a/>", b""),
        ] {
            assert_eq!((payload.presence(), payload.hats()), (presence, hats));
        }
        assert!(Arc::ptr_eq(&first.0, &first.without_hats().0), "nothing is to be taken off");
    }
}
