//! Entity time (XEP-0202), and times as XMPP writes them (XEP-0082).
//!
//! The server lives in UTC: that is the truth it can tell without guessing at the host's time zone, and every
//! client converts it anyway.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::service::{Reply, Request, Scopes, Service};
use crate::stanza::Type;
use crate::stream::errors::StanzaCondition;
use crate::user::home::Home;
use crate::user::writes::Area;
use crate::xml::Element;

const NAMESPACE: &str = "urn:xmpp:time";

/// Tells the time.
pub const SERVICE: Service = Service {
    element: "time",
    namespace: NAMESPACE,
    scopes: Scopes::SERVER,
    feature: NAMESPACE,
    writes: Area::Alone,
    handle,
};

fn handle(_: &mut Home, request: &Request) -> Reply {
    if request.typ != Type::Get {
        return StanzaCondition::NotAllowed.into();
    }
    let utc = Element::new("utc", NAMESPACE).text(datetime(unix_seconds()));
    let offset = Element::new("tzo", NAMESPACE).text("+00:00");
    Reply::Result(Element::new("time", NAMESPACE).child(offset).child(utc))
}

/// Seconds since 1970 by the system's clock; 0 when it is set to a time before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since 1970 by the system's clock; 0 when it is set to a time before that.
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time as XEP-0082 §3.2 writes it: `1969-07-21T02:56:15Z`.
pub fn datetime(unix_seconds: u64) -> String {
    const DAY: u64 = 86_400;
    let (year, month, day) = date(unix_seconds / DAY);
    let second = unix_seconds % DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the month of a day counted from 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let mut year = 1970 + 400 * (days / DAYS_IN_400_YEARS);
    days %= DAYS_IN_400_YEARS;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = 365 + u64::from(leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(datetime(seconds), expected, "{seconds}");
        }
    }
}
