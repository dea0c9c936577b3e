//! How a value lies in the map.
//!
//! ```text
//! byte 0    format of the table's values, 1
//! ...       fields; integers little endian, texts with a length of four bytes before them
//! last 4    CRC-32C of the key and everything before
//! ```
//!
//! Decoding is strict: whatever does not read back exactly is an error that names what is wrong, and never a panic.

use super::checksum::crc32c;

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Writes one value.
pub(super) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// A value with room for `fields` bytes of fields.
    pub(super) fn new(fields: usize) -> Self {
        let mut bytes = Vec::with_capacity(1 + fields + CHECKSUM_BYTES);
        bytes.push(FORMAT);
        Self { bytes }
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn number(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn count(&mut self, value: usize) {
        let value =
            u32::try_from(value).expect("values are limited to VALUE_BYTES_MAX before they are encoded");
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// The value, sealed for its key.
    pub(super) fn seal(mut self, key: &[u8]) -> Vec<u8> {
        let checksum = crc32c(&[key, &self.bytes]);
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}

/// Reads one value. Errors say what is wrong with it.
pub(super) struct Decoder<'v> {
    rest: &'v [u8],
}

impl<'v> Decoder<'v> {
    /// Checks the checksum and the format.
    pub(super) fn open(key: &[u8], value: &'v [u8]) -> Result<Self, &'static str> {
        let (fields, checksum) = value.split_last_chunk::<CHECKSUM_BYTES>().ok_or("cut short")?;
        if crc32c(&[key, fields]) != u32::from_le_bytes(*checksum) {
            return Err("wrong checksum");
        }
        match fields.split_first() {
            Some((&FORMAT, rest)) => Ok(Self { rest }),
            Some(_) => Err("unknown format"),
            None => Err("cut short"),
        }
    }

    /// Fields of a value that has been checked.
    pub(super) fn inside(fields: &'v [u8]) -> Self {
        Self { rest: fields }
    }

    fn take(&mut self, count: usize) -> Result<&'v [u8], &'static str> {
        self.rest.split_off(..count).ok_or("cut short")
    }

    pub(super) fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    pub(super) fn count(&mut self) -> Result<usize, &'static str> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")) as usize)
    }

    pub(super) fn bytes(&mut self) -> Result<&'v [u8], &'static str> {
        let count = self.count()?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Result<&'v str, &'static str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "text that is not UTF-8")
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'v [u8] {
        self.rest
    }

    /// Bytes that have not been read.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything must have been read.
    pub(super) fn close(self) -> Result<(), &'static str> {
        if self.rest.is_empty() { Ok(()) } else { Err("bytes after the end") }
    }
}
