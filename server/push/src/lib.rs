//! The senders to push providers: Firebase Cloud Messaging (HTTP v1), Apple Push Notification service, and Web Push
//! (RFC 8030). The crate knows no XMPP and no server: it is told what a device is to hear, and reports what became of it.
//!
//! ```text
//! Provider::try_send ──▶ places (bounded) ──▶ thread NAME: schedule ──▶ attempts ──▶ HTTP/2 over TLS ──▶ the provider
//!                                                  ▲   pauses, deadlines    │
//!                                                  └──── not now ◀──────────┤
//! reports(Report) ◀──── sent, gone, refused, credentials, overdue ◀─────────┘
//! ```
//! Each [`Provider`] has a thread with a runtime of its own, its queue, connections and pauses, so an outage of one delays
//! nothing of another. Web Push is one provider for many push services; each of them has its share of the places, its
//! connections and its pauses.
//!
//! | module | what |
//! | --- | --- |
//! | [`notification`] | what a device is to hear, and what became of it |
//! | [`settings`] | bounds and times; the clock; roots of trust |
//! | [`provider`] | one provider with its thread |
//! | [`fcm`] | Firebase Cloud Messaging |
//! | [`apns`] | Apple Push Notification service |
//! | [`webpush`] | Web Push with its encryption and its keys |
//! | [`answer`] | what an answer means, without a connection |
//! | [`key`] | why a key cannot be used |
//! | `doubles` (a feature) | providers on loopback, for tests |
//! | `run`, `lane` | the loop of the thread; which notification is next, pauses, what follows from an attempt |
//! | `way`, `verdict` | one attempt, and what it came to, in the same words for all providers |
//! | `http` | connections that are kept, and requests on them |
//! | `content` | what payloads say, and how it is made to fit |
//! | `es256`, `jwt`, `jitter` | keys that sign, signed tokens, chance for pauses |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod answer;
pub mod apns;
mod content;
#[cfg(feature = "doubles")]
pub mod doubles;
mod es256;
pub mod fcm;
mod http;
mod jitter;
mod jwt;
pub mod key;
mod lane;
pub mod notification;
pub mod provider;
mod run;
pub mod settings;
mod verdict;
mod way;
pub mod webpush;

pub use apns::{ApnsKey, ApnsTexts};
pub use fcm::ServiceAccount;
pub use key::KeyError;
pub use notification::{Kind, Notification, Outcome, Report, Target};
pub use provider::{Pause, Provider, ProviderConfig};
pub use settings::{Clock, Roots, Settings};
pub use webpush::VapidKey;
