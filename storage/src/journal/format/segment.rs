//! A segment: its header, and its name.

use super::super::options::{PAGE_BYTES, SEGMENT_BYTES_MAX};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 128;
/// What this release writes.
pub(crate) const FORMAT: u32 = 3;
/// End of the name of a segment's file; before it stands the base position, in 16 hexadecimal digits.
pub(crate) const SUFFIX: &str = ".seg";

const MAGIC: &[u8; 8] = b"WHIMLOG\n";
const AT_FORMAT: usize = 8;
const AT_SHARD: usize = 12;
const AT_SHARDS: usize = 16;
const AT_LOG_ID: usize = 24;
const AT_BASE: usize = 32;
const AT_BYTES: usize = 40;
const AT_SEQUENCE: usize = 48;
const AT_CHECKSUM: usize = HEADER_BYTES - 4;
const _: () =
    assert!(AT_SEQUENCE + 8 <= AT_CHECKSUM && HEADER_BYTES.is_multiple_of(super::record::ALIGNMENT));

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Which of the logs it belongs to.
    pub(crate) shard: u32,
    /// How many logs there are.
    pub(crate) shards: u32,
    /// Random, another for each log.
    pub(crate) log_id: u64,
    /// Position of the segment's first byte.
    pub(crate) base: u64,
    /// Bytes of the segment: the next one's base is this one's plus these.
    pub(crate) bytes: u64,
    /// Ids given when it was prepared were less than this.
    pub(crate) sequence: u64,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderFault {
    /// It is of another format.
    Format(u32),
    /// It is damaged.
    Bad(&'static str),
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..AT_FORMAT].copy_from_slice(MAGIC);
        bytes[AT_FORMAT..AT_SHARD].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[AT_SHARD..AT_SHARDS].copy_from_slice(&self.shard.to_le_bytes());
        bytes[AT_SHARDS..AT_SHARDS + 4].copy_from_slice(&self.shards.to_le_bytes());
        bytes[AT_LOG_ID..AT_BASE].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[AT_BASE..AT_BYTES].copy_from_slice(&self.base.to_le_bytes());
        bytes[AT_BYTES..AT_SEQUENCE].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[AT_SEQUENCE..AT_SEQUENCE + 8].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..AT_CHECKSUM]);
        bytes[AT_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderFault::Bad("the file is shorter than a segment's header"));
        };
        if &bytes[..AT_FORMAT] != MAGIC {
            return Err(HeaderFault::Bad("it does not begin as a segment does"));
        }
        if u32_at(bytes, AT_CHECKSUM) != crc32c::crc32c(&bytes[..AT_CHECKSUM]) {
            return Err(HeaderFault::Bad("the checksum of the segment's header does not fit"));
        }
        if u32_at(bytes, AT_FORMAT) != FORMAT {
            return Err(HeaderFault::Format(u32_at(bytes, AT_FORMAT)));
        }
        let header = Self {
            shard: u32_at(bytes, AT_SHARD),
            shards: u32_at(bytes, AT_SHARDS),
            log_id: u64_at(bytes, AT_LOG_ID),
            base: u64_at(bytes, AT_BASE),
            bytes: u64_at(bytes, AT_BYTES),
            sequence: u64_at(bytes, AT_SEQUENCE),
        };
        let is_sound = header.bytes.is_multiple_of(PAGE_BYTES)
            && (PAGE_BYTES..=SEGMENT_BYTES_MAX).contains(&header.bytes)
            && is_base(header.base);
        if is_sound { Ok(header) } else { Err(HeaderFault::Bad("a segment's header that cannot be")) }
    }
}

/// Name of the file of the segment with this base.
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:016x}{SUFFIX}")
}

/// The base that a file's name tells; `None` for the name of something else.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let base = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()?;
    is_base(base).then_some(base)
}

/// Whether a segment can begin there. Leaves room to count on.
fn is_base(base: u64) -> bool {
    base.is_multiple_of(PAGE_BYTES) && base < 1 << 62
}

/// Bytes that a segment with a damaged header must have had, as far as the file tells.
pub(crate) fn likely_bytes(file_bytes: usize) -> u64 {
    (file_bytes as u64).max(1).next_multiple_of(PAGE_BYTES)
}
