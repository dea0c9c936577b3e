//! Apple Push Notification service: HTTP/2 with provider tokens.
//!
//! | module | what |
//! | --- | --- |
//! | `key` | what the operator has from Apple |
//! | `token` | the provider token, renewed within Apple's window |
//! | `message` | what a request says |
//! | `answer` | what an answer means |

mod answer;
mod key;
mod message;
mod token;

use std::io;
use std::time::Duration;

use hyper::header::AUTHORIZATION;
use tokio::time::Instant;

use crate::http::{Channel, Dialer, Origin};
use crate::jitter::Jitter;
use crate::notification::Notification;
use crate::settings::{Clock, Settings};
use crate::verdict::{Verdict, Whose};

pub(crate) use answer::verdict;
pub use key::{ApnsKey, ApnsTexts};
use message::Request;
use token::Tokens;

/// The way to APNs.
pub(crate) struct Apns {
    channel: Channel,
    tokens: Tokens,
    topic: String,
    texts: ApnsTexts,
    /// Distinguishes the ids of this run from those of others.
    run: u64,
    clock: Clock,
}

impl Apns {
    pub(crate) fn new(
        key: ApnsKey,
        topic: String,
        endpoint: &str,
        texts: ApnsTexts,
        settings: &Settings,
    ) -> io::Result<Apns> {
        if !message::is_topic(&topic) {
            return Err(io::Error::other(format!("{topic:?} is no bundle id")));
        }
        let dialer = Dialer::new(&settings.roots, settings.attempt / 2, false)?;
        let (origin, _) = Origin::of(endpoint).map_err(io::Error::other)?;
        Ok(Apns {
            channel: Channel::new(origin, dialer, settings.ping),
            tokens: Tokens::new(key),
            topic,
            texts,
            run: Jitter::new(None).number(),
            clock: settings.clock.clone(),
        })
    }

    /// Sends, with another provider token where the first has ended.
    pub(crate) async fn attempt(&self, notification: &Notification, left: Duration) -> Verdict {
        let now = self.clock.now();
        let request = match Request::new(notification, &self.topic, &self.texts, self.run) {
            Ok(request) => request,
            Err(verdict) => return verdict,
        };
        let mut headers = request.headers;
        let expires = now.saturating_add(left.min(message::kept_max(notification.kind)).as_secs());
        headers.insert("apns-expiration", expires.into());
        let mut is_second = false;
        loop {
            let Some(token) = self.tokens.get(self.clock.now()) else {
                let reason = "the provider token was not signed".to_owned();
                return Verdict::Later { whose: Whose::Provider, after: None, reason };
            };
            headers.insert(AUTHORIZATION, token.header.clone());
            let body = request.body.clone();
            let answer = match self.channel.post(&request.path, &headers, body).await {
                Ok(answer) => answer,
                Err(failure) => return Verdict::Unreachable(failure.to_string()),
            };
            let reason = answer::reason(&answer.body);
            if reason == "ExpiredProviderToken" && !is_second && self.tokens.expired(&token, self.clock.now())
            {
                is_second = true;
                continue;
            }
            let after = answer.retry_after.as_deref();
            return verdict(answer.status, after, &answer.body, request.is_own_topic, self.clock.now());
        }
    }

    pub(crate) async fn stalled(&self, began: Instant) {
        self.channel.renew(began).await;
    }
}
