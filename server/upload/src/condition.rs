//! Whether a file is wanted at all, and whether only a part of it (RFC 9110 §13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use whimbrel_storage::directory::UploadId;

/// What a request says about what its client has already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
}

/// By what a file is known: it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// The strong entity tag, with its quotes.
    pub tag: String,
    /// When it came, seconds since 1970.
    pub modified_seconds: u64,
}

impl Validators {
    /// Those of a file that came at this time, milliseconds since 1970.
    #[must_use]
    pub fn new(id: &UploadId, checksum: u32, came_ms: u64) -> Self {
        // Half of the id: a tag may be seen where the URL is not.
        let id = id.to_string();
        Self { tag: format!("\"{}-{checksum:08x}\"", &id[..16]), modified_seconds: came_ms / 1000 }
    }

    /// `Last-Modified`.
    #[must_use]
    pub fn last_modified(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.modified_seconds))
    }

    /// Whether the client has the file already (§13.2.2).
    #[must_use]
    pub fn is_known(&self, conditions: &Conditions<'_>) -> bool {
        match (conditions.if_none_match, conditions.if_modified_since) {
            (Some(tags), _) => {
                let weak = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()) == self.tag;
                tags.trim() == "*" || tags.split(',').any(weak)
            }
            (None, Some(date)) => seconds(date).is_some_and(|since| self.modified_seconds <= since),
            (None, None) => false,
        }
    }

    /// Whether a range may be given: what the client has a part of is this file (§13.1.5).
    #[must_use]
    pub fn is_same(&self, conditions: &Conditions<'_>) -> bool {
        match conditions.if_range.map(str::trim) {
            None => true,
            Some(tag) if tag.starts_with(['"', 'W']) && tag.ends_with('"') => tag == self.tag,
            Some(date) => seconds(date) == Some(self.modified_seconds),
        }
    }
}

fn seconds(date: &str) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(date.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let file = Validators::new(&UploadId::new(1, [0xab; 16]), 17, 784_111_777_123);
        let tag = file.tag.as_str();
        assert_eq!(tag, "\"0000000000000001-00000011\"");
        assert_eq!(file.last_modified(), "Sun, 06 Nov 1994 08:49:37 GMT");
        let (weak, list) = (format!("W/{tag}"), format!("\"x\", {tag}"));
        for (if_none_match, if_modified_since, known) in [
            (Some(tag), None, true),
            (Some(&*weak), None, true),
            (Some(&*list), None, true),
            (Some("*"), None, true),
            (Some("\"x\""), None, false),
            (Some("\"x\""), Some("Sun, 06 Nov 1994 08:49:37 GMT"), false),
            (None, Some("Sun, 06 Nov 1994 08:49:37 GMT"), true),
            (None, Some("Sun, 06 Nov 1994 08:49:36 GMT"), false),
            (None, Some("yesterday"), false),
            (None, None, false),
        ] {
            let conditions = Conditions { if_none_match, if_modified_since, if_range: None };
            assert_eq!(file.is_known(&conditions), known, "{conditions:?}");
        }
        for (if_range, same) in [
            (None, true),
            (Some(tag), true),
            (Some(&*weak), false),
            (Some("\"x\""), false),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), true),
            (Some("Sun, 06 Nov 1994 08:49:38 GMT"), false),
            (Some("W"), false),
        ] {
            assert_eq!(file.is_same(&Conditions { if_range, ..Conditions::default() }), same, "{if_range:?}");
        }
    }
}
