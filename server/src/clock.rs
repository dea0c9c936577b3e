//! Where the time comes from, and times as XMPP writes them (XEP-0082).
//!
//! Everything that the simulation runs takes its time from a [`Clock`]; a test (`server/tests/layers.rs`) names the few
//! modules that may ask the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Milliseconds since 1970 by the system's clock; 0 when it is set to a time before that.
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Where a worker has the time from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system.
    System {
        /// When the server's clock began.
        started: Instant,
    },
    /// A clock that is moved by hand, in the simulation and in tests.
    Virtual(Arc<VirtualClock>),
}

/// A clock that stands still until somebody moves it.
#[derive(Debug)]
pub struct VirtualClock {
    started: Instant,
    unix_ms_at_start: u64,
    ms: AtomicU64,
}

impl VirtualClock {
    /// A clock that shows `ms`, and was at 0 so many milliseconds after 1970.
    pub fn new(unix_ms_at_start: u64, ms: u64) -> Arc<VirtualClock> {
        Arc::new(VirtualClock { started: Instant::now(), unix_ms_at_start, ms: AtomicU64::new(ms) })
    }

    /// Sets it.
    pub fn set(&self, ms: u64) {
        self.ms.store(ms, Ordering::Relaxed);
    }

    fn ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }
}

impl Clock {
    /// Milliseconds of the server's clock, which goes on over an upgrade.
    #[inline]
    pub fn ms(&self) -> u64 {
        match self {
            Clock::System { started } => u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            Clock::Virtual(clock) => clock.ms(),
        }
    }

    /// A moment, to measure from.
    #[inline]
    pub fn instant(&self) -> Instant {
        match self {
            Clock::System { .. } => Instant::now(),
            Clock::Virtual(clock) => clock.started + Duration::from_millis(clock.ms()),
        }
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        match self {
            Clock::System { .. } => unix_milliseconds(),
            Clock::Virtual(clock) => clock.unix_ms_at_start + clock.ms(),
        }
    }
}

/// Bytes of a time with milliseconds.
pub const DATETIME_MS_BYTES: usize = 24;

/// Of these, bytes before the milliseconds.
const SECONDS_BYTES: usize = 19;

/// A time as XEP-0082 §3.2 writes it: `1969-07-21T02:56:15Z`. Anything that lies beyond the year 9999 is that year's end.
pub fn datetime(unix_seconds: u64) -> String {
    let text = datetime_ms_bytes(unix_seconds.saturating_mul(1000));
    let mut text = String::from_utf8_lossy(&text[..SECONDS_BYTES]).into_owned();
    text.push('Z');
    text
}

/// As [`datetime`], with milliseconds: `1969-07-21T02:56:15.007Z`.
pub fn datetime_ms(unix_ms: u64) -> String {
    String::from_utf8_lossy(&datetime_ms_bytes(unix_ms)).into_owned()
}

/// As [`datetime_ms`], without an allocation: every message of an archive is given with one.
pub fn datetime_ms_bytes(unix_ms: u64) -> [u8; DATETIME_MS_BYTES] {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX).min(SECONDS_MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let ((year, month, day), (hour, minute, second)) = (time.to_calendar_date(), time.to_hms());
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put_digits(&mut text[..4], year.unsigned_abs());
    for (at, number) in [(5, u8::from(month)), (8, day), (11, hour), (14, minute), (17, second)] {
        put_digits(&mut text[at..at + 2], number.into());
    }
    put_digits(&mut text[SECONDS_BYTES + 1..DATETIME_MS_BYTES - 1], (unix_ms % 1000) as u32);
    text
}

/// Fills a place with the last digits of a number.
fn put_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A time that somebody else wrote (XEP-0082 §3.2), with any offset, in milliseconds since 1970. Earlier times are 0. `None`:
/// it is none.
pub fn parse_datetime(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_when_it_is_set_and_not_otherwise() {
        let hand = VirtualClock::new(1_700_000_000_000, 5);
        let clock = Clock::Virtual(hand.clone());
        let before = clock.instant();
        assert_eq!((clock.ms(), clock.unix_ms(), clock.instant()), (5, 1_700_000_000_005, before));
        hand.set(1005);
        assert_eq!((clock.ms(), clock.unix_ms()), (1005, 1_700_000_001_005));
        assert_eq!(clock.instant() - before, Duration::from_secs(1));
    }

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
        assert_eq!(datetime_ms(u64::MAX), "9999-12-31T23:59:59.615Z");
    }

    #[test]
    fn times_are_read_whatever_their_offset() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2001-09-09T01:46:40Z", Some(1_000_000_000_000)),
            ("2001-09-09T03:46:40.0070+02:00", Some(1_000_000_000_007)),
            ("1969-07-20T21:56:15-05:00", Some(0)),
            ("2001-09-09", None),
            ("2001-09-09T01:46:40", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_datetime(text), expected, "{text}");
        }
    }
}
