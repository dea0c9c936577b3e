//! What Whimbrel keeps on disk: the log of messages and the directory of accounts and rosters.
//!
//! ```text
//!   workers ── read in place ──────────────────────────┐
//!      │                                               ▼
//!      └── changes ──▶ directory::Writer ──▶ directory (LMDB): accounts, rosters, block lists,
//!                      one thread, many                         vCards, private data, last activity
//!                      changes to a commit                          │
//!                                                                   └ an account's credentials (SCRAM keys)
//!
//!   each worker ── appends, reads, trims ──▶ its log::Log: a journal (memory-mapped segments) and its readers,
//!                                            │           the queue of what is not acknowledged first of all
//!                                 log::Syncer: group commit; spare segments
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`actor`] | whose a message is: a kind and a number |
//! | [`background`] | threads that give way to the event loops |
//! | [`jid`] | XMPP addresses: parsing, normal form, limits (RFC 7622) |
//! | [`credentials`] | what is kept of a password, and the server's half of SCRAM (RFC 5802) |
//! | [`journal`] | what a worker has taken, in order: segments, group commit, recovery |
//! | [`archive`] | what an actor may ask for later: another reader of the journal, and queries |
//! | [`message`] | the payload of a message in the log |
//! | [`queue`] | which of it waits for a recipient's acknowledgement: a reader of the journal |
//! | [`log`] | a worker's log: its journal and what reads it |
//! | [`data`] | what ties directory and log together; backups of both |
//! | [`directory`] | accounts and what belongs to them, in LMDB; one writer, any number of readers |
//! | [`uploads`] | the files that accounts have uploaded |
//! | [`file_error`] | what the system refuses to do with a file, for log and directory alike |
//! | [`pace`] | how fast a copy is written |
//! | [`plain()`] | the system's errors in words |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod actor;
pub mod archive;
#[cfg_attr(target_os = "linux", expect(unsafe_code, reason = "system calls"))]
pub mod background;
pub mod credentials;
pub mod data;
pub mod directory;
pub mod file_error;
pub mod jid;
pub mod journal;
pub mod log;
pub mod message;
pub mod pace;
mod plain;
pub mod queue;
pub mod uploads;

pub use plain::plain;
