//! Times as people write them. All clocks are the machine's local time, as sar's; programs get UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use ::time::OffsetDateTime;

/// Unix time now, in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

fn local(time_ms: u64) -> libc::tm {
    let seconds = libc::time_t::try_from(time_ms / 1000).unwrap_or(0);
    let mut tm = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of ours; the call fills the second, which may be all zero.
    unsafe {
        libc::localtime_r(&raw const seconds, tm.as_mut_ptr());
        tm.assume_init()
    }
}

/// `13:05:59`, local.
pub fn of_day(time_ms: u64) -> String {
    let tm = local(time_ms);
    format!("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec)
}

/// `2026-01-31`, local.
pub fn date(time_ms: u64) -> String {
    let tm = local(time_ms);
    format!("{:04}-{:02}-{:02}", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday)
}

/// `2026-01-31 13:05:59`, local.
pub fn date_and_time(time_ms: u64) -> String {
    format!("{} {}", date(time_ms), of_day(time_ms))
}

/// `2026-01-31T12:05:59Z`, with milliseconds when there are any.
pub fn rfc3339(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms / 1000, time_ms % 1000);
    // Beyond the year 9999, to which no clock is set, it is the beginning of 1970.
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    let month = u8::from(month);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Why a text is not a time, or two are no range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATime {
    /// Nothing that can be read.
    #[error(
        "`{0}` is not a time; write 13:05, 13:05:59, 2026-01-31, `2026-01-31 13:05`, -10m (ago: s, m, h, d) or a Unix time"
    )]
    Unreadable(String),
    /// A day that no calendar has.
    #[error("`{0}`: there is no such day")]
    NoSuchDay(String),
    /// The range begins later than now.
    #[error("{begin} is still to come", begin = date_and_time(*.0))]
    Future(u64),
    /// The range ends where it begins, or before.
    #[error("{end} is not after {begin}, where the range begins", begin = date_and_time(*.0), end = date_and_time(*.1))]
    Backwards(u64, u64),
}

/// A range of time gone by, in milliseconds. It may end in the future, where there is nothing yet. A clock alone as the
/// begin is the last one that has been; as the end of such a range it is the first one after the begin. So a range may
/// reach over midnight.
///
/// # Errors
/// One of the texts is no time, the range lies in the future, or it ends before it begins.
pub fn range(from: &str, to: Option<&str>, now_ms: u64) -> Result<(u64, u64), NotATime> {
    let (mut from_ms, to_clock) = (parse(from, now_ms)?, to.filter(|to| is_clock(to)));
    if is_clock(from) && from_ms > now_ms {
        from_ms = days_from(from_ms, -1);
    }
    let mut to_ms = to.map_or(Ok(now_ms), |to| parse(to, now_ms))?;
    if let Some(to) = to_clock.filter(|_| is_clock(from)) {
        to_ms = parse(to, from_ms)?;
        if to_ms < from_ms {
            to_ms = days_from(to_ms, 1);
            // From a clock of today to an earlier one is from yesterday's on.
            if to_ms > now_ms && days_from(from_ms, 1) > now_ms {
                (from_ms, to_ms) = (days_from(from_ms, -1), days_from(to_ms, -1));
            }
        }
    }
    match () {
        () if from_ms > now_ms => Err(NotATime::Future(from_ms)),
        () if from_ms >= to_ms => Err(NotATime::Backwards(from_ms, to_ms)),
        () => Ok((from_ms, to_ms)),
    }
}

/// Whether a time is a clock without a date.
fn is_clock(text: &str) -> bool {
    let text = text.trim();
    text.contains(':') && !text.contains('-')
}

/// The same clock so many days later: not 24 hours each where the clock is put forward or back.
fn days_from(time_ms: u64, days: i32) -> u64 {
    let mut tm = local(time_ms);
    tm.tm_mday += days;
    tm.tm_isdst = -1;
    // SAFETY: the pointer is to a value of ours.
    let seconds = unsafe { libc::mktime(&raw mut tm) };
    u64::try_from(seconds).map_or(time_ms, |seconds| seconds.saturating_mul(1000))
}

/// A point in time, in milliseconds: a clock of today, a date, both, an age, or a Unix time in seconds.
///
/// # Errors
/// It is none of these.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, NotATime> {
    let wrong = || NotATime::Unreadable(text.to_owned());
    let date = |tm: &mut libc::tm, date: &str| match set_date(tm, date) {
        Some(true) => Ok(()),
        Some(false) => Err(NotATime::NoSuchDay(text.to_owned())),
        None => Err(wrong()),
    };
    let trimmed = text.trim();
    if let Some(age) = trimmed.strip_prefix('-') {
        return Ok(now_ms.saturating_sub(duration(age).ok_or_else(wrong)?));
    }
    if trimmed.len() >= 9 && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        let seconds: u64 = trimmed.parse().map_err(|_| wrong())?;
        return seconds.checked_mul(1000).ok_or_else(wrong);
    }
    let mut tm = local(now_ms);
    let clock = match trimmed.split_once([' ', 'T']) {
        Some((day, clock)) => {
            date(&mut tm, day)?;
            clock
        }
        None if trimmed.contains('-') => {
            date(&mut tm, trimmed)?;
            "00:00"
        }
        None => trimmed,
    };
    set_clock(&mut tm, clock).ok_or_else(wrong)?;
    tm.tm_isdst = -1;
    // SAFETY: the pointer is to a value of ours.
    let seconds = unsafe { libc::mktime(&raw mut tm) };
    u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)).ok_or_else(wrong)
}

