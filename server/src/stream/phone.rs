//! Registration by phone number on a stream that has not authenticated: XEP-0077 with data forms (XEP-0004). Off unless
//! `registration.in_band` says otherwise.
//!
//! ```text
//! C: get                          S: form: phone, device, pin
//! C: set, form: phone, device     S: result, form: pin           the message has been sent
//! C: set, form: phone, device, pin
//!                                 S: result, result form: jid, key
//! ```
//! The stream waits for each answer, which [`crate::registration::in_band`] makes. Between the steps it may end: the
//! device names itself again in the second.

use crate::phone::form::{self, Fields};
use crate::phone::refusal::PhoneRefusal;
use crate::phone::request::{InBand, Request};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::reply;
use crate::shared::Shared;
use crate::stanza::{Kind, Type};
use crate::stream::machine::{NegotiationEnv, NegotiationStep, bind_error};
use crate::transport::Output;
use crate::xml::{CLIENT, Element, Stanza};

/// Handles an iq with a registration query. An answer that needs nobody else is written to `out`.
pub fn request(at: &NegotiationEnv<'_>, stanza: &Stanza<'_>, out: &mut Output<'_>) -> NegotiationStep {
    let id = stanza.attribute("id").unwrap_or_default().into_owned();
    let typ = Type::parse(Kind::Iq, stanza.attribute("type").as_deref());
    let iq = stanza.to_element();
    match (typ, iq.find("query", ns::REGISTER)) {
        (Some(Type::Get), Some(_)) => {
            out.element(|out| write_result(&at.shared.domain, &id, &form::empty(), out));
            NegotiationStep::Continue
        }
        (Some(Type::Set), Some(query)) => match Fields::read(query) {
            Ok(fields) => NegotiationStep::RegisterNumber { id, fields },
            Err(error) => {
                // Nothing else is wrong with a form than that it lacks what is needed.
                let error = StanzaError::from(StanzaCondition::NotAcceptable).with_text(error.to_string());
                out.element(|out| bind_error(&at.shared.domain, Some(&id), error, out));
                NegotiationStep::Continue
            }
        },
        _ => {
            let error = StanzaCondition::BadRequest.into();
            out.element(|out| bind_error(&at.shared.domain, Some(&id), error, out));
            NegotiationStep::Continue
        }
    }
}

/// Submits a form to the service of registration. The answer goes to the connection by
/// [`crate::effects::jobs::Jobs::answer`].
///
/// # Errors
/// The service has no room, or does not run: the answer to send at once.
pub fn submit(shared: &Shared, form: InBand) -> Result<(), Vec<u8>> {
    let id = form.id.clone();
    let submitted = shared.registration.get().is_some_and(|requests| requests.submit(Request::InBand(form)));
    if submitted { Ok(()) } else { Err(refused(&shared.domain, &id, &PhoneRefusal::Busy)) }
}

/// An answer with a query.
pub fn result(domain: &str, id: &str, query: &Element) -> Vec<u8> {
    let mut out = Vec::new();
    write_result(domain, id, query, &mut out);
    out
}

/// The answer to a client that is refused.
pub fn refused(domain: &str, id: &str, refusal: &PhoneRefusal) -> Vec<u8> {
    let mut text = refusal.text();
    if let Some(seconds) = refusal.retry_after() {
        text.push_str(&format!(" (in {seconds} seconds)"));
    }
    let mut out = Vec::new();
    bind_error(domain, Some(id), StanzaError::from(refusal.condition()).with_text(text), &mut out);
    out
}

fn write_result(domain: &str, id: &str, query: &Element, out: &mut Vec<u8>) {
    reply::iq(Type::Result, Some(domain), "", Some(id), out, |out| query.write(CLIENT, out));
}
