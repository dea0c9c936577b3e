//! Which part of a file is wanted (RFC 9110 §14).
//!
//! One range is given. Who asks for several gets the whole file, as the RFC leaves it to the server (§14.2): a list of ranges is a
//! way to make a server send much more than the file has.

use std::ops::Range;

/// What a request wants of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes of it; there are some.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Nothing,
}

/// Reads the field `Range` for a file of so many bytes. One that cannot be read counts as none (§14.2).
#[must_use]
pub fn read(field: Option<&str>, bytes: u64) -> Wanted {
    let Some(range) = field.and_then(|field| {
        let (unit, range) = field.split_once('=')?;
        unit.trim().eq_ignore_ascii_case("bytes").then(|| range.trim())
    }) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.split_once('-').map(|(first, last)| (first.trim(), last.trim())) else {
        return Wanted::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Further than there can be bytes.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.is_empty() => first..bytes,
        (None, Some(last)) if first.is_empty() => bytes.saturating_sub(last)..bytes,
        _ => return Wanted::Whole,
    };
    if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_given_and_what_is_none_is_not_there() {
        for (field, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-5", Wanted::Part(2..6)),
            ("Bytes = 2-", Wanted::Part(2..10)),
            ("bytes=9-99", Wanted::Part(9..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=0-,0-,0-", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(read(Some(field), 10), expected, "{field}");
        }
        assert_eq!(read(None, 10), Wanted::Whole);
        assert_eq!(read(Some("bytes=0-"), 0), Wanted::Nothing);
    }
}
