//! What is answered to which request. docs/wsar.md describes the addresses for other programs.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as channel};

use super::accept;
use super::access::{Access, Verdict};
use super::assets::{self, Asset};
use super::history::{self, HistoryError, Range};
use super::openmetrics::Format;
use super::watch::{Now, Shared, server_json};
use crate::explain;
use crate::time;

/// Answers from recordings that are made at a time; as many again wait.
pub const HISTORIES_MAX: usize = 2;

/// Answers from recordings that are made, wait or are fetched at most.
const HISTORIES_WAITING: usize = 16;

/// Bytes of such an answer that are handed over at a time.
const PART: usize = 32 << 10;

/// How long a client may take to fetch one.
const HISTORY_SECONDS: Duration = Duration::from_secs(60);

/// Bytes of a body at most: a login form.
const BODY_MAX: usize = 4 << 10;

/// Between two signs of life on a stream of events that has nothing to say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Seconds after which a client that was sent away may try again.
const TRY_AGAIN: &str = "10";

/// Nothing but our own files runs or is shown, and nobody frames the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Everything that answers need.
pub struct Site {
    shared: Arc<Shared>,
    access: Access,
    recording: PathBuf,
    pages: Arc<Semaphore>,
    histories: Arc<Semaphore>,
}

impl Site {
    /// For `pages` streams of events at most.
    pub fn new(shared: Arc<Shared>, access: Access, recording: PathBuf, pages: usize) -> Arc<Site> {
        let (pages, histories) = (Semaphore::new(pages), Semaphore::new(HISTORIES_WAITING));
        Arc::new(Site { shared, access, recording, pages: Arc::new(pages), histories: Arc::new(histories) })
    }
}

type Here = State<Arc<Site>>;

/// All addresses.
pub fn router(site: Arc<Site>) -> Router {
    let mut closed = Router::new()
        .route("/", get(|headers: HeaderMap| async move { file(&assets::PAGE, &headers) }))
        .route("/metrics", get(metrics))
        .route("/api", get(api))
        .route("/api/now", get(now))
        .route("/api/events", get(events))
        .route("/api/series", get(series))
        .route("/api/history", get(history))
        .route("/api/queues", get(queues))
        .route("/api/workers", get(workers))
        .route("/api/busiest", get(busiest))
        .route("/api/explain", get(|| async { json_body(&explain::json()) }))
        .route("/api/alerts", get(alerts));
    for asset in assets::CLOSED {
        closed =
            closed.route(asset.path, get(move |headers: HeaderMap| async move { file(asset, &headers) }));
    }
    let mut open = Router::new().route("/login", get(login_form).post(login));
    for asset in assets::OPEN {
        open = open.route(asset.path, get(move |headers: HeaderMap| async move { file(asset, &headers) }));
    }
    closed
        .layer(middleware::from_fn_with_state(site.clone(), guard))
        .merge(open)
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing here; see /api") })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::map_response(headers))
        .with_state(site)
}

/// Headers of every answer.
async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets in who may see the page.
async fn guard(State(site): Here, request: Request, next: Next) -> Response {
    let is_page = request.uri().path() == "/";
    match (site.access.judge(request.headers(), request.uri()), &site.access) {
        // The token does not stay in the browser's address and history.
        (Verdict::AllowedByAddress, Access::Token(token)) if is_page => {
            ([(header::SET_COOKIE, token.set_cookie())], see_other("./")).into_response()
        }
        (Verdict::Allowed | Verdict::AllowedByAddress, _) => next.run(request).await,
        (Verdict::LoginNeeded, _) if is_page => see_other("login"),
        (Verdict::LoginNeeded, _) => {
            let refused = refusal(
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong; send it as `Authorization: Bearer TOKEN` or as `?token=TOKEN`",
            );
            ([(header::WWW_AUTHENTICATE, "Bearer realm=\"wsar\"")], refused).into_response()
        }
        (Verdict::WrongName, _) => refusal(
            StatusCode::FORBIDDEN,
            "without a token, wsar answers to loopback names only (localhost, 127.0.0.1); give it a token to use another name",
        ),
    }
}

