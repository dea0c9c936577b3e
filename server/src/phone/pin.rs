//! PINs: five digits from the system's random source, kept as keyed hashes.
//!
//! A PIN has so few digits that no hash keeps it from a thief of the directory for longer than a moment: the key lies
//! in the same file. The hash keeps the PIN out of sight where a value is seen by itself (in a dump, a backup listing, a
//! log); the account is protected because a PIN is void after ten minutes.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use whimbrel_storage::directory::QuotaKey;
use zeroize::Zeroizing;

/// Digits of a PIN.
pub const PIN_DIGITS: usize = 5;

/// How many PINs there are.
pub const PINS: u32 = 100_000;

/// Where random bytes come from. The server's is the system's; tests have their own.
pub trait Entropy {
    /// Fills a buffer.
    ///
    /// # Errors
    /// There are none; nothing may go on without.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The system gave no random bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

/// The system's random source.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        SystemRandom::new().fill(bytes).map_err(|_| NoEntropy)
    }
}

/// Five digits. Wiped when dropped; never shown by `Debug`.
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// Draws one; each is as likely as any other.
    ///
    /// # Errors
    /// No random bytes.
    pub fn draw(entropy: &mut dyn Entropy) -> Result<Pin, NoEntropy> {
        // The largest multiple of PINS below 2^32: what lies beyond would make small PINs likelier.
        const BOUND: u32 = u32::MAX - u32::MAX % PINS;
        loop {
            let mut bytes = [0; 4];
            entropy.fill(&mut bytes)?;
            let number = u32::from_le_bytes(bytes);
            if number < BOUND {
                let digits = number % PINS;
                return Ok(Pin(Zeroizing::new(format!("{digits:0PIN_DIGITS$}"))));
            }
        }
    }

    /// Reads what a client says; `None` when it cannot be a PIN.
    pub fn parse(text: &str) -> Option<Pin> {
        let good = text.len() == PIN_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| Pin(Zeroizing::new(text.to_owned())))
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        &self.0
    }
}

/// Makes keyed hashes of what is not to be kept as it is.
#[derive(Clone)]
pub struct Hasher(hmac::Key);

impl Hasher {
    /// With a key of its own, made from the server's secret.
    pub fn new(server_secret: &[u8; 32]) -> Hasher {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, server_secret);
        let key = hmac::sign(&secret, b"registration by phone number");
        Hasher(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    fn hash(&self, label: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[label]);
        for part in parts {
            // With their lengths, so that no two lists of parts are the same bytes.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// The hash of a PIN for a number.
    pub fn pin(&self, number: &str, salt: &[u8; 16], pin: &Pin) -> [u8; 32] {
        self.hash(b'p', &[number.as_bytes(), salt, pin.digits().as_bytes()])
    }

    /// Whether a PIN is the one that was hashed; takes the same time either way.
    pub fn is_pin(&self, number: &str, salt: &[u8; 16], hash: &[u8; 32], pin: &Pin) -> bool {
        self.pin(number, salt, pin).ct_eq(hash).into()
    }

    /// Stands for a device.
    pub fn device(&self, name: &str) -> [u8; 16] {
        let hash = self.hash(b'd', &[name.as_bytes()]);
        *hash.first_chunk().expect("it has 32 bytes")
    }

    /// The key of a quota: what is counted, and of whom.
    pub fn quota(&self, kind: u8, whose: &[u8]) -> QuotaKey {
        let hash = self.hash(b'q', &[&[kind], whose]);
        let mut key = [kind; 17];
        key[1..].copy_from_slice(&hash[..16]);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_five_digits_and_all_of_them_are_drawn() {
        let mut seen = vec![false; PINS as usize];
        let mut left = PINS;
        // 20 draws for each PIN: the chance that one is missing is 100,000 e^-20, so it is not by chance that one is.
        for _ in 0..20 * PINS {
            let pin = Pin::draw(&mut SystemEntropy).unwrap();
            assert_eq!(pin.digits().len(), PIN_DIGITS);
            let number: usize = pin.digits().parse().unwrap();
            left -= u32::from(!std::mem::replace(&mut seen[number], true));
        }
        assert!(left <= 3, "{left} PINs were never drawn");
    }

    #[test]
    fn only_five_digits_are_a_pin() {
        for text in ["", "1234", "123456", "12a45", "１２３４５", " 2345", "+1234"] {
            assert!(Pin::parse(text).is_none(), "{text:?}");
        }
        assert_eq!(Pin::parse("00042").unwrap().digits(), "00042");
    }

    #[test]
    fn a_hash_fits_its_pin_number_and_salt_alone() {
        let hasher = Hasher::new(&[7; 32]);
        let pin = |text| Pin::parse(text).unwrap();
        let hash = hasher.pin("4915112345678", &[1; 16], &pin("12345"));
        assert!(hasher.is_pin("4915112345678", &[1; 16], &hash, &pin("12345")));
        assert!(!hasher.is_pin("4915112345678", &[1; 16], &hash, &pin("12346")));
        assert!(!hasher.is_pin("4915112345679", &[1; 16], &hash, &pin("12345")));
        assert!(!hasher.is_pin("4915112345678", &[2; 16], &hash, &pin("12345")));
        assert!(!Hasher::new(&[8; 32]).is_pin("4915112345678", &[1; 16], &hash, &pin("12345")));
    }
}
