//! What is told of logins that fail: counters by reason, and a line each that fail2ban understands.
//!
//! ```text
//! login failed: address=192.0.2.1 mechanism=PLAIN reason=credentials account="juliet"
//! ```
//!
//! The address comes before everything that a client can choose, and an account's name is escaped so that it holds
//! neither white space nor quotation marks: nobody can make a line that accuses another. `tools/service/fail2ban.conf`
//! is the filter, and a test holds the two together.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::metrics::WorkerMetrics;

/// Lines in one second of the whole server; of further ones only the number is told.
pub const LINES_PER_SECOND: u32 = 50;

/// Why a login failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// A wrong password or key, or no such account: a guess.
    Credentials,
    /// There were too many guesses before it; it was not looked at.
    Throttled,
    /// Messages that break the mechanism's rules, or a mechanism that is not offered.
    Protocol,
    /// The client gave up.
    Aborted,
    /// The server could not look: `limits.crypto_queue`, or the directory.
    Unavailable,
}

impl Why {
    /// Its word in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Throttled => "throttled",
            Self::Protocol => "protocol",
            Self::Aborted => "aborted",
            Self::Unavailable => "unavailable",
        }
    }

    /// Counts it, in `logins.failed` and by itself.
    pub fn count(self, metrics: &WorkerMetrics) {
        metrics.login_failures.add(1);
        match self {
            Self::Credentials => metrics.login_credentials.add(1),
            Self::Throttled => metrics.refused_throttled.add(1),
            Self::Protocol => metrics.login_protocol.add(1),
            Self::Aborted => metrics.login_aborted.add(1),
            Self::Unavailable => metrics.login_unavailable.add(1),
        }
    }
}

/// A login that failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedLogin<'a> {
    /// The account's localpart, when the client has named one.
    pub account: Option<&'a str>,
    /// Where the client connects from.
    pub address: IpAddr,
    /// The mechanism's name, or that of another door; `-` when none was chosen.
    pub mechanism: &'static str,
    /// Why.
    pub why: Why,
}

impl FailedLogin<'_> {
    fn line(&self) -> String {
        let Self { account, address, mechanism, why } = self;
        let mut line =
            format!("login failed: address={address} mechanism={mechanism} reason={} account=\"", why.name());
        for c in account.unwrap_or_default().chars() {
            let plain = c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '*' | '=');
            match plain {
                true => line.push(c),
                false => write!(line, "{}", c.escape_unicode()).expect("writing to memory cannot fail"),
            }
        }
        line.push('"');
        line
    }
}

/// How many lines may still be written in this second.
#[derive(Debug, Default)]
pub struct Audit {
    second: u64,
    written: u32,
    left_out: u64,
}

impl Audit {
    /// Writes a line, unless there were too many in this second. Returns whether it did.
    pub fn tell(&mut self, login: &FailedLogin<'_>, now_ms: u64) -> bool {
        self.turn(now_ms);
        if self.written >= LINES_PER_SECOND {
            self.left_out += 1;
            return false;
        }
        self.written += 1;
        match login.why {
            Why::Credentials | Why::Throttled => tracing::warn!(target: "login", "{}", login.line()),
            Why::Protocol | Why::Aborted | Why::Unavailable => {
                tracing::info!(target: "login", "{}", login.line());
            }
        }
        true
    }

    /// Tells what was left out, once its second is over.
    pub fn turn(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if second == self.second {
            return;
        }
        *self = Self { second, ..std::mem::take(self) };
        self.written = 0;
        let lines = std::mem::take(&mut self.left_out);
        if lines > 0 {
            tracing::warn!(target: "login", lines, "further failed logins were not logged one by one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(account: &str) -> FailedLogin<'_> {
        FailedLogin {
            account: Some(account),
            address: IpAddr::from([192, 0, 2, 1]),
            mechanism: "PLAIN",
            why: Why::Credentials,
        }
    }

    #[test]
    fn a_line_names_the_address_first_and_escapes_the_account() {
        let head = "login failed: address=192.0.2.1 mechanism=PLAIN reason=credentials account=";
        for (account, shown) in [
            ("juliet", "juliet"),
            ("jülïet+1", "jülïet+1"),
            (
                "a\" login failed: address=9.9.9.9",
                "a\\u{22}\\u{20}login\\u{20}failed\\u{3a}\\u{20}address=9.9.9.9",
            ),
            ("a\nb\u{202e}", "a\\u{a}b\\u{202e}"),
        ] {
            assert_eq!(login(account).line(), format!("{head}\"{shown}\""));
        }
    }

    #[test]
    fn lines_are_limited_by_the_second() {
        let mut audit = Audit::default();
        let told = (0..200).filter(|_| audit.tell(&login("juliet"), 5000)).count();
        assert_eq!(told, LINES_PER_SECOND as usize);
        assert_eq!(audit.left_out, 200 - u64::from(LINES_PER_SECOND));
        assert!(audit.tell(&login("juliet"), 6000));
        assert_eq!(audit.left_out, 0);
    }

    /// The `failregex` of the filter that comes with the server.
    fn filter() -> String {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/service/fail2ban.conf");
        let text = std::fs::read_to_string(path).expect("the filter is there");
        let line = text.lines().find_map(|line| line.strip_prefix("failregex = "));
        line.expect("it has an expression").to_owned()
    }

    #[test]
    fn the_filter_for_fail2ban_fits_the_line() {
        // fail2ban puts its own expressions in place of the words in angle brackets.
        let mut rest = filter();
        let line = login("x").line();
        for part in
            ["^.*WARN login: ", "login failed: address=<ADDR> ", "mechanism=\\S+ ", "reason=credentials "]
        {
            rest = rest
                .strip_prefix(part)
                .unwrap_or_else(|| panic!("{part:?} is not next in {rest:?}"))
                .to_owned();
        }
        assert_eq!(rest, "account=\"\\S*\"$");
        // The literal words of the filter are those of the line, in this order.
        let mut at = 0;
        for word in ["login failed: address=", " mechanism=", " reason=credentials account=\"", "\""] {
            at += line[at..].find(word).unwrap_or_else(|| panic!("{word:?} is not in {line:?}")) + word.len();
        }
        assert_eq!(at, line.len());
    }
}
