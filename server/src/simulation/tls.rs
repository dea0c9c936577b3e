//! TLS of the simulated clients: rustls against the server's own, over the simulated network.
//!
//! Keys and nonces come from the system, so two runs of a seed send different bytes; but never more or fewer of them,
//! and nothing that a world does depends on what they are. For that the server's key is Ed25519, whose signatures are
//! all of one length, its certificate has a fixed serial number, and clients check it at a fixed time.

mod stream;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

use super::world::DOMAIN;
use crate::config::{Config, TlsConfig};
use crate::runtime::driver::ListenerId;
use crate::runtime::driver::sim::Random;

pub(super) use stream::{End, Tls};

/// When clients look at certificates, in seconds since 1970.
const CHECKED_AT: u64 = 1_700_000_000;

/// A suite of each kind: with and without an explicit nonce, TLS 1.3 and 1.2.
static SUITES: [SupportedCipherSuite; 4] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// How a client comes in.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Door {
    /// Without TLS, all the time.
    #[default]
    Plain,
    /// RFC 6120 §5.
    StartTls,
    /// XEP-0368.
    Direct,
}

impl Door {
    /// The listener behind which it is.
    pub(super) fn listener(self) -> ListenerId {
        ListenerId(u16::from(self == Door::Direct))
    }
}

/// What the clients of a world need for TLS.
#[derive(Debug)]
pub(super) struct Doors {
    configs: Vec<Arc<ClientConfig>>,
    name: ServerName<'static>,
    /// Connections with TLS that may still be made: a handshake takes as long as hundreds of steps.
    left: u32,
    /// Connections with TLS so far.
    pub(super) opened: u64,
}

impl Doors {
    /// Makes a certificate and gives it to a server.
    ///
    /// # Errors
    /// In words: the folder of the configuration cannot be written.
    pub(super) fn fit(config: &mut Config, handshakes: u32) -> Result<Doors, String> {
        let (certificate, files) = make_certificate(config).map_err(|error| error.to_string())?;
        config.tls = TlsConfig { certificate: files.0, key: files.1, ..config.tls.clone() };
        let configs = SUITES.iter().map(|suite| client_config(*suite, &certificate).map(Arc::new));
        let configs = configs.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(DOMAIN).map_err(|error| error.to_string())?;
        Ok(Doors { configs, name, left: handshakes, opened: 0 })
    }

    /// How the next connection of a client comes in.
    pub(super) fn choose(&mut self, random: &mut Random) -> Door {
        if self.left == 0 {
            return Door::Plain;
        }
        let door = match random.below(10) {
            0 | 1 => Door::StartTls,
            2 | 3 => Door::Direct,
            _ => return Door::Plain,
        };
        self.left -= 1;
        door
    }

    /// A client's side of TLS.
    pub(super) fn begin(&mut self, random: &mut Random) -> Result<Tls, rustls::Error> {
        self.opened += 1;
        let config = &self.configs[random.below(self.configs.len())];
        let connection = ClientConnection::new(config.clone(), self.name.clone())?;
        Ok(Tls::new(connection, random.fork()))
    }
}

/// The time of a world is not that of the system.
#[derive(Debug)]
struct Always;

impl TimeProvider for Always {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(CHECKED_AT)))
    }
}

fn client_config(
    suite: SupportedCipherSuite,
    trusted: &CertificateDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..rustls::crypto::ring::default_provider() };
    let version = if suite.tls13().is_some() { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let mut config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(Always))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![crate::tls::ALPN.to_vec()];
    Ok(config)
}

/// A certificate, and the files where it and its key are.
type Certified = (CertificateDer<'static>, (PathBuf, PathBuf));

fn make_certificate(config: &Config) -> Result<Certified, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(vec![DOMAIN.to_owned()])?;
    params.serial_number = Some(SerialNumber::from(1));
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1));
    let pair = KeyPair::generate_for(&PKCS_ED25519)?;
    let signed = params.self_signed(&pair)?;
    let files = (config.data.join("simulated.pem"), config.data.join("simulated.key"));
    for (path, text) in [(&files.0, signed.pem()), (&files.1, pair.serialize_pem())] {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?;
    }
    Ok((signed.der().clone(), files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Settings, world};
    use crate::tls::Acceptor;

    /// How long everything is that is sent in a handshake and a short conversation, under keys and a certificate of
    /// their own.
    fn lengths(seed: u64) -> Vec<usize> {
        let data = tempfile::tempdir().unwrap();
        let mut config = world::config(&Settings::small(1), data.path());
        let mut doors = Doors::fit(&mut config, 1).unwrap();
        let mut server = Acceptor::new(&config.tls_settings()).unwrap().begin();
        let mut client = doors.begin(&mut Random::new(seed)).unwrap();
        let (mut said, mut heard, mut lengths) = (b"<hello/>".repeat(50), Vec::new(), Vec::new());
        while heard.is_empty() {
            client.seal(&mut said);
            let (mut plain, mut answer) = (Vec::new(), Vec::new());
            server.open(&client.wire, &mut plain, &mut answer).unwrap();
            lengths.extend([client.wire.len(), plain.len()]);
            client.wire.clear();
            if !plain.is_empty() {
                server.seal(&plain, &mut answer).unwrap();
            }
            lengths.push(answer.len());
            client.open(&answer, &mut heard).unwrap();
        }
        assert!(client.is_established() && server.is_established());
        lengths
    }

    #[test]
    fn no_length_depends_on_what_is_not_of_the_seed() {
        for seed in 0..10 {
            let first = lengths(seed);
            for _ in 0..6 {
                assert_eq!(lengths(seed), first, "seed {seed}");
            }
        }
    }
}
