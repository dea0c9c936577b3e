//! The rules of registration: when a PIN is sent, when one is right, and what slows down guessing.
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
//! **Strangers do not come between an owner and the owner's PINs.** Of the PINs of a number, one network and one device have
//! a share only, and the last of a day go to networks and devices that have had none. And a device that has registered the
//! number before has a lane of its own: its PIN, its locks and its quota are apart from those of all others, which can
//! neither use them up nor void them. A device shows that it is known by its name, which it has drawn at random and nobody
//! else knows; strangers are answered the same whether there is such a device or not.
//!
//! Windows of quotas begin with the first thing they count and are fixed, so that in any stretch of their length there
//! may be twice as much; docs/registration.md reckons with that.

use std::net::IpAddr;

use whimbrel_address::Block;
use whimbrel_storage::directory::{
    DirectoryError, NumberState, PendingPin, Quota, QuotaKey, WriteTransaction,
};

use super::counted::{Counted, Look};
use super::pin::{Entropy, Hasher, NoEntropy, Pin};
use super::settings::RegistrationConfig;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How long a device is known that has registered a number.
const KNOWN_MS: u64 = 366 * DAY_MS;

/// What the lane of known devices has behind the number in the directory's key.
pub const KNOWN_LANE: char = '~';

/// A device that asks, and the number that it asks about.
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
    /// `pins_per_number_share`.
    Share,
    /// `pins_per_number_reserve`: what is left today is for those who have not asked.
    Reserve,
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

/// Where the state of a number lies that concerns a device.
struct Lane {
    key: String,
    /// The device has registered the number before.
    known: bool,
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
    /// told of that has used up its own. A known device counts against what nobody else can use up.
    fn sent(&self, asker: &Asker, lane: &Lane) -> Vec<Counted> {
        let c = self.config;
        let (number, device) = (asker.number.as_bytes(), asker.device.as_bytes());
        let address = Block::of(asker.address).bits().to_be_bytes();
        // Of a single number a whole network needs few, and one customer may change among its addresses.
        let network = Block::network(asker.address).bits().to_be_bytes();
        // Numbers are digits alone, so no two pairs are the same bytes.
        let share = |kind, whose: &[u8]| {
            let pair = [number, b"/", whose].concat();
            self.counted(Limit::Share, kind, &pair, c.pins_per_number_share, DAY_MS)
        };
        let mut counted = vec![share(b'v', device)];
        if !lane.known {
            counted.push(share(b'h', &network));
            counted.push(self.counted(Limit::Number, b'n', number, c.pins_per_number_per_day, DAY_MS));
            let most = c.pins_per_address_per_hour;
            counted.push(self.counted(Limit::Address, b'a', &address, most, HOUR_MS));
        }
        counted.push(self.counted(Limit::Device, b'd', device, c.pins_per_device_per_hour, HOUR_MS));
        counted.push(self.counted(Limit::Server, b's', b"", c.pins_per_hour, HOUR_MS));
        counted
    }

    /// That a device has registered a number: how often, and until when that counts.
    fn registered(&self, asker: &Asker) -> QuotaKey {
        let pair = [asker.number.as_bytes(), b"/", asker.device.as_bytes()].concat();
        self.hasher.quota(b'k', &pair)
    }

    /// Where the state lies that a device and a number have.
    fn lane(&self, look: &impl Look, asker: &Asker) -> Result<Lane, DirectoryError> {
        let known = look.count(&self.registered(asker))?;
        // A clock that was put back changes nothing of it.
        let known = known.until_ms > self.now_ms;
        let key = if known { format!("{}{KNOWN_LANE}", asker.number) } else { asker.number.clone() };
        Ok(Lane { key, known })
    }

