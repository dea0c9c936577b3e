//! The state file: what the old program leaves in memory for the new one.
//!
//! ```text
//! byte 0     magic "WHIMSTAT"
//!      8     version of the state, u32          all numbers of this file's frame are little-endian
//!     12     CRC-32C of bytes 16 to 47
//!     16     bytes of the whole file, u64
//!     24     blocks, u64
//!     32     sessions in all blocks, u64
//!     40     unused
//!     48     1 when a restore has begun, 2 when the old program has begun to restore itself
//!     52     length of the note, u32
//!     56     the note: why the new program has given up, up to 1,024 bytes
//!   4096     blocks, each at a multiple of 8
//!
//! block 0    magic "blk1"
//!       4    kind: 0 the server, 1 sessions; then an unused byte
//!       6    worker that wrote it, u16
//!       8    records, u32
//!      12    bytes of the content, u32
//!      16    CRC-32C of bytes 0 to 15 and of the content
//!      20    unused
//!      24    content
//! ```
//!
//! Workers write their blocks side by side: each takes the next free place and writes there. A record lies in one
//! block whole, and a block can be read without any other. The frame is the same in all versions; what is in the
//! blocks depends on the version.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{STATE_VERSION_NEWEST, STATE_VERSION_OLDEST, StateError};

const MAGIC: &[u8; 8] = b"WHIMSTAT";
const BLOCK_MAGIC: &[u8; 4] = b"blk1";

/// Where the blocks begin.
const BLOCKS_AT: u64 = 4096;

const BLOCK_HEAD_BYTES: usize = 24;

const ATTEMPT_AT: u64 = 48;
const NOTE_AT: u64 = 52;

/// Bytes of the note at most.
pub const NOTE_BYTES_MAX: usize = 1024;

/// A block is written when it has so many bytes.
pub const BLOCK_BYTES: usize = 1 << 20;

/// What a block holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// The one record of the server as a whole.
    Server,
    /// Sessions.
    Sessions,
}

/// Writes blocks, from several threads.
pub struct StateWriter {
    file: File,
    end: AtomicU64,
    blocks: AtomicU64,
    sessions: AtomicU64,
}

