//! A form that a client has filled in (XEP-0004 §3.2).
//!
//! A service asks for each field that it knows, by its type, and then for those that it has not asked for: what it does not
//! understand it can refuse.

use std::borrow::Cow;

use whimbrel_storage::jid::Jid;

use super::FORM_TYPE;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::xml::Element;

/// Fields that a submitted form may have.
pub const FIELDS_MAX: usize = 256;

/// Values that all fields of a form may have together.
pub const VALUES_MAX: usize = 4096;

/// Bytes of a field's name that an error repeats.
const NAME_SHOWN: usize = 64;

/// What a client has done with a form.
#[derive(Debug)]
pub enum Submission<'a> {
    /// It has filled it in.
    Submitted(Submitted<'a>),
    /// It does not want to.
    Cancelled,
}

/// Why a form is refused. Each becomes a stanza error whose text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is not of type `submit` or `cancel`.
    #[error("a form of type 'submit' is needed")]
    NotSubmitted,
    /// Its `FORM_TYPE` is another one, or it has none where one is needed.
    #[error("the FORM_TYPE of the form must be {0}")]
    OtherType(String),
    /// More than [`FIELDS_MAX`] fields, or more than [`VALUES_MAX`] values.
    #[error("the form has too many fields or values")]
    TooLarge,
    /// A field that is not `fixed` has no name.
    #[error("a field of the form has no 'var'")]
    NoName,
    /// Two fields have the same name.
    #[error("the field {0} is there twice")]
    Twice(String),
    /// A field has more values than its type allows.
    #[error("the field {0} takes one value")]
    TooManyValues(String),
    /// A value that is none of this type.
    #[error("the value of the field {field} must be {expected}")]
    Value {
        /// The field's name.
        field: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A field that must be there and is not.
    #[error("the field {0} is needed")]
    Missing(String),
    /// A field that the service does not know.
    #[error("there is no field {0} in this form")]
    Unknown(String),
}

impl From<FormError> for StanzaError {
    fn from(error: FormError) -> StanzaError {
        let condition = match error {
            FormError::NotSubmitted | FormError::TooLarge | FormError::NoName | FormError::Twice(_) => {
                StanzaCondition::BadRequest
            }
            // XEP-0004 §3.2: what was filled in does not fit the form.
            _ => StanzaCondition::NotAcceptable,
        };
        StanzaError::from(condition).with_text(error.to_string())
    }
}

#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    field: &'a Element,
    /// Somebody has asked for it.
    read: bool,
}

/// The fields of a form that was filled in.
#[derive(Debug)]
pub struct Submitted<'a> {
    entries: Vec<Entry<'a>>,
}

impl<'a> Submission<'a> {
    /// Reads `<x/>`, whose `FORM_TYPE` must be `form_type`.
    ///
    /// # Errors
    /// It is no form that was filled in, or of another type, or breaks a rule that holds for every form.
    pub fn read(form: &'a Element, form_type: &str) -> Result<Submission<'a>, FormError> {
        read(form, form_type, true)
    }

    /// As [`read`](Submission::read), where the element around the form says what it is about, so that the form need not.
    ///
    /// # Errors
    /// As [`read`](Submission::read).
    pub fn read_implied(form: &'a Element, form_type: &str) -> Result<Submission<'a>, FormError> {
        read(form, form_type, false)
    }

    /// The fields.
    ///
    /// # Errors
    /// [`FormError::NotSubmitted`] for a form that was cancelled, where that makes no sense.
    pub fn submitted(self) -> Result<Submitted<'a>, FormError> {
        match self {
            Submission::Submitted(submitted) => Ok(submitted),
            Submission::Cancelled => Err(FormError::NotSubmitted),
        }
    }
}

fn read<'a>(form: &'a Element, form_type: &str, is_needed: bool) -> Result<Submission<'a>, FormError> {
    match form.attribute("type") {
        Some("submit") if form.is("x", ns::DATA_FORMS) => {}
        Some("cancel") if form.is("x", ns::DATA_FORMS) => return Ok(Submission::Cancelled),
        _ => return Err(FormError::NotSubmitted),
    }
    let mut entries: Vec<Entry<'a>> = Vec::new();
    let mut values = 0;
    for field in form.elements().filter(|child| child.is("field", ns::DATA_FORMS)) {
        values += field.elements().filter(|child| is_value(child)).count();
        if entries.len() >= FIELDS_MAX || values > VALUES_MAX {
            return Err(FormError::TooLarge);
        }
        match field.attribute("var").filter(|name| !name.is_empty()) {
            Some(name) => entries.push(Entry { name, field, read: false }),
            // Text between the fields, which clients may send back.
            None if field.attribute("type") == Some("fixed") => {}
            None => return Err(FormError::NoName),
        }
    }
    entries.sort_by_key(|entry| entry.name);
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(FormError::Twice(shown(pair[0].name)));
    }
    let mut submitted = Submitted { entries };
    match submitted.text(FORM_TYPE)? {
        Some(found) if found == form_type => {}
        None if !is_needed => {}
        _ => return Err(FormError::OtherType(form_type.to_owned())),
    }
    Ok(Submission::Submitted(submitted))
}

