//! Uploads: the file of a slot, whole or not at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT};
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use whimbrel_objects::{Failure, Reason};
use whimbrel_stats::Cell;
use whimbrel_storage::directory::{DirectoryError, Upload, UploadId, WriteTransaction};
use whimbrel_upload::{media, url};

use super::get::STORE_SECONDS;
use super::incoming::{Fault, Incoming};
use super::transfers::{self, Transfer};
use super::{Core, NO_KEY, PIECE};
use crate::clock::unix_milliseconds;
use crate::env::Env;
use crate::http::metrics::UploadMetrics;
use crate::http::problem::Problem;
use crate::http::request::Caller;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// How long nothing may come of a file.
const QUIET: Duration = Duration::from_secs(30);

/// How long the directory may take to be told of a file.
const COMMIT: Duration = Duration::from_secs(60);

/// How long the object store may take with the last part and the end of a file.
const STORE_END: Duration = Duration::from_secs(150);

/// What a connection may live beyond the time for a file, so that its client hears what has become of it: the last part is stored, the
/// directory's queue is tried, the directory is written, and what still comes is thrown away.
const ANSWER: Duration = Duration::from_secs(240);
const _: () = {
    let tried = ATTEMPTS.0 as u64 * ATTEMPTS.1.as_millis() as u64 / 1000;
    assert!(STORE_END.as_secs() + tried + COMMIT.as_secs() + THROWN_AWAY.1.as_secs() < ANSWER.as_secs());
};

/// What is read of a body that is refused, so that its client can hear why; and for how long.
const THROWN_AWAY: (usize, Duration) = (1 << 20, Duration::from_secs(3));

/// Times that a full queue of the directory is tried again, and the pause between them.
const ATTEMPTS: (u32, Duration) = (50, Duration::from_millis(100));

/// Why there is no file.
struct Refusal {
    problem: Problem,
    count: fn(&UploadMetrics) -> &Cell,
}

fn refuse(status: StatusCode, kind: &'static str, text: impl Into<String>, count: Count) -> Refusal {
    Refusal { problem: Problem::new(status, kind, text), count }
}

type Count = fn(&UploadMetrics) -> &Cell;

impl Refusal {
    fn busy() -> Refusal {
        Refusal { problem: Problem::busy(), count: |metrics| &metrics.refused_busy }
    }

    /// The disk has failed.
    fn disk(error: &io::Error) -> Refusal {
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        tracing::error!(%error, "an upload cannot be written");
        let count: Count = |metrics| &metrics.refused_disk;
        match is_full {
            true => no_room(),
            false => {
                let text = "the server cannot write the file";
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "disk", text, count)
            }
        }
    }

    /// The object store has not taken it.
    fn store(failure: &Failure) -> Refusal {
        match failure.reason {
            Reason::NoMemory => return Refusal::busy(),
            Reason::Full => {
                tracing::error!(error = %failure, "the object store has no room for an upload");
                return no_room();
            }
            _ => tracing::error!(error = %failure, "an upload cannot be written to the object store"),
        }
        let text =
            "the server's store of files does not take the file now; the slot may be tried again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut refusal = refuse(status, "storage", text, |metrics| &metrics.refused_disk);
        refusal.problem = refusal.problem.after(STORE_SECONDS);
        refusal
    }

    fn directory(error: &DirectoryError) -> Refusal {
        tracing::error!(%error, "the directory of uploads cannot be read");
        let text = "the server cannot look at its directory";
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "disk", text, |metrics| &metrics.refused_disk)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        match fault {
            Fault::Busy => Refusal::busy(),
            Fault::NoRoom => no_room(),
            Fault::Disk(error) => Refusal::disk(&error),
            Fault::Store(failure) => Refusal::store(&failure),
        }
    }
}

fn no_room() -> Refusal {
    let text = "the disk of the server has no room for this file; the slot may be tried again later";
    let mut refusal =
        refuse(StatusCode::INSUFFICIENT_STORAGE, "disk-full", text, |metrics| &metrics.refused_disk);
    refusal.problem = refusal.problem.after(600);
    refusal
}

/// Answers a PUT.
pub(super) async fn answer(core: Arc<Core>, request: Request) -> Response<Body> {
    debug_assert_eq!(request.method(), Method::PUT);
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return Problem::busy().into_response();
    };
    let (head, body) = request.into_parts();
    let (head, mut body) = (Request::from_parts(head, ()), Coming { body, is_asked_for: false });
    match take(&core, &caller, &head, &mut body).await {
        Ok(()) => {
            core.metrics().stored.add(1);
            StatusCode::CREATED.into_response()
        }
        Err(refusal) => {
            (refusal.count)(core.metrics()).add(1);
            // A client that waits for 100 hears why not, and sends nothing (RFC 9110 §10.1.1); reading would ask it to.
            if body.is_asked_for || !head.headers().contains_key(EXPECT) {
                throw_away(&mut body).await;
            }
            refusal.problem.into_response()
        }
    }
}

