//! The state of a server as another program reads it (docs/upgrade.md): a frame of blocks, each of a kind that one owner
//! writes and reads.
//!
//! Nothing here knows what a block holds. A module that has something to carry over an upgrade implements [`Owner`] and
//! adds a row to [`crate::upgrade::KINDS`].
//!
//! | module | what |
//! | --- | --- |
//! | [`kind`] | names of blocks, their versions, and what two programs have in common |
//! | [`owner`] | what an owner does; the row that stands for it in the list of kinds |
//! | [`codec`] | numbers and texts as bytes |
//! | [`frame`] | writing blocks, from several threads |
//! | [`state`] | reading them |
//! | [`attempt`] | how often a restore was begun, and the note that it leaves |
//! | [`counts`] | what is in a state, by name |
//! | [`error`] | why a state cannot be written or read; the versions of the frame |

pub mod attempt;
pub mod codec;
pub mod counts;
pub mod error;
pub mod frame;
pub mod kind;
pub mod owner;
pub mod state;

pub use owner::{Owner, Row};
