//! Providers against doubles that speak the real protocols over TLS.
#![expect(clippy::unwrap_used, reason = "tests")]

mod apns;
mod bounds;
mod fcm;
mod support;
mod webpush;
