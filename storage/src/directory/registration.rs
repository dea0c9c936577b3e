//! Registrations by phone number that are under way, and what slows whoever guesses. What the values mean is the
//! server's to say; here they are kept, so that they outlive a restart.
//!
//! How they lie in the map is in docs/directory-format.md. All times are milliseconds since 1970.

use std::ops::Bound;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};

/// Most digits of a number (E.164 has 15).
const DIGITS_MAX: usize = 32;

/// A PIN that was sent and waits to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingPin {
    /// Names it.
    pub id: u64,
    /// Keyed hash of what the device calls itself.
    pub device: [u8; 16],
    /// Salt of the hash.
    pub salt: [u8; 16],
    /// Keyed hash of the PIN.
    pub hash: [u8; 32],
    /// When it was asked for.
    pub requested_ms: u64,
    /// Until when it is good.
    pub expires_ms: u64,
    /// Wrong guesses it still takes.
    pub tries_left: u8,
}

/// What is remembered of a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberState {
    /// The PIN that was sent last.
    pub pin: Option<PendingPin>,
    /// The device whose PIN another device's took the place of, as [`PendingPin::device`].
    pub superseded: Option<[u8; 16]>,
    /// No new PIN is sent before.
    pub resend_at_ms: u64,
    /// PINs in a row whose tries were all used up.
    pub strikes: u32,
    /// No PIN is sent or taken before.
    pub locked_until_ms: u64,
    /// Nothing of this matters afterwards.
    pub forget_at_ms: u64,
}

impl NumberState {
    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(160);
        fields.number(self.resend_at_ms);
        fields.number(self.locked_until_ms);
        fields.number(self.forget_at_ms);
        fields.number(self.strikes.into());
        fields.byte(self.superseded.is_some().into());
        if let Some(device) = &self.superseded {
            fields.text(device);
        }
        fields.byte(self.pin.is_some().into());
        if let Some(pin) = &self.pin {
            fields.number(pin.id);
            fields.text(&pin.device);
            fields.text(&pin.salt);
            fields.text(&pin.hash);
            fields.number(pin.requested_ms);
            fields.number(pin.expires_ms);
            fields.byte(pin.tries_left);
        }
        fields.seal(key)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        fn array<const N: usize>(fields: &mut Decoder<'_>) -> Result<[u8; N], &'static str> {
            fields.bytes()?.try_into().map_err(|_| "a value of the wrong length")
        }
        let mut fields = Decoder::open(key, value)?;
        let resend_at_ms = fields.number()?;
        let locked_until_ms = fields.number()?;
        let forget_at_ms = fields.number()?;
        let strikes = u32::try_from(fields.number()?).map_err(|_| "more strikes than there can be")?;
        let superseded = if fields.byte()? == 0 { None } else { Some(array(&mut fields)?) };
        let pin = match fields.byte()? {
            0 => None,
            _ => Some(PendingPin {
                id: fields.number()?,
                device: array(&mut fields)?,
                salt: array(&mut fields)?,
                hash: array(&mut fields)?,
                requested_ms: fields.number()?,
                expires_ms: fields.number()?,
                tries_left: fields.byte()?,
            }),
        };
        fields.close()?;
        Ok(Self { pin, superseded, resend_at_ms, strikes, locked_until_ms, forget_at_ms })
    }
}

/// What a quota counts: its kind, and a keyed hash of whose.
pub type QuotaKey = [u8; 17];

/// How often something has happened in a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// End of the window.
    pub until_ms: u64,
    /// How often.
    pub count: u32,
}

impl Quota {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let until_ms = fields.number()?;
        let count = u32::try_from(fields.number()?).map_err(|_| "a larger count than there can be")?;
        fields.close()?;
        Ok(Self { until_ms, count })
    }

    fn encode(self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(16);
        fields.number(self.until_ms);
        fields.number(self.count.into());
        fields.seal(key)
    }
}

