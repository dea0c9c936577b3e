//! An object that comes: it is there when all of it has come, and not before.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::failure::{Failure, Reason};
use crate::store::{Core, Store};

/// Bytes of a part: the fewest that S3 takes of any but the last.
pub const PART_BYTES: usize = 5 << 20;

/// Parts of one object, as S3 has it.
const PARTS_MAX: u64 = 10_000;

/// Bytes of the largest object.
pub const OBJECT_BYTES_MAX: u64 = PARTS_MAX * PART_BYTES as u64;

/// How long the store may take to forget what came of an object that is given up.
const ABORT: Duration = Duration::from_secs(20);

/// An object on its way. It holds memory for one part, or for all of it if it is smaller. When this is dropped before it is
/// finished, the store is told to forget what has come.
pub struct Incoming {
    core: Arc<Core>,
    path: Path,
    bytes: u64,
    came: u64,
    checksum: u32,
    part: Vec<u8>,
    /// The upload of an object that has several parts, once the first is full.
    upload: Option<String>,
    parts: Vec<PartId>,
    held: Option<(OwnedSemaphorePermit, Box<dyn Any + Send + Sync>)>,
}

impl Incoming {
    pub(crate) async fn begin(
        core: Arc<Core>,
        path: Path,
        bytes: u64,
        kept: Box<dyn Any + Send + Sync>,
    ) -> Result<Incoming, Failure> {
        if bytes > OBJECT_BYTES_MAX {
            return Err(Failure::new(Reason::Wrong, format!("an object may have {OBJECT_BYTES_MAX} bytes")));
        }
        let memory = core.memory(part_of(bytes)).await?;
        let held = Some((memory, kept));
        let (part, parts) = (Vec::new(), Vec::new());
        Ok(Incoming { core, path, bytes, came: 0, checksum: 0, part, upload: None, parts, held })
    }

    /// Takes the next bytes, and sends what is a whole part. Gives the emptied buffer back. When this fails, or nobody waits for
    /// it any more, the object is given up.
    ///
    /// # Errors
    /// Why it is given up.
    pub async fn write(self, store: &Store, piece: Vec<u8>) -> Result<(Incoming, Vec<u8>), Failure> {
        store.run(self.take(piece)).await
    }

    /// All of it has come: returns its CRC-32C when the store has it.
    ///
    /// # Errors
    /// [`Reason::Wrong`]: something is missing; or why the store does not have it.
    pub async fn finish(self, store: &Store) -> Result<u32, Failure> {
        store.run(self.complete()).await
    }

    async fn take(mut self, mut piece: Vec<u8>) -> Result<(Incoming, Vec<u8>), Failure> {
        self.checksum = crc32c::crc32c_append(self.checksum, &piece);
        if self.came + piece.len() as u64 > self.bytes {
            return Err(Failure::new(Reason::Wrong, "more has come than was announced"));
        }
        let mut rest = &piece[..];
        while !rest.is_empty() {
            if self.part.is_empty() {
                self.part = Vec::with_capacity(part_of(self.bytes - self.came));
            }
            let (now, later) = rest.split_at(rest.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(now);
            self.came += now.len() as u64;
            rest = later;
            // The last one is sent with the end.
            if self.part.len() == PART_BYTES && self.came < self.bytes {
                self.send_part().await?;
            }
        }
        piece.clear();
        Ok((self, piece))
    }

    async fn send_part(&mut self) -> Result<(), Failure> {
        if self.upload.is_none() {
            self.upload = Some(self.core.s3.create_multipart(&self.path).await?);
        }
        let upload = self.upload.as_ref().expect("it was just made");
        let part = PutPayload::from(Bytes::from(std::mem::take(&mut self.part)));
        let sent = self.core.s3.put_part(&self.path, upload, self.parts.len(), part).await?;
        self.parts.push(sent);
        Ok(())
    }

    async fn complete(mut self) -> Result<u32, Failure> {
        if self.came != self.bytes {
            return Err(Failure::new(Reason::Wrong, "not all of it has come"));
        }
        if self.upload.is_none() {
            let whole = PutPayload::from(Bytes::from(std::mem::take(&mut self.part)));
            self.core.s3.put(&self.path, whole).await?;
            return Ok(self.checksum);
        }
        self.send_part().await?;
        let upload = self.upload.clone().expect("looked at above");
        self.core.s3.complete_multipart(&self.path, &upload, std::mem::take(&mut self.parts)).await?;
        // There is nothing to forget any more.
        self.upload = None;
        Ok(self.checksum)
    }
}

/// Memory for a part of what is left.
fn part_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PART_BYTES)
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        let (core, path, held) = (self.core.clone(), self.path.clone(), self.held.take());
        self.core.handle.spawn(async move {
            // One that stays is found by the next sweep.
            if let Ok(Ok(())) = timeout(ABORT, core.s3.abort_multipart(&path, &upload)).await {
                core.count_aborted();
            }
            drop(held);
        });
    }
}
