//! Web Push: RFC 8030, encrypted by RFC 8291, with the keys of RFC 8292.

mod endpoint;
mod vapid;

pub use endpoint::{ENDPOINT_BYTES_MAX, Hosts, subscription_keys};
pub use vapid::VapidKey;
