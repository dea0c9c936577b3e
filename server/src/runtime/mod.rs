//! The roads of the server's work: between workers, to other threads, and out to the sockets. What lies under them
//! knows no XMPP and is the crate `whimbrel-net`, whose modules are found here too.
//!
//! ```text
//!   kernel ── driver ──▶ events ──▶ core of worker 0 ──▶ effects ──▶ driver
//!                                        │    ▲
//!                                        ▼    │ mailbox (one per ordered pair of workers)
//!                                   core of worker 1 …
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`crypto`] | the pool of threads that hash passwords |
//! | [`deliveries`] | how long messages take through the server |
//! | [`jobs`] | what a worker hands to other threads, and how it comes back |
//! | [`letter`] | what workers say to each other |
//! | [`outbox`] | what one iteration wants sent |
//! | [`postroom`] | a worker's outgoing parcels and its mailboxes |
//! | [`work`] | what work costs, in units that are the same everywhere |
//! | [`driver`], [`gauge`], [`mailbox`], [`platform`], [`timer`] | of `whimbrel-net` |

pub mod crypto;
pub mod deliveries;
pub mod jobs;
pub mod letter;
pub mod outbox;
pub mod postroom;
pub mod work;

pub use whimbrel_net::{driver, gauge, mailbox, platform, timer};
