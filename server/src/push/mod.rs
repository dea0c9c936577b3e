//! Push: how sleeping devices are told of messages. docs/push.md is for operators.
//!
//! ```text
//!  worker: a message waits ─▶ user::push ─▶ outlet ─▶ whimbrel-push: queue, thread, connections of each provider
//!                                             ▲                                 │
//!                     notifier ─ counts, removes devices that are gone ◀────────┘ reports
//! ```
//! | module | what |
//! | --- | --- |
//! | [`settings`] | the configuration |
//! | [`keys`] | the files that it names |
//! | [`outlet`] | where notifications of all threads go |
//! | [`metrics`] | what is counted |
//!
//! The crate `whimbrel-push` speaks to the providers and knows no XMPP; [`crate::notifier`] starts it. What is told to whom when
//! is decided in [`crate::user::push`].

pub mod keys;
pub mod metrics;
pub mod outlet;
pub mod settings;
