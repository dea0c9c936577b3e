//! Ids and rows of uploads.

use std::fmt;
use std::str::FromStr;

use crate::actor::ActorId;

use super::super::codec::{Decoder, Encoder};

/// Bytes of an id.
pub(super) const ID_BYTES: usize = 24;

/// Bytes of it that are random: whoever knows the id may fetch the file.
pub const UPLOAD_RANDOM_BYTES: usize = 16;

/// Most bytes of a file's name.
pub const UPLOAD_NAME_BYTES_MAX: usize = 255;

pub(super) const DAY_MS: u64 = 86_400_000;

/// Names an upload from its slot to its end; in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub(super) [u8; ID_BYTES]);

impl UploadId {
    /// Of a slot that is given at this time, milliseconds since 1970.
    #[must_use]
    pub fn new(now_ms: u64, random: [u8; UPLOAD_RANDOM_BYTES]) -> Self {
        let mut bytes = [0; ID_BYTES];
        bytes[..8].copy_from_slice(&now_ms.to_be_bytes());
        bytes[8..].copy_from_slice(&random);
        Self(bytes)
    }

    /// When its slot was given, milliseconds since 1970.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        let (time, _) = self.0.split_first_chunk().expect("an id has 24 bytes");
        u64::from_be_bytes(*time)
    }

    /// The id that comes right before it; `None`: it is the first.
    pub(super) fn before(&self) -> Option<Self> {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            let (less, borrows) = byte.overflowing_sub(1);
            *byte = less;
            if !borrows {
                return Some(Self(bytes));
            }
        }
        None
    }

    /// A byte by which ids are spread evenly.
    #[must_use]
    pub fn spread(&self) -> u8 {
        self.0[8]
    }

    pub(super) fn of_key(key: &[u8]) -> Result<Self, &'static str> {
        key.try_into().map(Self).map_err(|_| "a key of another length")
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload is named by 48 lower-case hexadecimal digits")]
pub struct NoUploadId;

impl FromStr for UploadId {
    type Err = NoUploadId;

    fn from_str(text: &str) -> Result<Self, NoUploadId> {
        let text = text.as_bytes();
        if text.len() != 2 * ID_BYTES {
            return Err(NoUploadId);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NoUploadId),
        };
        let mut bytes = [0; ID_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// A file, or a slot for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// The account.
    pub actor: ActorId,
    /// Localpart of the account.
    pub local: String,
    /// Name of the file, as its client has said.
    pub name: String,
    /// Media type; empty where the client has said none.
    pub media: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of a slot: until when a transfer may begin. Of a file: when it came. Milliseconds since 1970.
    pub time_ms: u64,
    /// CRC-32C of the file; of a slot 0.
    pub checksum: u32,
}

impl Upload {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Encoder::new(64 + self.local.len() + self.name.len() + self.media.len());
        fields.number(self.actor.raw());
        fields.text(self.local.as_bytes());
        fields.text(self.name.as_bytes());
        fields.text(self.media.as_bytes());
        fields.number(self.bytes);
        fields.number(self.time_ms);
        fields.number(self.checksum.into());
        fields.seal(&self.id.0)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let id = UploadId::of_key(key)?;
        let mut fields = Decoder::open(key, value)?;
        let upload = Self {
            id,
            actor: ActorId::from_raw(fields.number()?),
            local: fields.text()?.to_owned(),
            name: fields.text()?.to_owned(),
            media: fields.text()?.to_owned(),
            bytes: fields.number()?,
            time_ms: fields.number()?,
            checksum: u32::try_from(fields.number()?).map_err(|_| "a checksum of more than four bytes")?,
        };
        fields.close()?;
        Ok(upload)
    }
}

/// What an account has uploaded, or all have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadUsage {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Slots that wait for a file.
    pub slots: u64,
    /// Bytes of these files, when they come.
    pub slot_bytes: u64,
    /// The day (since 1970, UTC) that the next two are about.
    pub day: u64,
    /// Slots that were given on it.
    pub day_files: u64,
    /// Their bytes.
    pub day_bytes: u64,
}

impl UploadUsage {
    fn fields(&self) -> [u64; 7] {
        [self.files, self.bytes, self.slots, self.slot_bytes, self.day, self.day_files, self.day_bytes]
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(56);
        self.fields().into_iter().for_each(|field| fields.number(field));
        fields.seal(key)
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let usage = Self {
            files: fields.number()?,
            bytes: fields.number()?,
            slots: fields.number()?,
            slot_bytes: fields.number()?,
            day: fields.number()?,
            day_files: fields.number()?,
            day_bytes: fields.number()?,
        };
        fields.close()?;
        Ok(usage)
    }

    /// Bytes that are taken or promised.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.bytes.saturating_add(self.slot_bytes)
    }

    /// A slot more.
    pub(super) fn promise(&mut self, bytes: u64, now_ms: u64) {
        self.enter_day(now_ms);
        self.slots += 1;
        self.slot_bytes += bytes;
        self.day_files += 1;
        self.day_bytes = self.day_bytes.saturating_add(bytes);
    }

    pub(super) fn enter_day(&mut self, now_ms: u64) {
        let day = now_ms / DAY_MS;
        if self.day != day {
            (self.day, self.day_files, self.day_bytes) = (day, 0, 0);
        }
    }

    pub(super) fn leave_slot(&mut self, bytes: u64) {
        self.slots = self.slots.saturating_sub(1);
        self.slot_bytes = self.slot_bytes.saturating_sub(bytes);
    }

    pub(super) fn leave_file(&mut self, bytes: u64) {
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
