//! Who may see the page.
//!
//! Without a token: whoever reaches the loopback address, under a loopback name. The name is looked at because a page
//! of somebody else could otherwise point a name of its own at 127.0.0.1 and read everything in the operator's
//! browser. With a token: whoever has it, as `Authorization: Bearer TOKEN`, as `?token=TOKEN`, or by the cookie that
//! the login sets. The cookie is a MAC made with the token: it outlives a restart, and does not tell the token.

use std::fmt::Write;
use std::net::IpAddr;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri, header};
use ring::hmac;

/// Characters of a token at least: nobody guesses one of these over a network.
pub const TOKEN_MIN: usize = 16;

/// Characters of a token at most.
pub const TOKEN_MAX: usize = 512;

const COOKIE: &str = "wsar";

/// What the cookie is the MAC of.
const MESSAGE: &[u8] = b"wsar serve: logged in";

/// Seconds that a login lasts.
const LOGIN_SECONDS: u32 = 30 * 86_400;

/// A token that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the token must have {TOKEN_MIN} to {TOKEN_MAX} characters, all of them printable ASCII without spaces; `openssl rand -hex 16` makes one"
)]
pub struct NotAToken;

/// The rule of who may see the page.
pub enum Access {
    /// Requests that call the machine by a loopback name.
    Loopback,
    /// Requests with the token.
    Token(Token),
}

/// A token.
pub struct Token {
    key: hmac::Key,
    cookie: String,
}

impl Token {
    /// A token of these characters.
    ///
    /// # Errors
    /// They are too few, too many, or cannot be sent in a header.
    pub fn new(text: &str) -> Result<Token, NotAToken> {
        let fits = (TOKEN_MIN..=TOKEN_MAX).contains(&text.len());
        if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAToken);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        let mut cookie = String::new();
        for byte in hmac::sign(&key, MESSAGE).as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(cookie, "{byte:02x}");
        }
        Ok(Token { key, cookie })
    }

    /// Whether a text is the token. The time it takes tells nothing: MACs of both are compared, in constant time.
    pub fn is(&self, text: &str) -> bool {
        let other = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()), MESSAGE);
        text.len() <= TOKEN_MAX && hmac::verify(&self.key, MESSAGE, other.as_ref()).is_ok()
    }

    fn is_cookie(&self, text: &str) -> bool {
        // Over MACs of both again, so that the comparison is in constant time.
        hmac::verify(&self.key, self.cookie.as_bytes(), hmac::sign(&self.key, text.as_bytes()).as_ref())
            .is_ok()
    }

    /// The value of a `Set-Cookie` header that logs in. It names no path, so that the browser takes the folder of the
    /// page as it sees it (RFC 6265 §5.1.4), which is below a path where a reverse proxy puts it there.
    pub fn set_cookie(&self) -> String {
        format!("{COOKIE}={}; Max-Age={LOGIN_SECONDS}; HttpOnly; SameSite=Strict", self.cookie)
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may see everything.
    Allowed,
    /// It may, and has the token in its address, which a browser should not keep.
    AllowedByAddress,
    /// It has no token, or a wrong one.
    LoginNeeded,
    /// It calls the machine by a name that is not a loopback one.
    WrongName,
}

impl Access {
    /// Whether a request may be answered.
    pub fn judge(&self, headers: &HeaderMap, uri: &Uri) -> Verdict {
        let token = match self {
            Access::Loopback if is_loopback_name(headers, uri) => return Verdict::Allowed,
            Access::Loopback => return Verdict::WrongName,
            Access::Token(token) => token,
        };
        // First, so that it is taken out of the address even of who is logged in.
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs);
        if pairs.unwrap_or_default().iter().any(|(name, value)| name == "token" && token.is(value)) {
            return Verdict::AllowedByAddress;
        }
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, rest) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
        });
        if bearer.is_some_and(|bearer| token.is(bearer)) {
            return Verdict::Allowed;
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        if cookies.any(|(name, value)| name == COOKIE && token.is_cookie(value)) {
            return Verdict::Allowed;
        }
        Verdict::LoginNeeded
    }
}

fn is_loopback_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let Some(host) = host.or(uri.authority().map(|authority| authority.as_str())) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    address || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn judge(access: &Access, uri: &str, given: &[(&str, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        access.judge(&headers, &uri.parse().unwrap())
    }

    #[test]
    fn only_the_token_opens() {
        let token = Token::new(TOKEN).unwrap();
        let cookie = token.set_cookie().split(';').next().unwrap().to_owned();
        assert!(!cookie.contains(TOKEN));
        let access = Access::Token(token);
        let bearer = format!("Bearer {TOKEN}");
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Verdict);
        let cases: [Case<'_>; 12] = [
            ("/?token=%30123456789abcdef", &[("cookie", &cookie)], Verdict::AllowedByAddress),
            ("/", &[], Verdict::LoginNeeded),
            ("/", &[("authorization", &bearer)], Verdict::Allowed),
            ("/", &[("authorization", "bearer 0123456789abcdef")], Verdict::Allowed),
            ("/", &[("authorization", "Bearer 0123456789abcdee")], Verdict::LoginNeeded),
            ("/", &[("authorization", "Bearer 0123456789abcdef0")], Verdict::LoginNeeded),
            ("/", &[("authorization", "Basic 0123456789abcdef")], Verdict::LoginNeeded),
            ("/?token=0123456789abcdef", &[], Verdict::AllowedByAddress),
            ("/?a=b&token=0123456789abcdef", &[], Verdict::AllowedByAddress),
            ("/?token=", &[], Verdict::LoginNeeded),
            ("/", &[("cookie", "a=b; wsar=00")], Verdict::LoginNeeded),
            ("/", &[("cookie", &cookie)], Verdict::Allowed),
        ];
        for (uri, headers, expected) in cases {
            assert_eq!(judge(&access, uri, headers), expected, "{uri} {headers:?}");
        }
        for wrong in ["", "short", "with a space in it", "ümlaute ümlaute ümlaute"] {
            assert!(Token::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        for (host, expected) in [
            ("localhost", Verdict::Allowed),
            ("LocalHost:9522", Verdict::Allowed),
            ("127.0.0.1:9522", Verdict::Allowed),
            ("127.3.2.1", Verdict::Allowed),
            ("[::1]:9522", Verdict::Allowed),
            ("[::1]", Verdict::Allowed),
            ("wsar.localhost:1", Verdict::Allowed),
            ("example.com", Verdict::WrongName),
            ("127.0.0.1.example.com:9522", Verdict::WrongName),
            ("192.0.2.1", Verdict::WrongName),
            ("", Verdict::WrongName),
        ] {
            assert_eq!(judge(&Access::Loopback, "/", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(judge(&Access::Loopback, "/", &[]), Verdict::WrongName);
    }
}
