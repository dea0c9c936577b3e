//! The keys of BOSH.

use super::{HttpConfig, is_authority};

impl HttpConfig {
    /// Whether BOSH is spoken.
    pub fn speaks_bosh(&self) -> bool {
        self.bosh_sessions > 0
    }

    /// Checks the keys of BOSH.
    pub(super) fn check_bosh(&self) -> Result<(), String> {
        for (key, url) in [("bosh_url", &self.bosh_url), ("bosh_see_other_uri", &self.bosh_see_other_uri)] {
            if !url.is_empty() && !is_url(url) {
                return Err(format!(
                    "http.{key} is `{url}`; write a URL like https://chat.example.org/http-bind"
                ));
            }
        }
        let ranges = [
            ("bosh_request_bytes", self.bosh_request_bytes, 16 * 1024, 1 << 30),
            ("bosh_session_bytes", self.bosh_session_bytes, 16 * 1024, 1 << 30),
            ("bosh_wait_seconds", self.bosh_wait_seconds, 1, 120),
            ("bosh_inactivity_seconds", self.bosh_inactivity_seconds, 1, 3600),
            ("bosh_pause_seconds", self.bosh_pause_seconds, self.bosh_inactivity_seconds, 3600),
            ("bosh_polling_seconds", self.bosh_polling_seconds, 0, 60),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("http.{key} is {value}; use {least} to {most}"));
            }
        }
        Ok(())
    }
}

fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>".contains(&byte);
    rest.is_some_and(|rest| {
        is_authority(rest.split(['/', '?']).next().unwrap_or_default()) && text.bytes().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        type Change = fn(&mut HttpConfig);
        let table: [(&str, Change); 8] = [
            ("bosh_url is `wss://a.example`", |c| c.bosh_url = "wss://a.example".into()),
            ("bosh_see_other_uri is `https://a/'`", |c| c.bosh_see_other_uri = "https://a/'".into()),
            ("bosh_requests is 0", |c| c.bosh_requests = 0),
            ("bosh_mib is 0", |c| c.bosh_mib = 0),
            ("bosh_request_bytes is 100", |c| c.bosh_request_bytes = 100),
            ("bosh_wait_seconds is 121", |c| c.bosh_wait_seconds = 121),
            ("bosh_inactivity_seconds is 0", |c| c.bosh_inactivity_seconds = 0),
            ("bosh_pause_seconds is 59; use 60 to 3600", |c| c.bosh_pause_seconds = 59),
        ];
        for (expected, change) in table {
            let mut config = HttpConfig::default();
            change(&mut config);
            let error = config.check().expect_err(expected);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let good = HttpConfig {
            bosh_url: "https://chat.example.org/http-bind".into(),
            bosh_see_other_uri: "http://[2001:db8::1]:5280/http-bind".into(),
            bosh_sessions: 0,
            ..HttpConfig::default()
        };
        assert_eq!((good.check(), good.speaks_bosh()), (Ok(()), false));
    }
}
