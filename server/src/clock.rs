//! The time of day, and times as XMPP writes them (XEP-0082).

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Seconds since 1970 by the system's clock; 0 when it is set to a time before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since 1970 by the system's clock; 0 when it is set to a time before that.
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time as XEP-0082 §3.2 writes it: `1969-07-21T02:56:15Z`. Anything that lies beyond the year 9999 is that year's end.
pub fn datetime(unix_seconds: u64) -> String {
    let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX).min(SECONDS_MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

/// As [`datetime`], with milliseconds: `1969-07-21T02:56:15.007Z`.
pub fn datetime_ms(unix_ms: u64) -> String {
    let seconds = datetime(unix_ms / 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms % 1000)
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
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(datetime(seconds), expected, "{seconds}");
        }
        assert_eq!(datetime_ms(1_000_000_000_007), "2001-09-09T01:46:40.007Z");
        assert_eq!(datetime_ms(999), "1970-01-01T00:00:00.999Z");
    }
}
