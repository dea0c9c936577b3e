//! What an attempt came to, in words that are the same for all providers.

use std::time::{Duration, UNIX_EPOCH};

/// What an attempt came to. The texts are for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The provider has taken the notification.
    Sent,
    /// The device is gone.
    Gone(String),
    /// This notification is refused for good.
    Refused(String),
    /// Our keys are refused.
    Credentials(String),
    /// Not now; perhaps after a pause that the provider names.
    Later { whose: Whose, after: Option<Duration>, reason: String },
    /// There is no connection, or it broke before the answer was there.
    Unreachable(String),
    /// No answer came in time.
    Stalled(String),
}

/// To whom a pause applies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This notification alone: it says nothing of any other.
    Notification,
    /// This device gets too much.
    Device,
    /// The provider has enough of us, or trouble of its own.
    Provider,
}

/// The longest pause that a provider may ask for. One that names a year is mistaken.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Characters of an answer that reports quote.
const QUOTE_CHARS_MAX: usize = 200;

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, of which `now` (seconds since 1970) is taken. At most
/// [`RETRY_AFTER_MAX`].
pub(crate) fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are more than the longest pause.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(UNIX_EPOCH).map_or(0, |date| date.as_secs().saturating_sub(now))
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Text of a provider for one line of a log: short, without characters that move the cursor.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .take(QUOTE_CHARS_MAX)
        .collect();
    quoted.truncate(quoted.trim_end().len());
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_given_in_seconds_or_as_a_date() {
        // 06 Nov 1994 08:49:37, RFC 9110's example.
        let now = 784_111_777 - 30;
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3_600)),
            ("99999999999999999999999999", Some(3_600)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_quoted_text_is_one_short_line() {
        assert_eq!(quote("a\r\nb\u{1b}[2J"), "a  b [2J");
        assert_eq!(quote(&"ü".repeat(1_000)).chars().count(), 200);
    }
}
