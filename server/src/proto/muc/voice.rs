//! Asking for voice in a moderated room (XEP-0045 §7.13), and giving it (§8.6).

use whimbrel_storage::jid::normalise_resource;

use super::malformed;
use crate::proto::errors::StanzaError;
use crate::proto::forms::{Field, FieldType, Form, FormError, Submission, Submitted};
use crate::proto::ns;
use crate::xml::Element;

const ROLE: &str = "muc#role";
const JID: &str = "muc#jid";
const NICK: &str = "muc#roomnick";
const ALLOW: &str = "muc#request_allow";

/// What a form in a message to a room says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Voice {
    /// A visitor asks for voice.
    Asked,
    /// A moderator says whether this occupant is to have it.
    Answered {
        /// The occupant.
        nick: String,
        /// It is.
        allowed: bool,
    },
}

impl Voice {
    /// Reads a form; `None`: it is about something else, or was cancelled.
    ///
    /// # Errors
    /// `not-acceptable` for another role than that of a participant, or an answer that names nobody.
    pub fn read(form: &Element) -> Result<Option<Voice>, StanzaError> {
        let mut fields = match Submission::read(form, ns::MUC_REQUEST) {
            Ok(Submission::Submitted(fields)) => fields,
            Ok(Submission::Cancelled) | Err(FormError::OtherType(_) | FormError::NotSubmitted) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        fields.choice(ROLE, &[("participant", ())])?;
        match fields.boolean(ALLOW)? {
            Some(allowed) => answered(fields, allowed).map(Some),
            None => Ok(Some(Voice::Asked)),
        }
    }
}

fn answered(mut fields: Submitted<'_>, allowed: bool) -> Result<Voice, StanzaError> {
    let nick = fields.needed_text(NICK)?;
    Ok(Voice::Answered { nick: normalise_resource(&nick).map_err(malformed)?.into_owned(), allowed })
}

/// The form that moderators get: whether this occupant is to have voice.
pub fn form(jid: &str, nick: &str) -> Element {
    Form::to_fill_in(ns::MUC_REQUEST)
        .title("Voice request")
        .instructions("An occupant asks for voice. Say whether it is to have it.")
        .field(
            Field::new(FieldType::ListSingle, ROLE)
                .label("Role")
                .option("Participant", "participant")
                .value("participant"),
        )
        .field(Field::new(FieldType::JidSingle, JID).label("Address").value(jid))
        .field(Field::new(FieldType::TextSingle, NICK).label("Nick").value(nick))
        .field(Field::new(FieldType::Boolean, ALLOW).label("Give it voice?").flag(false))
        .into_element()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::errors::StanzaCondition;

    fn read(fields: &[(&str, &str)]) -> Result<Option<Voice>, StanzaCondition> {
        let fields: String = fields
            .iter()
            .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
            .collect();
        let form = format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>");
        Voice::read(&Element::parse(form.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    const TYPE: (&str, &str) = ("FORM_TYPE", "http://jabber.org/protocol/muc#request");

    #[test]
    fn a_form_asks_for_voice_or_gives_it() {
        assert_eq!(read(&[TYPE, ("muc#role", "participant")]), Ok(Some(Voice::Asked)));
        assert_eq!(
            read(&[TYPE, ("muc#role", "participant"), ("muc#roomnick", "n"), ("muc#request_allow", "true")]),
            Ok(Some(Voice::Answered { nick: "n".into(), allowed: true }))
        );
        assert_eq!(read(&[("FORM_TYPE", "urn:x")]), Ok(None));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[TYPE, ("muc#role", "moderator")]), Err(StanzaCondition::NotAcceptable));
        assert_eq!(read(&[TYPE, ("muc#request_allow", "1")]), Err(StanzaCondition::NotAcceptable));
    }

    #[test]
    fn what_moderators_get_comes_back_as_their_answer() {
        let mut form = form("a@x/r", "n&m");
        form.set_attribute("type", "submit");
        let expected = Voice::Answered { nick: "n&m".into(), allowed: false };
        assert_eq!(Voice::read(&form), Ok(Some(expected)));
    }
}
