//! Versions of the state, and why one cannot be read.

/// The oldest version of the state that this program reads.
pub const STATE_VERSION_OLDEST: u32 = 1;

/// The newest version of the state that this program reads, and the one it writes when it may.
pub const STATE_VERSION_NEWEST: u32 = 1;

/// Why a state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is something else.
    #[error("this is no state of a Whimbrel server")]
    NotAState,
    /// Another program wrote it.
    #[error(
        "the state has version {found}; this program reads versions {STATE_VERSION_OLDEST} to {STATE_VERSION_NEWEST}"
    )]
    UnknownVersion {
        /// Its version.
        found: u32,
    },
    /// It is not as it was written.
    #[error("the state is damaged: {0}")]
    Damaged(&'static str),
}
