//! Names of users and resources within one worker: small numbers, good as long as what they name is there.

/// A user of this worker. Distinct from [`ResourceKey`], so that the two cannot be mixed up.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(pub(super) u32);

#[cfg(test)]
impl UserKey {
    /// Two keys.
    pub(crate) fn pair() -> (UserKey, UserKey) {
        (UserKey(0), UserKey(1))
    }
}

/// A bound resource of this worker.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceKey(pub(super) u32);
