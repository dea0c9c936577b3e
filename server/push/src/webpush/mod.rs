//! Web Push: RFC 8030, encrypted by RFC 8291, with the keys of RFC 8292.
//!
//! | module | what |
//! | --- | --- |
//! | `endpoint` | to which hosts and addresses requests go; the keys of a subscription |
//! | `encryption` | a payload that only the browser can read |
//! | `vapid` | the server's own key, and tokens that it signs |
//! | `message` | what a request says |
//! | `answer` | what an answer means |

mod answer;
mod encryption;
mod endpoint;
mod message;
mod vapid;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::AUTHORIZATION;
use tokio::time::Instant;

use crate::http::{Channel, Dialer, Origin};
use crate::notification::{Notification, Target};
use crate::settings::{Clock, Settings};
use crate::verdict::{Verdict, Whose};

pub(crate) use answer::verdict;
use endpoint::Endpoint;
pub(crate) use endpoint::is_public;
pub use endpoint::{ENDPOINT_BYTES_MAX, Hosts, subscription_keys};
use vapid::Tokens;
pub use vapid::VapidKey;

/// Hosts to which connections are kept: `*.domain` may have any number.
const CHANNELS_MAX: usize = 32;

/// The way to push services.
pub(crate) struct WebPush {
    hosts: Hosts,
    dialer: Dialer,
    ping: Duration,
    tokens: Tokens,
    clock: Clock,
    channels: RefCell<HashMap<Origin, Kept>>,
}

/// The connections to one origin.
struct Kept {
    channel: Arc<Channel>,
    used: Instant,
}

impl WebPush {
    pub(crate) fn new(
        key: VapidKey,
        contact: &str,
        hosts: Hosts,
        private_addresses: bool,
        settings: &Settings,
    ) -> io::Result<WebPush> {
        if !contact.starts_with("mailto:") && !contact.starts_with("https://") {
            let text = format!("{contact:?} is no contact for push services: mailto:somebody@… or https://…");
            return Err(io::Error::other(text));
        }
        let dialer = Dialer::new(&settings.roots, settings.attempt / 2, true)?;
        Ok(WebPush {
            hosts,
            dialer: if private_addresses { dialer } else { dialer.public_only() },
            ping: settings.ping,
            tokens: Tokens::new(key, contact),
            clock: settings.clock.clone(),
            channels: RefCell::default(),
        })
    }

    /// Push services with pauses of their own.
    pub(crate) fn lanes(&self) -> usize {
        self.hosts.len()
    }

    /// Sends, with another token where the first is not good any more.
    pub(crate) async fn attempt(&self, notification: &Notification, left: Duration) -> Verdict {
        let Target::WebPush { endpoint, p256dh, auth } = &notification.target else {
            return Verdict::Refused("it is for another provider".to_owned());
        };
        let endpoint = match self.hosts.find(endpoint) {
            Ok(endpoint) => endpoint,
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        let body = match message::body(notification).map(|plain| encryption::encrypt(&plain, p256dh, auth)) {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Verdict::Gone(error.to_owned()),
            Err(reason) => return Verdict::Refused(reason),
        };
        let Some(mut headers) = message::headers(notification, left) else {
            return Verdict::Refused("it breaks its own limits".to_owned());
        };
        let (channel, origin) = (self.channel(&endpoint), endpoint.origin());
        let mut is_second = false;
        loop {
            let now = self.clock.now();
            let Some(token) = self.tokens.get(&origin, now) else {
                let reason = "the VAPID token was not signed".to_owned();
                return Verdict::Later { whose: Whose::Provider, after: None, reason };
            };
            headers.insert(AUTHORIZATION, token.header.clone());
            let answer = match channel.post(&endpoint.path, &headers, body.clone().into()).await {
                Ok(answer) => answer,
                // A client can make up a name that leads nowhere: no reason to make others wait.
                Err(failure) if endpoint.is_chosen => {
                    let reason = failure.to_string();
                    return Verdict::Later { whose: Whose::Notification, after: None, reason };
                }
                Err(failure) => return Verdict::Unreachable(failure.to_string()),
            };
            let verdict = verdict(answer.status, answer.retry_after.as_deref(), &answer.body, now);
            let Verdict::Credentials(reason) = verdict else {
                if matches!(verdict, Verdict::Sent) {
                    self.tokens.accepted(&origin, &token);
                }
                return verdict;
            };
            if !is_second && self.tokens.refused(&origin, &token, now) {
                is_second = true;
                continue;
            }
            // The service takes the token for others: this subscription was made for another key (RFC 8292 §4.2), which any
            // client can do, so it says nothing of ours.
            return match self.tokens.is_accepted(&origin) {
                true => Verdict::Gone(format!("subscribed with another key: {reason}")),
                false => Verdict::Credentials(reason),
            };
        }
    }

    /// The connections to an endpoint's host.
    fn channel(&self, endpoint: &Endpoint) -> Arc<Channel> {
        let mut channels = self.channels.borrow_mut();
        let origin = Origin { host: endpoint.host.clone(), port: endpoint.port };
        if !channels.contains_key(&origin) && channels.len() >= CHANNELS_MAX {
            // What is under way there goes on.
            let oldest = channels.iter().min_by_key(|(_, kept)| kept.used).map(|(origin, _)| origin.clone());
            oldest.map(|origin| channels.remove(&origin));
        }
        let kept = channels.entry(origin).or_insert_with_key(|origin| {
            let channel = Channel::new(origin.clone(), self.dialer.clone(), self.ping);
            Kept { channel: Arc::new(channel), used: Instant::now() }
        });
        kept.used = Instant::now();
        kept.channel.clone()
    }

    pub(crate) async fn stalled(&self, notification: &Notification, began: Instant) {
        let Target::WebPush { endpoint, .. } = &notification.target else { return };
        let Ok(endpoint) = self.hosts.find(endpoint) else { return };
        let channel = self.channel(&endpoint);
        channel.renew(began).await;
    }
}
