//! XEP-0313 as a client speaks it: queries, pages (XEP-0059), and what an answer says.

use std::fmt::Write as _;

use crate::engine::scan::Element;

/// What an account announces that has an archive.
pub(super) const NAMESPACE: &str = "urn:xmpp:mam:2";

/// One query.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    /// Tells its answers from those of others.
    pub(super) id: &'a str,
    /// Only messages with this address.
    pub(super) with: Option<&'a str>,
    /// Messages of a page at most.
    pub(super) max: u32,
    /// Which page.
    pub(super) page: Page<'a>,
}

/// Which page of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page<'a> {
    /// The first.
    First,
    /// The one behind this id.
    After(&'a str),
    /// The last.
    Last,
}

/// The end of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Nothing is behind it, or before it where pages are read backwards.
    pub(super) complete: bool,
    /// The id of its last message.
    pub(super) last: Option<String>,
}

/// Asks what an account has (XEP-0030).
pub(super) fn discovery(account: &str) -> String {
    format!(
        "<iq type='get' id='disco' to='{account}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
}

/// Whether the answer to [`discovery`] names an archive.
pub(super) fn names_archive(answer: &Element<'_>) -> bool {
    ["'", "\""].iter().any(|quote| answer.contains(format!("{quote}{NAMESPACE}{quote}").as_bytes()))
}

/// Writes a query.
pub(super) fn write(query: &Query<'_>, out: &mut String) {
    let Query { id, with, max, page } = query;
    // Writing to a String cannot fail.
    let _ = write!(out, "<iq type='set' id='{id}'><query xmlns='{NAMESPACE}' queryid='{id}'>");
    if let Some(with) = with {
        let _ = write!(
            out,
            "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{NAMESPACE}</value>\
             </field><field var='with'><value>{with}</value></field></x>"
        );
    }
    let _ = write!(out, "<set xmlns='http://jabber.org/protocol/rsm'><max>{max}</max>");
    match page {
        Page::First => {}
        Page::After(id) => {
            let _ = write!(out, "<after>{id}</after>");
        }
        Page::Last => out.push_str("<before/>"),
    }
    out.push_str("</set></query></iq>");
}

/// The archived message in a message of an answer to query `id`.
pub(super) fn result<'a>(message: &Element<'a>, id: &str) -> Option<Element<'a>> {
    let result = message.find(b"result")?;
    let ours = result.attribute(b"queryid") == Some(id.as_bytes());
    if ours { result.find(b"forwarded")?.find(b"message") } else { None }
}

/// What the end of an answer says.
///
/// # Errors
/// The server refuses the query; its condition.
pub(super) fn end(iq: &Element<'_>) -> Result<End, String> {
    if iq.attribute(b"type") != Some(b"result") {
        let condition = iq.find(b"error").and_then(|error| error.first_child()).unwrap_or(b"undefined");
        return Err(format!("the server refuses a query: {}", String::from_utf8_lossy(condition)));
    }
    let fin = iq.find(b"fin").ok_or("an answer has no end (<fin/>)")?;
    let last = fin.find(b"last").map(|last| String::from_utf8_lossy(last.text()).into_owned());
    let complete = matches!(fin.attribute(b"complete"), Some(b"true" | b"1"));
    Ok(End { complete: complete || last.is_none(), last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    fn element(text: &str) -> Element<'_> {
        let Ok(Some((Item::Element(element), _))) = scan::next(text.as_bytes()) else { panic!("no element") };
        element
    }

    #[test]
    fn a_query_asks_for_one_page_and_one_contact() {
        let written = |with, page| {
            let mut out = String::new();
            write(&Query { id: "q1", with, max: 30, page }, &mut out);
            let iq = element(&out);
            assert_eq!(iq.find(b"max").unwrap().text(), b"30");
            assert_eq!(iq.find(b"query").unwrap().attribute(b"queryid"), Some(&b"q1"[..]));
            out
        };
        let first = written(None, Page::First);
        assert!(
            !first.contains("<x ") && !first.contains("<after>") && !first.contains("<before/>"),
            "{first}"
        );
        assert!(written(None, Page::After("77")).contains("<after>77</after>"));
        let last = written(Some("a@b"), Page::Last);
        assert!(last.contains("<before/>") && last.contains("var='with'><value>a@b</value>"), "{last}");
    }

    #[test]
    fn an_answer_is_taken_apart_and_others_answers_are_not_taken() {
        let text = "<message to='a@b/c'><result xmlns='urn:xmpp:mam:2' queryid='q1' id='7'><forwarded \
            xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/><message id='m' \
            from='x@y'><body>hi</body></message></forwarded></result></message>";
        let message = element(text);
        assert_eq!(result(&message, "q1").unwrap().attribute(b"id"), Some(&b"m"[..]));
        assert_eq!(result(&message, "q2"), None);
        assert_eq!(result(&element("<message><body>queryid='q1'</body></message>"), "q1"), None);
    }

    #[test]
    fn the_end_of_a_page_tells_whether_there_is_more() {
        let fin = |attributes: &str, set: &str| {
            format!(
                "<iq type='result' id='q'><fin xmlns='urn:xmpp:mam:2' {attributes}><set>{set}</set></fin></iq>"
            )
        };
        let more = fin("", "<first index='0'>1</first><last>9</last><count>20</count>");
        assert_eq!(end(&element(&more)), Ok(End { complete: false, last: Some("9".into()) }));
        let complete = fin("complete='true'", "<first>1</first><last>9</last>");
        assert_eq!(end(&element(&complete)), Ok(End { complete: true, last: Some("9".into()) }));
        assert_eq!(end(&element(&fin("", "<count>0</count>"))), Ok(End { complete: true, last: None }));
        let refused = "<iq type='error' id='q'><query/><error type='cancel'><item-not-found/></error></iq>";
        assert!(end(&element(refused)).unwrap_err().contains("item-not-found"));
        assert!(end(&element("<iq type='result' id='q'/>")).is_err());
    }

    #[test]
    fn an_archive_is_named_exactly() {
        let answer =
            |feature: &str| format!("<iq type='result'><query><feature var=\"{feature}\"/></query></iq>");
        assert!(names_archive(&element(&answer("urn:xmpp:mam:2"))));
        assert!(!names_archive(&element(&answer("urn:xmpp:mam:2#extended"))));
        assert!(!names_archive(&element(&answer("urn:xmpp:mam:1"))));
    }
}
