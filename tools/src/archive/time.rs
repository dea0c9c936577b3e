//! Times as RFC 3339 writes them, in UTC.

use serde_json::{Value, json};
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// `2026-01-31T12:05:59.007Z`.
pub(super) fn rfc3339(time_ms: u64) -> String {
    let seconds = i64::try_from(time_ms / 1000).unwrap_or_default();
    // Beyond the year 9999, to which no clock is set, it is the beginning of 1970.
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    let (month, ms) = (u8::from(month), time_ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The same of a time that may be missing.
pub(super) fn rfc3339_or_null(time_ms: Option<u64>) -> Value {
    time_ms.map_or(Value::Null, |time_ms| json!(rfc3339(time_ms)))
}

/// Reads a date (its beginning in UTC), or a date and time with `Z` or an offset, as milliseconds since 1970; for clap.
pub(crate) fn parse_time(text: &str) -> Result<u64, String> {
    read(text).ok_or_else(|| "write 2026-01-31 or 2026-01-31T12:05:59Z".to_owned())
}

/// So many digits at the beginning, and what follows them.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some((digits.parse().ok()?, rest)))?
}

fn read(text: &str) -> Option<u64> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let (time, offset) = if rest.is_empty() {
        (Time::MIDNIGHT, UtcOffset::UTC)
    } else {
        of_day(rest.strip_prefix(['T', 't', ' '])?)?
    };
    let nanoseconds = date.with_time(time).assume_offset(offset).unix_timestamp_nanos();
    u64::try_from(nanoseconds / 1_000_000).ok()
}

fn of_day(text: &str) -> Option<(Time, UtcOffset)> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, mut rest) = digits(rest.strip_prefix(':')?, 2)?;
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let shown = format!("{:0<3}", fraction.get(..count.min(3)).filter(|digits| !digits.is_empty())?);
        ms = shown.parse().ok()?;
        rest = &fraction[count..];
    }
    let [hour, minute, second] = [hour, minute, second].map(|number| number as u8);
    let time = Time::from_hms_milli(hour, minute, second, ms).ok()?;
    Some((time, offset(rest)?))
}

fn offset(text: &str) -> Option<UtcOffset> {
    if matches!(text, "Z" | "z") {
        return Some(UtcOffset::UTC);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(&text[1..], 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
    (rest.is_empty() && minutes < 60).then_some(())?;
    UtcOffset::from_hms(sign * hours as i8, sign * minutes as i8, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_it_was_written() {
        for time_ms in [0, 1_000_000_000_007, 1_700_000_000_999] {
            assert_eq!(parse_time(&rfc3339(time_ms)), Ok(time_ms));
        }
        assert_eq!(rfc3339(1_000_000_000_007), "2001-09-09T01:46:40.007Z");
    }

    #[test]
    fn dates_and_offsets_are_understood_and_nothing_else() {
        for (text, time_ms) in [
            ("1970-01-02", 86_400_000),
            ("1970-01-02T00:00:00Z", 86_400_000),
            ("1970-01-02 01:00:00.5+01:00", 86_400_500),
            ("1970-01-01T23:30:00.1239-00:30", 86_400_123),
        ] {
            assert_eq!(parse_time(text), Ok(time_ms), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-1-1",
            "2026-01-01T",
            "2026-01-01T12:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:00:00.Z",
            "2026-01-01T12:00:00+1",
            "1969-12-31",
            "+026-01-01",
            "2026-01-01T12:00:00Zx",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