fn number_key(number: &str) -> Result<&[u8], DirectoryError> {
    if (1..=DIGITS_MAX).contains(&number.len()) {
        return Ok(number.as_bytes());
    }
    Err(DirectoryError::Size { what: "the phone number", bytes: number.len(), max: DIGITS_MAX })
}

impl View<'_> {
    fn number_state(&self, number: &str) -> Result<Option<NumberState>, DirectoryError> {
        let key = number_key(number)?;
        let Some(value) = self.get(Table::Registrations, key)? else { return Ok(None) };
        NumberState::decode(key, value).map(Some).map_err(damaged(Table::Registrations, key))
    }

    fn number_states(
        &self,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, NumberState)>, DirectoryError> {
        let from = after.map_or(Bound::Unbounded, |number| Bound::Excluded(number.as_bytes()));
        let table = self.inner.tables.of(Table::Registrations);
        let rows = table.range(self.txn, &(from, Bound::Unbounded));
        let mut found = Vec::new();
        for row in rows.map_err(|error| self.inner.failed("read", error))?.take(max) {
            let (key, value) = row.map_err(|error| self.inner.failed("read", error))?;
            let state = NumberState::decode(key, value).map_err(damaged(Table::Registrations, key))?;
            let number = std::str::from_utf8(key)
                .map_err(|_| damaged(Table::Registrations, key)("the key is not UTF-8"))?;
            found.push((number.to_owned(), state));
        }
        Ok(found)
    }

    fn quota(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        let Some(value) = self.get(Table::Quotas, key)? else { return Ok(Quota::default()) };
        Quota::decode(key, value).map_err(damaged(Table::Quotas, key))
    }
}

impl Directory {
    /// What is remembered of a number.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn number_state(&self, number: &str) -> Result<Option<NumberState>, DirectoryError> {
        self.read(|view| view.number_state(number))
    }

    /// Numbers after `after` with what is remembered of them, in order, at most `max`.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn number_states(
        &self,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, NumberState)>, DirectoryError> {
        self.read(|view| view.number_states(after, max))
    }

    /// A quota; an empty one that has ended when it was never used.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn quota(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.read(|view| view.quota(key))
    }
}

impl WriteTransaction<'_> {
    /// What is remembered of a number.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn number_state(&self, number: &str) -> Result<Option<NumberState>, DirectoryError> {
        self.view().number_state(number)
    }

    /// Keeps what is known of a number: its digits, at most 32.
    ///
    /// # Errors
    /// [`DirectoryError::Size`]; the directory cannot be written.
    pub fn set_number_state(&mut self, number: &str, state: &NumberState) -> Result<(), DirectoryError> {
        let key = number_key(number)?;
        self.put(Table::Registrations, key, &state.encode(key))
    }

    /// A quota; an empty one that has ended when it was never used.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn quota(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.view().quota(key)
    }

    /// Keeps a quota.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn set_quota(&mut self, key: &QuotaKey, quota: Quota) -> Result<(), DirectoryError> {
        self.put(Table::Quotas, key, &quota.encode(key))
    }

    /// Forgets numbers and quotas that no longer matter, and returns how many. It looks at all that there are, which
    /// the server's limits bound, and forgets at most `max` of each.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn forget_registrations(&mut self, now_ms: u64, max: usize) -> Result<usize, DirectoryError> {
        let mut old: Vec<(Table, Vec<u8>)> = Vec::new();
        for row in self.view().all(Table::Registrations)? {
            let (key, value) = row?;
            let state = NumberState::decode(key, value).map_err(damaged(Table::Registrations, key))?;
            if state.forget_at_ms <= now_ms && old.len() < max {
                old.push((Table::Registrations, key.to_vec()));
            }
        }
        let numbers = old.len();
        for row in self.view().all(Table::Quotas)? {
            let (key, value) = row?;
            let quota = Quota::decode(key, value).map_err(damaged(Table::Quotas, key))?;
            if quota.until_ms <= now_ms && old.len() - numbers < max {
                old.push((Table::Quotas, key.to_vec()));
            }
        }
        for (table, key) in &old {
            self.delete(*table, key)?;
        }
        Ok(old.len())
    }
}
