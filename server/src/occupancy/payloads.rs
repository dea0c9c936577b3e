//! What occupants' presences say. A client sends the same to all its rooms, and many clients say the same; a worker keeps each
//! text once.

use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashSet;

/// As many are kept before those are looked for that nobody has any more.
const SWEEP_MIN: usize = 64;

/// The texts of one worker.
pub struct Payloads {
    known: HashSet<Arc<[u8]>, SeedableRandomState>,
    /// With so many the next sweep is due: a sweep costs no more than what came since the last one.
    sweep_at: usize,
}

impl Payloads {
    /// None yet.
    pub fn new(hasher: SeedableRandomState) -> Payloads {
        Payloads { known: HashSet::with_hasher(hasher), sweep_at: SWEEP_MIN }
    }

    /// A text, as it is kept for everybody who has it.
    pub fn intern(&mut self, payload: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.known.get(payload) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.forget_unused();
        }
        let new: Arc<[u8]> = payload.into();
        self.known.insert(new.clone());
        new
    }

    fn forget_unused(&mut self) {
        self.known.retain(|payload| Arc::strong_count(payload) > 1);
        self.known.shrink_to(self.known.len() * 2);
        self.sweep_at = SWEEP_MIN.max(self.known.len() * 2);
    }

    /// Nobody is in any room: nothing is kept.
    pub fn clear(&mut self) {
        self.known.clear();
        self.forget_unused();
    }

    /// How many there are, those included that nobody has had since the last sweep.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_as_long_as_somebody_has_it() {
        let mut payloads = Payloads::new(SeedableRandomState::random());
        let (one, same) = (payloads.intern(b"<show>away</show>"), payloads.intern(b"<show>away</show>"));
        assert!(Arc::ptr_eq(&one, &same) && payloads.len() == 1);
        for number in 0..10 * SWEEP_MIN {
            payloads.intern(number.to_string().as_bytes());
        }
        assert!(payloads.len() <= SWEEP_MIN + 1, "{} that nobody has", payloads.len());
        assert!(Arc::ptr_eq(&one, &payloads.intern(b"<show>away</show>")), "one that is in use stays");
        let held: Vec<_> =
            (0..10 * SWEEP_MIN).map(|number| payloads.intern(number.to_string().as_bytes())).collect();
        assert!(payloads.len() > held.len(), "none in use is forgotten");
        payloads.clear();
        assert!(payloads.is_empty());
    }
}
