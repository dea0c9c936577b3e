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
//!                                                 workers read again; the operator is answered
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`codec`], [`file`], [`record`], [`tls`], [`state`], [`error`] | the state: its encoding, its frame, a session, TLS, the server; why it cannot be read |
//! | [`rehearse`] | reading a whole state without making anything of it: counts, digest |
//! | [`sample`] | a small state with one session of each kind |
//! | [`probe`] | asking the new program: a child with a time limit |
//! | [`launch`] | what the program knows of itself: its file, its arguments |
//! | [`conduct`] | the course of an upgrade in the old program |
//! | [`guard`] | the way back while the new program restores |
//! | [`takeover`] | what the new program takes over, and its answer |
//!
//! What a worker does for it is in [`crate::worker::upgrade`]; docs/upgrade.md tells operators.

pub mod probe;
pub mod run;
pub mod sample;
#[cfg(test)]
mod tests;

pub use crate::saved::error::{STATE_VERSION_NEWEST, STATE_VERSION_OLDEST, StateError};
