//! The bytes of a download, from the disk or from the object store.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;
use whimbrel_objects::{Failure, Outgoing};
use whimbrel_storage::directory::Upload;

use super::put::Counted;
use super::transfers::Transfer;
use super::{Core, PIECE, key_of};

/// A piece of a file, and the file for the next.
type Piece = io::Result<(File, Vec<u8>)>;

/// Why there are no bytes.
pub(super) enum Fault {
    /// There is no thread for it.
    Busy,
    /// The disk has failed, or has no such file.
    Disk(io::Error),
    /// The object store has not given it.
    Store(Failure),
}

/// Where the next piece comes from.
enum Source {
    /// One is being read.
    Disk(oneshot::Receiver<Piece>),
    Object(Outgoing),
    /// There is none.
    Nothing,
}

/// The bytes of a file: while one piece is sent, the next is read.
pub(super) struct FileBody {
    core: Arc<Core>,
    /// Bytes that have not been handed over.
    left: u64,
    source: Source,
    end: Instant,
    _transfer: Transfer,
    _counted: Counted,
}

impl FileBody {
    /// Opens a file. One that is not on the disk is an object, where there is a store.
    pub(super) async fn begin(
        core: &Arc<Core>,
        file: &Upload,
        part: Range<u64>,
        transfer: Transfer,
        end: Instant,
    ) -> Result<FileBody, Fault> {
        let (left, start) = (part.end - part.start, part.start);
        let opened = open(core, file, start).await;
        let source = match (&core.store, opened) {
            (Some(store), Err(Fault::Disk(error))) if error.kind() == io::ErrorKind::NotFound => {
                let object = store.open(&key_of(&file.id), part, file.bytes).await;
                Ok(Source::Object(object.map_err(Fault::Store)?))
            }
            (_, opened) => Err(opened?),
        };
        let (_transfer, _counted) = (transfer, Counted::begin(core));
        let mut body =
            FileBody { core: core.clone(), left, source: Source::Nothing, end, _transfer, _counted };
        match source {
            Ok(object) => body.source = object,
            Err(file) => body.read(file, left).map_err(|_| Fault::Busy)?,
        }
        Ok(body)
    }

    /// Has the next piece read, when some of `left` bytes are left.
    fn read(&mut self, mut file: File, left: u64) -> io::Result<()> {
        if left == 0 {
            self.source = Source::Nothing;
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
        self.source = Source::Disk(self.core.threads.begin(read).map_err(busy)?);
        Ok(())
    }

    /// The next piece.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Next>>> {
        Poll::Ready(match &mut self.source {
            Source::Nothing => None,
            Source::Disk(reading) => {
                let piece = ready!(Pin::new(reading).poll(context));
                self.source = Source::Nothing;
                let piece = piece.unwrap_or(Err(io::ErrorKind::Interrupted.into()));
                Some(piece.map(|(file, piece)| (Some(file), piece.into())))
            }
            Source::Object(object) => Some(match ready!(object.poll_next(context)) {
                Some(Ok(piece)) if piece.len() as u64 <= self.left => Ok((None, piece)),
                Some(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
                Some(Err(failure)) => Err(io::Error::other(failure)),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }),
        })
    }
}

/// A piece of a file, and the file on the disk for those behind it.
type Next = (Option<File>, Bytes);

/// Opens a file on the disk, and goes to where the part begins.
async fn open(core: &Core, file: &Upload, start: u64) -> Result<File, Fault> {
    let (files, id, bytes) = (core.files.clone(), file.id, file.bytes);
    let open = move || -> io::Result<File> {
        let mut file = files.open(&id)?;
        if file.metadata()?.len() != bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has another length than it had"));
        }
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    };
    core.threads.run(open).await.map_err(|_| Fault::Busy)?.map_err(Fault::Disk)
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(piece) = ready!(this.poll_piece(context)) else { return Poll::Ready(None) };
        let (file, piece) = match piece {
            Ok(read) => read,
            Err(error) => {
                this.source = Source::Nothing;
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
        match file {
            Some(file) => {
                if let Err(error) = this.read(file, this.left) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            None if this.left == 0 => this.source = Source::Nothing,
            None => {}
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
