//! What a request to APNs says
//! (<https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>).
//!
//! | | push type | priority | payload |
//! | --- | --- | --- | --- |
//! | a message | `alert` | 10; 5 when it is not urgent | the text, or the name of one in the app; the badge |
//! | one for the app alone | `background` | 5 | `content-available` |
//! | a call, to a token of PushKit's | `voip` | 10 | what the app needs to show it |
//! | a call, to another token | `alert` | 10 | as a message |

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::key::ApnsTexts;
use crate::content::{Parts, field, fit};
use crate::notification::{Kind, Notification, Target};
use crate::verdict::Verdict;

/// Bytes of a payload at most.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// Bytes of the payload of a VoIP push at most.
const VOIP_BYTES_MAX: usize = 5_120;

/// Hexadecimal digits of a device token at most.
const TOKEN_DIGITS_MAX: usize = 200;

/// What a topic of VoIP pushes ends with.
const VOIP: &str = ".voip";

/// How long Apple is to keep a notification at most: 30 days, which is what Apple does; of a call, for as long as
/// anybody lets it ring.
pub(super) fn kept_max(kind: Kind) -> Duration {
    match kind {
        Kind::Call => Duration::from_secs(60),
        Kind::Message | Kind::Test => Duration::from_secs(30 * 86_400),
    }
}

/// How a notification is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Style {
    Alert,
    Background,
    Voip,
}

impl Style {
    fn push_type(self) -> &'static str {
        match self {
            Style::Alert => "alert",
            Style::Background => "background",
            Style::Voip => "voip",
        }
    }
}

/// A request without what depends on the time.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The topic is that of the configuration.
    pub(super) is_own_topic: bool,
}

impl Request {
    /// `run` and the notification's id name it to Apple: the same in each attempt.
    ///
    /// # Errors
    /// What it cannot be: the verdict.
    pub(super) fn new(
        notification: &Notification,
        own_topic: &str,
        texts: &ApnsTexts,
        run: u64,
    ) -> Result<Request, Verdict> {
        let Target::Apns { token, topic, voip } = &notification.target else {
            return Err(Verdict::Refused("it is for another provider".to_owned()));
        };
        let is_token = (1..=TOKEN_DIGITS_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_token {
            return Err(Verdict::Gone("the device token is none".to_owned()));
        }
        let named = topic.as_deref().unwrap_or(own_topic);
        let base = named.strip_suffix(VOIP).unwrap_or(named);
        if !is_topic(base) {
            return Err(Verdict::Gone("the device's topic is no bundle id".to_owned()));
        }
        let style = match notification {
            _ if *voip || named.len() > base.len() => Style::Voip,
            Notification { silent: true, kind: Kind::Message | Kind::Test, .. } => Style::Background,
            _ => Style::Alert,
        };
        let limit = if style == Style::Voip { VOIP_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        let body = fit(notification, limit, |parts| payload(notification, style, texts, parts).to_string());
        Ok(Request {
            path: format!("/3/device/{token}"),
            headers: headers(notification, style, base, run)
                .ok_or_else(|| Verdict::Refused("it breaks its own limits".to_owned()))?,
            body: body.map_err(Verdict::Refused)?.into(),
            is_own_topic: base == own_topic.strip_suffix(VOIP).unwrap_or(own_topic),
        })
    }
}

/// A bundle id: letters, digits, hyphens and dots.
pub(super) fn is_topic(topic: &str) -> bool {
    (1..=255).contains(&topic.len())
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn headers(notification: &Notification, style: Style, topic: &str, run: u64) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        Some(())
    };
    let is_high = notification.high_priority || notification.kind == Kind::Call;
    put("apns-push-type", style.push_type())?;
    put("apns-topic", &format!("{topic}{}", if style == Style::Voip { VOIP } else { "" }))?;
    put("apns-priority", if is_high && style != Style::Background { "10" } else { "5" })?;
    put("apns-id", &uuid(run, notification.id))?;
    if !notification.collapse.is_empty() {
        put("apns-collapse-id", &notification.collapse)?;
    }
    Some(headers)
}

/// RFC 9562 §5.8, a UUID of one's own making.
fn uuid(run: u64, id: u64) -> String {
    let (high, middle) = (run >> 32, (run >> 16) & 0xffff);
    let (version, variant) = (0x8000 | (run & 0x0fff), 0x8000 | ((run >> 52) & 0x0fff));
    // The 16 upper bits of an id go where the variant leaves room.
    let variant = (variant & 0xc000) | ((id >> 48) & 0x3fff);
    format!("{high:08x}-{middle:04x}-{version:04x}-{variant:04x}-{:012x}", id & 0xffff_ffff_ffff)
}

fn payload(notification: &Notification, style: Style, texts: &ApnsTexts, parts: &Parts<'_>) -> Value {
    let mut payload = Map::new();
    payload.insert("aps".to_owned(), aps(notification, style, texts, parts));
    let mut put = |name: &str, value: Option<Value>| {
        payload.extend(value.map(|value| (name.to_owned(), value)));
    };
    put(field::KIND, Some(json!(notification.kind.name())));
    put(field::ID, Some(json!(format!("{:016x}", notification.id))));
    put(
        field::CONVERSATION,
        Some(json!(notification.collapse)).filter(|_| !notification.collapse.is_empty()),
    );
    put(field::COUNT, notification.count.map(|count| json!(count)));
    put(field::SENDER, parts.sender.map(|sender| json!(sender)));
    if style != Style::Alert {
        // An alert has it in its body.
        put(field::TEXT, parts.text.map(|text| json!(text)));
    }
    Value::from(payload)
}

fn aps(notification: &Notification, style: Style, texts: &ApnsTexts, parts: &Parts<'_>) -> Value {
    let mut aps = Map::new();
    match style {
        Style::Voip => {}
        // Nothing else may be in it.
        Style::Background => drop(aps.insert("content-available".to_owned(), json!(1))),
        Style::Alert => {
            let mut alert = Map::new();
            alert.extend(parts.sender.map(|sender| ("title".to_owned(), json!(sender))));
            match (parts.text, notification.kind) {
                (Some(text), Kind::Message) => alert.insert("body".to_owned(), json!(text)),
                (_, Kind::Message) => alert.insert("loc-key".to_owned(), json!(texts.message)),
                (_, Kind::Call) => alert.insert("loc-key".to_owned(), json!(texts.call)),
                (_, Kind::Test) => alert.insert("loc-key".to_owned(), json!(texts.test)),
            };
            aps.insert("alert".to_owned(), alert.into());
            aps.extend(notification.count.map(|count| ("badge".to_owned(), json!(count))));
            aps.extend(parts.sound.map(|sound| ("sound".to_owned(), json!(sound))));
            aps.extend(parts.click_action.map(|action| ("category".to_owned(), json!(action))));
            if notification.mutable_content {
                aps.insert("mutable-content".to_owned(), json!(1));
            }
        }
    }
    Value::from(aps)
}
