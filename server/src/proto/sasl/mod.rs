//! Authentication (RFC 6120 §6): the server's side of SCRAM and PLAIN without input or output.
//!
//! An [`Exchange`] lives, boxed by its session, from `<auth/>` until success or failure. It takes
//! the text of the client's elements and answers with a [`SaslStep`]. Anything that takes time or looks
//! something up is the caller's part:
//!
//! ```text
//! client            caller                               Exchange
//! <auth>     ────►  start(setup, text)            ────►  NeedCredentials { username }
//!                   directory.credentials(user)
//!                   credentials_found(found)      ────►  Challenge(message)
//! <response> ────►  step(text)                    ────►  Success { username, additional_data }
//!
//! <auth>     ────►  start(setup, text)            ────►  NeedPlainCheck { username, password }
//!                   crypto pool: PlainCheck::run
//!                   plain_checked(verdict)        ────►  Success { username, .. }
//! ```
//!
//! A user who does not exist is led through the same steps with made-up keys and fails where a
//! wrong password fails, with the same answer (see [`UnknownUsers`]).

pub mod audit;
mod base64;
mod exchange;
mod failure;
pub mod looks;
mod mechanism;
mod message;
mod plain;
mod scram;
#[cfg(test)]
mod tests;
pub mod throttle;

pub use crate::tls::{BindingType, ChannelBindings};
pub use base64::MESSAGE_BYTES_MAX;
pub use exchange::{Exchange, SERVER_NONCE_BYTES, SaslStep, Setup};
pub use failure::{Failure, SaslError};
pub use mechanism::{Mechanism, Offer};
pub use plain::{PlainCheck, UnknownUsers};

use crate::proto::ns::SASL;
use std::io::Write as _;

/// Appends `<challenge/>` with a message (RFC 6120 §6.4.3).
pub fn write_challenge(message: &[u8], out: &mut Vec<u8>) {
    write_element("challenge", message, out);
}

/// Appends `<success/>` with the mechanism's additional data, if there is any (RFC 6120 §6.4.6).
pub fn write_success(additional_data: &[u8], out: &mut Vec<u8>) {
    write_element("success", additional_data, out);
}

fn write_element(name: &str, message: &[u8], out: &mut Vec<u8>) {
    let written = if message.is_empty() {
        write!(out, "<{name} xmlns='{SASL}'/>")
    } else {
        write!(out, "<{name} xmlns='{SASL}'>{}</{name}>", base64::encode(message))
    };
    written.expect("writing to memory cannot fail");
}