async fn take(
    core: &Arc<Core>,
    caller: &Caller,
    head: &Request<()>,
    body: &mut Coming,
) -> Result<(), Refusal> {
    let slot = find(core, head)?;
    check_head(head, &slot)?;
    let config = core.config();
    let per_address = config.upload.transfers_per_address;
    let transfer =
        core.transfers.begin(caller.address(), Some(slot.id), per_address).map_err(
            |refused| match refused {
                transfers::Refused::Address => {
                    let text = "too many transfers of this address at a time; try again when one has ended";
                    let mut refusal = Refusal::busy();
                    refusal.problem =
                        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-transfers", text).after(5);
                    refusal
                }
                transfers::Refused::UnderWay => {
                    let text = "a file for this slot is on its way";
                    refuse(StatusCode::CONFLICT, "under-way", text, |metrics| &metrics.refused_slot)
                }
                transfers::Refused::All => Refusal::busy(),
            },
        )?;
    let longest = Duration::from_secs(config.upload.transfer_seconds.into());
    caller.transfer(longest + ANSWER).map_err(|problem| Refusal { problem, ..Refusal::busy() })?;
    let _counted = Counted::begin(core);
    let left_free = config.upload.bytes_left_free();
    // The file that comes has it, too: what is left of one that is given up is removed before another may come.
    let transfer = Arc::new(transfer);
    let incoming = Incoming::begin(core, &slot, left_free, transfer.clone()).await?;
    let end = Instant::now() + longest;
    let incoming = match timeout_at(end, receive(core, incoming, body, slot.bytes)).await {
        Ok(received) => received?,
        Err(_) => return Err(broken("the file did not come in time")),
    };
    let late = |_| Refusal::store(&Failure { reason: Reason::Away, text: "it takes too long".to_owned() });
    let checksum = timeout(STORE_END, incoming.finish()).await.map_err(late)??;
    commit(core, &slot, checksum, &transfer).await
}

/// The slot of a request.
fn find(core: &Core, head: &Request<()>) -> Result<Upload, Refusal> {
    let target = url::read(head.uri().path()).ok_or_else(|| {
        let text = "no upload has such a path";
        refuse(StatusCode::NOT_FOUND, "no-such-path", text, |metrics| &metrics.refused_url)
    })?;
    url::admit(&core.key, &target.id, head.uri().query(), unix_milliseconds() / 1000).map_err(|refused| {
        let kind = match refused {
            url::Refused::Key => "wrong-key",
            url::Refused::Late => "too-late",
        };
        refuse(StatusCode::FORBIDDEN, kind, refused.to_string(), |metrics| &metrics.refused_url)
    })?;
    let directory = &core.shared.directory;
    let slot = directory.upload_slot(&target.id).map_err(|error| Refusal::directory(&error))?;
    let Some(slot) = slot else {
        return Err(match directory.upload(&target.id) {
            Ok(Some(_)) => {
                let text = "this slot has its file; ask for another slot";
                refuse(StatusCode::CONFLICT, "used", text, |metrics| &metrics.refused_slot)
            }
            Ok(None) => {
                let text = "this slot has ended";
                refuse(StatusCode::GONE, "gone", text, |metrics| &metrics.refused_slot)
            }
            Err(error) => Refusal::directory(&error),
        });
    };
    match slot.name == target.name {
        true => Ok(slot),
        false => {
            let text = "the slot is for a file of another name";
            Err(refuse(StatusCode::FORBIDDEN, "wrong-name", text, |metrics| &metrics.refused_url))
        }
    }
}

