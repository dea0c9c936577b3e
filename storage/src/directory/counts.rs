//! How much of a client's stream was handled (XEP-0198), for sessions that wait to be resumed and may have to be told after the
//! server has ended without warning.
//!
//! How they lie in the map is in docs/directory-format.md.

use crate::actor::ActorId;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};

/// Bytes of a key: actor, stream.
const KEY_BYTES: usize = 16;

/// How far a stream had come when nothing more could come on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCount {
    /// Names the stream.
    pub stream: u64,
    /// Stanzas of its client that were handled, modulo 2^32.
    pub handled: u32,
    /// Until when its client may ask for it, milliseconds since 1970.
    pub until_ms: u64,
}

/// Where a count lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCountKey([u8; KEY_BYTES]);

impl StreamCountKey {
    fn new(account: ActorId, stream: u64) -> Self {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&account.key());
        key[8..].copy_from_slice(&stream.to_be_bytes());
        Self(key)
    }
}

impl StreamCount {
    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(16);
        fields.number(self.handled.into());
        fields.number(self.until_ms);
        fields.seal(key)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let stream =
            key.get(8..).and_then(|stream| stream.try_into().ok()).ok_or("a key of another length")?;
        let mut fields = Decoder::open(key, value)?;
        let count = Self {
            stream: u64::from_be_bytes(stream),
            handled: u32::try_from(fields.number()?).map_err(|_| "more stanzas than are counted")?,
            until_ms: fields.number()?,
        };
        fields.close()?;
        Ok(count)
    }

    /// Whether a row is of no use any more. One that cannot be read is of none: nobody can be told what it said.
    fn has_ended(key: &[u8], value: &[u8], now_ms: u64) -> bool {
        Self::decode(key, value).map_or(true, |count| count.until_ms <= now_ms)
    }
}

impl View<'_> {
    fn stream_count(&self, key: StreamCountKey) -> Result<Option<StreamCount>, DirectoryError> {
        let Some(value) = self.get(Table::StreamCounts, &key.0)? else { return Ok(None) };
        StreamCount::decode(&key.0, value).map(Some).map_err(damaged(Table::StreamCounts, &key.0))
    }
}

impl Directory {
    /// How far a stream of an account had come; `None`: nothing is kept of it.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn stream_count(&self, local: &str, stream: u64) -> Result<Option<StreamCount>, DirectoryError> {
        self.read(|view| {
            let Some(account) = view.account(local)? else { return Ok(None) };
            view.stream_count(StreamCountKey::new(account, stream))
        })
    }

    /// Streams of which it is kept how far they had come. Costs the same for any number.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn stream_count_total(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.len(Table::StreamCounts))
    }

    /// Looks at `max` rows behind one, or at the first ones: which of them are of no use any more, and behind which to go on; `None`:
    /// that was the end.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ended_stream_counts(
        &self,
        after: Option<StreamCountKey>,
        now_ms: u64,
        max: usize,
    ) -> Result<(Vec<StreamCountKey>, Option<StreamCountKey>), DirectoryError> {
        self.read(|view| {
            let (mut ended, mut last, mut seen) = (Vec::new(), None, 0);
            let after = after.as_ref().map(|after| &after.0[..]);
            for row in view.behind_key(Table::StreamCounts, after)?.take(max) {
                let (key, value) = row?;
                let Ok(at) = key.try_into().map(StreamCountKey) else { continue };
                if StreamCount::has_ended(key, value, now_ms) {
                    ended.push(at);
                }
                (last, seen) = (Some(at), seen + 1);
            }
            Ok((ended, last.filter(|_| seen == max)))
        })
    }
}

impl WriteTransaction<'_> {
    /// Keeps how far a stream of an account has come. An account has at most `max` of them (at least 1): that which ends first makes
    /// room. `false`: the account is gone, and nothing was written.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn keep_stream_count(
        &mut self,
        (local, account): (&str, ActorId),
        count: &StreamCount,
        max: usize,
    ) -> Result<bool, DirectoryError> {
        if self.view().account(local)? != Some(account) {
            return Ok(false);
        }
        let key = StreamCountKey::new(account, count.stream);
        let mut others = Vec::new();
        for row in self.view().prefixed(Table::StreamCounts, &account.key())? {
            let (other, value) = row?;
            if other != key.0 {
                let until_ms = StreamCount::decode(other, value).map_or(0, |other| other.until_ms);
                others.push((until_ms, other.to_vec()));
            }
        }
        others.sort_unstable();
        let too_many = (others.len() + 1).saturating_sub(max.max(1));
        for (_, other) in others.iter().take(too_many) {
            self.delete(Table::StreamCounts, other)?;
        }
        self.put(Table::StreamCounts, &key.0, &count.encode(&key.0))?;
        Ok(true)
    }

    /// Forgets how far a stream had come. `false`: nothing was kept of it.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn forget_stream_count(&mut self, account: ActorId, stream: u64) -> Result<bool, DirectoryError> {
        self.delete(Table::StreamCounts, &StreamCountKey::new(account, stream).0)
    }

    /// Removes rows that are still of no use. Returns how many.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn remove_ended_stream_counts(
        &mut self,
        keys: &[StreamCountKey],
        now_ms: u64,
    ) -> Result<usize, DirectoryError> {
        let mut removed = 0;
        for key in keys {
            let value = self.view().get(Table::StreamCounts, &key.0)?;
            if value.is_some_and(|value| StreamCount::has_ended(&key.0, value, now_ms)) {
                self.delete(Table::StreamCounts, &key.0)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
