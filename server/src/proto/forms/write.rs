//! Forms that the server sends: to be filled in, and with results.

use super::FORM_TYPE;
use crate::proto::ns;
use crate::xml::Element;

/// What a field holds (XEP-0004 §3.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Yes or no.
    Boolean,
    /// Something for the program and not for people.
    Hidden,
    /// Several addresses.
    JidMulti,
    /// An address.
    JidSingle,
    /// Some of the options.
    ListMulti,
    /// One of the options.
    ListSingle,
    /// Several lines.
    TextMulti,
    /// A line that is not shown while it is typed.
    TextPrivate,
    /// A line.
    TextSingle,
}

impl FieldType {
    /// The value of the attribute `type`.
    pub const fn name(self) -> &'static str {
        match self {
            FieldType::Boolean => "boolean",
            FieldType::Hidden => "hidden",
            FieldType::JidMulti => "jid-multi",
            FieldType::JidSingle => "jid-single",
            FieldType::ListMulti => "list-multi",
            FieldType::ListSingle => "list-single",
            FieldType::TextMulti => "text-multi",
            FieldType::TextPrivate => "text-private",
            FieldType::TextSingle => "text-single",
        }
    }
}

/// A field of a form.
#[derive(Clone, Debug)]
pub struct Field(Element);

impl Field {
    /// A field without values.
    pub fn new(typ: FieldType, name: &str) -> Field {
        Field(Element::new("field", ns::DATA_FORMS).attr("var", name).attr("type", typ.name()))
    }

    /// What people are shown for its name.
    #[must_use]
    pub fn label(mut self, label: &str) -> Field {
        self.0.set_attribute("label", label);
        self
    }

    /// It must be filled in.
    #[must_use]
    pub fn required(self) -> Field {
        Field(self.0.child(Element::new("required", ns::DATA_FORMS)))
    }

    /// One more value.
    #[must_use]
    pub fn value(self, value: &str) -> Field {
        Field(self.0.child(Element::new("value", ns::DATA_FORMS).text(value)))
    }

    /// The value of a boolean field.
    #[must_use]
    pub fn flag(self, value: bool) -> Field {
        self.value(if value { "1" } else { "0" })
    }

    /// One more option of a list.
    #[must_use]
    pub fn option(self, label: &str, value: &str) -> Field {
        let value = Element::new("value", ns::DATA_FORMS).text(value);
        Field(self.0.child(Element::new("option", ns::DATA_FORMS).attr("label", label).child(value)))
    }
}

/// A form that is being written.
#[derive(Clone, Debug)]
pub struct Form(Element);

impl Form {
    /// A form to fill in.
    pub fn to_fill_in(form_type: &str) -> Form {
        Form::of("form", form_type)
    }

    /// Results.
    pub fn result(form_type: &str) -> Form {
        Form::of("result", form_type)
    }

    fn of(typ: &str, form_type: &str) -> Form {
        let form = Form(Element::new("x", ns::DATA_FORMS).attr("type", typ));
        form.field(Field::new(FieldType::Hidden, FORM_TYPE).value(form_type))
    }

    /// The title that people are shown.
    #[must_use]
    pub fn title(self, title: &str) -> Form {
        Form(self.0.child(Element::new("title", ns::DATA_FORMS).text(title)))
    }

    /// What people are to do with it.
    #[must_use]
    pub fn instructions(self, text: &str) -> Form {
        Form(self.0.child(Element::new("instructions", ns::DATA_FORMS).text(text)))
    }

    /// One more field.
    #[must_use]
    pub fn field(self, field: Field) -> Form {
        Form(self.0.child(field.0))
    }

    /// The element.
    pub fn into_element(self) -> Element {
        self.0
    }
}
