//! Downloads: a file or a part of it, unless the client has it already.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;
use whimbrel_storage::directory::Upload;
use whimbrel_upload::condition::{Conditions, Validators};
use whimbrel_upload::range::{self, Wanted};
use whimbrel_upload::{media, url};

use super::put::Counted;
use super::transfers::Transfer;
use super::{Core, PIECE};
use crate::clock::unix_milliseconds;
use crate::http::problem::Problem;
use crate::http::request::Caller;

/// For how long clients may keep a file that is kept for ever here.
const AGE_SECONDS_MAX: u64 = 365 * 86_400;

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
    let body = FileBody::begin(core, file, part, transfer, Instant::now() + longest).await?;
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

/// A piece of a file, and the file for the next.
type Piece = io::Result<(File, Vec<u8>)>;

/// The bytes of a file: while one piece is sent, the next is read.
struct FileBody {
    core: Arc<Core>,
    /// Bytes that have not been handed over.
    left: u64,
    /// The piece that is being read.
    reading: Option<oneshot::Receiver<Piece>>,
    end: Instant,
    _transfer: Transfer,
    _counted: Counted,
}

impl FileBody {
    async fn begin(
        core: &Arc<Core>,
        file: &Upload,
        part: Range<u64>,
        transfer: Transfer,
        end: Instant,
    ) -> Result<FileBody, Problem> {
        let (files, id, bytes, start) = (core.files.clone(), file.id, file.bytes, part.start);
        let open = move || -> io::Result<File> {
            let mut file = files.open(&id)?;
            if file.metadata()?.len() != bytes {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has another length than it had"));
            }
            file.seek(SeekFrom::Start(start))?;
            Ok(file)
        };
        let busy = |_| {
            core.metrics().refused_busy.add(1);
            Problem::busy()
        };
        let opened = core.threads.run(open).await.map_err(busy)?;
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            opened => opened.map_err(|error| failed(&error))?,
        };
        let counted = Counted::begin(core);
        let left = part.end - part.start;
        let mut body =
            FileBody { core: core.clone(), left, reading: None, end, _transfer: transfer, _counted: counted };
        body.read(opened, left).map_err(|_| Problem::busy())?;
        Ok(body)
    }

    /// Has the next piece read, when some of `left` bytes are left.
    fn read(&mut self, mut file: File, left: u64) -> io::Result<()> {
        if left == 0 {
            self.reading = None;
            return Ok(());
        }
        let bytes = left.min(PIECE as u64);
        let read = move || {
            let mut piece = Vec::with_capacity(bytes as usize);
            // The space is not filled beforehand, and nothing is read beyond it.
            let count = (&mut file).take(bytes).read_to_end(&mut piece)?;
            match count as u64 == bytes {
                true => Ok((file, piece)),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let busy = |_| io::Error::from(io::ErrorKind::WouldBlock);
        self.reading = Some(self.core.threads.begin(read).map_err(busy)?);
        Ok(())
    }
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
        let piece = ready!(Pin::new(reading).poll(context)).unwrap_or(Err(io::ErrorKind::Interrupted.into()));
        this.reading = None;
        let (file, piece) = match piece {
            Ok(read) => read,
            Err(error) => {
                // The client sees that less came than was said.
                tracing::error!(%error, "an uploaded file cannot be read to its end");
                return Poll::Ready(Some(Err(error)));
            }
        };
        if Instant::now() >= this.end {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        this.left -= piece.len() as u64;
        this.core.metrics().sent.add(piece.len() as u64);
        if let Err(error) = this.read(file, this.left) {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
