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
//! | [`deliveries`] | how long messages take through the server |
//! | [`outbox`] | what one iteration wants sent |
//! | [`driver`], [`gauge`], [`mailbox`], [`platform`], [`timer`] | of `whimbrel-net` |

pub mod deliveries;
pub mod outbox;

pub use whimbrel_net::{driver, gauge, intake, mailbox, platform, timer};
