//! Firebase Cloud Messaging, HTTP v1.

mod account;

pub use account::{ACCOUNT_BYTES_MAX, ServiceAccount};
