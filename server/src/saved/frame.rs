//! The state file as it is written: what the old program leaves in memory for the new one.
//!
//! ```text
//! byte 0     magic "WHIMSTAT"
//!      8     version of the frame, u32          all numbers of the frame are little-endian
//!     12     CRC-32C of bytes 16 to 47
//!     16     bytes of the whole file, u64
//!     24     blocks, u64
//!     32     records in all blocks, u64
//!     40     unused
//!     48     1 when a restore has begun, 2 when the old program has begun to restore itself
//!     52     length of the note, u32
//!     56     the note: why the new program has given up, up to 1,024 bytes
//!   4096     blocks, each at a multiple of 8
//!
//! block 0    magic "blk2"
//!       4    CRC-32C of bytes 8 to 39 and of the content
//!       8    kind: its name in ASCII, filled up with zeros to 16 bytes
//!      24    version of the content, u16
//!      26    worker that wrote it, u16; 0 for what belongs to the server as a whole
//!      28    records, u32
//!      32    bytes of the content, u32
//!      36    1: a program that does not know the kind may leave it out; 0: it must refuse the state
//!      37    unused, 3 bytes
//!      40    content: the records, as the owner of the kind writes them
//! ```
//!
//! Workers write their blocks side by side: each takes the next free place and writes there. A record lies in one
//! block whole, and a block can be read without any other.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::attempt::ATTEMPT_AT;
use super::codec::Encoder;
use super::counts::Counts;
use super::error::{STATE_VERSION_NEWEST, WriteError};
use super::kind::Versions;
use super::owner::Owner;

pub(super) const MAGIC: &[u8; 8] = b"WHIMSTAT";
pub(super) const BLOCK_MAGIC: &[u8; 4] = b"blk2";

/// Where the blocks begin.
pub(super) const BLOCKS_AT: u64 = 4096;

pub(super) const BLOCK_HEAD_BYTES: usize = 40;

/// Set in the head of a block that may be left out.
pub(super) const DROPPABLE: u8 = 1;

/// A block is written when it has so many bytes.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Writes blocks, from several threads.
pub struct StateWriter {
    file: File,
    versions: Versions,
    end: AtomicU64,
    blocks: AtomicU64,
    records: AtomicU64,
    written: Mutex<Written>,
}

/// What all blocks hold.
#[derive(Default)]
struct Written {
    counts: Counts,
    descriptors: Vec<u32>,
}

