//! How clients in browsers find the server (XEP-0156 §3): they cannot ask the DNS.
//!
//! They ask the web server of the domain, which is this one or a proxy in front of it. Unless `http.websocket_url` and
//! `http.bosh_url` name other places, the answer names the one that was asked.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde_json::json;

use super::{BOSH_PATH, WEBSOCKET_PATH, config};
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
    let http = &config(shared).http;
    let url = |configured: &String, schemes: [&str; 2], path: &str| match configured.is_empty() {
        false => Ok(configured.clone()),
        true => asked_for(headers, schemes[usize::from(caller.is_secured())], path).ok_or_else(no_host),
    };
    let mut links = vec![(ns::ALT_WEBSOCKET, url(&http.websocket_url, ["ws", "wss"], WEBSOCKET_PATH)?)];
    if http.speaks_bosh() {
        links.push((ns::ALT_BOSH, url(&http.bosh_url, ["http", "https"], BOSH_PATH)?));
    }
    let (text, media) = match form {
        Form::Xml => (xml(&links), "application/xrd+xml; charset=utf-8"),
        Form::Json => (json(&links), "application/json"),
    };
    let mut response = Response::new(Body::from(text));
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    head.insert(CACHE_CONTROL, HeaderValue::from_static(MAX_AGE));
    Ok(response)
}

fn no_host() -> Problem {
    let text = "the field Host is missing or empty, so the URLs are not known";
    Problem::new(StatusCode::BAD_REQUEST, "malformed", text)
}

/// The URL of a path beside the one that was asked for. What stands in `Host` has been checked with the head.
fn asked_for(headers: &HeaderMap, scheme: &str, path: &str) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty())?;
    Some(format!("{scheme}://{host}{path}"))
}

/// A relation, and its URL.
type Link = (&'static str, String);

fn xml(links: &[Link]) -> String {
    let mut text =
        "<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n"
            .to_owned();
    for (relation, url) in links {
        let mut escaped = Vec::new();
        writer::escape_attribute(url, &mut escaped);
        text += &format!("  <Link rel='{relation}' href='{}'/>\n", String::from_utf8_lossy(&escaped));
    }
    text + "</XRD>\n"
}

fn json(links: &[Link]) -> String {
    let links: Vec<_> = links.iter().map(|(relation, url)| json!({ "rel": relation, "href": url })).collect();
    json!({ "links": links }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    #[test]
    fn both_forms_name_the_url() {
        let url = "wss://chat.example.org/ws?a=1&b='2'";
        let links =
            [(ns::ALT_WEBSOCKET, url.to_owned()), (ns::ALT_BOSH, "https://chat.example.org/b".to_owned())];
        let document = xml(&links);
        let (_, root) = document.split_once('\n').unwrap();
        let root = Element::parse(root.trim().as_bytes()).unwrap();
        let link = root.find("Link", "http://docs.oasis-open.org/ns/xri/xrd-1.0").unwrap();
        assert_eq!(link.attribute("href"), Some(url));
        assert_eq!(link.attribute("rel"), Some("urn:xmpp:alt-connections:websocket"));
        let json: serde_json::Value = serde_json::from_str(&json(&links)).unwrap();
        assert_eq!(json["links"][0]["href"], url);
        assert_eq!(root.elements().count(), 2);
        assert_eq!(json["links"][1]["rel"], "urn:xmpp:alt-connections:xbosh");
    }

    #[test]
    fn without_a_configured_url_it_is_the_one_that_was_asked() {
        let headers = |host: &'static str| HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let table = [
            ("chat.example.org", "wss", WEBSOCKET_PATH, Some("wss://chat.example.org/xmpp-websocket")),
            ("127.0.0.1:5443", "http", BOSH_PATH, Some("http://127.0.0.1:5443/http-bind")),
            ("", "wss", WEBSOCKET_PATH, None),
        ];
        for (host, scheme, path, expected) in table {
            assert_eq!(asked_for(&headers(host), scheme, path).as_deref(), expected, "{host}");
        }
        assert_eq!(asked_for(&HeaderMap::new(), "wss", WEBSOCKET_PATH), None);
    }
}
