//! What a request to FCM says: a data message, which the app shows as it sees fit.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::content::{Parts, field, fit};
use crate::notification::{Kind, Notification};

/// Bytes of a message's data at most.
const DATA_BYTES_MAX: usize = 4_096;

/// Bytes of a registration token at most; real ones have up to 300.
const TOKEN_BYTES_MAX: usize = 4_096;

/// How long FCM keeps a message at most: four weeks.
const KEPT_MAX: Duration = Duration::from_secs(28 * 86_400);

/// The body of the request.
///
/// # Errors
/// The notification breaks its own limits.
pub(super) fn body(notification: &Notification, token: &str, left: Duration) -> Result<String, String> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err("its registration token is none".to_owned());
    }
    let data = fit(notification, DATA_BYTES_MAX, |parts| data(notification, parts).to_string())?;
    let data: Value = serde_json::from_str(&data).map_err(|error| error.to_string())?;
    let is_high = notification.high_priority || notification.kind == Kind::Call;
    let mut android = Map::new();
    android.insert("priority".to_owned(), json!(if is_high { "high" } else { "normal" }));
    android.insert("ttl".to_owned(), json!(format!("{}s", left.min(KEPT_MAX).as_secs())));
    if !notification.collapse.is_empty() {
        android.insert("collapse_key".to_owned(), json!(notification.collapse));
    }
    Ok(json!({ "message": { "token": token, "data": data, "android": android } }).to_string())
}

/// FCM takes nothing but strings.
fn data(notification: &Notification, parts: &Parts<'_>) -> Value {
    let mut data = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        data.extend(value.map(|value| (name.to_owned(), Value::from(value))));
    };
    put(field::KIND, Some(notification.kind.name().to_owned()));
    put(field::ID, Some(format!("{:016x}", notification.id)));
    put(field::CONVERSATION, Some(notification.collapse.clone()).filter(|key| !key.is_empty()));
    put(field::COUNT, notification.count.map(|count| count.to_string()));
    put(field::SENDER, parts.sender.map(str::to_owned));
    put(field::TEXT, parts.text.map(str::to_owned));
    put(field::SOUND, parts.sound.map(str::to_owned));
    put(field::CLICK_ACTION, parts.click_action.map(str::to_owned));
    Value::from(data)
}
