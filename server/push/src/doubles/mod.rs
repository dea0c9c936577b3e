//! Providers on loopback that speak the real protocols over TLS, for tests: they check what they hear as the real ones do,
//! answer what a script says, and record what they heard.
//!
//! ```text
//! script.next(Answer) ──▶ ┐
//! request ──▶ checks ────▶ answer ──▶ HTTP/2 (h2), with GOAWAY where the script wants it
//!                │
//!                └──▶ journal: heard, violations
//! ```
//! A request that breaks the rules is a *violation*: it is answered with the provider's error, whatever the script says, and
//! kept for the test to look at.
//!
//! | module | what |
//! | --- | --- |
//! | [`Fcm`], [`Apns`], [`WebPush`] | the providers |
//! | [`Authority`] | who vouches for their certificates |
//! | [`hand`] | a clock that a test sets |
//! | `server`, `inject` | HTTP/2 and HTTP/1.1 over TLS; a frame between two others |
//! | `jwt` | signed tokens, read and checked |

mod apns;
mod authority;
mod fcm;
mod inject;
mod journal;
mod jwt;
mod script;
mod server;
mod time;
mod webpush;

pub use apns::Apns;
pub use authority::Authority;
pub use fcm::Fcm;
pub use journal::{Heard, Journal};
pub use script::{Answer, Script};
pub use server::Options;
pub use time::{Hand, hand};
pub use webpush::{Browser, WebPush};