/// Sends a browser elsewhere. `to` is relative (RFC 9110 §10.2.2): behind a reverse proxy the page may lie below a path
/// that is not known here.
fn see_other(to: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

fn refusal(status: StatusCode, why: impl Into<String>) -> Response {
    (status, json_body(&json!({"error": why.into()}))).into_response()
}

fn json_body(value: &Value) -> Response {
    json_text(value.to_string())
}

fn json_text(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// A file; only its name, when the browser has it already.
fn file(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:08x}\"", crc32c::crc32c(asset.bytes));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let more = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    match known {
        true => (StatusCode::NOT_MODIFIED, more).into_response(),
        false => (more, [(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response(),
    }
}

async fn login_form(State(site): Here, headers: HeaderMap) -> Response {
    match site.access {
        Access::Token(_) => file(&assets::LOGIN, &headers),
        Access::Loopback => see_other("./"),
    }
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

async fn login(State(site): Here, Form(form): Form<Login>) -> Response {
    match &site.access {
        Access::Token(token) if token.is(form.token.trim()) => {
            ([(header::SET_COOKIE, token.set_cookie())], see_other("./")).into_response()
        }
        Access::Token(_) => see_other("login#wrong"),
        Access::Loopback => see_other("./"),
    }
}

async fn metrics(State(site): Here, headers: HeaderMap) -> Response {
    let wanted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let Some(format) = accept::format(wanted) else {
        let both = Format::ALL.map(Format::content_type).join(" and ");
        return refusal(StatusCode::NOT_ACCEPTABLE, format!("there are {both}"));
    };
    ([(header::CONTENT_TYPE, format.content_type())], site.shared.now().metrics(format)).into_response()
}

async fn api() -> Response {
    json_body(&json!({
        "/api/now": "all figures of now, the server's state, alerts",
        "/api/events": "the same as server-sent events, one a sample",
        "/api/series": "the figures that there are: id, unit, meaning",
        "/api/history?series=ID,ID&from=TIME&to=TIME&points=N": "mean and maximum of figures over a range of time",
        "/api/queues": "every queue, the fullest first",
        "/api/workers": "utilisation and latency of every event loop",
        "/api/busiest": "the accounts and addresses with most messages, bytes, waiting output and failed logins",
        "/api/explain": "what each refusal and each queue means, its keys of the configuration, and what to do",
        "/api/alerts": "alerts in force, and the last changes",
        "/metrics": "OpenMetrics",
    }))
}

async fn now(State(site): Here) -> Response {
    json_text(site.shared.now().json.clone())
}

async fn series(State(site): Here) -> Response {
    json_body(&json!({"series": site.shared.now().frame.series()}))
}

async fn queues(State(site): Here) -> Response {
    let now = site.shared.now();
    let rows = now.frame.table("queues").into_iter().map(|(queue, mut row)| {
        row.insert("queue".into(), json!(queue));
        row
    });
    let mut rows: Vec<_> = rows.collect();
    let of =
        |row: &serde_json::Map<String, Value>, key: &str| row.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    rows.sort_by(|a, b| {
        of(b, "full").total_cmp(&of(a, "full")).then(of(b, "length").total_cmp(&of(a, "length")))
    });
    json_body(&json!({"time": now.frame.time_ms, "server": server_json(&now.server), "queues": rows}))
}

async fn workers(State(site): Here) -> Response {
    let now = site.shared.now();
    let rows = now.frame.table("workers").into_iter().map(|(worker, mut row)| {
        row.insert("worker".into(), json!(worker));
        row
    });
    let rows: Vec<_> = rows.collect();
    json_body(&json!({"time": now.frame.time_ms, "server": server_json(&now.server), "workers": rows}))
}

async fn busiest(State(site): Here) -> Response {
    let now = site.shared.now();
    json_body(&json!({"server": server_json(&now.server), "busiest": now.busiest}))
}

async fn alerts(State(site): Here) -> Response {
    json_body(&site.shared.now().alerts)
}

/// A live page: each frame from now on. A page that reads slowly gets the latest, and misses what is between.
async fn events(State(site): Here) -> Response {
    let Ok(permit) = site.pages.clone().try_acquire_owned() else {
        let refused = refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many live pages are open as may be (--pages); close one, or read /api/now instead",
        );
        return ([(header::RETRY_AFTER, TRY_AGAIN)], refused).into_response();
    };
    let mut latest = site.shared.subscribe();
    latest.mark_changed();
    let events = stream::unfold((latest, permit), next_event);
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE));
    // nginx keeps an answer back until it has some of it, unless it is told not to.
    ([("x-accel-buffering", "no")], events).into_response()
}

type Live = (channel::Receiver<Arc<Now>>, OwnedSemaphorePermit);

async fn next_event((mut latest, permit): Live) -> Option<(Result<Event, Infallible>, Live)> {
    latest.changed().await.ok()?;
    let now = latest.borrow_and_update().clone();
    // It was made of a string.
    let json = std::str::from_utf8(&now.json).unwrap_or_default();
    let event = Event::default().id(now.frame.time_ms.to_string()).data(json);
    Some((Ok(event), (latest, permit)))
}

#[derive(Deserialize)]
struct HistoryQuery {
    series: String,
    from: Option<String>,
    to: Option<String>,
    points: Option<u64>,
}

/// Points when nothing is said.
const POINTS: u64 = 400;

async fn history(State(site): Here, query: Result<Query<HistoryQuery>, QueryRejection>) -> Response {
    let Ok(Query(query)) = query else {
        let example = "/api/history?series=cpu.all.user,server.connections&from=-1h&points=400";
        return refusal(
            StatusCode::BAD_REQUEST,
            format!("`series` is missing, or `points` is no number: {example}"),
        );
    };
    let now_ms = time::now_ms();
    let when = |text: Option<&str>, default: &str| moment(text.unwrap_or(default), now_ms);
    let (from_ms, to_ms) = match (when(query.from.as_deref(), "-15m"), when(query.to.as_deref(), "-0s")) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(error), _) | (_, Err(error)) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let ids: Vec<String> = query.series.split(',').map(str::to_owned).collect();
    let points = query.points.unwrap_or(POINTS);
    if from_ms >= to_ms {
        return refusal(StatusCode::BAD_REQUEST, "`from` must be before `to`");
    }
    if from_ms > now_ms {
        return refusal(StatusCode::BAD_REQUEST, time::NotATime::Future(from_ms).to_string());
    }
    if !(1..=history::POINTS_MAX).contains(&points) || ids.len() > history::FIGURES_MAX {
        let (points, figures) = (history::POINTS_MAX, history::FIGURES_MAX);
        let bounds = format!("an answer has 1 to {points} points of at most {figures} series");
        return refusal(StatusCode::BAD_REQUEST, bounds);
    }
    let points = points.min((history::VALUES_MAX / ids.len()) as u64).max(1);
    let Ok(permit) = site.histories.clone().try_acquire_owned() else {
        let refused =
            refusal(StatusCode::SERVICE_UNAVAILABLE, "too many answers from recordings wait already");
        return ([(header::RETRY_AFTER, TRY_AGAIN)], refused).into_response();
    };
    let now = site.shared.now();
    if let Some(unknown) = ids.iter().find_map(|id| now.frame.unknown(id)) {
        return refusal(StatusCode::NOT_FOUND, unknown.to_string());
    }
    let work = move || {
        let range = Range { from_ms, to_ms, points };
        let (frames, since) = site.shared.frames(from_ms, to_ms);
        let answer = history::answer(&site.recording, &range, &ids, (&frames, since))?;
        // A row that is gone, as a disk that was taken out, may still have a past.
        Ok(match ids.iter().find_map(|id| now.frame.unknown_row(id).filter(|_| is_empty(&answer, id))) {
            Some(unknown) => Err(unknown),
            None => Ok(answer.to_string()),
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(Ok(text))) => json_text(in_parts(text, permit)),
        Ok(Ok(Err(unknown))) => refusal(StatusCode::NOT_FOUND, unknown.to_string()),
        Ok(Err(error @ HistoryError::TooSlow)) => refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(Err(error)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made; see the log of wsar")
        }
    }
}

/// Whether an answer knows nothing of a figure.
fn is_empty(answer: &Value, id: &str) -> bool {
    answer["series"][id]["mean"].as_array().is_none_or(|values| values.iter().all(Value::is_null))
}

/// An answer that may be large, in parts, so that its place among those that are made or wait is taken until its client has
/// it.
fn in_parts(text: String, permit: OwnedSemaphorePermit) -> Body {
    let until = Instant::now() + HISTORY_SECONDS;
    let parts = stream::unfold((Bytes::from(text), permit), move |(mut rest, permit)| async move {
        if rest.is_empty() {
            return None;
        }
        // A byte now and then does not keep others waiting for ever.
        let part = match Instant::now() < until {
            true => Ok(rest.split_to(rest.len().min(PART))),
            false => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        Some((part, (rest, permit)))
    });
    Body::from_stream(parts)
}

/// Milliseconds since 1970 when the number is too large for seconds; else as on the command line.
fn moment(text: &str, now_ms: u64) -> Result<u64, time::NotATime> {
    match text.parse::<u64>() {
        Ok(ms) if text.len() >= 12 => Ok(ms),
        _ => time::parse(text, now_ms),
    }
}