fn numbers(text: &str, between: char, bounds: &[std::ops::RangeInclusive<i32>]) -> Option<Vec<i32>> {
    let parts: Vec<&str> = text.split(between).collect();
    if parts.len() > bounds.len() {
        return None;
    }
    let number = |(part, bounds): (&&str, &std::ops::RangeInclusive<i32>)| {
        let ok = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n| ok && bounds.contains(n))
    };
    parts.iter().zip(bounds).map(number).collect()
}

/// Sets the date. `false`: the month has no such day.
fn set_date(tm: &mut libc::tm, text: &str) -> Option<bool> {
    let [year, month, day] = numbers(text, '-', &[1970..=9999, 1..=12, 1..=31])?.try_into().ok()?;
    (tm.tm_year, tm.tm_mon, tm.tm_mday) = (year - 1900, month - 1, day);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    Some(day <= days)
}

fn set_clock(tm: &mut libc::tm, text: &str) -> Option<()> {
    match numbers(text, ':', &[0..=23, 0..=59, 0..=60])?[..] {
        [hour, minute] => (tm.tm_hour, tm.tm_min, tm.tm_sec) = (hour, minute, 0),
        [hour, minute, second] => (tm.tm_hour, tm.tm_min, tm.tm_sec) = (hour, minute, second),
        _ => return None,
    }
    Some(())
}

/// `90s`, `10m`, `2h`, `7d`, or seconds, in milliseconds. `None`: it is none of these.
pub fn duration(text: &str) -> Option<u64> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1000), text);
        }
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn what_is_printed_can_be_given_back() {
        let now = 1_760_000_123_000;
        assert_eq!(parse(&date_and_time(now), now), Ok(now));
        assert_eq!(parse(&of_day(now), now), Ok(now));
        assert_eq!(parse("-10m", now), Ok(now - 600_000));
        assert_eq!(parse("1760000123", now), Ok(now));
        let midnight = parse(&date_and_time(now)[..10], now).unwrap();
        assert!(midnight <= now && now - midnight < 90_000_000);
        for wrong in ["", "25:00", "12", "2026-13-01", "-", "-3y", "noon", "12:00:00:00", "+1:20"] {
            assert!(parse(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_that_no_calendar_has_are_refused() {
        let now = 1_760_000_123_000;
        for day in ["2024-02-29", "2000-02-29", "2025-02-28", "2025-04-30 23:59", "2025-12-31T00:00"] {
            assert!(parse(day, now).is_ok(), "{day}");
        }
        for day in ["2025-02-29", "2100-02-29", "2025-02-30", "2025-04-31 12:00", "2025-11-31T00:00"] {
            assert_eq!(parse(day, now), Err(NotATime::NoSuchDay(day.to_owned())));
        }
    }

    #[test]
    fn a_range_lies_behind_us_and_ends_after_it_begins() {
        let now = 1_760_000_123_000;
        assert_eq!(range("-2h", None, now), Ok((now - 7_200_000, now)));
        assert_eq!(range("-2h", Some("-1h"), now), Ok((now - 7_200_000, now - 3_600_000)));
        assert!(range("-2h", Some("9999-12-31"), now).is_ok(), "up to now, and on");
        assert_eq!(
            range("-1h", Some("-2h"), now),
            Err(NotATime::Backwards(now - 3_600_000, now - 7_200_000))
        );
        assert_eq!(
            range("-1h", Some("-1h"), now),
            Err(NotATime::Backwards(now - 3_600_000, now - 3_600_000))
        );
        assert!(matches!(range("9999-12-31", None, now), Err(NotATime::Future(_))));
        assert_eq!(range("1760003723", None, now), Err(NotATime::Future(now + 3_600_000)));
        // A time in milliseconds, taken for one in seconds.
        assert!(matches!(range("1760000123000", None, now), Err(NotATime::Future(_))));
    }

    #[test]
    fn ranges_of_clocks_reach_over_midnight() {
        let now = parse("2026-03-10 10:00", 0).unwrap();
        let at = |text: &str| parse(text, now).unwrap();
        for (from, to, begin, end) in [
            ("09:00", "09:30", "2026-03-10 09:00", "2026-03-10 09:30"),
            ("09:00", "11:00", "2026-03-10 09:00", "2026-03-10 11:00"),
            ("23:50", "00:10", "2026-03-09 23:50", "2026-03-10 00:10"),
            ("22:00", "23:00", "2026-03-09 22:00", "2026-03-09 23:00"),
            ("09:30", "09:00", "2026-03-09 09:30", "2026-03-10 09:00"),
            ("2026-03-08 23:50", "2026-03-09 00:10", "2026-03-08 23:50", "2026-03-09 00:10"),
        ] {
            assert_eq!(range(from, Some(to), now), Ok((at(begin), at(end))), "{from} to {to}");
        }
        assert_eq!(range("23:50", None, now), Ok((at("2026-03-09 23:50"), now)));
        let after_midnight = at("2026-03-10 00:10");
        assert_eq!(
            range("23:50", Some("23:55"), after_midnight),
            Ok((at("2026-03-09 23:50"), at("2026-03-09 23:55")))
        );
        assert!(matches!(range("09:00", Some("09:00"), now), Err(NotATime::Backwards(..))));
    }
}
