//! Firebase Cloud Messaging, HTTP v1.
//!
//! | module | what |
//! | --- | --- |
//! | `account` | the service account's key |
//! | `token` | access tokens for it: one for all requests, renewed before it ends |
//! | `message` | what a request says |
//! | `answer` | what an answer means |

mod account;
mod answer;
mod message;
mod token;

use std::io;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::http::{Channel, Dialer, Origin};
use crate::notification::Notification;
use crate::settings::{Clock, Settings};
use crate::verdict::Verdict;

pub use account::{ACCOUNT_BYTES_MAX, ServiceAccount};
pub(crate) use answer::verdict;
use token::Tokens;
pub(crate) use token::read_token;

/// The way to FCM.
pub(crate) struct Fcm {
    channel: Channel,
    path: String,
    tokens: Tokens,
    clock: Clock,
}

impl Fcm {
    pub(crate) fn new(account: ServiceAccount, endpoint: &str, settings: &Settings) -> io::Result<Fcm> {
        let dialer = Dialer::new(&settings.roots, settings.attempt / 2, true)?;
        let (origin, base) = Origin::of(endpoint).map_err(io::Error::other)?;
        let path = format!("{}/v1/projects/{}/messages:send", base.trim_end_matches('/'), account.project_id);
        let channel = Channel::new(origin, dialer.clone(), settings.ping);
        let tokens = Tokens::new(account, dialer, settings)?;
        Ok(Fcm { channel, path, tokens, clock: settings.clock.clone() })
    }

    /// Sends, with another access token where the first is not good any more.
    pub(crate) async fn attempt(&self, notification: &Notification, token: &str, left: Duration) -> Verdict {
        let body = match message::body(notification, token, left) {
            Ok(body) => body,
            Err(reason) => return Verdict::Refused(reason),
        };
        let mut is_second = false;
        loop {
            let access = match self.tokens.get().await {
                Ok(access) => access,
                Err(verdict) => return verdict,
            };
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(AUTHORIZATION, access.header.clone());
            let answer = match self.channel.post(&self.path, &headers, body.clone().into()).await {
                Ok(answer) => answer,
                Err(failure) => return Verdict::Unreachable(failure.to_string()),
            };
            match answer::verdict(
                answer.status,
                answer.retry_after.as_deref(),
                &answer.body,
                self.clock.now(),
            ) {
                // It was good for others: it has ended, or was revoked. One that never was tells of a bad key.
                Verdict::Credentials(_)
                    if answer.status == 401 && self.tokens.refused(&access) && !is_second =>
                {
                    is_second = true;
                }
                verdict => {
                    if !matches!(verdict, Verdict::Credentials(_)) {
                        self.tokens.accepted(&access);
                    }
                    return verdict;
                }
            }
        }
    }

    pub(crate) async fn stalled(&self, began: Instant) {
        self.channel.renew(began).await;
        self.tokens.stalled(began).await;
    }
}
