//! Requests of HTTP: their bodies, and the way of an answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use hyper::body::Body as HttpBody;
use tokio::sync::oneshot;

use super::answer::{self, Condition};
use super::body::{Bounds, Request};
use super::session::Reply;
use super::sessions::{Bosh, Refusal};
use crate::http::problem::Problem;
use crate::http::request::Caller;
use crate::http::routes::Routes;
use crate::web::{BOSH_PATH, config};

/// A request of so many bytes is read also when others hold all the memory that there is for this.
const SMALL_BYTES: usize = 16 * 1024;

/// What a request waits for while the server becomes another program.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Always this one: what a client asks for in `content` could make a page of it.
const MEDIA: &str = "text/xml; charset=utf-8";

/// The route.
pub(in crate::web) fn routes(bosh: &Arc<Bosh>) -> Routes {
    let (share, origins, start) = (bosh.clone(), bosh.clone(), bosh.clone());
    let size = move || config(share.shared()).http.bosh_requests as usize;
    let policy = Arc::new(move || config(origins.shared()).http.origins());
    Routes::new("bosh", size)
        .at_for_pages(BOSH_PATH, "POST", post(handle).with_state(bosh.clone()), policy)
        .ends_itself()
        .beside(move || start.attend_restored())
}

async fn handle(
    State(bosh): State<Arc<Bosh>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Response<Body> {
    let config = config(bosh.shared());
    let metrics = &bosh.shared().stats.http[0];
    if !config.http.origins().allow(request.headers()) {
        metrics.bosh_origin.add(1);
        let text = "pages of this origin may not connect (http.allowed_origins)";
        return Problem::new(StatusCode::FORBIDDEN, "origin", text).into_response();
    }
    let (bytes_max, wait) =
        (config.http.bosh_request_bytes as usize, Duration::from_secs(config.http.seconds.into()));
    let read = match tokio::time::timeout(wait, read(&bosh, request.into_body(), bytes_max)).await {
        Ok(Ok(bytes)) => Request::read(&bytes, Bounds { depth_max: config.limits.depth }),
        Ok(Err(problem)) => return problem.into_response(),
        Err(_) => {
            let text = "the body did not come in time";
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", text).into_response();
        }
    };
    let Some(under_way) = bosh.enter(PAUSE_MAX).await else { return Problem::busy().into_response() };
    caller.begin_with(Box::new(under_way));
    let request = match read {
        Ok(request) => request,
        Err(bad) => {
            tracing::debug!(%bad, "no request of BOSH");
            metrics.bosh_malformed.add(1);
            return respond(&caller, answer::terminate(Some(Condition::BadRequest), []));
        }
    };
    let (ticket, answer) = oneshot::channel();
    let given = match request.sid.clone() {
        None if !config.http.speaks_bosh() => {
            let text = "BOSH is not spoken here (http.bosh_sessions)";
            return Problem::new(StatusCode::NOT_FOUND, "no-such-path", text).into_response();
        }
        None => bosh.begin(request, ticket, &caller),
        Some(sid) => bosh.give(&sid, request, ticket, caller.is_secured()),
    };
    match given {
        Ok(()) => match answer.await {
            Ok(Reply::Body(body)) => respond(&caller, body),
            Ok(Reply::Later) | Err(_) => Problem::busy().into_response(),
        },
        Err(Refusal::Busy) => {
            metrics.bosh_busy.add(1);
            Problem::busy().into_response()
        }
        Err(Refusal::End(body)) => respond(&caller, body),
    }
}

/// Reads a body, whose bytes are counted while they are here.
async fn read(bosh: &Arc<Bosh>, mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut counted) = (Vec::new(), bosh.count());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "malformed", "the body breaks off");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            let text = format!("the body has more than {bytes_max} bytes (http.bosh_request_bytes)");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text));
        }
        bytes.extend_from_slice(&data);
        counted.add(data.len());
        if bytes.len() > SMALL_BYTES && bosh.is_full() {
            bosh.shared().stats.http[0].bosh_busy.add(1);
            return Err(Problem::busy());
        }
    }
    Ok(bytes)
}

fn respond(caller: &Caller, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if caller.is_on_old_connection() {
        // The next request could be cut off in the middle.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