    /// What a wrong PIN counts against.
    fn wrong(&self, asker: &Asker) -> [Counted; 2] {
        let c = self.config;
        let address = Block::of(asker.address).bits().to_be_bytes();
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

    /// Whether a PIN may be sent. Reads only, so that a refusal costs nothing.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn may_request(&self, look: &impl Look, asker: &Asker) -> Result<Option<Refused>, DirectoryError> {
        let lane = self.lane(look, asker)?;
        let state = look.state(&lane.key)?;
        if let Some(left) = self.locked_ms(&state) {
            return Ok(Some(Refused::Limit(Limit::Locked, left)));
        }
        let sent = self.sent(asker, &lane);
        for counted in &sent {
            if let Some(refused) = counted.check(look, self.now_ms)? {
                return Ok(Some(refused));
            }
        }
        if let Some(refused) = self.reserved(look, &sent)? {
            return Ok(Some(refused));
        }
        let wait = state.resend_at_ms.saturating_sub(self.now_ms);
        let sane = wait <= u64::from(self.config.resend_seconds) * 1000;
        Ok((wait > 0 && sane).then_some(Refused::Limit(Limit::Resend, wait)))
    }

    /// Whether what is left of a number's PINs today is kept for others: the last `pins_per_number_reserve` go to devices
    /// and networks that have had none of them. (A known device counts against no number.)
    fn reserved(&self, look: &impl Look, sent: &[Counted]) -> Result<Option<Refused>, DirectoryError> {
        let Some(number) = sent.iter().find(|counted| counted.limit == Limit::Number) else {
            return Ok(None);
        };
        let reserve = self.config.pins_per_number_reserve;
        let number = Counted { limit: Limit::Reserve, most: number.most.saturating_sub(reserve), ..*number };
        let Some(refused) = number.check(look, self.now_ms)? else { return Ok(None) };
        for share in sent.iter().filter(|counted| counted.limit == Limit::Share) {
            // One is too many here.
            if (Counted { most: 1, ..*share }).check(look, self.now_ms)?.is_some() {
                return Ok(Some(refused));
            }
        }
        Ok(None)
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
        let lane = self.lane(transaction, asker)?;
        let mut state = transaction.state(&lane.key)?;
        for counted in self.sent(asker, &lane) {
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
        self.keep(transaction, &lane.key, state)?;
        Ok(Ok(issued))
    }

    /// Whether a PIN would be compared at all. Reads only.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn may_verify(&self, look: &impl Look, asker: &Asker) -> Result<Option<Refused>, DirectoryError> {
        let lane = self.lane(look, asker)?;
        let state = look.state(&lane.key)?;
        let device = self.hasher.device(&asker.device);
        // That it is another device's turn is told to the one that has lost it, and to nobody else.
        let not_this =
            if state.superseded == Some(device) { Refused::Superseded } else { Refused::NotRequested };
        let Some(pin) = &state.pin else { return Ok(Some(not_this)) };
        if pin.device != device {
            return Ok(Some(not_this));
        }
        // The guesses of strangers are no reason not to look at that of a known device, which has locks of its own.
        for counted in self.wrong(asker).into_iter().filter(|_| !lane.known) {
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
        let lane = self.lane(transaction, asker)?;
        let mut state = transaction.state(&lane.key)?;
        let Some(pin) = &mut state.pin else { return Ok(Err(Refused::NotRequested)) };
        if self.hasher.is_pin(&asker.number, &pin.salt, &pin.hash, told) {
            state.pin = None;
            state.strikes = 0;
            state.locked_until_ms = 0;
            self.keep(transaction, &lane.key, state)?;
            let key = self.registered(asker);
            let count = transaction.count(&key)?.count.saturating_add(1);
            transaction.set_quota(&key, Quota { until_ms: self.now_ms + KNOWN_MS, count })?;
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
        self.keep(transaction, &lane.key, state)?;
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
        let lane = self.lane(transaction, asker)?;
        let mut state = transaction.state(&lane.key)?;
        // Another request, or a verification, may have come in between.
        if state.pin.as_ref().is_none_or(|pin| pin.id != id) {
            return Ok(());
        }
        state.pin = None;
        state.resend_at_ms = 0;
        for counted in self.sent(asker, &lane) {
            counted.take_back(transaction, self.now_ms)?;
        }
        self.keep(transaction, &lane.key, state)
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
        let mut had = false;
        for key in [number.to_owned(), format!("{number}{KNOWN_LANE}")] {
            let mut state = transaction.state(&key)?;
            had |= state.pin.take().is_some();
            state.superseded = None;
            self.keep(transaction, &key, state)?;
        }
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
