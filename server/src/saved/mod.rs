//! The state of a server as another program reads it (docs/upgrade.md): its encoding, its frame, and a record for each thing
//! that is carried.
//!
//! | module | what |
//! | --- | --- |
//! | [`codec`] | numbers and texts as bytes |
//! | [`file`] | the frame: blocks, each of a kind, with checksums |
//! | [`record`], [`tls`] | a session; its TLS connection |
//! | [`state`] | the server as a whole |
//! | [`error`] | why a state cannot be read; the versions |

pub mod codec;
pub mod error;
pub mod file;
pub mod record;
pub mod state;
pub mod tls;
