//! The handshake of a WebSocket (RFC 6455 §4.2, RFC 7395 §3.1), and the way of its connection to a worker.
//!
//! No extension is agreed on, so nothing is compressed: what is compressed together with others' words can be guessed from
//! its length, and each connection would own a window of 32 KiB.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::workers::Workers;
use super::{WEBSOCKET_PATH, config};
use crate::http::problem::Problem;
use crate::http::request::Caller;
use crate::http::routes::Routes;
use crate::http::stream::Released;
use crate::runtime::driver::Detached;
use crate::shared::Shared;
use crate::worker::newcomers::Newcomer;

/// What is hashed with a client's key (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The one version.
const VERSION: &str = "13";

/// The subprotocol (RFC 7395 §3.1).
const SUBPROTOCOL: &str = "xmpp";

/// The route.
pub(super) fn routes(shared: &Arc<Shared>, workers: Workers) -> Routes {
    let share = shared.clone();
    Routes::new("websocket", move || config(&share).http.websocket_handshakes as usize).at(
        WEBSOCKET_PATH,
        "GET",
        get(handshake).with_state(workers),
    )
}

async fn handshake(
    State(workers): State<Workers>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Response<Body> {
    let metrics = &workers.shared().stats.http[0];
    let accept = match check(request.version(), request.headers()) {
        Ok(accept) => accept,
        Err(refusal) => {
            metrics.handshakes_malformed.add(1);
            return refusal.into_response();
        }
    };
    if !config(workers.shared()).http.origins().allow(request.headers()) {
        metrics.handshakes_origin.add(1);
        let text = "pages of this origin may not connect (http.allowed_origins)";
        return last(Problem::new(StatusCode::FORBIDDEN, "origin", text).into_response());
    }
    let Some(worker) = workers.choose() else {
        metrics.handshakes_busy.add(1);
        return last(Problem::busy().into_response());
    };
    let (peer, secured) = (caller.address(), caller.is_secured());
    caller.switch(&mut request, move |released| hand_over(&workers, worker, released, (peer, secured)));
    agreed(&accept)
}

/// The answer to a handshake.
fn agreed(accept: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// No request follows on the connection: a proxy that takes a refusal for an agreement must not carry one.
fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The connection goes to its worker. One for which there is no room after all is closed.
fn hand_over(workers: &Workers, worker: usize, released: Released, (peer, secured): (IpAddr, bool)) {
    let Released { socket, tls, came, unsent, ended } = released;
    if ended {
        return;
    }
    let (socket, tls) = (Detached::from_socket(socket), tls.map(Box::new));
    let metrics = &workers.shared().stats.http[0];
    match workers.hand_over(worker, Newcomer { socket, tls, came, unsent, peer, secured }) {
        true => metrics.handshakes.add(1),
        false => metrics.handshakes_busy.add(1),
    }
}

/// Why a request is no handshake.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: &'static str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let status = self.status;
        let mut response = Problem::new(status, "no-websocket", self.text).into_response();
        if status == StatusCode::UPGRADE_REQUIRED {
            // RFC 6455 §4.4, RFC 9110 §15.5.22.
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        last(response)
    }
}

/// The value of `Sec-WebSocket-Accept` for a request that is a handshake (RFC 6455 §4.2.1).
fn check(version: Version, headers: &HeaderMap) -> Result<String, Refusal> {
    let bad = |text| Err(Refusal { status: StatusCode::BAD_REQUEST, text });
    let upgrade = |text| Err(Refusal { status: StatusCode::UPGRADE_REQUIRED, text });
    if version != Version::HTTP_11 {
        return bad("a WebSocket begins with HTTP/1.1 (RFC 6455 §4.1)");
    }
    if !lists(headers, CONNECTION, "upgrade") || !lists(headers, UPGRADE, "websocket") {
        return upgrade("this path speaks WebSocket: the fields Connection and Upgrade are missing");
    }
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return bad("a handshake has no body");
    }
    if only(headers, SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return upgrade("only version 13 of WebSocket is spoken here");
    }
    let key = only(headers, SEC_WEBSOCKET_KEY);
    let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)) else {
        return bad("the field Sec-WebSocket-Key is not sixteen bytes in base64");
    };
    if !names_subprotocol(headers) {
        return bad("the field Sec-WebSocket-Protocol does not offer xmpp (RFC 7395 §3.1)");
    }
    Ok(accept(key))
}

/// RFC 6455 §4.2.2, step 5.4. The hash keeps others' answers apart, and secrets from nobody.
fn accept(key: &str) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    STANDARD.encode(hash)
}

/// The value of a field that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

/// Whether a list has a token, in any case of its letters.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token))
}

/// Names of subprotocols are compared as they are (RFC 6455 §11.5).
fn names_subprotocol(headers: &HeaderMap) -> bool {
    tokens(headers, SEC_WEBSOCKET_PROTOCOL).any(|one| one == SUBPROTOCOL)
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake as browsers send it.
    const GOOD: [(&str, &str); 6] = [
        ("host", "chat.example.org"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "other, xmpp"),
    ];

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_example_of_section_1_3_is_answered() {
        let accepted = check(Version::HTTP_11, &headers(&GOOD));
        assert_eq!(accepted, Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
        assert_eq!(check(Version::HTTP_10, &headers(&GOOD)).unwrap_err().status, 400);
    }

    #[test]
    fn whatever_is_no_handshake_is_told_so() {
        // A field, its value in place of the good one (none: it is left out), the status.
        let table: [(&str, &[&'static str], u16); 17] = [
            ("connection", &[], 426),
            ("connection", &["keep-alive"], 426),
            ("connection", &["upgraded"], 426),
            ("upgrade", &[], 426),
            ("upgrade", &["h2c"], 426),
            ("sec-websocket-version", &[], 426),
            ("sec-websocket-version", &["8"], 426),
            ("sec-websocket-version", &["13", "13"], 426),
            ("sec-websocket-version", &["13, 8"], 426),
            ("sec-websocket-key", &[], 400),
            ("sec-websocket-key", &["short"], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZSB0aGF0IGlzIGxvbmc="], 400),
            ("sec-websocket-protocol", &[], 400),
            ("sec-websocket-protocol", &["XMPP"], 400),
            ("content-length", &["0"], 400),
            ("transfer-encoding", &["chunked"], 400),
        ];
        for (field, values, status) in table {
            let mut fields: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != field).collect();
            fields.extend(values.iter().map(|value| (field, *value)));
            let refusal = check(Version::HTTP_11, &headers(&fields)).expect_err(field);
            assert_eq!(refusal.status, status, "{field}: {values:?}");
            let response = refusal.into_response();
            assert_eq!(response.headers()[CONNECTION], "close");
            assert_eq!(response.headers().contains_key(SEC_WEBSOCKET_VERSION), status == 426);
        }
        for good in [("upgrade", "WebSocket"), ("connection", "UPGRADE"), ("sec-websocket-protocol", "xmpp")]
        {
            let mut fields: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != good.0).collect();
            fields.push(good);
            assert!(check(Version::HTTP_11, &headers(&fields)).is_ok(), "{good:?}");
        }
    }
}
