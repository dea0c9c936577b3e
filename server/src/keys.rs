//! Names of users, resources and streams within one server: good as long as what they name is there.

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
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(pub(super) u32);

impl ResourceKey {
    /// No resource has it (`limits.sessions`).
    pub const NONE: ResourceKey = ResourceKey(u32::MAX);
}

/// Names a stream for resumption; never 0. Unguessable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StreamId(pub u64);

impl StreamId {
    /// As the client sees it.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads what [`StreamId::text`] wrote.
    pub fn parse(text: &str) -> Option<StreamId> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
        Some(StreamId(number))
    }
}
