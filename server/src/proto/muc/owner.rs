//! What only owners ask for: `muc#owner` (XEP-0045 §10).

use whimbrel_storage::jid::Jid;

use super::config::ConfigChange;
use super::{bad, malformed, push, reason_of};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{self, Form};
use crate::proto::ns;
use crate::stanza::Type;
use crate::xml::Element;

/// Most bytes of the password of the room to which a destroyed one points.
const PASSWORD_BYTES_MAX: usize = 1023;

/// What becomes of a room.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Destroy {
    /// Where to go instead: bare JID.
    pub alternate: Option<Jid>,
    /// The password there.
    pub password: Option<String>,
    /// Why; empty for nothing.
    pub reason: String,
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnerRequest {
    /// The form of the configuration.
    Form,
    /// Configure. A form without a field (§10.1.2) opens a new room as it is.
    Configure(Box<ConfigChange>),
    /// The form was cancelled: a new room is destroyed (§10.1.3), any other stays as it is.
    Cancel,
    /// Destroy the room.
    Destroy(Destroy),
}

impl OwnerRequest {
    /// Reads `<query/>`.
    ///
    /// # Errors
    /// `bad-request` for what asks for nothing; `not-acceptable` for a field with a value that it does not take, which the
    /// text names; `jid-malformed`.
    pub fn read(typ: Type, query: &Element) -> Result<OwnerRequest, StanzaError> {
        if typ == Type::Get {
            return match query.elements().next() {
                None => Ok(OwnerRequest::Form),
                Some(_) => Err(bad("only the configuration can be asked for")),
            };
        }
        if let Some(destroy) = query.find("destroy", ns::MUC_OWNER) {
            return destroy_of(destroy).map(OwnerRequest::Destroy);
        }
        let form =
            forms::find(query).ok_or_else(|| bad("there is neither a form nor anything else to do"))?;
        let change = ConfigChange::read(form)?;
        Ok(change.map_or(OwnerRequest::Cancel, |change| OwnerRequest::Configure(Box::new(change))))
    }
}

fn destroy_of(destroy: &Element) -> Result<Destroy, StanzaError> {
    let alternate = destroy.attribute("jid").filter(|jid| !jid.is_empty());
    let alternate = alternate.map(Jid::parse).transpose().map_err(malformed)?;
    let password = destroy.find("password", ns::MUC_OWNER).map(|password| password.content().into_owned());
    if password.as_ref().is_some_and(|password| password.len() > PASSWORD_BYTES_MAX) {
        return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text("the password is too long"));
    }
    Ok(Destroy { alternate: alternate.map(|jid| jid.to_bare()), password, reason: reason_of(destroy)? })
}

/// Appends `<query/>` with the form.
pub fn write_form(form: Form, out: &mut Vec<u8>) {
    push(out, &["<query xmlns='", ns::MUC_OWNER, "'>"]);
    form.into_element().write(ns::MUC_OWNER, out);
    push(out, &["</query>"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typ: Type, inside: &str) -> Result<OwnerRequest, StanzaCondition> {
        let text = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{inside}</query>");
        OwnerRequest::read(typ, &Element::parse(text.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    #[test]
    fn owners_ask_for_the_form_send_it_back_or_cancel_it() {
        let instant = "<x xmlns='jabber:x:data' type='submit'/>";
        let cancel = "<x xmlns='jabber:x:data' type='cancel'/>";
        assert_eq!(read(Type::Get, ""), Ok(OwnerRequest::Form));
        assert_eq!(read(Type::Set, instant), Ok(OwnerRequest::Configure(Box::default())));
        assert_eq!(read(Type::Set, cancel), Ok(OwnerRequest::Cancel));
        for (typ, inside) in
            [(Type::Set, ""), (Type::Get, instant), (Type::Set, "<x xmlns='jabber:x:data' type='form'/>")]
        {
            assert_eq!(read(typ, inside), Err(StanzaCondition::BadRequest), "{inside}");
        }
    }

    #[test]
    fn a_room_is_destroyed_with_or_without_a_word() {
        assert_eq!(read(Type::Set, "<destroy/>"), Ok(OwnerRequest::Destroy(Destroy::default())));
        let inside = "<destroy jid='B@c.x'><reason>moved</reason><password>p</password></destroy>";
        let expected = Destroy {
            alternate: Some(Jid::parse("b@c.x").unwrap()),
            password: Some("p".into()),
            reason: "moved".into(),
        };
        assert_eq!(read(Type::Set, inside), Ok(OwnerRequest::Destroy(expected)));
        assert_eq!(read(Type::Set, "<destroy jid='@'/>"), Err(StanzaCondition::JidMalformed));
    }
}