fn is_value(child: &Element) -> bool {
    child.is("value", ns::DATA_FORMS)
}

/// A name as an error repeats it.
fn shown(name: &str) -> String {
    name.chars().take(NAME_SHOWN).collect()
}

impl<'a> Submitted<'a> {
    /// A `text-single`, `text-private` or `hidden` field, empty when it has no value; `None`: it is not there.
    ///
    /// # Errors
    /// It has more than one value.
    pub fn text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, FormError> {
        let Some(mut values) = self.values(name) else { return Ok(None) };
        let first = values.next().unwrap_or_default();
        match values.next() {
            None => Ok(Some(first)),
            Some(_) => Err(FormError::TooManyValues(shown(name))),
        }
    }

    /// As [`text`](Submitted::text), which must be there with something in it.
    ///
    /// # Errors
    /// It is missing or empty, or has more than one value.
    pub fn needed_text(&mut self, name: &str) -> Result<Cow<'a, str>, FormError> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| FormError::Missing(shown(name)))
    }

    /// The lines of a `text-multi` field; `None`: it is not there.
    pub fn lines(&mut self, name: &str) -> Option<Vec<Cow<'a, str>>> {
        Some(self.values(name)?.collect())
    }

    /// A `boolean` field: `1` or `true`, `0` or `false`; `None`: it is not there.
    ///
    /// # Errors
    /// It has another value, none, or more than one.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, FormError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match &*text {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(not(name, "1, true, 0 or false")),
        }
    }

    /// A `jid-single` field, normalised; `None`: it is not there, or has no value.
    ///
    /// # Errors
    /// Its value is no address, or it has more than one.
    pub fn jid(&mut self, name: &str) -> Result<Option<Jid>, FormError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => address(name, &text).map(Some),
            _ => Ok(None),
        }
    }

    /// A `jid-multi` field, normalised, without repetitions (XEP-0004 §3.3); `None`: it is not there.
    ///
    /// # Errors
    /// A value is no address.
    pub fn jids(&mut self, name: &str) -> Result<Option<Vec<Jid>>, FormError> {
        let Some(values) = self.values(name) else { return Ok(None) };
        let mut jids = values.map(|text| address(name, &text)).collect::<Result<Vec<_>, _>>()?;
        jids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        jids.dedup();
        Ok(Some(jids))
    }

    /// A `list-single` field: what its value stands for among the `options`; `None`: it is not there.
    ///
    /// # Errors
    /// Its value is no option, it has none, or more than one.
    pub fn choice<T: Copy>(&mut self, name: &str, options: &[(&str, T)]) -> Result<Option<T>, FormError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        option(name, &text, options).map(Some)
    }

    /// A `list-multi` field: what its values stand for, in the order of the `options`; `None`: it is not there.
    ///
    /// # Errors
    /// A value is no option.
    pub fn choices<T: Copy>(
        &mut self,
        name: &str,
        options: &[(&str, T)],
    ) -> Result<Option<Vec<T>>, FormError> {
        let Some(values) = self.values(name) else { return Ok(None) };
        let values: Vec<_> = values.collect();
        for value in &values {
            option(name, value, options)?;
        }
        let chosen = options.iter().filter(|(option, _)| values.iter().any(|value| value == option));
        Ok(Some(chosen.map(|(_, meaning)| *meaning).collect()))
    }

    /// The names of the fields that nobody has asked for so far, sorted.
    pub fn unread(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter(|entry| !entry.read).map(|entry| entry.name)
    }

    /// For a service that has asked for all that it knows.
    ///
    /// # Errors
    /// [`FormError::Unknown`] with the first field that is left.
    pub fn finish(self) -> Result<(), FormError> {
        match self.unread().next() {
            Some(name) => Err(FormError::Unknown(shown(name))),
            None => Ok(()),
        }
    }

    /// The values of a field, which is read with that.
    fn values(&mut self, name: &str) -> Option<impl Iterator<Item = Cow<'a, str>> + use<'a>> {
        let at = self.entries.binary_search_by_key(&name, |entry| entry.name).ok()?;
        let entry = &mut self.entries[at];
        entry.read = true;
        let field = entry.field;
        Some(field.elements().filter(|child| is_value(child)).map(Element::content))
    }
}

fn not(name: &str, expected: &'static str) -> FormError {
    FormError::Value { field: shown(name), expected }
}

fn address(name: &str, text: &str) -> Result<Jid, FormError> {
    Jid::parse(text).map_err(|_| not(name, "an address"))
}

fn option<T: Copy>(name: &str, text: &str, options: &[(&str, T)]) -> Result<T, FormError> {
    let found = options.iter().find(|(option, _)| *option == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| not(name, "one of the options"))
}
