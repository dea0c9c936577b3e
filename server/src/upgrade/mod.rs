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
//! | [`kinds`] | the list of all kinds of blocks, one row for each owner |
//! | [`rehearse`] | reading a whole state without making anything of it |
//! | [`probe`] | asking the new program: a child with a time limit |
//! | [`run`] | the course of an upgrade in the old program |
//! | [`ending`](self) | the end of a server that leaves its sessions to the next one |
//! | [`stopped`](self), [`leaving`](self), [`identity`](self) | what stands still meanwhile; what goes along beside the workers' parts; whether the new program is still the same |
//!
//! [`crate::saved`] has the frame of the state, [`crate::takeover`] what the new program takes over and the way back,
//! [`crate::worker::upgrade`] a worker's part; docs/upgrade.md tells operators.

mod ending;
mod identity;
pub mod kinds;
mod leaving;
pub mod probe;
pub mod rehearse;
pub mod run;
mod stopped;
#[cfg(test)]
mod tests;

pub use crate::saved::error::{STATE_VERSION_NEWEST, STATE_VERSION_OLDEST, StateError};
pub use kinds::KINDS;
