//! What a presence asks for that enters a room (XEP-0045 §7.2).

use crate::clock;
use crate::proto::muc::versions::Since;
use crate::proto::ns;
use crate::xml::Element;

/// Which messages a client wants to see when it enters (§7.2.14). What it leaves out is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HistoryRequest {
    /// Characters of all stanzas together, with everything in them. 0: none at all.
    pub chars_max: Option<u64>,
    /// Messages.
    pub stanzas_max: Option<u32>,
    /// Only what came at or after this time, milliseconds since 1970.
    pub since_ms: Option<u64>,
}

/// What a client says when it enters, beside its presence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Join {
    /// The room's password.
    pub password: Option<String>,
    /// Which messages it wants; `None`: it leaves that to the room.
    pub history: Option<HistoryRequest>,
    /// From which version on it wants to hear who belongs to the room (XEP-0463); `None`: it does not ask.
    pub since: Option<Since>,
}

impl Join {
    /// Reads `<x/>`. A number or time that is none is passed over, as if it were not there.
    pub fn read(x: &Element, now_ms: u64) -> Join {
        let history = x.find("history", ns::MUC).map(|history| history_of(history, now_ms));
        Join {
            password: x.find("password", ns::MUC).map(|password| password.content().into_owned()),
            history,
            since: Since::find(x),
        }
    }
}

fn history_of(history: &Element, now_ms: u64) -> HistoryRequest {
    let number = |name: &str| history.attribute(name).and_then(|text| text.trim().parse::<u64>().ok());
    let seconds = number("seconds").map(|seconds| now_ms.saturating_sub(seconds.saturating_mul(1000)));
    let since = history.attribute("since").and_then(clock::parse_datetime);
    HistoryRequest {
        chars_max: number("maxchars"),
        stanzas_max: number("maxstanzas").map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        since_ms: seconds.max(since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inside: &str) -> Join {
        let text = format!("<x xmlns='http://jabber.org/protocol/muc'>{inside}</x>");
        Join::read(&Element::parse(text.as_bytes()).unwrap(), 1_000_000_000_000)
    }

    fn history(attributes: &str) -> HistoryRequest {
        read(&format!("<history {attributes}/>")).history.expect("it is there")
    }

    #[test]
    fn a_join_says_what_history_it_wants() {
        let table = [
            ("", HistoryRequest::default()),
            ("maxchars='0'", HistoryRequest { chars_max: Some(0), ..HistoryRequest::default() }),
            ("maxstanzas='20'", HistoryRequest { stanzas_max: Some(20), ..HistoryRequest::default() }),
            (
                "maxstanzas='99999999999'",
                HistoryRequest { stanzas_max: Some(u32::MAX), ..HistoryRequest::default() },
            ),
            (
                "seconds='180'",
                HistoryRequest { since_ms: Some(999_999_820_000), ..HistoryRequest::default() },
            ),
            ("seconds='9999999999999'", HistoryRequest { since_ms: Some(0), ..HistoryRequest::default() }),
            (
                "since='2001-09-09T01:46:39Z'",
                HistoryRequest { since_ms: Some(999_999_999_000), ..HistoryRequest::default() },
            ),
            ("maxstanzas='-1' maxchars='x' since='yesterday'", HistoryRequest::default()),
        ];
        for (attributes, expected) in table {
            assert_eq!(history(attributes), expected, "{attributes}");
        }
        let both = history("seconds='10' since='2001-09-09T01:46:39Z'");
        assert_eq!(both.since_ms, Some(999_999_999_000), "the narrower one holds");
    }

    #[test]
    fn a_password_is_read_where_it_is() {
        assert_eq!(read(""), Join::default());
        assert_eq!(read("<password>a &amp; b</password>").password.as_deref(), Some("a & b"));
        assert_eq!(read("<password xmlns='urn:x'>p</password>").password, None);
    }
}
