//! What occupants' presences say, and their hats. A client sends the same to all its rooms, and many clients say the same; a worker
//! keeps each text once.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;

use crate::occupancy::interned::{Interned, Interner};

/// A text that a worker keeps once. Boxed, so that whoever has it needs no more than eight bytes.
#[derive(Clone, Debug, Default)]
pub struct Payload(Arc<Box<[u8]>>);

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// One that is kept by nobody else.
impl From<Box<[u8]>> for Payload {
    fn from(text: Box<[u8]>) -> Payload {
        Payload(Arc::new(text))
    }
}

impl Interned for Box<[u8]> {
    fn hash(&self, hasher: &SeedableRandomState) -> u64 {
        hasher.hash_one(&**self)
    }
}

/// The texts of one worker.
pub struct Payloads {
    kept: Interner<Box<[u8]>>,
}

impl Payloads {
    /// None yet.
    pub fn new(hasher: SeedableRandomState) -> Payloads {
        Payloads { kept: Interner::new(hasher) }
    }

    /// A text, as it is kept for everybody who has it.
    pub fn intern(&mut self, payload: &[u8]) -> Payload {
        let hash = self.kept.hasher().hash_one(payload);
        Payload(self.kept.get(hash, |known| **known == *payload, || payload.into()))
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
        let (one, same) = (payloads.intern(b"<show>away</show>"), payloads.intern(b"<show>away</show>"));
        assert!(Arc::ptr_eq(&one.0, &same.0) && payloads.len() == 1);
        for number in 0..10 * SWEEP_MIN {
            payloads.intern(number.to_string().as_bytes());
        }
        assert!(payloads.len() <= SWEEP_MIN + 1, "{} that nobody has", payloads.len());
        assert!(Arc::ptr_eq(&one.0, &payloads.intern(b"<show>away</show>").0), "one that is in use stays");
        let held: Vec<_> =
            (0..10 * SWEEP_MIN).map(|number| payloads.intern(number.to_string().as_bytes())).collect();
        assert!(payloads.len() > held.len(), "none in use is forgotten");
        payloads.clear();
        assert!(payloads.is_empty());
    }
}
