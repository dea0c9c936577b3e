//! How clients in browsers find the server (XEP-0156 §3): they cannot ask the DNS.
//!
//! They ask the web server of the domain, which is this one or a proxy in front of it. Unless `http.websocket_url` names
//! another place, the answer names the one that was asked.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde_json::json;

use super::{WEBSOCKET_PATH, config};
use crate::http::cors::Origins;
use crate::http::problem::Problem;
use crate::http::request::Caller;
use crate::http::routes::Routes;
use crate::proto::ns;
use crate::shared::Shared;
use crate::xml::writer;

/// How long a client may remember the answer.
const MAX_AGE: &str = "max-age=3600";

/// Methods of both paths.
const METHODS: &str = "GET, HEAD";

/// The two forms of one document.
#[derive(Copy, Clone)]
enum Form {
    Xml,
    Json,
}

/// The routes.
pub(super) fn routes(shared: &Arc<Shared>) -> Routes {
    let share = shared.clone();
    // XEP-0156 §3.1: any page may ask, whoever may open a WebSocket then.
    let policy = Arc::new(|| Origins::Any);
    let handler = |form| {
        get(move |state: State<Arc<Shared>>, caller: Extension<Caller>, headers: HeaderMap| async move {
            answer(&state.0, &caller.0, &headers, form)
        })
        .with_state(shared.clone())
    };
    Routes::new("discovery", move || config(&share).http.discovery_requests as usize)
        .at_for_pages("/.well-known/host-meta", METHODS, handler(Form::Xml), policy.clone())
        .at_for_pages("/.well-known/host-meta.json", METHODS, handler(Form::Json), policy)
}

fn answer(
    shared: &Shared,
    caller: &Caller,
    headers: &HeaderMap,
    form: Form,
) -> Result<Response<Body>, Problem> {
    let configured = config(shared).http.websocket_url.clone();
    let url = match configured.is_empty() {
        false => configured,
        true => asked_for(headers, caller.is_secured()).ok_or_else(no_host)?,
    };
    let (text, media) = match form {
        Form::Xml => (xml(&url), "application/xrd+xml; charset=utf-8"),
        Form::Json => (json(&url), "application/json"),
    };
    let mut response = Response::new(Body::from(text));
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    head.insert(CACHE_CONTROL, HeaderValue::from_static(MAX_AGE));
    Ok(response)
}

fn no_host() -> Problem {
    let text = "the field Host is missing or empty, so the URL of the WebSocket is not known";
    Problem::new(StatusCode::BAD_REQUEST, "malformed", text)
}

/// The URL of the WebSocket beside the path that was asked for. What stands in `Host` has been checked with the head.
fn asked_for(headers: &HeaderMap, is_secured: bool) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty())?;
    let scheme = if is_secured { "wss" } else { "ws" };
    Some(format!("{scheme}://{host}{WEBSOCKET_PATH}"))
}

fn xml(url: &str) -> String {
    let mut escaped = Vec::new();
    writer::escape_attribute(url, &mut escaped);
    format!(
        "<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n  \
         <Link rel='{}' href='{}'/>\n</XRD>\n",
        ns::ALT_WEBSOCKET,
        String::from_utf8_lossy(&escaped)
    )
}

fn json(url: &str) -> String {
    json!({ "links": [{ "rel": ns::ALT_WEBSOCKET, "href": url }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    #[test]
    fn both_forms_name_the_url() {
        let url = "wss://chat.example.org/ws?a=1&b='2'";
        let document = xml(url);
        let (_, root) = document.split_once('\n').unwrap();
        let root = Element::parse(root.trim().as_bytes()).unwrap();
        let link = root.find("Link", "http://docs.oasis-open.org/ns/xri/xrd-1.0").unwrap();
        assert_eq!(link.attribute("href"), Some(url));
        assert_eq!(link.attribute("rel"), Some("urn:xmpp:alt-connections:websocket"));
        let json: serde_json::Value = serde_json::from_str(&json(url)).unwrap();
        assert_eq!(json["links"][0]["href"], url);
    }

    #[test]
    fn without_a_configured_url_it_is_the_one_that_was_asked() {
        let headers = |host: &'static str| HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let table = [
            ("chat.example.org", true, Some("wss://chat.example.org/xmpp-websocket")),
            ("127.0.0.1:5443", false, Some("ws://127.0.0.1:5443/xmpp-websocket")),
            ("", true, None),
        ];
        for (host, is_secured, expected) in table {
            assert_eq!(asked_for(&headers(host), is_secured).as_deref(), expected, "{host}");
        }
        assert_eq!(asked_for(&HeaderMap::new(), true), None);
    }
}
