//! Rooms (XEP-0045) without a room: what is asked of one, what it answers, and who may do what.
//!
//! | module | what |
//! | --- | --- |
//! | [`admin`] | lists of affiliations and roles, and changes of them |
//! | [`config`] | the form that configures a room |
//! | [`error`] | why somebody is turned away |
//! | [`forged`] | what only a room may say of a message |
//! | [`hats`] | what an operator says of somebody (XEP-0317) |
//! | [`info`] | what a room tells those who discover it |
//! | [`invite`] | invitations through the room and around it, and declining them |
//! | [`join`] | what a presence asks for that enters |
//! | [`link`] | links that make members |
//! | [`occupant`] | ids of occupants (XEP-0421) |
//! | [`owner`] | configuring and destroying |
//! | [`question`] | requests of occupants to occupants, and their answers |
//! | [`register`] | registering with a room |
//! | [`retraction`] | messages that are taken back |
//! | [`role`] | roles and affiliations, by their names |
//! | [`rules`] | who may do what to whom |
//! | [`status`] | status codes |
//! | [`user`] | what a room tells of an occupant |
//! | [`versions`] | versions of the list of those who belong to a room (XEP-0463) |
//! | [`voice`] | asking for voice |

pub mod admin;
pub mod config;
pub mod error;
pub mod forged;
pub mod hats;
pub mod info;
pub mod invite;
pub mod join;
pub mod link;
pub mod notify;
pub mod occupant;
pub mod owner;
pub mod question;
pub mod register;
pub mod retraction;
pub mod role;
pub mod rules;
pub mod status;
#[cfg(test)]
mod tests;
pub mod user;
pub mod versions;
pub mod voice;

pub use role::{Affiliation, Role};

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::xml::{Element, writer};

/// Most bytes of a reason that somebody gives.
pub const REASON_BYTES_MAX: usize = 1023;

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// Appends ` name='value'`.
fn push_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    push(out, &[" ", name, "='"]);
    writer::escape_attribute(value, out);
    out.push(b'\'');
}

/// Appends `<name>text</name>`.
fn push_text(name: &str, text: &str, out: &mut Vec<u8>) {
    push(out, &["<", name, ">"]);
    writer::escape_text(text, out);
    push(out, &["</", name, ">"]);
}

/// The reason in an element; empty for none.
fn reason_of(element: &Element) -> Result<String, StanzaError> {
    let reason = element.find("reason", element.namespace()).map(Element::content).unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        let text = format!("a reason may have at most {REASON_BYTES_MAX} bytes");
        return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
    }
    Ok(reason.into_owned())
}

/// The request breaks a rule of its form.
fn bad(text: &'static str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_text(text)
}

/// An address that is none.
fn malformed(_: whimbrel_storage::jid::JidError) -> StanzaError {
    StanzaCondition::JidMalformed.into()
}
