//! What lies under the protocol: sockets, time, and the roads between workers.
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
//! | [`driver`] | one completion-shaped interface over epoll/kqueue, io_uring and a simulation |
//! | [`gauge`] | high-water marks of queues |
//! | [`jobs`] | what a worker hands to other threads, and how it comes back |
//! | [`letter`] | what workers say to each other |
//! | [`mailbox`] | bounded single-producer, single-consumer queues between workers |
//! | [`outbox`] | what one iteration wants sent |
//! | [`platform`] | what Linux and FreeBSD do differently, and process-wide settings |
//! | [`postroom`] | a worker's outgoing parcels and its mailboxes |
//! | [`timer`] | a hierarchical timer wheel in milliseconds |
//! | [`work`] | what work costs, in units that are the same everywhere |

pub mod crypto;
pub mod driver;
pub mod gauge;
#[cfg(test)]
mod isolated;
pub mod jobs;
pub mod letter;
pub mod mailbox;
pub mod outbox;
pub mod platform;
pub mod postroom;
pub mod timer;
pub mod work;
