//! A subscription that waits for an owner of the node (XEP-0060 §8.6): the question, and what an owner says to it.

use whimbrel_storage::directory::pubsub::NODE_NAME_BYTES_MAX;
use whimbrel_storage::jid::Jid;

use crate::proto::errors::StanzaError;
use crate::proto::forms::{self, Field, FieldType, Form, FormError, Submission};
use crate::proto::ns;
use crate::xml::Element;

const NODE: &str = "pubsub#node";
const SUBSCRIBER: &str = "pubsub#subscriber_jid";
const ALLOW: &str = "pubsub#allow";
const ID: &str = "pubsub#subid";

/// The form that asks an owner whether somebody may subscribe to a node.
pub fn form(node: &str, subscriber: &str) -> Element {
    Form::to_fill_in(ns::PUBSUB_AUTHORIZATION)
        .title("Somebody wants to subscribe to a node")
        .instructions("Choose whether this address may hear of what is published to the node.")
        .field(Field::new(FieldType::TextSingle, NODE).label("Node").value(node))
        .field(Field::new(FieldType::JidSingle, SUBSCRIBER).label("Address").value(subscriber))
        .field(Field::new(FieldType::Boolean, ALLOW).label("Let it subscribe?").flag(false))
        .into_element()
}

/// What an owner has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The node.
    pub node: String,
    /// Who wants to subscribe.
    pub subscriber: Jid,
    /// Whether it may.
    pub allow: bool,
}

impl Decision {
    /// Reads a message; `None`: it says nothing of that kind, or the owner does not want to decide.
    ///
    /// # Errors
    /// `bad-request` and `not-acceptable` for a form of this type that was not filled in as it is to be.
    pub fn read(message: &Element) -> Result<Option<Decision>, StanzaError> {
        let Some(form) = forms::find(message) else { return Ok(None) };
        let mut fields = match Submission::read(form, ns::PUBSUB_AUTHORIZATION) {
            Ok(Submission::Submitted(fields)) => fields,
            Ok(Submission::Cancelled) | Err(FormError::OtherType(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let node = fields.needed_text(NODE)?.into_owned();
        if node.len() > NODE_NAME_BYTES_MAX {
            return Err(FormError::Value { field: NODE.into(), expected: "the name of a node" }.into());
        }
        let subscriber = fields.jid(SUBSCRIBER)?.ok_or_else(|| FormError::Missing(SUBSCRIBER.into()))?;
        let allow = fields.boolean(ALLOW)?.ok_or_else(|| FormError::Missing(ALLOW.into()))?;
        // There is one subscription of an address, so its id says nothing new.
        let _ = fields.text(ID)?;
        fields.finish()?;
        Ok(Some(Decision { node, subscriber, allow }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::errors::StanzaCondition;

    fn read(typ: &str, fields: &[(&str, &str)]) -> Result<Option<Decision>, StanzaCondition> {
        let mut form = Form::result(ns::PUBSUB_AUTHORIZATION);
        for (name, value) in fields {
            form = form.field(Field::new(FieldType::TextSingle, name).value(value));
        }
        let mut form = form.into_element();
        form.set_attribute("type", typ);
        let message = Element::new("message", "jabber:client").child(form);
        Decision::read(&message).map_err(|error| error.condition)
    }

    #[test]
    fn the_form_that_comes_back_filled_in_is_a_decision() {
        let mut form = form("n<", "romeo@x/o");
        form.set_attribute("type", "submit");
        let message = Element::new("message", "jabber:client").child(form);
        let decision =
            Decision { node: "n<".into(), subscriber: Jid::parse("romeo@x/o").unwrap(), allow: false };
        assert_eq!(Decision::read(&message), Ok(Some(decision)));
    }

    #[test]
    fn what_is_no_decision_is_passed_over_and_what_is_half_of_one_refused() {
        let whole = [(NODE, "n"), (SUBSCRIBER, "romeo@x"), (ALLOW, "true")];
        assert!(read("submit", &whole).unwrap().is_some_and(|decision| decision.allow));
        assert_eq!(read("cancel", &whole), Ok(None));
        assert_eq!(Decision::read(&Element::new("message", "jabber:client")), Ok(None));
        let other = Element::parse(b"<message><x xmlns='jabber:x:data' type='submit'/></message>").unwrap();
        assert_eq!(Decision::read(&other), Ok(None));
        assert_eq!(read("form", &whole), Err(StanzaCondition::BadRequest));
        let long = "n".repeat(NODE_NAME_BYTES_MAX + 1);
        let half = [
            [(NODE, "n"), (SUBSCRIBER, "romeo@x"), ("pubsub#subid", "1")],
            [(NODE, "n"), (SUBSCRIBER, ""), (ALLOW, "1")],
            [(NODE, "n"), (SUBSCRIBER, "@"), (ALLOW, "1")],
            [(NODE, ""), (SUBSCRIBER, "romeo@x"), (ALLOW, "1")],
            [(NODE, long.as_str()), (SUBSCRIBER, "romeo@x"), (ALLOW, "1")],
            [(NODE, "n"), (SUBSCRIBER, "romeo@x"), (ALLOW, "perhaps")],
        ];
        for fields in half {
            assert_eq!(read("submit", &fields), Err(StanzaCondition::NotAcceptable), "{fields:?}");
        }
        let unknown = [whole[0], whole[1], whole[2], ("pubsub#nonsense", "1")];
        assert_eq!(read("submit", &unknown), Err(StanzaCondition::NotAcceptable));
    }
}
