//! The forms of registration on a stream: XEP-0077 with data forms (XEP-0004), read and made. What is done with them
//! stands above: [`crate::stream::phone`] takes them from streams, [`super::in_band`] answers them.

use crate::proto::forms::{self, Field, FieldType, Form, FormError, Submission};
use crate::proto::ns;
use crate::xml::Element;

/// What a client has filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The number, as it was written.
    pub phone: String,
    /// The name by which the device calls itself.
    pub device: String,
    /// The PIN, in the second step.
    pub pin: Option<String>,
}

impl Fields {
    /// The fields of a query with a submitted form. The query says what the form is about, so it need not say it again.
    ///
    /// # Errors
    /// There is no such form, or it has no number or no device.
    pub fn read(query: &Element) -> Result<Fields, FormError> {
        let form = forms::find(query).ok_or(FormError::NotSubmitted)?;
        let mut form = Submission::read_implied(form, ns::REGISTER)?.submitted()?;
        let phone = form.needed_text("phone")?.into_owned();
        let device = form.needed_text("device")?.into_owned();
        let pin = form.text("pin")?.filter(|pin| !pin.is_empty()).map(|pin| pin.into_owned());
        Ok(Fields { phone, device, pin })
    }
}

/// The query that answers a `get`: the form to fill in.
pub fn empty() -> Element {
    let text = "Send phone and device to be sent a PIN; then the same with the PIN to get your key.";
    let form = Form::to_fill_in(ns::REGISTER)
        .field(Field::new(FieldType::TextSingle, "phone").label("Phone number").required())
        .field(Field::new(FieldType::TextSingle, "device").label("Name of this device").required())
        .field(pin());
    query_with(text, form)
}

/// The query that answers the first step: the form that is still wanted.
pub fn pin_wanted() -> Element {
    query_with("A PIN was sent; send the form with it.", Form::to_fill_in(ns::REGISTER).field(pin()))
}

fn pin() -> Field {
    Field::new(FieldType::TextSingle, "pin").label("PIN")
}

/// The query that answers the second step: the account and its key.
pub fn registered(jid: &str, key: &str) -> Element {
    let form = Form::result(ns::REGISTER)
        .field(Field::new(FieldType::JidSingle, "jid").value(jid))
        .field(Field::new(FieldType::TextPrivate, "key").value(key));
    let registered = Element::new("registered", ns::REGISTER);
    Element::new("query", ns::REGISTER).child(registered).child(form.into_element())
}

fn query_with(instructions: &str, form: Form) -> Element {
    let instructions = Element::new("instructions", ns::REGISTER).text(instructions);
    Element::new("query", ns::REGISTER).child(instructions).child(form.into_element())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<Fields, FormError> {
        let query = format!("<query xmlns='jabber:iq:register'>{form}</query>");
        Fields::read(&Element::parse(query.as_bytes()).unwrap())
    }

    fn submitted(fields: &[(&str, &str)]) -> String {
        let field =
            |(name, value): &(&str, &str)| format!("<field var='{name}'><value>{value}</value></field>");
        let fields: String = fields.iter().map(field).collect();
        format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>")
    }

    #[test]
    fn a_form_needs_number_and_device_and_the_right_type() {
        let (phone, device) = (("phone", "+49 151"), ("device", "device-1"));
        let fields = |pin: Option<&str>| {
            Ok(Fields { phone: "+49 151".into(), device: "device-1".into(), pin: pin.map(str::to_owned) })
        };
        assert_eq!(read(&submitted(&[phone, device])), fields(None));
        assert_eq!(read(&submitted(&[("FORM_TYPE", ns::REGISTER), phone, device])), fields(None));
        assert_eq!(read(&submitted(&[phone, device, ("pin", "12345")])), fields(Some("12345")));
        assert_eq!(read(&submitted(&[phone, device, ("pin", "")])), fields(None));
        for (refused, error) in [
            (submitted(&[phone]), FormError::Missing("device".into())),
            (submitted(&[device]), FormError::Missing("phone".into())),
            (submitted(&[("phone", ""), device]), FormError::Missing("phone".into())),
            (
                submitted(&[("FORM_TYPE", "urn:other"), phone, device]),
                FormError::OtherType(ns::REGISTER.into()),
            ),
            (submitted(&[phone, phone, device]), FormError::Twice("phone".into())),
            (submitted(&[phone, device]).replace("submit", "cancel"), FormError::NotSubmitted),
            (submitted(&[phone, device]).replace("submit", "form"), FormError::NotSubmitted),
            ("<phone>+49 151</phone>".into(), FormError::NotSubmitted),
        ] {
            assert_eq!(read(&refused), Err(error), "{refused}");
        }
    }
}
