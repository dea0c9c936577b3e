//! The rules, with a clock and chance of the tests' own.

mod attack;
mod steps;
mod strangers;

use std::net::IpAddr;

use tempfile::TempDir;
use whimbrel_storage::directory::{Directory, Options, WriteTransaction, run_inline};

use crate::phone::pin::{Entropy, Hasher, NoEntropy, Pin};
use crate::phone::rules::{Asker, Issued, Refused, Rules, StepError};
use crate::phone::settings::RegistrationConfig;

/// Chance from a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Entropy for Chance {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        for byte in bytes {
            *byte = (self.next() >> 56) as u8;
        }
        Ok(())
    }
}

/// A directory of its own, the rules, a clock that is set, and chance from a seed.
struct World {
    directory: Directory,
    config: RegistrationConfig,
    hasher: Hasher,
    now_ms: u64,
    chance: u64,
    _folder: TempDir,
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn asker(number: &str, device: &str, address: u32) -> Asker {
    Asker {
        number: number.into(),
        device: device.into(),
        address: IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + address)),
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            durable: false,
            domain: "localhost".into(),
            map_bytes_max: 1 << 28,
            ..Options::default()
        };
        let directory = Directory::open(&folder.path().join("directory"), &options).unwrap();
        let hasher = Hasher::new(&[7; 32]);
        World {
            directory,
            config: RegistrationConfig::default(),
            hasher,
            now_ms: 1_700_000_000_000,
            chance: 0x9e37_79b9_7f4a_7c15,
            _folder: folder,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Runs a step as the service does.
    fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Rules<'_>, &mut WriteTransaction<'_>) -> T + Send + 'static,
    ) -> T {
        let (config, hasher, now_ms) = (self.config.clone(), self.hasher.clone(), self.now_ms);
        let job = move |transaction: &mut WriteTransaction<'_>| {
            Ok(step(&Rules { config: &config, hasher: &hasher, now_ms }, transaction))
        };
        run_inline(&self.directory, Box::new(job)).unwrap()
    }

    fn rules(&self) -> Rules<'_> {
        Rules { config: &self.config, hasher: &self.hasher, now_ms: self.now_ms }
    }

    fn request(&mut self, asker: &Asker) -> Result<Issued, Refused> {
        if let Some(refused) = self.rules().may_request(&self.directory, asker).unwrap() {
            return Err(refused);
        }
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let (asker, seed) = (asker.clone(), self.chance | 1);
        let result: Result<_, StepError> =
            self.step(move |rules, transaction| rules.request(transaction, &mut Chance(seed), &asker));
        result.unwrap()
    }

    fn verify(&self, asker: &Asker, pin: &str) -> Result<(), Refused> {
        if let Some(refused) = self.rules().may_verify(&self.directory, asker).unwrap() {
            return Err(refused);
        }
        let (asker, pin) = (asker.clone(), Pin::parse(pin).expect("five digits"));
        let result: Result<_, StepError> =
            self.step(move |rules, transaction| rules.verify(transaction, &asker, &pin));
        result.unwrap()
    }
}

/// A PIN that is not this one.
fn wrong(pin: &str) -> &'static str {
    if pin == "00000" { "11111" } else { "00000" }
}
