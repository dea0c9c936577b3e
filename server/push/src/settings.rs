//! Bounds and times of a provider; the clock; roots of trust.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::key::KeyError;

/// How much a provider holds, and how it tries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of its thread.
    pub name: &'static str,
    /// Notifications that it holds at most: waiting, under way, and between two attempts. The push services of Web Push
    /// have equal shares.
    pub queue: usize,
    /// Attempts under way at a time; for Web Push, at each push service. The peer's limit of streams is obeyed as well.
    pub in_flight: usize,
    /// What an attempt may take, with its connection and its token.
    pub attempt: Duration,
    /// How long a notification is tried at most, however long it is of use.
    pub trying: Duration,
    /// The pause after a first failure; each further one is twice as long, give or take a half.
    pub pause_first: Duration,
    /// The longest pause of that kind.
    pub pause_max: Duration,
    /// The pause after refused credentials; it grows likewise, to 60 times as much.
    pub pause_credentials: Duration,
    /// An idle connection is asked for a sign of life as often, and closed when it gives none.
    pub ping: Duration,
    /// Seed of the jitter; `None`: the system's chance.
    pub seed: Option<u64>,
    /// Who may vouch for the provider's certificate.
    pub roots: Roots,
    /// What tells the ages of tokens.
    pub clock: Clock,
}

impl Settings {
    /// What suits a provider of some hundred thousand devices.
    pub fn named(name: &'static str) -> Settings {
        Settings {
            name,
            queue: 10_000,
            in_flight: 100,
            attempt: Duration::from_secs(20),
            trying: Duration::from_secs(15 * 60),
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
            pause_credentials: Duration::from_secs(60),
            ping: Duration::from_secs(120),
            seed: None,
            roots: Roots::bundled(),
            clock: Clock::system(),
        }
    }
}

/// Seconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's.
    pub fn system() -> Clock {
        Clock::from_fn(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }

    /// A clock of one's own, for tests and simulations.
    pub fn from_fn(now: impl Fn() -> u64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// Authorities that may vouch for certificates of providers.
#[derive(Clone)]
pub struct Roots(pub(crate) Arc<RootCertStore>);

impl Roots {
    /// Mozilla's, as they are built into the program.
    pub fn bundled() -> Roots {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        Roots(Arc::new(RootCertStore { roots }))
    }

    /// Those of a PEM file, and no other.
    ///
    /// # Errors
    /// The file has no certificate, or one that cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Roots, KeyError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| KeyError::Certificate(format!("{error:?}")))?;
            store.add(certificate).map_err(|error| KeyError::Certificate(error.to_string()))?;
        }
        if store.is_empty() {
            return Err(KeyError::Certificate("there is none in it".to_owned()));
        }
        Ok(Roots(Arc::new(store)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}
