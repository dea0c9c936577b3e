//! What FCM's answers mean: <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>.

use std::time::Duration;

use serde::Deserialize;

use crate::verdict::{Verdict, Whose, quote, retry_after};

/// The pause that Google's documentation asks for where an answer about a quota names none.
const QUOTA_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error: ApiError,
}

/// `google.rpc.Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiError {
    status: String,
    message: String,
    details: Vec<Detail>,
}

/// One of `google.firebase.fcm.v1.FcmError`, `google.rpc.BadRequest`, `google.rpc.QuotaFailure` and others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(rename = "errorCode")]
    error_code: Option<String>,
    #[serde(rename = "fieldViolations")]
    field_violations: Vec<FieldViolation>,
    violations: Vec<QuotaViolation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldViolation {
    field: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct QuotaViolation {
    subject: String,
}

impl ApiError {
    /// The code of FCM's own, or that of Google's interfaces.
    fn code(&self) -> &str {
        self.details.iter().find_map(|detail| detail.error_code.as_deref()).unwrap_or(&self.status)
    }

    /// Whether an argument that is not valid is the device's token.
    fn is_about_token(&self) -> bool {
        let mut fields = self.details.iter().flat_map(|detail| &detail.field_violations).peekable();
        match fields.peek() {
            Some(_) => fields.all(|violation| violation.field == "message.token"),
            None => self.message.to_ascii_lowercase().contains("registration token"),
        }
    }

    /// Whether a quota that is exceeded is that of one device.
    fn is_about_device(&self) -> bool {
        let mut quotas = self.details.iter().flat_map(|detail| &detail.violations).peekable();
        match quotas.peek() {
            Some(_) => quotas.all(|violation| violation.subject.contains("device")),
            None => self.message.to_ascii_lowercase().contains("device"),
        }
    }
}

/// What an answer means. `now`: seconds since 1970.
pub(crate) fn verdict(status: u16, after: Option<&str>, body: &[u8], now: u64) -> Verdict {
    // What is not Google's JSON comes from something between.
    let error = serde_json::from_slice::<Body>(body).unwrap_or_default().error;
    let reason = match (error.code(), error.message.as_str()) {
        ("", _) => format!("{status} {}", quote(&String::from_utf8_lossy(body))),
        (code, message) => quote(&format!("{status} {code}: {message}")),
    };
    let after = after.and_then(|after| retry_after(after, now));
    let later = |whose, after| Verdict::Later { whose, after, reason: reason.clone() };
    match (status, error.code()) {
        (200..=299, _) => Verdict::Sent,
        (404, "UNREGISTERED" | "NOT_FOUND") => Verdict::Gone(reason),
        // The token belongs to another project: any client can register such a one, so it says nothing of our key.
        (403, "SENDER_ID_MISMATCH") => Verdict::Gone(reason),
        (400, "INVALID_ARGUMENT") if error.is_about_token() => Verdict::Gone(reason),
        // A key for APNs or Web Push that is missing in the project: of no interest to any other device.
        (401, "THIRD_PARTY_AUTH_ERROR") => Verdict::Refused(reason),
        (401 | 403, _) => Verdict::Credentials(reason),
        (429, _) if error.is_about_device() => later(Whose::Device, after.or(Some(QUOTA_PAUSE))),
        (429, _) => later(Whose::Provider, after.or(Some(QUOTA_PAUSE))),
        (500, _) => later(Whose::Device, after),
        (408 | 501..=599, _) => later(Whose::Provider, after),
        _ => Verdict::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fcm(status: &str, code: &str, message: &str, more: Value) -> Value {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        let mut details = vec![json!({ "@type": kind, "errorCode": code })];
        details.extend((!more.is_null()).then_some(more));
        json!({ "error": { "code": 0, "status": status, "message": message, "details": details } })
    }

    fn field(name: &str) -> Value {
        json!({ "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{ "field": name, "description": "…" }] })
    }

    fn quota(subject: &str) -> Value {
        json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "subject": subject }] })
    }

    #[test]
    fn answers_mean_what_google_documents() {
        let not_found =
            json!({ "error": { "status": "NOT_FOUND", "message": "Requested entity was not found." } });
        let expired = json!({ "error": { "status": "UNAUTHENTICATED", "message": "…" } });
        let (none, bad) = (Value::Null, "INVALID_ARGUMENT");
        let not_valid = "The registration token is not a valid FCM registration token";
        let table = [
            (200, json!({ "name": "projects/p/messages/1" }), "sent"),
            (404, fcm("NOT_FOUND", "UNREGISTERED", "…", none.clone()), "gone"),
            (404, not_found, "gone"),
            (404, json!("<html>"), "refused"),
            (400, fcm(bad, bad, not_valid, none.clone()), "gone"),
            (400, fcm(bad, bad, "…", field("message.token")), "gone"),
            (400, fcm(bad, bad, "…", field("message.android.ttl")), "refused"),
            (400, fcm(bad, bad, "Message too big", none.clone()), "refused"),
            (403, fcm("PERMISSION_DENIED", "SENDER_ID_MISMATCH", "…", none.clone()), "gone"),
            (403, json!({ "error": { "status": "PERMISSION_DENIED" } }), "credentials"),
            (401, expired, "credentials"),
            (401, fcm("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "…", none.clone()), "refused"),
            (429, fcm("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "…", quota("project:1")), "provider 60"),
            (429, fcm("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "…", quota("device:x")), "device 60"),
            (500, fcm("INTERNAL", "INTERNAL", "…", none.clone()), "device"),
            (503, fcm("UNAVAILABLE", "UNAVAILABLE", "…", none), "provider"),
            (502, json!("<html>"), "provider"),
            (302, json!(""), "refused"),
        ];
        for (status, body, expected) in table {
            let body = body.to_string();
            let name = match verdict(status, None, body.as_bytes(), 0) {
                Verdict::Sent => "sent".to_owned(),
                Verdict::Gone(_) => "gone".to_owned(),
                Verdict::Refused(_) => "refused".to_owned(),
                Verdict::Credentials(_) => "credentials".to_owned(),
                Verdict::Later { whose, after, .. } => {
                    let after = after.map_or(String::new(), |after| format!(" {}", after.as_secs()));
                    format!("{}{after}", if whose == Whose::Device { "device" } else { "provider" })
                }
                other => format!("{other:?}"),
            };
            assert_eq!(name, expected, "{status} {body}");
        }
        let named = verdict(503, Some("7"), b"", 0);
        assert!(
            matches!(named, Verdict::Later { after: Some(after), .. } if after.as_secs() == 7),
            "{named:?}"
        );
    }
}
