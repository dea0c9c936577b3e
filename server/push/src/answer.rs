//! What an answer of a provider means, without a connection: what reads the answers is in one place, for whoever tries it
//! with arbitrary bytes.

use std::time::Duration;

use crate::fcm::read_token;
use crate::notification::Outcome;
use crate::verdict::Verdict;
use crate::{apns, fcm, webpush};

/// Who answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// FCM, to a message.
    Fcm,
    /// The token endpoint, to a grant for FCM.
    Token,
    /// APNs.
    Apns,
    /// A push service for browsers.
    WebPush,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What becomes of the notification.
    Over(Outcome),
    /// It is tried again; after a pause that the provider names, an hour at most.
    Again(Option<Duration>, String),
}

/// What an answer means: its status, its `Retry-After`, its body, at a time in seconds since 1970.
pub fn meaning(service: Service, status: u16, retry_after: Option<&str>, body: &[u8], now: u64) -> Meaning {
    let verdict = match service {
        Service::Fcm => fcm::verdict(status, retry_after, body, now),
        Service::Token => {
            read_token(status, retry_after, body, now).map_or_else(|verdict| verdict, |_| Verdict::Sent)
        }
        Service::Apns => apns::verdict(status, retry_after, body, true, now),
        Service::WebPush => webpush::verdict(status, retry_after, body, now),
    };
    match verdict {
        Verdict::Sent => Meaning::Over(Outcome::Sent),
        Verdict::Gone(text) => Meaning::Over(Outcome::Gone(text)),
        Verdict::Refused(text) => Meaning::Over(Outcome::Refused(text)),
        Verdict::Credentials(text) => Meaning::Over(Outcome::Credentials(text)),
        Verdict::Later { after, reason, .. } => Meaning::Again(after, reason),
        Verdict::Unreachable(text) | Verdict::Stalled(text) => Meaning::Again(None, text),
    }
}
