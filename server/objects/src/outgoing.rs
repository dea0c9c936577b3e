//! An object that is fetched, or a part of it.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::failure::{Failure, Reason};
use crate::store::{Core, Store};

/// How long the store may send nothing in the middle of an object.
const QUIET: Duration = Duration::from_secs(30);

/// Pieces that wait for the reader.
const AHEAD: usize = 1;

/// The bytes of an object, as they come. When this is dropped, the store is not read any more.
#[derive(Debug)]
pub struct Outgoing(mpsc::Receiver<Result<Bytes, Failure>>);

impl Outgoing {
    /// The next piece, of 64 KiB at most; `None`: those were all.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        self.0.poll_recv(context)
    }
}

impl Store {
    /// Begins to fetch a part of an object that has so many bytes as a whole.
    ///
    /// # Errors
    /// Why not. [`Reason::Wrong`]: it has another length.
    pub async fn open(&self, key: &str, part: Range<u64>, whole: u64) -> Result<Outgoing, Failure> {
        let core = self.core().clone();
        let path = core.path(key);
        self.run(async move { begin(core, path, part, whole).await }).await
    }
}

async fn begin(core: Arc<Core>, path: Path, part: Range<u64>, whole: u64) -> Result<Outgoing, Failure> {
    let is_whole = part == (0..whole);
    let range = (!is_whole).then(|| GetRange::Bounded(part.clone()));
    let found = core.s3.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await?;
    if found.meta.size != whole || found.range != part {
        return Err(Failure::new(Reason::Wrong, format!("{path} has another length than it had")));
    }
    let (pieces, reader) = mpsc::channel(AHEAD);
    core.handle.spawn(fetch(found, part.end - part.start, pieces));
    Ok(Outgoing(reader))
}

async fn fetch(found: GetResult, mut left: u64, pieces: mpsc::Sender<Result<Bytes, Failure>>) {
    let mut stream = found.into_stream();
    while left > 0 {
        let piece = match timeout(QUIET, stream.next()).await {
            Err(_) => Err(Failure::late()),
            Ok(None) => {
                Err(Failure::new(Reason::Away, "the object store has closed in the middle of an object"))
            }
            Ok(Some(piece)) => piece.map_err(Failure::from),
        };
        let is_end = match &piece {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len() as u64);
                left == 0
            }
            Err(_) => true,
        };
        if pieces.send(piece).await.is_err() || is_end {
            break;
        }
    }
}
