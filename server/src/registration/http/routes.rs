//! What is asked and answered. Described in `openapi.json`, which is served as well.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::clock::unix_milliseconds;
use crate::registration::refusal::Refusal;
use crate::registration::service::RegistrationService;

use super::problem::Problem;
use super::{Block, Front, Peer, Turn};

/// The description of the API.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Who asks for a PIN.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    phone: String,
    device: String,
}

/// Who tells one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tell {
    phone: String,
    pin: String,
    device: String,
}

/// The routes.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/v1/registration", post(ask).fallback(|| wrong_method("POST")))
        .route("/v1/registration/verify", post(verify).fallback(|| wrong_method("POST")))
        .route("/v1/account", delete(remove).fallback(|| wrong_method("DELETE")))
        .route("/v1/openapi.json", get(openapi).fallback(|| wrong_method("GET, HEAD")))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing here") })
        .layer(middleware::from_fn_with_state(front.clone(), paced))
        .with_state(front)
}

async fn wrong_method(allowed: &'static str) -> Response<Body> {
    let text = format!("this path takes {allowed}");
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text).into_response();
    response.headers_mut().insert("allow", HeaderValue::from_static(allowed));
    response
}

/// Counts every request, and refuses who asks too often.
async fn paced(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response<Body> {
    let metrics = front.service.metrics();
    metrics.http_requests.add(1);
    let now_ms = unix_milliseconds();
    let too_many = |left| {
        metrics.http_refused.add(1);
        let text = "too many requests from this address; try again later";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", text).after(left).into_response()
    };
    let address = address(&request);
    if !front.takes(address, now_ms) {
        return too_many(60 - now_ms / 1000 % 60);
    }
    // Other addresses have a share of the connections; behind a proxy each has one of its requests.
    let by_proxy = request.extensions().get::<Peer>().is_some_and(|peer| peer.trusted);
    let most =
        if by_proxy { front.service.config().registration.http_connections_per_address } else { u32::MAX };
    let Some(_under_way) = front.concurrent.enter(Block::of(address), most) else { return too_many(1) };
    if !front.service.is_open() {
        return Problem::from(Refusal::Busy).into_response();
    }
    next.run(request).await
}

async fn ask(State(front): State<Arc<Front>>, request: Request) -> Result<Response<Body>, Problem> {
    let address = address(&request);
    let Ask { phone, device } = read(&front.service, request).await?;
    let sent = front.service.request(&phone, &device, address).await?;
    let body = json!({ "expires_in": sent.expires_in, "resend_in": sent.resend_in });
    Ok(answer(StatusCode::ACCEPTED, &body))
}

async fn verify(State(front): State<Arc<Front>>, request: Request) -> Result<Response<Body>, Problem> {
    let address = address(&request);
    let Tell { phone, pin, device } = read(&front.service, request).await?;
    let registered = front.service.verify(&phone, &pin, &device, address).await?;
    Ok(answer(StatusCode::OK, &json!({ "jid": registered.jid, "key": &*registered.key })))
}

async fn remove(State(front): State<Arc<Front>>, request: Request) -> Result<Response<Body>, Problem> {
    let address = address(&request);
    let Some((name, key)) = basic(&request) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "no-credentials",
            "send the number (or the JID) and the key by HTTP Basic authentication",
        ));
    };
    // The JID names the account as well as its number.
    let name = name.strip_suffix(&format!("@{}", front.service.shared().domain)).unwrap_or(&name);
    front.service.delete(name, key, address).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn openapi(method: Method) -> Response<Body> {
    let mut response = Response::new(match method {
        Method::HEAD => Body::empty(),
        _ => Body::from(OPENAPI),
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, OPENAPI.len().into());
    }
    response
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn address(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    peer.expect("every connection puts its peer into its requests").client(request.headers())
}

/// The JSON body, bounded in bytes and time.
async fn read<T: DeserializeOwned>(service: &RegistrationService, request: Request) -> Result<T, Problem> {
    let config = service.config();
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let text = "the body must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", text));
    }
    let most = config.registration.http_body_bytes as usize;
    let too_large = || {
        let text = format!("the body has more than {most} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
    };
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let wait = Duration::from_secs(config.registration.http_seconds.into());
    let turn = request.extensions().get::<Turn>().cloned();
    let body = match tokio::time::timeout(wait, to_bytes(request.into_body(), most)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(too_large()),
        Err(_) => {
            let text = "the body did not come in time";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", text));
        }
    };
    // Also of a body that says itself where it ends.
    if let Some(turn) = turn {
        turn.served();
    }
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body: {error}")))
}

/// Name and password of HTTP Basic authentication (RFC 7617).
fn basic(request: &Request) -> Option<(String, Zeroizing<String>)> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(token.trim()).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    let (name, key) = text.split_once(':')?;
    Some((name.to_owned(), Zeroizing::new(key.to_owned())))
}
