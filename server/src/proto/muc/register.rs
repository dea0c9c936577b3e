//! Registering with a room (XEP-0045 §7.10): a nick is reserved, and whoever registers is a member from then on.

use whimbrel_storage::jid::normalise_resource;

use super::{bad, malformed, push, push_text};
use crate::proto::errors::StanzaError;
use crate::proto::forms::{self, Field, FieldType, Form, FormError, Submission};
use crate::proto::ns;
use crate::xml::Element;

const NICK: &str = "muc#register_roomnick";

/// What somebody asks of a room's registration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Registration {
    /// With this nick.
    Register(String),
    /// It wants to be a member no more.
    Unregister,
    /// It has thought better of it.
    Cancel,
}

impl Registration {
    /// Reads `<query/>` of a set. The form may be left out: clients of old send `<username/>` or `<nick/>`.
    ///
    /// # Errors
    /// `bad-request` and `not-acceptable` for what names no nick; `jid-malformed` for one that cannot be one.
    pub fn read(query: &Element) -> Result<Registration, StanzaError> {
        if query.find("remove", ns::REGISTER).is_some() {
            return Ok(Registration::Unregister);
        }
        let nick = match forms::find(query) {
            Some(form) => match Submission::read_implied(form, ns::MUC_REGISTER)? {
                Submission::Submitted(mut fields) => fields.needed_text(NICK)?.into_owned(),
                Submission::Cancelled => return Ok(Registration::Cancel),
            },
            None => {
                let plain = ["nick", "username"].iter().find_map(|name| query.find(name, ns::REGISTER));
                let plain = plain.ok_or_else(|| bad("neither a form nor a nick is there"))?;
                plain.content().into_owned()
            }
        };
        if nick.is_empty() {
            return Err(FormError::Missing(NICK.to_owned()).into());
        }
        Ok(Registration::Register(normalise_resource(&nick).map_err(malformed)?.into_owned()))
    }
}

/// Appends `<query/>` of an answer: to somebody who is registered with this nick, or the form.
pub fn write(registered: Option<&str>, out: &mut Vec<u8>) {
    push(out, &["<query xmlns='", ns::REGISTER, "'>"]);
    match registered {
        Some(nick) => {
            push(out, &["<registered/>"]);
            push_text("username", nick, out);
        }
        None => {
            push(out, &["<instructions>Say which nick you want in this room.</instructions><username/>"]);
            let nick = Field::new(FieldType::TextSingle, NICK).label("Nick").required();
            Form::to_fill_in(ns::MUC_REGISTER).field(nick).into_element().write(ns::REGISTER, out);
        }
    }
    push(out, &["</query>"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::errors::StanzaCondition;

    fn read(inside: &str) -> Result<Registration, StanzaCondition> {
        let text = format!("<query xmlns='jabber:iq:register'>{inside}</query>");
        Registration::read(&Element::parse(text.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    fn form(typ: &str, nick: &str) -> String {
        format!(
            "<x xmlns='jabber:x:data' type='{typ}'><field var='muc#register_first'><value>x</value></field>\
             <field var='muc#register_roomnick'><value>{nick}</value></field></x>"
        )
    }

    #[test]
    fn a_registration_names_a_nick_in_one_of_three_ways() {
        let registered = |nick: &str| Ok(Registration::Register(nick.into()));
        let table = [
            (form("submit", "thirdwitch"), registered("thirdwitch")),
            ("<nick>n</nick>".into(), registered("n")),
            ("<username>u</username>".into(), registered("u")),
            ("<remove/>".into(), Ok(Registration::Unregister)),
            (form("cancel", ""), Ok(Registration::Cancel)),
            (form("submit", ""), Err(StanzaCondition::NotAcceptable)),
            ("<nick/>".into(), Err(StanzaCondition::NotAcceptable)),
            (String::new(), Err(StanzaCondition::BadRequest)),
            ("<nick>\u{7f}</nick>".into(), Err(StanzaCondition::JidMalformed)),
        ];
        for (inside, expected) in table {
            assert_eq!(read(&inside), expected, "{inside}");
        }
    }

    #[test]
    fn an_answer_says_the_nick_or_asks_for_one() {
        let mut out = Vec::new();
        write(Some("a<b"), &mut out);
        let known = Element::parse(&out).unwrap();
        assert!(known.find("registered", "jabber:iq:register").is_some());
        assert_eq!(known.find("username", "jabber:iq:register").unwrap().content(), "a<b");
        out.clear();
        write(None, &mut out);
        let asked = Element::parse(&out).unwrap();
        assert!(forms::find(&asked).unwrap().elements().any(|field| field.attribute("var") == Some(NICK)));
    }
}
