//! The encoding of the state: small numbers in few bytes, texts with their length, and what repeats only once.
//!
//! ```text
//! number   seven bits a byte, lowest first; the top bit says that another byte follows
//! bytes    number (length), then the bytes
//! shared   number n: 0, then bytes, which get the next number from 1 on; or n: the bytes that have that number
//! ```

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::error::StateError;

/// Different shared texts that one block can hold; further ones are written out.
const SHARED_MAX: usize = 4096;

/// A shared text that is longer than this is not looked up, only written out.
const SHARED_BYTES_MAX: usize = 4096;

/// Writes one block.
pub struct Encoder {
    bytes: Vec<u8>,
    version: u16,
    shared: HashMap<Box<[u8]>, u32, RandomState>,
}

impl Encoder {
    /// Writes in this version of the block's kind.
    #[must_use]
    pub fn new(version: u16) -> Encoder {
        Encoder { bytes: Vec::new(), version, shared: HashMap::default() }
    }

    /// The version to write: an older one for a program that reads no newer one.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins the next block.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
    }

    /// A byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Bytes whose number the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A number.
    pub fn number(&mut self, number: impl Into<u64>) {
        let mut number = number.into();
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// How many of something follow.
    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// Bytes.
    pub fn bytes_of(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        self.bytes_of(text.as_bytes());
    }

    /// The path of a file.
    pub fn path(&mut self, path: &Path) {
        self.bytes_of(path.as_os_str().as_bytes());
    }

    /// Something that may be missing: first whether it is there.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Encoder, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Bytes that other sessions are likely to have as well.
    pub fn shared(&mut self, bytes: &[u8]) {
        if let Some(number) = self.shared.get(bytes) {
            let number = *number;
            return self.number(number);
        }
        self.number(0u32);
        self.bytes_of(bytes);
        if self.shared.len() < SHARED_MAX && bytes.len() <= SHARED_BYTES_MAX {
            let number = self.shared.len() as u32 + 1;
            self.shared.insert(bytes.into(), number);
        }
    }

    /// An address.
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.byte(4);
                self.raw(&address.octets());
            }
            IpAddr::V6(address) => {
                self.byte(6);
                self.raw(&address.octets());
            }
        }
    }
}

/// Reads one block.
pub struct Decoder<'a> {
    rest: &'a [u8],
    version: u16,
    shared: Vec<&'a [u8]>,
}

