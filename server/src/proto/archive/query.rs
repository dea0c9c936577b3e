//! A query of an archive (XEP-0313 §4).

use whimbrel_storage::jid::Jid;

use crate::clock;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{self, Field, FieldType, Form, FormError, Submission, Submitted};
use crate::proto::ns;
use crate::proto::rsm::{PageRequest, Sizes, Start};
use crate::xml::Element;

/// Messages of a page when a client names no number, and at most.
pub const PAGE: Sizes = Sizes { default: 50, max: 250 };

/// Ids that a client may ask for by name in one query (§4.1.4): a page of them.
pub const IDS_MAX: usize = PAGE.max;

/// Bytes of a `queryid` that is repeated with each message.
const QUERY_ID_BYTES_MAX: usize = 256;

/// Which messages of an archive a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What each message of the answer repeats (§4.2).
    pub query_id: Option<String>,
    /// Only those exchanged with this address; a bare one stands for its resources as well (§4.1.1).
    pub with: Option<Jid>,
    /// Not before this time, in milliseconds since 1970 (§4.1.2).
    pub start_ms: Option<u64>,
    /// Not after this time.
    pub end_ms: Option<u64>,
    /// Behind the message with this id (§4.1.3).
    pub after_id: Option<String>,
    /// Before the message with this id.
    pub before_id: Option<String>,
    /// These messages and no others (§4.1.4).
    pub ids: Option<Vec<String>>,
    /// Which page of them.
    pub page: PageRequest,
    /// The messages of the page come in reverse order (§4.3.2).
    pub is_flipped: bool,
}

impl Query {
    /// Reads `<query/>`.
    ///
    /// # Errors
    /// `feature-not-implemented` for a field that is not known (§4.1.5), `bad-request` for what is no form, `not-acceptable`
    /// for a value that does not fit its field, and the errors of [`PageRequest::read`]. A page by number is
    /// `feature-not-implemented`: messages are not counted.
    pub fn read(query: &Element) -> Result<Query, StanzaError> {
        let page =
            PageRequest::find(query, PAGE)?.unwrap_or(PageRequest { max: PAGE.default, start: Start::First });
        if matches!(page.start, Start::Index(_)) {
            return Err(not_implemented("a page cannot be asked for by number"));
        }
        let query_id = query.attribute("queryid").map(str::to_owned);
        if query_id.as_ref().is_some_and(|id| id.len() > QUERY_ID_BYTES_MAX) {
            return Err(
                StanzaError::from(StanzaCondition::NotAcceptable).with_text("the queryid is too long")
            );
        }
        let mut read = Query {
            query_id,
            with: None,
            start_ms: None,
            end_ms: None,
            after_id: None,
            before_id: None,
            ids: None,
            page,
            is_flipped: query.find("flip-page", ns::ARCHIVE).is_some(),
        };
        if let Some(form) = forms::find(query) {
            read.fill_in(Submission::read(form, ns::ARCHIVE)?.submitted()?)?;
        }
        Ok(read)
    }

