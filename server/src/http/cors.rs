//! Cross-origin requests of browsers (the Fetch standard): which pages may use what is served here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use axum::middleware::Next;

/// How long a browser may remember what it was told.
const MAX_AGE_SECONDS: &str = "86400";

/// The pages that may use something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those of these origins, as browsers write them: `https://chat.example.org`.
    These(Vec<String>),
}

impl Origins {
    /// As the configuration has them: `*` alone is all.
    pub fn of(list: &[String]) -> Origins {
        match list {
            [one] if one == "*" => Origins::Any,
            list => Origins::These(list.to_vec()),
        }
    }

    /// Whether a request may come from where it says. One that says nothing is not a browser's.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        match (self, headers.get(ORIGIN)) {
            (Origins::Any, _) | (_, None) => true,
            (Origins::These(list), Some(origin)) => {
                list.iter().any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
            }
        }
    }
}

/// The origins, as the configuration has them now.
pub type Policy = Arc<dyn Fn() -> Origins + Send + Sync>;

/// What a layer of cross-origin rules knows.
#[derive(Clone)]
pub(super) struct Cors {
    pub(super) policy: Policy,
    /// The methods of the path.
    pub(super) methods: &'static str,
}

/// The layer: answers what browsers ask before a request, and says in each answer who may read it.
pub(super) async fn share(State(cors): State<Cors>, request: Request, next: Next) -> Response<Body> {
    let origins = (cors.policy)();
    let allowed = origins.allow(request.headers());
    let origin = request.headers().get(ORIGIN).cloned();
    let asks_before =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match asks_before {
        true => before(cors.methods),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    match (&origins, origin) {
        (Origins::Any, _) => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        (Origins::These(_), origin) => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = origin.filter(|_| allowed) {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            }
        }
    }
    response
}

/// The answer to the question whether a request may come.
fn before(methods: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_are_listed_may() {
        let from = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        let listed = Origins::of(&["https://chat.example.org".into()]);
        let table = [
            (None, true),
            (Some("https://chat.example.org"), true),
            (Some("https://Chat.example.org"), true),
            (Some("http://chat.example.org"), false),
            (Some("https://chat.example.org.evil.example"), false),
            (Some("https://chat.example.org:8443"), false),
            (Some("null"), false),
        ];
        for (origin, allowed) in table {
            assert_eq!(listed.allow(&from(origin)), allowed, "{origin:?}");
            assert!(Origins::of(&["*".into()]).allow(&from(origin)), "{origin:?}");
        }
        assert!(!Origins::of(&[]).allow(&from(Some("https://chat.example.org"))), "nobody");
    }
}
