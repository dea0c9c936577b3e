//! What Whimbrel keeps on disk: the directory of accounts and rosters.
//!
//! ```text
//!   workers ── read in place ──────────────────────────┐
//!      │                                               ▼
//!      └── changes ──▶ directory::Writer ──▶ directory (LMDB): accounts, rosters, block lists,
//!                      one thread, many                         vCards, private data, last activity
//!                      changes to a commit                          │
//!                                                                   └ an account's credentials (SCRAM keys)
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`jid`] | XMPP addresses: parsing, normal form, limits (RFC 7622) |
//! | [`credentials`] | what is kept of a password, and the server's half of SCRAM (RFC 5802) |
//! | [`directory`] | accounts and what belongs to them, in LMDB; one writer, any number of readers |
#![warn(missing_docs)]

pub mod credentials;
pub mod directory;
pub mod jid;
