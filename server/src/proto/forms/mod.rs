//! Data forms (XEP-0004) with the type of what they are about (XEP-0068): reading what a client has submitted, and writing
//! the forms and results of the server.
//!
//! | module | what |
//! | --- | --- |
//! | [`submitted`] | a form that came back filled in, field by field, checked against the field's type |
//! | [`write`] | forms to fill in, and results |

pub mod submitted;
#[cfg(test)]
mod tests;
pub mod write;

pub use submitted::{FormError, Submission, Submitted};
pub use write::{Field, FieldType, Form};

use crate::proto::ns;
use crate::xml::Element;

/// The field that says what a form is about (XEP-0068).
pub const FORM_TYPE: &str = "FORM_TYPE";

/// The form in an element, if it has one: its first child `<x/>` of data forms.
pub fn find(parent: &Element) -> Option<&Element> {
    parent.find("x", ns::DATA_FORMS)
}
