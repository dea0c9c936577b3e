//! The door of an HTTP service: what stands between its listener and hyper, for the server's HTTP front and `wsar serve`.
//!
//! ```text
//! accept ─▶ places: room? ─▶ (TLS) ─▶ door: one head at a time, whole and sound, in time ─▶ hyper ─▶ routes
//!             │                          │
//!             │                          └─ turn: does this connection wait for its client, or the client for us?
//!             └─ when there is no room, the connection that has waited longest for its client goes, of the address
//!                that has most
//! ```
//! A client that says nothing, or half of something, holds a place only as long as nobody else needs it.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`places`] | which connections there are, and which one makes room |
//! | [`turn`] | whose turn it is on a connection |
//! | [`head`] | what the head of a request must be like |
//! | [`door`] | the stream that hyper reads from: heads, deadlines |
#![forbid(unsafe_code)]

pub mod door;
pub mod head;
pub mod places;
pub mod turn;

pub use door::{Deadlines, Door};
pub use head::Bad;
pub use places::{Full, Places};
pub use turn::Turn;
pub use whimbrel_address::Block;
