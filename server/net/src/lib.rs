//! What lies under a protocol: sockets, time, and the lanes between threads. Nothing here knows what the bytes mean.
//!
//! ```text
//!   kernel ── driver ──▶ events ──▶ worker 0 ──▶ sends, closes ──▶ driver
//!                                    │    ▲
//!                                    ▼    │ mailbox (one lane per ordered pair of workers)
//!                                   worker 1 …
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`driver`] | one completion-shaped interface over epoll/kqueue, io_uring and a simulation |
//! | [`gauge`] | high-water marks of queues |
//! | [`intake`] | a bounded queue from several threads to a worker |
//! | [`mailbox`] | bounded single-producer, single-consumer queues between workers |
//! | [`platform`] | what Linux and FreeBSD do differently, and process-wide settings |
//! | [`timer`] | a hierarchical timer wheel in milliseconds |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod driver;
pub mod gauge;
pub mod intake;
#[cfg(test)]
mod isolated;
pub mod mailbox;
#[expect(unsafe_code, reason = "system calls")]
pub mod platform;
pub mod timer;
