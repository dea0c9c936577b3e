//! The rules of registration: when a PIN is sent, when one is right, and what slows whoever guesses.
//!
//! No sockets, no clock and no random source of its own: each step is given the time and the entropy, reads and writes
//! one transaction of the directory, and says what came of it. As transactions run one after another, so do steps:
//! of two devices that tell the same PIN at once, one is first.
//!
//! ```text
//!                    request                         verify, right
//!   (nothing) ────────────────────▶ PIN under way ────────────────▶ (nothing; the device gets a key)
//!        ▲                           │  │   ▲ │
//!        │      expired, withdrawn   │  │   └─┘ request of another device: its PIN takes the place of this one
//!        └───────────────────────────┘  │
//!        ▲        lock is over          │ verify, wrong, no tries left
//!        └────────────── locked ◀───────┘
//! ```
//! Nothing here looks at whether there is an account for a number, so no answer can tell.
//!
//! Windows of quotas begin with the first thing they count and are fixed, so that in any stretch of their length there
//! may be twice as much; docs/registration.md reckons with that.

use std::net::IpAddr;

use whimbrel_storage::directory::{
    Directory, DirectoryError, NumberState, PendingPin, Quota, QuotaKey, WriteTransaction,
};

use super::pin::{Entropy, Hasher, NoEntropy, Pin};
use super::settings::RegistrationConfig;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Who asks, about which number.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The number's digits.
    pub number: String,
    /// What the device calls itself.
    pub device: String,
    /// Where the request comes from.
    pub address: IpAddr,
}

/// A limit that was met.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `resend_seconds`.
    Resend,
    /// The number is locked after wrong guesses.
    Locked,
    /// `pins_per_number_per_day`.
    Number,
    /// `pins_per_address_per_hour`.
    Address,
    /// `pins_per_device_per_hour`.
    Device,
    /// `pins_per_hour`.
    Server,
    /// `wrong_pins_per_address_per_hour`.
    AddressWrong,
    /// `wrong_pins_per_day`.
    ServerWrong,
}

/// Why a step was not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A limit; it may be tried again after so many milliseconds.
    Limit(Limit, u64),
    /// This device has no PIN under way for this number: never asked for, used, or forgotten.
    NotRequested,
    /// Another device has asked for this number since.
    Superseded,
    /// The PIN is too old.
    Expired,
    /// The PIN is wrong; so many tries are left.
    Wrong(u8),
    /// The tries are used up; a new PIN may be asked for after so many milliseconds.
    NoTries(u64),
}

/// A PIN that is to be sent.
pub struct Issued {
    /// Names it.
    pub id: u64,
    /// The PIN.
    pub pin: Pin,
    /// Until when it is good, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The random source.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// What can be read of the directory, in a transaction or outside of one.
pub trait Look {
    /// What is remembered of a number.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError>;
    /// A quota.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError>;
}

impl Look for Directory {
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError> {
        Ok(self.number_state(number)?.unwrap_or_default())
    }

    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.quota(key)
    }
}

impl Look for WriteTransaction<'_> {
    fn state(&self, number: &str) -> Result<NumberState, DirectoryError> {
        Ok(self.number_state(number)?.unwrap_or_default())
    }

    fn count(&self, key: &QuotaKey) -> Result<Quota, DirectoryError> {
        self.quota(key)
    }
}

/// Something that is counted, and its limit.
struct Counted {
    limit: Limit,
    key: QuotaKey,
    most: u32,
    window_ms: u64,
}

impl Counted {
    /// The quota as it is now: a window that has ended, or lies in a future that a corrected clock has taken back, is
    /// an empty one.
    fn now(&self, look: &impl Look, now_ms: u64) -> Result<Quota, DirectoryError> {
        let quota = look.count(&self.key)?;
        let current = quota.until_ms > now_ms && quota.until_ms <= now_ms + self.window_ms;
        Ok(if current { quota } else { Quota { until_ms: now_ms + self.window_ms, count: 0 } })
    }

    fn check(&self, look: &impl Look, now_ms: u64) -> Result<Option<Refused>, DirectoryError> {
        let quota = self.now(look, now_ms)?;
        Ok((quota.count >= self.most).then(|| Refused::Limit(self.limit, quota.until_ms - now_ms)))
    }

    fn add(&self, transaction: &mut WriteTransaction<'_>, now_ms: u64) -> Result<(), DirectoryError> {
        let quota = self.now(transaction, now_ms)?;
        transaction.set_quota(&self.key, Quota { count: quota.count.saturating_add(1), ..quota })
    }

    fn take_back(&self, transaction: &mut WriteTransaction<'_>, now_ms: u64) -> Result<(), DirectoryError> {
        let quota = self.now(transaction, now_ms)?;
        transaction.set_quota(&self.key, Quota { count: quota.count.saturating_sub(1), ..quota })
    }
}