impl StateWriter {
    /// Writes into an empty file, for a program that reads these versions.
    #[must_use]
    pub fn new(file: File, versions: Versions) -> StateWriter {
        StateWriter {
            file,
            versions,
            end: AtomicU64::new(BLOCKS_AT),
            blocks: AtomicU64::new(0),
            records: AtomicU64::new(0),
            written: Mutex::default(),
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The versions that are written.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Begins to write what an owner has on one worker.
    pub fn blocks<O: Owner>(&self, worker: usize) -> BlockWriter<'_, O> {
        let version = self.versions.of(&O::KIND);
        BlockWriter {
            state: self,
            worker: u16::try_from(worker).unwrap_or(u16::MAX),
            version,
            encoder: Encoder::new(version.unwrap_or(O::KIND.newest)),
            records: 0,
            written: Written::default(),
            owner: PhantomData,
        }
    }

    /// Writes what an owner has of the server as a whole, in one record.
    ///
    /// # Errors
    /// The system has no memory for it, or the reader does not know the kind.
    pub fn put<O: Owner>(&self, record: &O::Record<'_>) -> Result<(), WriteError> {
        let mut blocks = self.blocks::<O>(0);
        blocks.put(record)?;
        blocks.finish()
    }

    /// Writes what an owner has of the server as a whole, in several records or none.
    ///
    /// # Errors
    /// The system has no memory for it, or the reader does not know the kind.
    pub fn put_all<'a, O: Owner>(&self, records: &[O::Record<'a>]) -> Result<(), WriteError> {
        let mut blocks = self.blocks::<O>(0);
        records.iter().try_for_each(|record| blocks.put(record))?;
        blocks.finish()
    }

    fn append(&self, head: &mut [u8; BLOCK_HEAD_BYTES], content: &[u8], records: u32) -> io::Result<()> {
        head[..4].copy_from_slice(BLOCK_MAGIC);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[8..]), content);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        let size = (BLOCK_HEAD_BYTES + content.len()).next_multiple_of(8) as u64;
        let at = self.end.fetch_add(size, Ordering::Relaxed);
        self.file.write_all_at(head, at)?;
        self.file.write_all_at(content, at + BLOCK_HEAD_BYTES as u64)?;
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records.into(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the head, when all blocks are there. Returns the bytes of the file.
    ///
    /// # Errors
    /// The system has no memory for it.
    pub fn finish(&self) -> Result<u64, WriteError> {
        let end = self.end.load(Ordering::Acquire);
        self.file.set_len(end)?;
        let mut head = [0; ATTEMPT_AT as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&STATE_VERSION_NEWEST.to_le_bytes());
        head[16..24].copy_from_slice(&end.to_le_bytes());
        head[24..32].copy_from_slice(&self.blocks.load(Ordering::Acquire).to_le_bytes());
        head[32..40].copy_from_slice(&self.records.load(Ordering::Acquire).to_le_bytes());
        let crc = crc32c::crc32c(&head[16..]);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&head, 0)?;
        Ok(end)
    }

    /// What was written so far, by name.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn counts(&self) -> Counts {
        self.written.lock().expect("nothing panics while it holds this lock").counts.clone()
    }

    /// The descriptors that must stay open when the process becomes another program.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn descriptors(&self) -> Vec<u32> {
        self.written.lock().expect("nothing panics while it holds this lock").descriptors.clone()
    }
}

/// Writes the records of one owner, as many blocks as they take.
pub struct BlockWriter<'a, O> {
    state: &'a StateWriter,
    worker: u16,
    version: Option<u16>,
    encoder: Encoder,
    records: u32,
    written: Written,
    owner: PhantomData<O>,
}

impl<O: Owner> BlockWriter<'_, O> {
    /// Writes a record. One of a kind that may be left out, and that the reader does not know, is left out.
    ///
    /// # Errors
    /// The system has no memory for it, or the reader does not know the kind.
    pub fn put(&mut self, record: &O::Record<'_>) -> Result<(), WriteError> {
        if self.version.is_none() {
            let kind = O::KIND;
            return if kind.is_droppable { Ok(()) } else { Err(WriteError::NotTaken { kind: kind.name }) };
        }
        self.written.counts.add(O::KIND.name, 1);
        O::count(record, &mut self.written.counts);
        O::descriptors(record, &mut self.written.descriptors);
        O::write(record, &mut self.encoder);
        self.records += 1;
        if self.encoder.bytes().len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let content = self.encoder.bytes();
        let length =
            u32::try_from(content.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let version = self.version.unwrap_or(O::KIND.newest);
        let mut head = [0; BLOCK_HEAD_BYTES];
        head[8..24].copy_from_slice(&O::KIND.bytes());
        head[24..26].copy_from_slice(&version.to_le_bytes());
        head[26..28].copy_from_slice(&self.worker.to_le_bytes());
        head[28..32].copy_from_slice(&self.records.to_le_bytes());
        head[32..36].copy_from_slice(&length.to_le_bytes());
        head[36] = if O::KIND.is_droppable { DROPPABLE } else { 0 };
        self.state.append(&mut head, content, self.records)?;
        self.encoder.clear();
        self.records = 0;
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`BlockWriter::put`].
    ///
    /// # Panics
    /// Never: nothing panics while it holds the lock.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if self.records > 0 {
            self.flush()?;
        }
        let mut written = self.state.written.lock().expect("nothing panics while it holds this lock");
        written.counts.add_all(&self.written.counts);
        written.descriptors.append(&mut self.written.descriptors);
        Ok(())
    }
}