    fn fill_in(&mut self, mut fields: Submitted<'_>) -> Result<(), StanzaError> {
        self.with = fields.jid("with")?;
        self.start_ms = time(&mut fields, "start")?;
        self.end_ms = time(&mut fields, "end")?;
        self.after_id = fields.text("after-id")?.map(Into::into).filter(|id: &String| !id.is_empty());
        self.before_id = fields.text("before-id")?.map(Into::into).filter(|id: &String| !id.is_empty());
        self.ids = fields.lines("ids").map(|ids| ids.into_iter().map(Into::into).collect());
        if self.ids.as_ref().is_some_and(|ids| ids.len() > IDS_MAX) {
            let text = "more ids are asked for than a page has";
            return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
        }
        match fields.finish() {
            Ok(()) => Ok(()),
            Err(error @ FormError::Unknown(_)) => Err(not_implemented(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The form that tells which fields there are (§4.1.5).
    pub fn form() -> Element {
        let fields = [
            (FieldType::JidSingle, "with"),
            (FieldType::TextSingle, "start"),
            (FieldType::TextSingle, "end"),
            (FieldType::TextSingle, "before-id"),
            (FieldType::TextSingle, "after-id"),
            (FieldType::ListMulti, "ids"),
        ];
        let form = fields
            .into_iter()
            .fold(Form::to_fill_in(ns::ARCHIVE), |form, (typ, name)| form.field(Field::new(typ, name)));
        Element::new("query", ns::ARCHIVE).child(form.into_element())
    }
}

fn time(fields: &mut Submitted<'_>, name: &str) -> Result<Option<u64>, StanzaError> {
    let Some(text) = fields.text(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    match clock::parse_datetime(&text) {
        Some(time) => Ok(Some(time)),
        None => {
            let text = format!("the value of the field {name} must be a time such as 2001-09-09T01:46:40Z");
            Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text))
        }
    }
}

fn not_implemented(text: impl Into<String>) -> StanzaError {
    StanzaError::from(StanzaCondition::FeatureNotImplemented).with_text(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inside: &str) -> Result<Query, StanzaCondition> {
        let query = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{inside}</query>");
        Query::read(&Element::parse(query.as_bytes()).unwrap()).map_err(|error| error.condition)
    }

    fn with_fields(fields: &[(&str, &str)]) -> Result<Query, StanzaCondition> {
        let fields: String = fields
            .iter()
            .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
            .collect();
        read(&format!(
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
             <value>urn:xmpp:mam:2</value></field>{fields}</x>"
        ))
    }

    #[test]
    fn a_query_without_anything_is_for_the_first_page() {
        let query = read("").unwrap();
        assert_eq!(query.query_id.as_deref(), Some("q"));
        assert_eq!(query.page, PageRequest { max: 50, start: Start::First });
        assert!(query.with.is_none() && query.ids.is_none() && !query.is_flipped);
    }

    #[test]
    fn every_field_of_the_xep_is_read() {
        let query = with_fields(&[
            ("with", "Juliet@Capulet.lit"),
            ("start", "2001-09-09T01:46:40Z"),
            ("end", "2001-09-09T03:46:40.5+02:00"),
            ("after-id", "a"),
            ("before-id", "b"),
            ("ids", "one</value><value>two"),
        ])
        .unwrap();
        assert_eq!(query.with.unwrap().as_str(), "juliet@capulet.lit");
        assert_eq!((query.start_ms, query.end_ms), (Some(1_000_000_000_000), Some(1_000_000_000_500)));
        assert_eq!((query.after_id.as_deref(), query.before_id.as_deref()), (Some("a"), Some("b")));
        assert_eq!(query.ids.unwrap(), ["one", "two"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_error_of_the_xep() {
        let cases = [
            (with_fields(&[("fulltext", "love")]), StanzaCondition::FeatureNotImplemented),
            (with_fields(&[("start", "yesterday")]), StanzaCondition::NotAcceptable),
            (with_fields(&[("with", "@")]), StanzaCondition::NotAcceptable),
            (read("<x xmlns='jabber:x:data' type='form'/>"), StanzaCondition::BadRequest),
            (
                read("<set xmlns='http://jabber.org/protocol/rsm'><index>3</index></set>"),
                StanzaCondition::FeatureNotImplemented,
            ),
        ];
        for (outcome, expected) in cases {
            assert_eq!(outcome, Err(expected));
        }
    }

    #[test]
    fn a_page_may_be_asked_for_in_reverse() {
        let query =
            read("<set xmlns='http://jabber.org/protocol/rsm'><max>7</max><before/></set><flip-page/>")
                .unwrap();
        assert_eq!((query.page, query.is_flipped), (PageRequest { max: 7, start: Start::Last }, true));
    }
}
