//! The forms of registration on a stream: XEP-0077 with data forms (XEP-0004), read and made. What is done with them
//! stands above: [`crate::stream::phone`] takes them from streams, [`super::in_band`] answers them.

use crate::xml::Element;

/// Namespace of registration (XEP-0077).
pub const NS_REGISTER: &str = "jabber:iq:register";

/// Namespace of data forms (XEP-0004).
const NS_DATA: &str = "jabber:x:data";

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
    /// The fields of a query with a submitted form; `None` when it has no number or no device, or another `FORM_TYPE`.
    pub fn read(query: &Element) -> Option<Fields> {
        let form = query.find("x", NS_DATA).filter(|form| form.attribute("type") == Some("submit"))?;
        let value = |name: &str| {
            let field = form.elements().find(|field| field.attribute("var") == Some(name))?;
            let value = field.find("value", NS_DATA)?.content().into_owned();
            (!value.is_empty()).then_some(value)
        };
        if value("FORM_TYPE").is_some_and(|kind| kind != NS_REGISTER) {
            return None;
        }
        Some(Fields { phone: value("phone")?, device: value("device")?, pin: value("pin") })
    }
}

/// The query that answers a `get`: the form to fill in.
pub fn empty() -> Element {
    let text = "Send phone and device to be sent a PIN; then the same with the PIN to get your key.";
    let fields = [("phone", "Phone number"), ("device", "Name of this device"), ("pin", "PIN")];
    query_with(text, &fields)
}

/// The query that answers the first step: the form that is still wanted.
pub fn pin_wanted() -> Element {
    query_with("A PIN was sent; send the form with it.", &[("pin", "PIN")])
}

/// The query that answers the second step: the account and its key.
pub fn registered(jid: &str, key: &str) -> Element {
    let field = |name: &str, value: &str| {
        let value = Element::new("value", NS_DATA).text(value);
        Element::new("field", NS_DATA).attr("var", name).child(value)
    };
    let form = Element::new("x", NS_DATA)
        .attr("type", "result")
        .child(field("FORM_TYPE", NS_REGISTER).attr("type", "hidden"))
        .child(field("jid", jid))
        .child(field("key", key));
    Element::new("query", NS_REGISTER).child(Element::new("registered", NS_REGISTER)).child(form)
}

fn query_with(instructions: &str, fields: &[(&'static str, &'static str)]) -> Element {
    let instructions = Element::new("instructions", NS_REGISTER).text(instructions);
    Element::new("query", NS_REGISTER).child(instructions).child(form(fields))
}

fn form(fields: &[(&'static str, &'static str)]) -> Element {
    let hidden = Element::new("value", NS_DATA).text(NS_REGISTER);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Option<Fields> {
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
            Some(Fields { phone: "+49 151".into(), device: "device-1".into(), pin: pin.map(str::to_owned) })
        };
        assert_eq!(read(&submitted(&[phone, device])), fields(None));
        assert_eq!(read(&submitted(&[("FORM_TYPE", NS_REGISTER), phone, device])), fields(None));
        assert_eq!(read(&submitted(&[phone, device, ("pin", "12345")])), fields(Some("12345")));
        assert_eq!(read(&submitted(&[phone, device, ("pin", "")])), fields(None));
        for refused in [
            submitted(&[phone]),
            submitted(&[device]),
            submitted(&[("phone", ""), device]),
            submitted(&[("FORM_TYPE", "urn:other"), phone, device]),
            submitted(&[phone, device]).replace("submit", "cancel"),
            "<phone>+49 151</phone>".into(),
        ] {
            assert_eq!(read(&refused), None, "{refused}");
        }
    }
}
