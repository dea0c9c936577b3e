//! The provider token: it is good for an hour, and Apple refuses who changes it more often than every 20 minutes
//! (<https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns>).

use std::cell::RefCell;

use hyper::header::HeaderValue;
use serde_json::json;

use super::key::ApnsKey;
use crate::jwt;

/// Seconds after which a token is renewed: in the middle of Apple's window.
const RENEW_SECONDS: u64 = 40 * 60;

/// Seconds for which a token is not renewed, whatever Apple says of it.
const AGE_SECONDS_MIN: u64 = 20 * 60;

/// Seconds by which the clock may have gone back until a token counts as one of the future.
const SKEW_SECONDS: u64 = 60;

/// A provider token as requests carry it.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    issued_at: u64,
}

/// The provider token, and the key that signs the next.
pub(super) struct Tokens {
    key: ApnsKey,
    kept: RefCell<Option<Token>>,
}

impl Tokens {
    pub(super) fn new(key: ApnsKey) -> Tokens {
        Tokens { key, kept: RefCell::new(None) }
    }

    /// The token, renewed where that is due. `None`: it was not signed, for want of random bytes.
    pub(super) fn get(&self, now: u64) -> Option<Token> {
        let mut kept = self.kept.borrow_mut();
        let is_good = |token: &&Token| {
            now < token.issued_at + RENEW_SECONDS && token.issued_at <= now.saturating_add(SKEW_SECONDS)
        };
        if let Some(token) = kept.as_ref().filter(is_good) {
            return Some(token.clone());
        }
        let token = self.sign(now)?;
        *kept = Some(token.clone());
        Some(token)
    }

    /// Apple says that a token has ended. Whether there may be another: a young one cannot have ended, so one of the two
    /// clocks is wrong, and more tokens would be refused for their number.
    pub(super) fn expired(&self, token: &Token, now: u64) -> bool {
        let mut kept = self.kept.borrow_mut();
        match kept.as_ref() {
            Some(current) if current.issued_at != token.issued_at => true,
            _ if now.saturating_sub(token.issued_at) < AGE_SECONDS_MIN => false,
            _ => {
                *kept = None;
                true
            }
        }
    }

    fn sign(&self, now: u64) -> Option<Token> {
        let ApnsKey { pair, key_id, team_id } = &self.key;
        let header = json!({ "alg": "ES256", "kid": key_id });
        let claims = json!({ "iss": team_id, "iat": now });
        let token = jwt::token(&header, &claims, |text| pair.sign(text))?;
        let mut header = HeaderValue::try_from(format!("bearer {token}")).expect("URL-safe Base64 and dots");
        header.set_sensitive(true);
        Some(Token { header, issued_at: now })
    }
}
