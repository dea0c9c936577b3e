//! What APNs' answers mean
//! (<https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns>).

use serde::Deserialize;

use crate::verdict::{Verdict, Whose, quote, retry_after};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    reason: String,
}

/// The reason in the body; empty where there is none.
pub(super) fn reason(body: &[u8]) -> String {
    serde_json::from_slice::<Body>(body).unwrap_or_default().reason
}

/// What an answer means. `is_own_topic`: the topic is that of the configuration, so that its refusal means all devices.
/// `now`: seconds since 1970.
pub(crate) fn verdict(
    status: u16,
    after: Option<&str>,
    body: &[u8],
    is_own_topic: bool,
    now: u64,
) -> Verdict {
    let code = reason(body);
    let text = match code.as_str() {
        "" => format!("{status} {}", quote(&String::from_utf8_lossy(body))),
        "ExpiredProviderToken" => "403 ExpiredProviderToken: is the clock of this machine right?".to_owned(),
        code => format!("{status} {}", quote(code)),
    };
    let after = after.and_then(|after| retry_after(after, now));
    let later = |whose| Verdict::Later { whose, after, reason: text.clone() };
    match (status, code.as_str()) {
        (200..=299, _) => Verdict::Sent,
        (410, _) | (_, "Unregistered" | "ExpiredToken" | "BadDeviceToken" | "DeviceTokenNotForTopic") => {
            Verdict::Gone(text)
        }
        // A topic that a client has named says nothing of our key.
        (_, "BadTopic" | "TopicDisallowed") if is_own_topic => Verdict::Credentials(text),
        (_, "BadTopic" | "TopicDisallowed") => Verdict::Gone(text),
        (429, "TooManyRequests") => later(Whose::Device),
        (429, _) | (_, "IdleTimeout") => later(Whose::Provider),
        (403, "ExpiredProviderToken") => Verdict::Credentials(text),
        (401 | 403, _) if !is_own_topic => Verdict::Refused(text),
        (401 | 403, _) => Verdict::Credentials(text),
        (408 | 500..=599, _) => later(Whose::Provider),
        _ => Verdict::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_apple_documents() {
        // Status, reason, whether the topic is our own.
        let table = [
            (200, "", true, "sent"),
            (400, "BadDeviceToken", true, "gone"),
            (400, "DeviceTokenNotForTopic", true, "gone"),
            (410, "Unregistered", true, "gone"),
            (410, "ExpiredToken", true, "gone"),
            (400, "TopicDisallowed", true, "credentials"),
            (400, "TopicDisallowed", false, "gone"),
            (400, "BadTopic", false, "gone"),
            (400, "BadCollapseId", true, "refused"),
            (400, "BadExpirationDate", true, "refused"),
            (400, "BadMessageId", true, "refused"),
            (400, "BadPriority", true, "refused"),
            (400, "DuplicateHeaders", true, "refused"),
            (400, "IdleTimeout", true, "provider"),
            (400, "InvalidPushType", true, "refused"),
            (400, "MissingDeviceToken", true, "refused"),
            (400, "PayloadEmpty", true, "refused"),
            (403, "BadCertificate", true, "credentials"),
            (403, "BadCertificateEnvironment", true, "credentials"),
            (403, "ExpiredProviderToken", true, "credentials"),
            (403, "Forbidden", true, "credentials"),
            (403, "InvalidProviderToken", true, "credentials"),
            (403, "InvalidProviderToken", false, "refused"),
            (403, "ExpiredProviderToken", false, "credentials"),
            (403, "MissingProviderToken", true, "credentials"),
            (403, "UnrelatedKeyIdInToken", true, "credentials"),
            (404, "BadPath", true, "refused"),
            (405, "MethodNotAllowed", true, "refused"),
            (413, "PayloadTooLarge", true, "refused"),
            (429, "TooManyProviderTokenUpdates", true, "provider"),
            (429, "TooManyRequests", true, "device"),
            (500, "InternalServerError", true, "provider"),
            (503, "ServiceUnavailable", true, "provider"),
            (503, "Shutdown", true, "provider"),
            (502, "", true, "provider"),
        ];
        for (status, reason, is_own_topic, expected) in table {
            let body = format!("{{\"reason\":\"{reason}\"}}");
            let name = match verdict(status, None, body.as_bytes(), is_own_topic, 0) {
                Verdict::Sent => "sent",
                Verdict::Gone(_) => "gone",
                Verdict::Refused(_) => "refused",
                Verdict::Credentials(_) => "credentials",
                Verdict::Later { whose: Whose::Device, .. } => "device",
                Verdict::Later { whose: Whose::Provider, .. } => "provider",
                other => panic!("{other:?}"),
            };
            assert_eq!(name, expected, "{status} {reason}");
        }
    }
}
