//! Live upgrade: another program takes this one's place in the same process, and no connection notices.
//!
//! ```text
//!  the program that runs                                    the program that takes over
//!  control thread: asks the new program (a child) ───────▶ probe: versions, configuration, a sample restored
//!        │ nothing has stopped so far
//!        ▼
//!  workers: stop reading, settle, let go of sockets
//!  workers: write their sessions side by side ──┐
//!                                               ▼
//!                                     the state file, in memory ─▶ rehearsal (a child): reads all of it
//!        │ until here everything can go on as if nothing had happened
//!        ▼
//!  exec: same process, same descriptors ─────────────────▶ restore under guard: opens directory and log,
//!        ▲                                                 workers read their sessions and take the sockets
//!        └──── exec back, with a note why ◀──── fails ────┤
//!                                                          ▼ everything is there
//!                                                 workers read again; the operator gets his answer
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`codec`], [`file`], [`record`], [`tls`], [`state`] | the state: its encoding, its frame, a session, TLS, the server |
//! | [`rehearse`] | reading a whole state without making anything of it: counts, digest |
//! | [`sample`] | a small state with one session of each kind |
//! | [`probe`] | asking the new program: a child with a time limit |
//! | [`launch`] | what the program knows of itself: its file, its arguments |
//! | [`conduct`] | the course of an upgrade in the old program |
//! | [`guard`] | the way back while the new program restores |
//! | [`takeover`] | what the new program takes over, and its answer |
//!
//! What a worker does for it is in [`crate::worker::upgrade`]; docs/upgrade.md tells operators.

pub mod codec;
pub mod conduct;
pub mod file;
#[expect(unsafe_code, reason = "a way back that a signal handler reads")]
pub mod guard;
pub mod launch;
pub mod probe;
pub mod record;
pub mod rehearse;
pub mod sample;
pub mod state;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod tls;

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
