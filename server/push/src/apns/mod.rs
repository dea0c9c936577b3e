//! Apple Push Notification service: HTTP/2 with provider tokens.

mod key;

pub use key::{ApnsKey, ApnsTexts};
