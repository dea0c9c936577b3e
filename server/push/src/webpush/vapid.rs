//! The server's own key for push services (VAPID, RFC 8292).

use std::cell::RefCell;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::header::HeaderValue;
use serde_json::json;

use crate::es256::{Es256, POINT_BYTES};
use crate::jwt;
use crate::key::KeyError;

/// The key by which push services know this server. Subscriptions belong to it: with another key they are worthless.
#[derive(Debug)]
pub struct VapidKey {
    pub(crate) pair: Es256,
}

impl VapidKey {
    /// From a PEM file.
    ///
    /// # Errors
    /// The file is no P-256 key in PKCS#8.
    pub fn from_pem(pem: &[u8]) -> Result<VapidKey, KeyError> {
        Ok(VapidKey { pair: Es256::from_pem(pem)? })
    }

    /// The text of a PEM file with a new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate_pem() -> Result<String, KeyError> {
        let text = STANDARD.encode(Es256::generate()?);
        let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("Base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// The public key, uncompressed.
    pub fn public(&self) -> [u8; POINT_BYTES] {
        self.pair.public()
    }

    /// The public key as browsers want it for `applicationServerKey`: URL-safe Base64 without padding.
    pub fn public_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public())
    }
}

/// Seconds for which a token is good; push services take up to a day (RFC 8292 §2).
const TOKEN_SECONDS: u64 = 12 * 3_600;

/// Seconds after which another one is made.
const RENEW_SECONDS: u64 = TOKEN_SECONDS / 2;

/// Seconds for which a refused token is not replaced: another one would say the same.
const AGE_SECONDS_MIN: u64 = 60;

/// Origins whose tokens are kept.
const ORIGINS_MAX: usize = 64;

/// A token for one origin as requests carry it.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    issued_at: u64,
}

/// The tokens of all origins, and the key that signs them.
pub(super) struct Tokens {
    key: VapidKey,
    contact: String,
    kept: RefCell<HashMap<String, Kept>>,
}

struct Kept {
    token: Token,
    /// A push service has taken a message with it, or with an earlier one.
    is_accepted: bool,
}

impl Tokens {
    pub(super) fn new(key: VapidKey, contact: &str) -> Tokens {
        Tokens { key, contact: contact.to_owned(), kept: RefCell::default() }
    }

    /// The token for an origin. `None`: it was not signed, for want of random bytes.
    pub(super) fn get(&self, origin: &str, now: u64) -> Option<Token> {
        let mut kept = self.kept.borrow_mut();
        let is_good = |token: &Token| (token.issued_at..token.issued_at + RENEW_SECONDS).contains(&now);
        if let Some(kept) = kept.get(origin).filter(|kept| is_good(&kept.token)) {
            return Some(kept.token.clone());
        }
        let is_accepted = kept.get(origin).is_some_and(|kept| kept.is_accepted);
        let token = self.sign(origin, now)?;
        if kept.len() >= ORIGINS_MAX && !kept.contains_key(origin) {
            let oldest =
                kept.iter().min_by_key(|(_, kept)| kept.token.issued_at).map(|(origin, _)| origin.clone());
            oldest.map(|origin| kept.remove(&origin));
        }
        kept.insert(origin.to_owned(), Kept { token: token.clone(), is_accepted });
        Some(token)
    }

    /// A push service has taken a message with this token.
    pub(super) fn accepted(&self, origin: &str, token: &Token) {
        if let Some(kept) = self.kept.borrow_mut().get_mut(origin)
            && kept.token.issued_at == token.issued_at
        {
            kept.is_accepted = true;
        }
    }

    /// Whether the push service takes messages with our key.
    pub(super) fn is_accepted(&self, origin: &str) -> bool {
        self.kept.borrow().get(origin).is_some_and(|kept| kept.is_accepted)
    }

    /// The token was refused. Whether another one may help: it is not quite new.
    pub(super) fn refused(&self, origin: &str, token: &Token, now: u64) -> bool {
        let is_old = now.saturating_sub(token.issued_at) >= AGE_SECONDS_MIN;
        if is_old && let Some(kept) = self.kept.borrow_mut().get_mut(origin) {
            // No time is good for it.
            kept.token.issued_at = kept.token.issued_at.min(now.saturating_sub(RENEW_SECONDS));
        }
        is_old
    }

    fn sign(&self, origin: &str, now: u64) -> Option<Token> {
        let header = json!({ "typ": "JWT", "alg": "ES256" });
        let claims = json!({ "aud": origin, "exp": now + TOKEN_SECONDS, "sub": self.contact });
        let token = jwt::token(&header, &claims, |text| self.key.pair.sign(text))?;
        let text = format!("vapid t={token}, k={}", self.key.public_text());
        let mut header = HeaderValue::try_from(text).expect("URL-safe Base64 and dots");
        header.set_sensitive(true);
        Some(Token { header, issued_at: now })
    }
}
