//! Opening an account before login (XEP-0077 §3.1), where the operator allows it (`auth.open_registration`).
//!
//! ```text
//! get ─► the form          set ─► quota ─► keys (crypto pool) ─► account (directory) ─► answer
//! ```
//! While keys and account are made the stream waits, so that a client may send its login right behind.

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::reply;
use crate::stanza::{Kind, Type};
use crate::stream::form::Form;
use crate::stream::machine::{NegotiationEnv, NegotiationStep, bind_error};
use crate::transport::Output;
use crate::xml::{CLIENT, Element, Stanza};

/// Handles an iq with a registration query on a stream that has not authenticated. Anything that can be answered at once
/// is written to `out`.
pub fn request(at: &NegotiationEnv<'_>, stanza: &Stanza<'_>, out: &mut Output<'_>) -> NegotiationStep {
    let id = stanza.attribute("id").unwrap_or_default().into_owned();
    let typ = Type::parse(Kind::Iq, stanza.attribute("type").as_deref());
    let query = stanza.to_element();
    let query = query.find("query", ns::REGISTER);
    let mut refuse = |error: StanzaError| {
        out.element(|out| bind_error(&at.shared.domain, Some(&id), error, out));
        NegotiationStep::Continue
    };
    match (typ, query) {
        (Some(Type::Get), Some(_)) => {
            out.element(|out| write_form(&at.shared.domain, &id, out));
            NegotiationStep::Continue
        }
        (Some(Type::Set), Some(query)) => match Form::read(query) {
            Ok(form) => NegotiationStep::Register { id, form },
            Err(error) => refuse(error),
        },
        _ => refuse(StanzaCondition::BadRequest.into()),
    }
}

fn write_form(domain: &str, id: &str, out: &mut Vec<u8>) {
    let field = |name: &'static str| Element::new(name, ns::REGISTER);
    let query = Element::new("query", ns::REGISTER)
        .child(field("instructions").text("Choose a username and a password."))
        .child(field("username"))
        .child(field("password"));
    reply::iq(Type::Result, Some(domain), "", Some(id), out, |out| query.write(CLIENT, out));
}