impl StateWriter {
    /// Writes into an empty file.
    #[must_use]
    pub fn new(file: File) -> StateWriter {
        StateWriter {
            file,
            end: AtomicU64::new(BLOCKS_AT),
            blocks: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes one block.
    ///
    /// # Errors
    /// The system has no memory for it, or the content has more than 4 GiB.
    pub fn block(&self, kind: BlockKind, worker: usize, records: u32, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut head = [0; BLOCK_HEAD_BYTES];
        head[..4].copy_from_slice(BLOCK_MAGIC);
        head[4] = match kind {
            BlockKind::Server => 0,
            BlockKind::Sessions => 1,
        };
        head[6..8].copy_from_slice(&u16::try_from(worker).unwrap_or(u16::MAX).to_le_bytes());
        head[8..12].copy_from_slice(&records.to_le_bytes());
        head[12..16].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..16]), content);
        head[16..20].copy_from_slice(&crc.to_le_bytes());
        let size = (BLOCK_HEAD_BYTES + content.len()).next_multiple_of(8) as u64;
        let at = self.end.fetch_add(size, Ordering::Relaxed);
        self.file.write_all_at(&head, at)?;
        self.file.write_all_at(content, at + BLOCK_HEAD_BYTES as u64)?;
        self.blocks.fetch_add(1, Ordering::Relaxed);
        if kind == BlockKind::Sessions {
            self.sessions.fetch_add(records.into(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes the head, when all blocks are there. Returns the bytes of the file.
    ///
    /// # Errors
    /// The system's reason.
    pub fn finish(&self, version: u32) -> io::Result<u64> {
        let end = self.end.load(Ordering::Acquire);
        self.file.set_len(end)?;
        let mut head = [0; ATTEMPT_AT as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&version.to_le_bytes());
        head[16..24].copy_from_slice(&end.to_le_bytes());
        head[24..32].copy_from_slice(&self.blocks.load(Ordering::Acquire).to_le_bytes());
        head[32..40].copy_from_slice(&self.sessions.load(Ordering::Acquire).to_le_bytes());
        let crc = crc32c::crc32c(&head[16..]);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&head, 0)?;
        Ok(end)
    }

    /// Sessions written so far.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }
}

/// How often somebody has begun to restore from a file; counts this time as well.
///
/// # Errors
/// The system's reason.
pub fn count_attempt(file: &File) -> io::Result<u32> {
    let mut before = [0; 4];
    file.read_exact_at(&mut before, ATTEMPT_AT)?;
    let before = u32::from_le_bytes(before);
    file.write_all_at(&before.saturating_add(1).to_le_bytes(), ATTEMPT_AT)?;
    Ok(before)
}

/// Leaves a note for whoever restores next; cut where there is no room.
///
/// # Errors
/// The system's reason.
pub fn leave_note(file: &File, note: &str) -> io::Result<()> {
    let note = &note.as_bytes()[..note.floor_char_boundary_at(NOTE_BYTES_MAX)];
    file.write_all_at(note, NOTE_AT + 4)?;
    file.write_all_at(&(note.len() as u32).to_le_bytes(), NOTE_AT)
}

/// The note that was left; empty when there is none.
///
/// # Errors
/// The system's reason.
pub fn note(file: &File) -> io::Result<String> {
    let mut length = [0; 4];
    file.read_exact_at(&mut length, NOTE_AT)?;
    let mut note = vec![0; (u32::from_le_bytes(length) as usize).min(NOTE_BYTES_MAX)];
    file.read_exact_at(&mut note, NOTE_AT + 4)?;
    Ok(String::from_utf8_lossy(&note).into_owned())
}

/// Where a text can be cut.
trait Cut {
    fn floor_char_boundary_at(&self, most: usize) -> usize;
}

impl Cut for str {
    fn floor_char_boundary_at(&self, most: usize) -> usize {
        (0..=most.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or(0)
    }
}

/// A block as it is read.
#[derive(Copy, Clone, Debug)]
pub struct Block<'a> {
    /// What it holds.
    pub kind: BlockKind,
    /// The worker that wrote it.
    pub worker: u16,
    /// Records in it.
    pub records: u32,
    /// The records.
    pub content: &'a [u8],
}

/// A state file as it is read: framed, with all checksums right.
#[derive(Debug)]
pub struct StateFile<'a> {
    /// The version of what is in the blocks.
    pub version: u32,
    /// Sessions in all blocks.
    pub sessions: u64,
    /// The blocks.
    pub blocks: Vec<Block<'a>>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The version that a state file says it has.
///
/// # Errors
/// It is no state file.
pub fn version_of(bytes: &[u8]) -> Result<u32, StateError> {
    if !bytes.starts_with(MAGIC) {
        return Err(StateError::NotAState);
    }
    u32_at(bytes, 8).ok_or(StateError::NotAState)
}

impl<'a> StateFile<'a> {
    /// Reads the frame and checks everything that does not depend on the version.
    ///
    /// # Errors
    /// It is no state file, of a version that this program does not read, or damaged.
    pub fn read(bytes: &'a [u8]) -> Result<StateFile<'a>, StateError> {
        let version = version_of(bytes)?;
        if !(STATE_VERSION_OLDEST..=STATE_VERSION_NEWEST).contains(&version) {
            return Err(StateError::UnknownVersion { found: version });
        }
        let cut = StateError::Damaged("it ends too early");
        let head = bytes.get(16..ATTEMPT_AT as usize).ok_or(cut)?;
        if u32_at(bytes, 12) != Some(crc32c::crc32c(head)) {
            return Err(StateError::Damaged("the checksum of its head does not fit"));
        }
        let read = |at| u64_at(bytes, at).ok_or(StateError::Damaged("it ends too early"));
        let (length, count, sessions) = (read(16)?, read(24)?, read(32)?);
        if length != bytes.len() as u64 {
            return Err(StateError::Damaged("it is not as long as it says"));
        }
        let mut rest = bytes.get(BLOCKS_AT as usize..).ok_or(StateError::Damaged("it ends too early"))?;
        let mut blocks = Vec::new();
        let mut found = 0u64;
        while !rest.is_empty() {
            let (block, size) = Block::read(rest)?;
            if block.kind == BlockKind::Sessions {
                found += u64::from(block.records);
            }
            blocks.push(block);
            rest = rest.get(size..).unwrap_or_default();
        }
        if (blocks.len() as u64, found) != (count, sessions) {
            return Err(StateError::Damaged("it does not hold as much as it says"));
        }
        Ok(StateFile { version, sessions, blocks })
    }
}

impl<'a> Block<'a> {
    /// The first block, and the bytes to the next one.
    fn read(bytes: &'a [u8]) -> Result<(Block<'a>, usize), StateError> {
        let damaged = StateError::Damaged("a block is cut");
        let (head, rest) = bytes.split_first_chunk::<BLOCK_HEAD_BYTES>().ok_or(damaged)?;
        if !head.starts_with(BLOCK_MAGIC) {
            return Err(StateError::Damaged("a block is missing"));
        }
        let field = |at: usize| u32_at(head, at).expect("the head has 24 bytes");
        let length = field(12) as usize;
        let content = rest.get(..length).ok_or(StateError::Damaged("a block is cut"))?;
        if field(16) != crc32c::crc32c_append(crc32c::crc32c(&head[..16]), content) {
            return Err(StateError::Damaged("the checksum of a block does not fit"));
        }
        let kind = match head[4] {
            0 => BlockKind::Server,
            1 => BlockKind::Sessions,
            _ => return Err(StateError::Damaged("a block of an unknown kind")),
        };
        let worker = u16::from_le_bytes([head[6], head[7]]);
        let block = Block { kind, worker, records: field(8), content };
        Ok((block, (BLOCK_HEAD_BYTES + length).next_multiple_of(8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (File, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        let writer = StateWriter::new(file.try_clone().unwrap());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let writer = &writer;
                scope.spawn(move || {
                    for n in 0..20u8 {
                        writer.block(BlockKind::Sessions, worker, 3, &vec![n; usize::from(n) * 7]).unwrap();
                    }
                });
            }
        });
        writer.block(BlockKind::Server, 0, 1, b"server").unwrap();
        let length = writer.finish(STATE_VERSION_NEWEST).unwrap();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (file, bytes)
    }

    #[test]
    fn blocks_of_many_writers_are_all_found() {
        let (_, bytes) = written();
        let state = StateFile::read(&bytes).unwrap();
        assert_eq!((state.blocks.len(), state.sessions), (81, 240));
        for worker in 0..4 {
            let of_worker = state.blocks.iter().filter(|block| block.worker == worker);
            let sizes: Vec<usize> = of_worker
                .filter(|block| block.kind == BlockKind::Sessions)
                .map(|block| block.content.len())
                .collect();
            assert_eq!(sizes, (0..20).map(|n| n * 7).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        let (_, bytes) = written();
        let framed = (0..ATTEMPT_AT as usize).chain(BLOCKS_AT as usize..bytes.len());
        let mut unseen = Vec::new();
        for at in framed.step_by(3) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if StateFile::read(&changed).is_ok() {
                unseen.push(at);
            }
        }
        // Bytes that mean nothing: the end of a block's head, and what fills it up to the next.
        let all = StateFile::read(&bytes).unwrap();
        let start = bytes.as_ptr() as usize;
        let inside = |at: usize| {
            all.blocks.iter().any(|block| {
                let content = block.content.as_ptr() as usize - start;
                (content - BLOCK_HEAD_BYTES..content - 4).contains(&at)
                    || (content..content + block.content.len()).contains(&at)
            })
        };
        assert!(unseen.iter().all(|&at| at >= BLOCKS_AT as usize && !inside(at)), "{unseen:?}");
        for length in (0..bytes.len()).step_by(101) {
            assert!(StateFile::read(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_version_from_the_future_is_named() {
        let (_, mut bytes) = written();
        bytes[8] = 99;
        assert!(matches!(StateFile::read(&bytes), Err(StateError::UnknownVersion { found: 99 })));
    }

    #[test]
    fn attempts_are_counted_and_a_note_is_kept() {
        let (file, _) = written();
        assert_eq!(note(&file).unwrap(), "");
        assert_eq!((count_attempt(&file).unwrap(), count_attempt(&file).unwrap()), (0, 1));
        leave_note(&file, &"ü".repeat(NOTE_BYTES_MAX)).unwrap();
        assert_eq!(note(&file).unwrap(), "ü".repeat(NOTE_BYTES_MAX / 2));
        let mut bytes = Vec::new();
        let length = file.metadata().unwrap().len();
        bytes.resize(length as usize, 0);
        file.read_exact_at(&mut bytes, 0).unwrap();
        StateFile::read(&bytes).unwrap();
    }
}
