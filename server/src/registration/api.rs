//! The HTTP API: a thin layer over the service (docs/registration.md). `openapi.json` describes it, and is served as well.
//!
//! Handlers run on the thread of the HTTP server, the service on its own: each request is handed over and waited for,
//! and dropped there when its client gives up.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::routing::{delete, get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::http::front::{Event, Host, Settings};
use crate::http::problem::Problem;
use crate::http::request::{self, Caller};
use crate::http::routes::Routes;
use crate::proto::address;
use crate::shared::Shared;

use super::service::RegistrationService;
use crate::phone::refusal::PhoneRefusal;

/// The description of the API.
pub const OPENAPI: &str = include_str!("openapi.json");

/// How a client without credentials, or with wrong ones, may authenticate.
const CHALLENGE: &str = "Basic realm=\"registration\", charset=\"UTF-8\"";

/// The API's way to the service.
#[derive(Clone)]
struct Api {
    service: Arc<RegistrationService>,
    /// The service's thread.
    thread: Handle,
}

/// A PIN is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    phone: String,
    device: String,
}

/// A PIN is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tell {
    phone: String,
    pin: String,
    device: String,
}

/// The routes, whose handlers have `service` work on `thread`.
pub(super) fn routes(service: Arc<RegistrationService>, thread: Handle) -> Routes {
    let share = service.clone();
    let api = Api { service, thread };
    Routes::new("registration", move || share.config().registration.http_connections as usize)
        .at("/v1/registration", "POST", post(ask).with_state(api.clone()))
        .at("/v1/registration/verify", "POST", post(verify).with_state(api.clone()))
        .at("/v1/account", "DELETE", delete(remove).with_state(api))
        .at("/v1/openapi.json", "GET, HEAD", get(openapi))
}

/// Registration owns the listeners of the HTTP server: they are configured by its keys, and counted by its metrics.
pub struct Listeners(pub Arc<Shared>);

impl Host for Listeners {
    fn settings(&self) -> Settings {
        let config = self.0.config.read().expect("nothing panics while it holds this lock").clone();
        let settings = &config.registration;
        Settings {
            trusted_proxies: settings.proxies(),
            connections_per_address: settings.http_connections_per_address as usize,
            requests_per_minute: settings.http_requests_per_minute,
            wait: Duration::from_secs(settings.http_seconds.into()),
            idle: Duration::from_secs(settings.http_idle_seconds.into()),
        }
    }

    fn count(&self, event: Event) {
        let metrics = &self.0.stats.registration[0];
        match event {
            Event::Opened => metrics.http_connections.add(1),
            Event::Closed => metrics.http_connections.sub(1),
            Event::Request => metrics.http_requests.add(1),
            Event::Refused => metrics.http_refused.add(1),
            Event::Displaced(count) => metrics.http_displaced.add(count),
        }
    }
}

impl From<PhoneRefusal> for Problem {
    fn from(refusal: PhoneRefusal) -> Problem {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = Problem::new(status, refusal.kind(), refusal.text());
        if let Some(seconds) = refusal.retry_after() {
            problem = problem.after(seconds);
        }
        if let Some(left) = refusal.tries_left() {
            problem = problem.with("tries_left", left);
        }
        if status == StatusCode::UNAUTHORIZED { problem.challenge(CHALLENGE) } else { problem }
    }
}

async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let Ask { phone, device } = api.read(request).await?;
    let (service, address) = (api.service.clone(), caller.address());
    let sent = api.run(async move { service.request(&phone, &device, address).await }).await?;
    let body = json!({ "expires_in": sent.expires_in, "resend_in": sent.resend_in });
    Ok(answer(StatusCode::ACCEPTED, &body))
}

async fn verify(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let Tell { phone, pin, device } = api.read(request).await?;
    let (service, address) = (api.service.clone(), caller.address());
    let registered = api.run(async move { service.verify(&phone, &pin, &device, address).await }).await?;
    Ok(answer(StatusCode::OK, &json!({ "jid": registered.jid, "key": &*registered.key })))
}

async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let Some((name, key)) = basic(&request) else {
        let text = "send the number (or the JID) and the key by HTTP Basic authentication";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "no-credentials", text).challenge(CHALLENGE));
    };
    let (service, address) = (api.service.clone(), caller.address());
    // The JID names the account as well as its number.
    let local = address::contact_here(&name, &service.shared().domain).unwrap_or(&name).to_owned();
    api.run(async move { service.delete(&local, key, address).await }).await?;
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

impl Api {
    /// The JSON body, bounded in bytes and time.
    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, Problem> {
        let config = self.service.config();
        let wait = Duration::from_secs(config.registration.http_seconds.into());
        request::json(request, config.registration.http_body_bytes as usize, wait).await
    }

    /// Has the service do something on its thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PhoneRefusal>> + Send + 'static,
    ) -> Result<T, PhoneRefusal> {
        let mut task = EndsWithRequest(self.thread.spawn(work));
        match (&mut task.0).await {
            Ok(result) => result,
            // The service has ended.
            Err(error) if error.is_cancelled() => Err(PhoneRefusal::Busy),
            // It has panicked, which the panic hook has reported.
            Err(_) => Err(PhoneRefusal::Failed),
        }
    }
}

/// A task that is aborted when the request that waits for it is dropped.
struct EndsWithRequest<T>(JoinHandle<T>);

impl<T> Drop for EndsWithRequest<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
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
