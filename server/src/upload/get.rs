//! Downloads: a file or a part of it, unless the client has it already.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse;
use tokio::time::Instant;
use whimbrel_objects::{Failure, Reason};
use whimbrel_storage::directory::Upload;
use whimbrel_upload::condition::{Conditions, Validators};
use whimbrel_upload::range::{self, Wanted};
use whimbrel_upload::{media, url};

use super::Core;
use super::outgoing::{Fault, FileBody};
use crate::clock::unix_milliseconds;
use crate::http::problem::Problem;
use crate::http::request::Caller;

/// For how long clients may keep a file that is kept for ever here.
const AGE_SECONDS_MAX: u64 = 365 * 86_400;

/// After how long a client may ask again when the object store does not answer.
pub(super) const STORE_SECONDS: u64 = 30;

/// Answers a GET or HEAD.
pub(super) async fn answer(core: Arc<Core>, request: Request) -> Response<Body> {
    let (head, _) = request.into_parts();
    let request = Request::from_parts(head, ());
    match find(&core, &request) {
        Ok(file) => give(&core, &request, &file).await.unwrap_or_else(|problem| problem.into_response()),
        Err(problem) => problem.into_response(),
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such file, or not any more")
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "an uploaded file cannot be read");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", "the server cannot read the file")
}

/// The object store does not give the file.
fn away(failure: &Failure) -> Problem {
    if failure.reason == Reason::Absent {
        return not_found();
    }
    tracing::error!(error = %failure, "an uploaded file cannot be got from the object store");
    let text = "the server's store of files gives no answer, or a wrong one; try again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage", text).after(STORE_SECONDS)
}

/// Why there are no bytes.
fn given_up(core: &Core, fault: Fault) -> Problem {
    match fault {
        Fault::Busy => {
            core.metrics().refused_busy.add(1);
            Problem::busy()
        }
        Fault::Disk(error) if error.kind() == std::io::ErrorKind::NotFound => not_found(),
        Fault::Disk(error) => failed(&error),
        Fault::Store(failure) => away(&failure),
    }
}

fn find(core: &Core, request: &Request<()>) -> Result<Upload, Problem> {
    let target = url::read(request.uri().path()).ok_or_else(not_found)?;
    let file = core.shared.directory.upload(&target.id).map_err(|error| failed(&error))?;
    file.filter(|file| file.name == target.name).ok_or_else(not_found)
}

async fn give(core: &Arc<Core>, request: &Request<()>, file: &Upload) -> Result<Response<Body>, Problem> {
    let config = core.config();
    let validators = Validators::new(&file.id, file.checksum, file.time_ms);
    let field = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let conditions = Conditions {
        if_none_match: field(header::IF_NONE_MATCH),
        if_modified_since: field(header::IF_MODIFIED_SINCE),
        if_range: field(header::IF_RANGE),
    };
    let mut fields = HeaderMap::new();
    describe(&mut fields, &validators, file, config.upload.keep_ms());
    if validators.is_known(&conditions) {
        return Ok(respond(StatusCode::NOT_MODIFIED, fields, Body::empty()));
    }
    let is_get = request.method() == Method::GET;
    let range = field(header::RANGE).filter(|_| is_get && validators.is_same(&conditions));
    let (status, part) = match range::read(range, file.bytes) {
        Wanted::Whole => (StatusCode::OK, 0..file.bytes),
        Wanted::Part(part) => {
            set(
                &mut fields,
                header::CONTENT_RANGE,
                &format!("bytes {}-{}/{}", part.start, part.end - 1, file.bytes),
            );
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Wanted::Nothing => {
            let text = format!("the file has {} bytes", file.bytes);
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "no-such-range", text);
            let mut response = problem.into_response();
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", file.bytes));
            return Ok(response);
        }
    };
    set(&mut fields, header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    set_type(&mut fields, file);
    if !is_get {
        return Ok(respond(status, fields, Body::empty()));
    }
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(Problem::busy)?;
    let longest = Duration::from_secs(config.upload.transfer_seconds.into());
    let transfer =
        core.transfers.begin(caller.address(), None, config.upload.transfers_per_address).map_err(|_| {
            core.metrics().refused_busy.add(1);
            let text = "too many transfers of this address at a time; try again when one has ended";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-transfers", text).after(5)
        })?;
    caller.transfer(longest)?;
    let begun = FileBody::begin(core, file, part, transfer, Instant::now() + longest).await;
    let body = begun.map_err(|fault| given_up(core, fault))?;
    core.metrics().served.add(1);
    Ok(respond(status, fields, Body::new(body)))
}

fn respond(status: StatusCode, fields: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// What every answer about a file says.
fn describe(fields: &mut HeaderMap, validators: &Validators, file: &Upload, keep_ms: Option<u64>) {
    set(fields, header::ETAG, &validators.tag);
    set(fields, header::LAST_MODIFIED, &validators.last_modified());
    set(fields, header::ACCEPT_RANGES, "bytes");
    let left_ms = keep_ms.map(|keep| (file.id.created_ms() + keep).saturating_sub(unix_milliseconds()));
    let age = left_ms.map_or(AGE_SECONDS_MAX, |left| (left / 1000).min(AGE_SECONDS_MAX));
    set(fields, header::CACHE_CONTROL, &format!("private, max-age={age}, immutable"));
}

/// What the file is, and what browsers may do with it: show it when nothing can run in it.
fn set_type(fields: &mut HeaderMap, file: &Upload) {
    let media = if file.media.is_empty() { media::UNKNOWN } else { &file.media };
    set(fields, header::CONTENT_TYPE, media);
    set(fields, header::CONTENT_DISPOSITION, &media::disposition(media, &file.name));
    set(fields, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    set(fields, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
}
