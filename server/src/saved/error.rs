//! Versions of the frame, and why a state cannot be written or read.

/// The oldest version of the frame that this program reads.
pub const STATE_VERSION_OLDEST: u32 = 2;

/// The newest version of the frame that this program reads, and the one that it writes.
pub const STATE_VERSION_NEWEST: u32 = 2;

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
    /// It has a block that this program cannot do without and does not know.
    #[error("the state has `{kind}`, which this program does not know")]
    UnknownKind {
        /// The name of the block.
        kind: String,
    },
    /// It has a block that is written in another way than this program reads.
    #[error("the state has `{kind}` in version {found}; this program reads versions {oldest} to {newest}")]
    UnknownKindVersion {
        /// The name of the block.
        kind: &'static str,
        /// Its version.
        found: u16,
        /// The oldest that is read.
        oldest: u16,
        /// The newest that is read.
        newest: u16,
    },
    /// A block of which there must be one is missing, or there are several.
    #[error("the state does not have `{kind}` once")]
    NotOnce {
        /// The name of the block.
        kind: &'static str,
    },
    /// It is not as it was written.
    #[error("the state is damaged: {0}")]
    Damaged(&'static str),
}

/// Why a state cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system has no memory for it.
    #[error("there is no memory for the state: {0}")]
    Memory(#[from] std::io::Error),
    /// The program that is to take over cannot read something that there is.
    #[error(
        "the new program does not know `{kind}`, and this server has some; upgrade to a version that does, or restart"
    )]
    NotTaken {
        /// The name of the block.
        kind: &'static str,
    },
}
