//! Errors as problem details (RFC 9457).

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

use crate::registration::refusal::Refusal;

/// What every `type` begins with.
const TYPE: &str = "urn:whimbrel:problem:";

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    kind: &'static str,
    detail: String,
    retry_after: Option<u64>,
    tries_left: Option<u8>,
}

impl Problem {
    /// An error of the request itself.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status: status.as_u16(), kind, detail: detail.into(), retry_after: None, tries_left: None }
    }

    /// May be tried again after so many seconds.
    pub fn after(mut self, seconds: u64) -> Problem {
        self.retry_after = Some(seconds);
        self
    }
}

impl Problem {
    /// The body, as JSON.
    pub fn body(&self) -> String {
        let title = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut body = json!({
            "type": format!("{TYPE}{}", self.kind),
            "title": title.unwrap_or("Error"),
            "status": self.status,
            "detail": self.detail,
        });
        if let Some(left) = self.tries_left {
            body["tries_left"] = left.into();
        }
        if let Some(seconds) = self.retry_after {
            body["retry_after"] = seconds.into();
        }
        body.to_string()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem {
            status: refusal.status(),
            kind: refusal.kind(),
            detail: refusal.text(),
            retry_after: refusal.retry_after(),
            tries_left: refusal.tries_left(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"registration\", charset=\"UTF-8\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
