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
//! | [`key`] | why a key cannot be used |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod apns;
mod es256;
pub mod fcm;
pub mod key;
pub mod notification;
pub mod provider;
pub mod settings;
pub mod webpush;

pub use apns::{ApnsKey, ApnsTexts};
pub use fcm::ServiceAccount;
pub use key::KeyError;
pub use notification::{Kind, Notification, Outcome, Report, Target};
pub use provider::{Pause, Provider, ProviderConfig};
pub use settings::{Clock, Roots, Settings};
pub use webpush::VapidKey;
