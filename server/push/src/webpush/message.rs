//! What a request to a push service says: RFC 8030 §5, and a payload for the app's service worker.

use std::time::Duration;

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::encryption::PLAIN_BYTES_MAX;
use crate::content::{Parts, field, fit};
use crate::notification::{Kind, Notification};

/// How long a message is kept at most: four weeks, more than which no push service does.
const KEPT_MAX: Duration = Duration::from_secs(28 * 86_400);

/// The headers of the request, without those that depend on the time of day. `None`: the notification breaks its limits.
pub(super) fn headers(notification: &Notification, left: Duration) -> Option<HeaderMap> {
    let is_high = notification.high_priority || notification.kind == Kind::Call;
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("ttl"), left.min(KEPT_MAX).as_secs().into());
    let urgency = HeaderValue::from_static(if is_high { "high" } else { "normal" });
    headers.insert(HeaderName::from_static("urgency"), urgency);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if !notification.collapse.is_empty() {
        let topic = HeaderValue::from_str(&notification.collapse).ok()?;
        headers.insert(HeaderName::from_static("topic"), topic);
    }
    Some(headers)
}

/// What is encrypted.
///
/// # Errors
/// The notification breaks its own limits.
pub(super) fn body(notification: &Notification) -> Result<Vec<u8>, String> {
    fit(notification, PLAIN_BYTES_MAX, |parts| data(notification, parts).to_string()).map(String::into_bytes)
}

fn data(notification: &Notification, parts: &Parts<'_>) -> Value {
    let mut data = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        data.extend(value.map(|value| (name.to_owned(), value)));
    };
    put(field::KIND, Some(json!(notification.kind.name())));
    put(field::ID, Some(json!(format!("{:016x}", notification.id))));
    put(
        field::CONVERSATION,
        Some(json!(notification.collapse)).filter(|_| !notification.collapse.is_empty()),
    );
    put(field::COUNT, notification.count.map(|count| json!(count)));
    put(field::SENDER, parts.sender.map(|sender| json!(sender)));
    put(field::TEXT, parts.text.map(|text| json!(text)));
    put(field::SOUND, parts.sound.map(|sound| json!(sound)));
    put(field::CLICK_ACTION, parts.click_action.map(|action| json!(action)));
    Value::from(data)
}