/// Whether what comes is what the slot is for.
fn check_head(head: &Request<()>, slot: &Upload) -> Result<(), Refusal> {
    let unlike: Count = |metrics| &metrics.refused_unlike;
    let field = |name| head.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(length) = field(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) else {
        let text = "the field Content-Length must say how long the file is";
        return Err(refuse(StatusCode::LENGTH_REQUIRED, "length-required", text, unlike));
    };
    if length != slot.bytes {
        let text = format!("the slot is for {} bytes, and {length} would come", slot.bytes);
        let status =
            if length > slot.bytes { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        return Err(refuse(status, "wrong-length", text, unlike));
    }
    if head.headers().contains_key(CONTENT_RANGE) {
        let text = "a file comes whole, not in parts (RFC 9110 §14.5)";
        return Err(refuse(StatusCode::BAD_REQUEST, "in-parts", text, unlike));
    }
    let media = field(CONTENT_TYPE).unwrap_or_default();
    if !slot.media.is_empty() && !media::is_same(media, &slot.media) {
        let text = format!("the slot is for {}", slot.media);
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", text, unlike));
    }
    Ok(())
}

fn broken(text: &'static str) -> Refusal {
    refuse(StatusCode::REQUEST_TIMEOUT, "too-slow", text, |metrics| &metrics.broken)
}

/// Reads the body into the file.
async fn receive(
    core: &Core,
    mut incoming: Incoming,
    body: &mut Coming,
    bytes: u64,
) -> Result<Incoming, Refusal> {
    let gone = || refuse(StatusCode::BAD_REQUEST, "cut-short", "the file was cut short", |m| &m.broken);
    // Copied: a piece of what hyper has read holds the whole buffer, however little of it is the piece.
    let (mut left, mut held) = (bytes, Vec::with_capacity(PIECE));
    while left > 0 {
        let piece = match timeout(QUIET, body.next()).await {
            Err(_) => return Err(broken("nothing has come of the file for too long")),
            Ok(None | Some(Err(_))) => return Err(gone()),
            Ok(Some(Ok(piece))) => piece,
        };
        core.metrics().received.add(piece.len() as u64);
        left = left.checked_sub(piece.len() as u64).ok_or_else(gone)?;
        held.extend_from_slice(&piece);
        if held.len() >= PIECE || left == 0 {
            held = incoming.write(held).await?;
        }
    }
    Ok(incoming)
}

/// A body.
struct Coming {
    body: Body,
    /// Something of it has been read, or would have been: a client that waits for 100 has been told to go on.
    is_asked_for: bool,
}

impl Coming {
    /// The next bytes.
    async fn next(&mut self) -> Option<Result<Bytes, axum::Error>> {
        self.is_asked_for = true;
        loop {
            let body = &mut self.body;
            let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Fields behind the body say nothing here.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Lets a client that is refused send on for a moment, so that it reads the answer: a connection that is closed while something
/// comes is reset.
async fn throw_away(body: &mut Coming) {
    let (most, time) = THROWN_AWAY;
    let thrown = async {
        let mut thrown = 0;
        while let Some(Ok(piece)) = body.next().await {
            thrown += piece.len();
            if thrown > most {
                break;
            }
        }
    };
    let _ = timeout(time, thrown).await;
}

/// The file is stored: tells the directory, and waits until that is on the disk, too.
async fn commit(
    core: &Arc<Core>,
    slot: &Upload,
    checksum: u32,
    transfer: &Arc<Transfer>,
) -> Result<(), Refusal> {
    let mut attempts = 0;
    let committed = loop {
        match submit(core, slot, checksum, transfer) {
            Some(committed) => break committed,
            None if attempts == ATTEMPTS.0 => return Err(Refusal::busy()),
            None => attempts += 1,
        }
        tokio::time::sleep(ATTEMPTS.1).await;
    };
    match timeout(COMMIT, committed).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => {
            // It has ended meanwhile, perhaps with its account.
            let text = "this slot has ended";
            Err(refuse(StatusCode::GONE, "gone", text, |metrics| &metrics.refused_slot))
        }
        Ok(Err(_)) | Err(_) => Err(Refusal::disk(&io::Error::other("the directory cannot be written"))),
    }
}

/// `None`: the directory's queue is full. The transfer goes on until the directory has decided, also when the client has gone:
/// a second upload would write over the file of the first.
fn submit(
    core: &Arc<Core>,
    slot: &Upload,
    checksum: u32,
    transfer: &Arc<Transfer>,
) -> Option<oneshot::Receiver<bool>> {
    let (done, committed) = oneshot::channel();
    let (id, now_ms): (UploadId, u64) = (slot.id, unix_milliseconds());
    let transfer = transfer.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
        let is_there = transaction.finish_upload(&id, checksum, now_ms)?;
        Ok(Box::new(move |_: &mut Actors, _: &Env, _: &mut Effects| {
            drop(transfer);
            let _ = done.send(is_there);
        }))
    };
    let home = core.shared.home_of(&slot.local);
    let submitted = core.writer.try_submit((home as u64) << 32 | NO_KEY, Box::new(job));
    submitted.is_ok().then_some(committed)
}

/// Counts a transfer while it is under way.
pub(super) struct Counted(Arc<Core>);

impl Counted {
    pub(super) fn begin(core: &Arc<Core>) -> Counted {
        core.metrics().transfers.add(1);
        Counted(core.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics().transfers.sub(1);
    }
}
