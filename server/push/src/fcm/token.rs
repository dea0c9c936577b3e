//! Access tokens (RFC 7523 §2.1): a grant that the service account's key signs is changed for one at Google. There is one
//! for all requests; it is renewed before it ends, once, while all that need it wait for the same renewal.

use std::cell::Cell;
use std::io;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::RSA_PKCS1_SHA256;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::account::ServiceAccount;
use crate::http::{Channel, Dialer, Origin};
use crate::jwt;
use crate::settings::{Clock, Settings};
use crate::verdict::{Verdict, Whose, quote, retry_after};

/// What a token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// Seconds for which a grant is good: Google takes no longer ones.
const GRANT_SECONDS: u64 = 3_600;

/// Seconds before its end from which on a token is renewed, but for tokens that are shorter than five times that.
const MARGIN_SECONDS: u64 = 300;

/// Seconds for which a token is used on, when it is not yet over and a renewal has failed.
const RENEWAL_PAUSE_SECONDS: u64 = 30;

/// An access token as requests carry it.
#[derive(Clone)]
pub(crate) struct Access {
    /// `Authorization`.
    pub(crate) header: HeaderValue,
    number: u64,
    /// Seconds since 1970.
    renew_at: u64,
    ends_at: u64,
}

/// The access token, and how to get another.
pub(crate) struct Tokens {
    account: ServiceAccount,
    channel: Channel,
    path: String,
    clock: Clock,
    kept: Mutex<Kept>,
    /// The number of a token that was good for a request.
    accepted: Cell<u64>,
    /// The number of a token that is good no more.
    refused: Cell<u64>,
}

#[derive(Default)]
struct Kept {
    access: Option<Access>,
    number: u64,
    /// When a renewal failed, and how.
    failed: Option<(Instant, Verdict)>,
}

impl Tokens {
    pub(crate) fn new(account: ServiceAccount, dialer: Dialer, settings: &Settings) -> io::Result<Tokens> {
        let (origin, path) = Origin::of(&account.token_uri).map_err(io::Error::other)?;
        Ok(Tokens {
            account,
            channel: Channel::new(origin, dialer, settings.ping),
            path,
            clock: settings.clock.clone(),
            kept: Mutex::default(),
            accepted: Cell::new(0),
            refused: Cell::new(0),
        })
    }

    /// The token, which is renewed first where that is due.
    ///
    /// # Errors
    /// There is none now.
    pub(crate) async fn get(&self) -> Result<Access, Verdict> {
        let since = Instant::now();
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        let usable =
            kept.access.clone().filter(|access| access.number > self.refused.get() && now < access.ends_at);
        if let Some(access) = usable.as_ref().filter(|access| now < access.renew_at) {
            return Ok(access.clone());
        }
        // Those that have waited for a renewal which failed do not ask again, one after another.
        if let Some((_, verdict)) = kept.failed.as_ref().filter(|(when, _)| *when >= since) {
            return Err(verdict.clone());
        }
        match self.ask(now).await {
            Ok((header, seconds)) => {
                kept.number += 1;
                let margin = MARGIN_SECONDS.min(seconds / 5);
                let (ends_at, renew_at) = (now + seconds, now + seconds - margin);
                let access = Access { header, number: kept.number, renew_at, ends_at };
                kept.access = Some(access.clone());
                Ok(access)
            }
            Err(verdict) => {
                if let Some(mut access) = usable {
                    access.renew_at = now + RENEWAL_PAUSE_SECONDS;
                    kept.access = Some(access.clone());
                    return Ok(access);
                }
                kept.failed = Some((Instant::now(), verdict.clone()));
                Err(verdict)
            }
        }
    }

    /// A request with this token was looked at.
    pub(crate) fn accepted(&self, access: &Access) {
        self.accepted.set(self.accepted.get().max(access.number));
    }

    /// A request with this token was refused because of it. Whether another one may help: this one was good before, or is
    /// no longer that in use.
    pub(crate) fn refused(&self, access: &Access) -> bool {
        let is_old = access.number <= self.refused.get();
        self.refused.set(self.refused.get().max(access.number));
        is_old || self.accepted.get() >= access.number
    }

    /// A request of an attempt that began then had no answer in time, perhaps here.
    pub(crate) async fn stalled(&self, began: Instant) {
        self.channel.renew(began).await;
    }

    /// A new token, and for how many seconds it is good.
    async fn ask(&self, now: u64) -> Result<(HeaderValue, u64), Verdict> {
        let grant = self.grant(now).ok_or_else(|| Verdict::Later {
            whose: Whose::Provider,
            after: None,
            reason: "the grant for an access token was not signed".to_owned(),
        })?;
        // Nothing in a compact token needs escapes in a form.
        let body =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={grant}");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let answer = self.channel.post(&self.path, &headers, Bytes::from(body)).await;
        let answer = answer.map_err(|failure| Verdict::Unreachable(format!("access token: {failure}")))?;
        read_token(answer.status, answer.retry_after.as_deref(), &answer.body, now)
    }

    fn grant(&self, now: u64) -> Option<String> {
        let account = &self.account;
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &account.private_key_id {
            header["kid"] = json!(id);
        }
        let claims = json!({
            "iss": account.client_email,
            "scope": SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + GRANT_SECONDS,
        });
        jwt::token(&header, &claims, |text| {
            let mut signature = vec![0; account.pair.public().modulus_len()];
            let signed = account.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
            signed.is_ok().then_some(signature)
        })
    }
}

#[derive(Debug, Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default = "usual_seconds")]
    expires_in: u64,
}

fn usual_seconds() -> u64 {
    GRANT_SECONDS
}

/// RFC 6749 §5.2.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Denied {
    error: String,
    error_description: String,
}

/// The token in an answer of the token endpoint, as a header, and for how many seconds it is good: a day at most.
pub(crate) fn read_token(
    status: u16,
    after: Option<&str>,
    body: &[u8],
    now: u64,
) -> Result<(HeaderValue, u64), Verdict> {
    let broken = |text: &str| Verdict::Later {
        whose: Whose::Provider,
        after: None,
        reason: format!("access token: {text}"),
    };
    if (200..300).contains(&status) {
        // What serde_json says may quote the token.
        let granted: Granted =
            serde_json::from_slice(body).map_err(|_| broken("the answer is none that was expected"))?;
        let mut header: HeaderValue = format!("Bearer {}", granted.access_token)
            .parse()
            .map_err(|_| broken("it has characters that a header has not"))?;
        header.set_sensitive(true);
        return Ok((header, granted.expires_in.min(86_400)));
    }
    let denied: Denied = serde_json::from_slice(body).unwrap_or_default();
    let reason = quote(&format!("access token: {status} {} {}", denied.error, denied.error_description));
    Err(match status {
        400 | 401 | 403 => Verdict::Credentials(reason),
        _ => {
            let after = after.and_then(|after| retry_after(after, now));
            Verdict::Later { whose: Whose::Provider, after, reason }
        }
    })
}
