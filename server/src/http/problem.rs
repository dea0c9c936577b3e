//! Errors as problem details (RFC 9457).

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// What every `type` begins with.
const TYPE: &str = "urn:whimbrel:problem:";

/// Seconds after which a client may come back to a server that is busy.
const BUSY_SECONDS: u64 = 5;

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    retry_after: Option<u64>,
    challenge: Option<&'static str>,
    /// Extension members (RFC 9457 §3.2).
    members: Vec<(&'static str, Value)>,
}

impl Problem {
    /// Its status, the end of its type, and what is wrong, for a person.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        let detail = detail.into();
        Problem { status, kind, detail, retry_after: None, challenge: None, members: Vec::new() }
    }

    /// The server has no room just now, or is about to stop.
    pub fn busy() -> Problem {
        let text = "the server is busy; try again later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text).after(BUSY_SECONDS)
    }

    /// May be tried again after so many seconds.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    /// Says how to authenticate (RFC 9110 §11.6.1); belongs to a 401.
    #[must_use]
    pub fn challenge(mut self, challenge: &'static str) -> Problem {
        self.challenge = Some(challenge);
        self
    }

    /// Has one more member.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Problem {
        self.members.push((name, value.into()));
        self
    }

    /// The body, as JSON.
    pub fn body(&self) -> String {
        let mut body = json!({
            "type": format!("{TYPE}{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        for (name, value) in &self.members {
            body[*name] = value.clone();
        }
        if let Some(seconds) = self.retry_after {
            body["retry_after"] = seconds.into();
        }
        body.to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_the_same_in_head_and_body() {
        let challenge = "Basic realm=\"x\"";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "wrong-key", "no").after(7).challenge(challenge);
        let problem = problem.with("tries_left", 3);
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        let expected = json!({
            "type": "urn:whimbrel:problem:wrong-key", "title": "Unauthorized", "status": 401, "detail": "no",
            "retry_after": 7, "tries_left": 3,
        });
        assert_eq!(body, expected);
        let response = problem.into_response();
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(header(RETRY_AFTER), Some("7"));
        assert_eq!(header(WWW_AUTHENTICATE), Some(challenge));
        assert_eq!(header(CONTENT_TYPE), Some("application/problem+json"));
    }
}