impl<'a> Decoder<'a> {
    /// Reads what an [`Encoder`] wrote in this version of the block's kind.
    #[must_use]
    pub fn new(bytes: &'a [u8], version: u16) -> Decoder<'a> {
        Decoder { rest: bytes, version, shared: Vec::new() }
    }

    /// The version in which the block was written.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A byte.
    ///
    /// # Errors
    /// The block has ended.
    pub fn byte(&mut self) -> Result<u8, StateError> {
        Ok(self.array::<1>()?[0])
    }

    /// So many bytes.
    ///
    /// # Errors
    /// The block has ended.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], StateError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(StateError::Damaged("it ends too early"))?;
        self.rest = rest;
        Ok(array)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// The block has ended.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(StateError::Damaged("it ends too early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A number.
    ///
    /// # Errors
    /// The block has ended, or the number is too large for its kind.
    pub fn number<N: TryFrom<u64>>(&mut self) -> Result<N, StateError> {
        const TOO_LARGE: StateError = StateError::Damaged("a number is too large");
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(TOO_LARGE);
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return N::try_from(number).map_err(|_| TOO_LARGE);
            }
        }
        Err(TOO_LARGE)
    }

    /// How many of something follow; each takes a byte at least.
    ///
    /// # Errors
    /// The block has ended, or is too short for so many.
    pub fn count(&mut self) -> Result<usize, StateError> {
        let count = self.number::<usize>()?;
        if count > self.rest.len() {
            return Err(StateError::Damaged("it is shorter than it says"));
        }
        Ok(count)
    }

    /// Bytes.
    ///
    /// # Errors
    /// The block has ended.
    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.count()?;
        self.raw(length)
    }

    /// Text.
    ///
    /// # Errors
    /// The block has ended, or it is no text.
    pub fn text(&mut self) -> Result<&'a str, StateError> {
        text(self.bytes()?)
    }

    /// The path of a file.
    ///
    /// # Errors
    /// The block has ended.
    pub fn path(&mut self) -> Result<PathBuf, StateError> {
        Ok(PathBuf::from(OsStr::from_bytes(self.bytes()?)))
    }

    /// What [`Encoder::optional`] wrote.
    ///
    /// # Errors
    /// The block has ended, or what `read` says.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(StateError::Damaged("something that is neither there nor missing")),
        }
    }

    /// What [`Encoder::shared`] wrote.
    ///
    /// # Errors
    /// The block has ended, or nothing has that number.
    pub fn shared(&mut self) -> Result<&'a [u8], StateError> {
        let number = self.number::<usize>()?;
        if let Some(at) = number.checked_sub(1) {
            return self.shared.get(at).copied().ok_or(StateError::Damaged("a shared text is missing"));
        }
        let bytes = self.bytes()?;
        if self.shared.len() < SHARED_MAX && bytes.len() <= SHARED_BYTES_MAX {
            self.shared.push(bytes);
        }
        Ok(bytes)
    }

    /// Text that [`Encoder::shared`] wrote.
    ///
    /// # Errors
    /// As [`Decoder::shared`], or it is no text.
    pub fn shared_text(&mut self) -> Result<&'a str, StateError> {
        text(self.shared()?)
    }

    /// An address.
    ///
    /// # Errors
    /// The block has ended, or it is no address.
    pub fn address(&mut self) -> Result<IpAddr, StateError> {
        match self.byte()? {
            4 => Ok(Ipv4Addr::from(*self.array::<4>()?).into()),
            6 => Ok(Ipv6Addr::from(*self.array::<16>()?).into()),
            _ => Err(StateError::Damaged("an address of an unknown kind")),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, StateError> {
    std::str::from_utf8(bytes).map_err(|_| StateError::Damaged("a text is not UTF-8"))
}

/// Bits of a byte that says which parts follow.
#[must_use]
pub fn bits<const N: usize>(parts: [(bool, u8); N]) -> u8 {
    parts.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_reads_as_it_was_written() {
        let mut encoder = Encoder::new(1);
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        for number in numbers {
            encoder.number(number);
        }
        let texts = ["phone", "", "desk", "phone", "desk", ""];
        for text in texts {
            encoder.shared(text.as_bytes());
        }
        let addresses: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for address in addresses {
            encoder.address(address);
        }
        encoder.bytes_of(b"\xff\0");
        let mut decoder = Decoder::new(encoder.bytes(), 1);
        for number in numbers {
            assert_eq!(decoder.number::<u64>().unwrap(), number);
        }
        for text in texts {
            assert_eq!(decoder.shared_text().unwrap(), text);
        }
        for address in addresses {
            assert_eq!(decoder.address().unwrap(), address);
        }
        assert_eq!(decoder.bytes().unwrap(), b"\xff\0");
        assert!(decoder.is_empty());
    }

    #[test]
    fn more_shared_texts_than_are_remembered_are_written_out() {
        let mut encoder = Encoder::new(1);
        let texts: Vec<String> =
            (0..2 * SHARED_MAX + 10).map(|n| format!("text {}", n % (SHARED_MAX + 5))).collect();
        for text in &texts {
            encoder.shared(text.as_bytes());
        }
        let mut decoder = Decoder::new(encoder.bytes(), 1);
        for text in &texts {
            assert_eq!(decoder.shared_text().unwrap(), text);
        }
    }

    #[test]
    fn what_is_cut_or_impossible_is_an_error() {
        type Fails = fn(&mut Decoder<'_>) -> bool;
        let table: [(&[u8], Fails); 7] = [
            (b"", |d| d.byte().is_err()),
            (b"\x80", |d| d.number::<u64>().is_err()),
            (&[0xff; 10], |d| d.number::<u64>().is_err()),
            (b"\xac\x02", |d| d.number::<u8>().is_err()),
            (b"\x05abc", |d| d.bytes().is_err()),
            (b"\x01", |d| d.shared().is_err()),
            (b"\x07\0\0\0\0", |d| d.address().is_err()),
        ];
        for (bytes, fails) in table {
            assert!(fails(&mut Decoder::new(bytes, 1)), "{bytes:?}");
        }
    }
}