/// The bytes that stand for an address: an IPv4 address, or the /64 of an IPv6 one.
fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    }
}

/// The rules with what they need.
pub struct Rules<'a> {
    /// The configuration.
    pub config: &'a RegistrationConfig,
    /// Keyed hashes.
    pub hasher: &'a Hasher,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

impl Rules<'_> {
    fn counted(&self, limit: Limit, kind: u8, whose: &[u8], most: u32, window_ms: u64) -> Counted {
        Counted { limit, key: self.hasher.quota(kind, whose), most, window_ms }
    }

    /// What a PIN that is sent counts against: the whole server's last, so that its quota is not what an address is
    /// told of that has used up its own.
    fn sent(&self, asker: &Asker) -> [Counted; 4] {
        let c = self.config;
        let (number, device) = (asker.number.as_bytes(), asker.device.as_bytes());
        [
            self.counted(Limit::Number, b'n', number, c.pins_per_number_per_day, DAY_MS),
            self.counted(Limit::Device, b'd', device, c.pins_per_device_per_hour, HOUR_MS),
            self.counted(
                Limit::Address,
                b'a',
                &address_bytes(asker.address),
                c.pins_per_address_per_hour,
                HOUR_MS,
            ),
            self.counted(Limit::Server, b's', b"", c.pins_per_hour, HOUR_MS),
        ]
    }

    /// What a wrong PIN counts against.
    fn wrong(&self, asker: &Asker) -> [Counted; 2] {
        let c = self.config;
        let address = address_bytes(asker.address);
        [
            self.counted(Limit::AddressWrong, b'w', &address, c.wrong_pins_per_address_per_hour, HOUR_MS),
            self.counted(Limit::ServerWrong, b'W', b"", c.wrong_pins_per_day, DAY_MS),
        ]
    }

    /// Milliseconds for which a number stays locked. A lock in a future that a corrected clock has taken back is over.
    fn locked_ms(&self, state: &NumberState) -> Option<u64> {
        let left = state.locked_until_ms.checked_sub(self.now_ms).filter(|left| *left > 0)?;
        (left <= u64::from(self.config.backoff_seconds_max) * 1000).then_some(left)
    }

    /// Whether a PIN may be sent. Reads only, so that who is refused costs nothing.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn may_request(&self, look: &impl Look, asker: &Asker) -> Result<Option<Refused>, DirectoryError> {
        let state = look.state(&asker.number)?;
        if let Some(left) = self.locked_ms(&state) {
            return Ok(Some(Refused::Limit(Limit::Locked, left)));
        }
        for counted in self.sent(asker) {
            if let Some(refused) = counted.check(look, self.now_ms)? {
                return Ok(Some(refused));
            }
        }
        let wait = state.resend_at_ms.saturating_sub(self.now_ms);
        let sane = wait <= u64::from(self.config.resend_seconds) * 1000;
        Ok((wait > 0 && sane).then_some(Refused::Limit(Limit::Resend, wait)))
    }

    /// Draws a PIN for a number. What another device's PIN was is void.
    ///
    /// # Errors
    /// The directory, or the random source.
    pub fn request(
        &self,
        transaction: &mut WriteTransaction<'_>,
        entropy: &mut dyn Entropy,
        asker: &Asker,
    ) -> Result<Result<Issued, Refused>, StepError> {
        if let Some(refused) = self.may_request(transaction, asker)? {
            return Ok(Err(refused));
        }
        // First: without random bytes nothing is written.
        let (mut id, mut salt) = ([0; 8], [0; 16]);
        entropy.fill(&mut id)?;
        entropy.fill(&mut salt)?;
        let pin = Pin::draw(entropy)?;
        let mut state = transaction.state(&asker.number)?;
        for counted in self.sent(asker) {
            counted.add(transaction, self.now_ms)?;
        }
        let device = self.hasher.device(&asker.device);
        if let Some(older) = &state.pin {
            let another = older.device != device && older.expires_ms > self.now_ms;
            state.superseded = another.then_some(older.device);
        }
        if state.superseded == Some(device) {
            state.superseded = None;
        }
        let issued = Issued {
            id: u64::from_le_bytes(id),
            expires_ms: self.now_ms + u64::from(self.config.pin_seconds) * 1000,
            pin,
        };
        state.pin = Some(PendingPin {
            id: issued.id,
            device,
            salt,
            hash: self.hasher.pin(&asker.number, &salt, &issued.pin),
            requested_ms: self.now_ms,
            expires_ms: issued.expires_ms,
            tries_left: self.config.pin_tries,
        });
        state.resend_at_ms = self.now_ms + u64::from(self.config.resend_seconds) * 1000;
        self.keep(transaction, &asker.number, state)?;
        Ok(Ok(issued))
    }

    /// Whether a PIN would be compared at all. Reads only.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn may_verify(&self, look: &impl Look, asker: &Asker) -> Result<Option<Refused>, DirectoryError> {
        let state = look.state(&asker.number)?;
        let device = self.hasher.device(&asker.device);
        // That it is another device's turn is told to the one that has lost it, and to nobody else.
        let not_this =
            if state.superseded == Some(device) { Refused::Superseded } else { Refused::NotRequested };
        let Some(pin) = &state.pin else { return Ok(Some(not_this)) };
        if pin.device != device {
            return Ok(Some(not_this));
        }
        for counted in self.wrong(asker) {
            if let Some(refused) = counted.check(look, self.now_ms)? {
                return Ok(Some(refused));
            }
        }
        if pin.tries_left == 0 {
            return Ok(Some(Refused::NoTries(self.locked_ms(&state).unwrap_or(0))));
        }
        // A clock that was put back must not make a PIN live on.
        let age = self.now_ms.checked_sub(pin.requested_ms);
        let fresh = age.is_some_and(|age| age < u64::from(self.config.pin_seconds) * 1000);
        Ok((!fresh).then_some(Refused::Expired))
    }

    /// Compares a PIN. A right one is used up with that.
    ///
    /// # Errors
    /// The directory.
    pub fn verify(
        &self,
        transaction: &mut WriteTransaction<'_>,
        asker: &Asker,
        told: &Pin,
    ) -> Result<Result<(), Refused>, StepError> {
        if let Some(refused) = self.may_verify(transaction, asker)? {
            return Ok(Err(refused));
        }
        let mut state = transaction.state(&asker.number)?;
        let Some(pin) = &mut state.pin else { return Ok(Err(Refused::NotRequested)) };
        if self.hasher.is_pin(&asker.number, &pin.salt, &pin.hash, told) {
            state.pin = None;
            state.strikes = 0;
            state.locked_until_ms = 0;
            self.keep(transaction, &asker.number, state)?;
            return Ok(Ok(()));
        }
        pin.tries_left -= 1;
        let left = pin.tries_left;
        if left == 0 {
            let peace_ms = u64::from(self.config.backoff_forget_days) * DAY_MS;
            if state.locked_until_ms + peace_ms < self.now_ms {
                state.strikes = 0;
            }
            let doubled = 1_u64.checked_shl(state.strikes).unwrap_or(u64::MAX);
            let seconds = u64::from(self.config.backoff_seconds)
                .saturating_mul(doubled)
                .min(self.config.backoff_seconds_max.into());
            state.strikes = state.strikes.saturating_add(1);
            state.locked_until_ms = self.now_ms + seconds * 1000;
        }
        for counted in self.wrong(asker) {
            counted.add(transaction, self.now_ms)?;
        }
        self.keep(transaction, &asker.number, state)?;
        Ok(Err(Refused::Wrong(left)))
    }

    /// A PIN could not be sent: it is void, and another may be asked for at once.
    ///
    /// # Errors
    /// The directory.
    pub fn withdraw(
        &self,
        transaction: &mut WriteTransaction<'_>,
        asker: &Asker,
        id: u64,
    ) -> Result<(), DirectoryError> {
        let mut state = transaction.state(&asker.number)?;
        // Another request, or a verification, may have come in between.
        if state.pin.as_ref().is_none_or(|pin| pin.id != id) {
            return Ok(());
        }
        state.pin = None;
        state.resend_at_ms = 0;
        for counted in self.sent(asker) {
            counted.take_back(transaction, self.now_ms)?;
        }
        self.keep(transaction, &asker.number, state)
    }

    /// The operator makes void what is under way for a number; `false`: nothing was.
    ///
    /// # Errors
    /// The directory.
    pub fn revoke(
        &self,
        transaction: &mut WriteTransaction<'_>,
        number: &str,
    ) -> Result<bool, DirectoryError> {
        let mut state = transaction.state(number)?;
        let had = state.pin.take().is_some();
        state.superseded = None;
        self.keep(transaction, number, state)?;
        Ok(had)
    }

    /// Keeps a number's state for as long as something of it matters.
    fn keep(
        &self,
        transaction: &mut WriteTransaction<'_>,
        number: &str,
        mut state: NumberState,
    ) -> Result<(), DirectoryError> {
        // An expired PIN is remembered for a while, so that its device is told what has become of it.
        let pin = state.pin.as_ref().map_or(0, |pin| pin.expires_ms + HOUR_MS);
        let strikes = match state.strikes {
            0 => 0,
            _ => state.locked_until_ms + u64::from(self.config.backoff_forget_days) * DAY_MS,
        };
        let superseded = if state.superseded.is_some() { self.now_ms + HOUR_MS } else { 0 };
        state.forget_at_ms = pin.max(strikes).max(superseded).max(state.resend_at_ms);
        transaction.set_number_state(number, &state)
    }
}
