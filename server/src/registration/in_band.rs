//! Registration on an XMPP stream, for clients that speak nothing else: the two steps by XEP-0077 with data forms
//! (XEP-0004). Off unless `registration.in_band` says otherwise.
//!
//! ```text
//! C: get                          S: form: phone, device, pin
//! C: set, form: phone, device     S: result, form: pin           the message has been sent
//! C: set, form: phone, device, pin
//!                                 S: result, result form: jid, key
//! ```
//! The stream waits for each answer. Between the steps it may end: the device names itself again in the second.

use std::net::IpAddr;

use crate::effects::Effects;
use crate::env::Env;
use crate::reply;
use crate::runtime::driver::ConnId;
use crate::service::register::NAMESPACE;
use crate::stanza::{Kind, Type};
use crate::stream::errors::{StanzaCondition, StanzaError};
use crate::stream::machine::{Step, Surroundings, bind_error};
use crate::xml::{CLIENT, Element, Stanza};

use super::errand::{Errand, InBand};
use super::refusal::Refusal;
use super::rules::Refused;

const NS_DATA: &str = "jabber:x:data";

/// What a client has filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The number, as it was written.
    pub phone: String,
    /// What the device calls itself.
    pub device: String,
    /// The PIN, in the second step.
    pub pin: Option<String>,
}

/// Handles an iq with a registration query on a stream that has not authenticated. What can be answered at once is
/// written to `out`.
pub fn request(at: &Surroundings<'_>, stanza: &Stanza<'_>, out: &mut Vec<u8>) -> Step {
    let id = stanza.attribute("id").unwrap_or_default().into_owned();
    let typ = Type::parse(Kind::Iq, stanza.attribute("type").as_deref());
    let iq = stanza.to_element();
    match (typ, iq.find("query", NAMESPACE)) {
        (Some(Type::Get), Some(_)) => {
            let form = form(&[("phone", "Phone number"), ("device", "Name of this device"), ("pin", "PIN")]);
            let text = "Send phone and device to be sent a PIN; then the same with the PIN to get your key.";
            let instructions = Element::new("instructions", NAMESPACE).text(text);
            let query = Element::new("query", NAMESPACE).child(instructions).child(form);
            write_result(&at.shared.domain, &id, Some(&query), out);
            Step::Continue
        }
        (Some(Type::Set), Some(query)) => match Fields::read(query) {
            Some(fields) => Step::RegisterNumber { id, fields },
            None => {
                let text = "phone and device are both needed, in a submitted form";
                let error = StanzaError::from(StanzaCondition::NotAcceptable).with_text(text);
                bind_error(&at.shared.domain, Some(&id), error, out);
                Step::Continue
            }
        },
        _ => {
            bind_error(&at.shared.domain, Some(&id), StanzaCondition::BadRequest.into(), out);
            Step::Continue
        }
    }
}

impl Fields {
    fn read(query: &Element) -> Option<Fields> {
        let form = query.find("x", NS_DATA).filter(|form| form.attribute("type") == Some("submit"))?;
        let value = |name: &str| {
            let field = form.elements().find(|field| field.attribute("var") == Some(name))?;
            let value = field.find("value", NS_DATA)?.content().into_owned();
            (!value.is_empty()).then_some(value)
        };
        if value("FORM_TYPE").is_some_and(|kind| kind != NAMESPACE) {
            return None;
        }
        Some(Fields { phone: value("phone")?, device: value("device")?, pin: value("pin") })
    }
}

/// Hands a form to the thread of registration. The answer goes to the connection by
/// [`crate::runtime::jobs::Jobs::answer`].
pub fn start(env: &Env, fx: &mut Effects, conn: ConnId, peer: IpAddr, id: String, fields: Fields) {
    let errand = InBand { worker: env.worker, conn, peer, id, fields };
    let sent = match env.shared.registration.get() {
        Some(errands) => errands.try_send(Errand::InBand(errand)).map_err(|error| error.into_inner()),
        None => Err(Errand::InBand(errand)),
    };
    if let Err(Errand::InBand(InBand { id, .. })) = sent {
        let answer = refused(&env.shared.domain, &id, &Refusal::Busy);
        fx.jobs.answer(conn, answer);
    }
}

/// The answer to the first step.
pub fn sent(domain: &str, id: &str) -> Vec<u8> {
    let instructions = Element::new("instructions", NAMESPACE).text("A PIN was sent; send the form with it.");
    let query = Element::new("query", NAMESPACE).child(instructions).child(form(&[("pin", "PIN")]));
    let mut out = Vec::new();
    write_result(domain, id, Some(&query), &mut out);
    out
}

/// The answer to the second step.
pub fn registered(domain: &str, id: &str, jid: &str, key: &str) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let value = Element::new("value", NS_DATA).text(value);
        Element::new("field", NS_DATA).attr("var", name).child(value)
    };
    let form = Element::new("x", NS_DATA)
        .attr("type", "result")
        .child(field("FORM_TYPE", NAMESPACE).attr("type", "hidden"))
        .child(field("jid", jid))
        .child(field("key", key));
    let query = Element::new("query", NAMESPACE).child(Element::new("registered", NAMESPACE)).child(form);
    let mut out = Vec::new();
    write_result(domain, id, Some(&query), &mut out);
    out
}

/// The answer to whoever is refused.
pub fn refused(domain: &str, id: &str, refusal: &Refusal) -> Vec<u8> {
    let condition = match refusal {
        Refusal::Number(_) | Refusal::Device | Refusal::Pin => StanzaCondition::NotAcceptable,
        Refusal::Rule(Refused::Limit(..) | Refused::NoTries(_)) | Refusal::Busy => {
            StanzaCondition::ResourceConstraint
        }
        Refusal::Rule(Refused::NotRequested | Refused::Expired) => StanzaCondition::ItemNotFound,
        Refusal::Rule(Refused::Superseded) => StanzaCondition::Conflict,
        Refusal::Rule(Refused::Wrong(_)) | Refusal::Credentials | Refusal::TooManyCredentials => {
            StanzaCondition::Forbidden
        }
        Refusal::GatewayRefused => StanzaCondition::RecipientUnavailable,
        Refusal::GatewayDown => StanzaCondition::RemoteServerTimeout,
        Refusal::Failed => StanzaCondition::InternalServerError,
    };
    let mut text = refusal.text();
    if let Some(seconds) = refusal.retry_after() {
        text.push_str(&format!(" (in {seconds} seconds)"));
    }
    let mut out = Vec::new();
    bind_error(domain, Some(id), StanzaError::from(condition).with_text(text), &mut out);
    out
}

fn form(fields: &[(&'static str, &'static str)]) -> Element {
    let hidden = Element::new("value", NS_DATA).text(NAMESPACE);
    let typ = Element::new("field", NS_DATA).attr("var", "FORM_TYPE").attr("type", "hidden").child(hidden);
    let mut form = Element::new("x", NS_DATA).attr("type", "form").child(typ);
    for (name, label) in fields {
        let field = Element::new("field", NS_DATA)
            .attr("var", *name)
            .attr("type", "text-single")
            .attr("label", *label);
        let field = if *name == "pin" { field } else { field.child(Element::new("required", NS_DATA)) };
        form = form.child(field);
    }
    form
}

fn write_result(domain: &str, id: &str, query: Option<&Element>, out: &mut Vec<u8>) {
    reply::iq(Type::Result, Some(domain), "", Some(id), out, |out| {
        if let Some(query) = query {
            query.write(CLIENT, out);
        }
    });
}
