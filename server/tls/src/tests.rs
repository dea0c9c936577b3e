//! TLS against a real client: rustls's own, in memory.

mod certificates;
mod faults;
mod handshakes;
mod keys;

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite as cs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

use super::suite::{DirectionKeys, Suite, Version};
use super::{Acceptor, Progress, Tls, TlsError};
use crate::Settings;

/// Every suite, and whether its certificate is the RSA one.
static SUITES: [(SupportedCipherSuite, bool); 9] = [
    (cs::TLS13_AES_128_GCM_SHA256, false),
    (cs::TLS13_AES_256_GCM_SHA384, false),
    (cs::TLS13_CHACHA20_POLY1305_SHA256, true),
    (cs::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false),
    (cs::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false),
    (cs::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false),
    (cs::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true),
    (cs::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true),
    (cs::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, true),
];

/// A file of the tests. Keys are copied, because those that git writes are for everybody to read.
fn pem(name: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    static KEYS: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    static COPYING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/pem").join(name);
    if !name.ends_with(".key") {
        return source;
    }
    let copy = KEYS.get_or_init(|| tempfile::tempdir().unwrap()).path().join(name);
    let _copying = COPYING.lock().unwrap();
    if !copy.exists() {
        std::fs::copy(source, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    copy
}

fn settings(rsa: bool) -> Settings {
    let (certificate, key) = if rsa { ("rsa.pem", "rsa-pkcs1.key") } else { ("ec.pem", "ec-sec1.key") };
    files(pem(certificate), pem(key))
}

fn files(certificate: std::path::PathBuf, key: std::path::PathBuf) -> Settings {
    Settings { domain: "localhost".to_owned(), certificate, key, ..Settings::default() }
}

fn is_tls13(suite: SupportedCipherSuite) -> bool {
    suite.tls13().is_some()
}

fn client(suite: SupportedCipherSuite, trusted: &std::path::Path, alpn: &[&str]) -> ClientConnection {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..rustls::crypto::ring::default_provider() };
    let version = if is_tls13(suite) { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// A client and a server that talk.
struct Pair {
    client: ClientConnection,
    tls: Tls,
    /// Bytes the server is given at a time.
    cut: usize,
    /// What has come out at the server.
    plain: Vec<u8>,
    /// Handshakes reported as done.
    done: usize,
    peer_closed: bool,
}

impl Pair {
    fn of(acceptor: &Acceptor, client: ClientConnection) -> Pair {
        let tls = acceptor.begin();
        Pair { client, tls, cut: usize::MAX, plain: Vec::new(), done: 0, peer_closed: false }
    }

    fn new((suite, rsa): (SupportedCipherSuite, bool)) -> Pair {
        let settings = settings(rsa);
        let acceptor = Acceptor::new(&settings).unwrap();
        Pair::of(&acceptor, client(suite, &settings.certificate, &["xmpp-client"]))
    }

    fn connected(of: (SupportedCipherSuite, bool)) -> Pair {
        let mut pair = Pair::new(of);
        pair.talk().unwrap();
        assert!(pair.tls.is_established() && !pair.client.is_handshaking(), "{of:?}");
        pair
    }

    /// What the client has to send.
    fn take_from_client(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).unwrap();
        }
        wire
    }

    /// Gives bytes to the server; what it answers goes to the client.
    fn give(&mut self, wire: &[u8]) -> Result<(), TlsError> {
        for part in wire.chunks(self.cut.min(wire.len().max(1))) {
            let mut answer = Vec::new();
            let result = self.tls.open(part, &mut self.plain, &mut answer);
            self.give_to_client(&answer);
            let Progress { handshake_done_now, peer_closed } = result?;
            self.done += usize::from(handshake_done_now);
            self.peer_closed |= peer_closed;
        }
        Ok(())
    }

    /// Gives bytes to the client. What it thinks of them is seen when it is asked.
    fn give_to_client(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).unwrap();
            let _ = self.client.process_new_packets();
        }
    }

    /// Until the client has nothing more to say.
    fn talk(&mut self) -> Result<(), TlsError> {
        loop {
            let wire = self.take_from_client();
            if wire.is_empty() {
                return Ok(());
            }
            self.give(&wire)?;
        }
    }

    /// The client says something, the server hears it.
    fn client_says(&mut self, data: &[u8]) {
        for part in data.chunks(16 * 1024) {
            self.client.writer().write_all(part).unwrap();
            self.talk().unwrap();
        }
        assert!(std::mem::take(&mut self.plain) == data, "the server heard something else");
    }

    /// The server says something, the client hears it.
    fn server_says(&mut self, data: &[u8]) {
        let mut wire = Vec::new();
        self.tls.seal(data, &mut wire).unwrap();
        let mut heard = Vec::new();
        for part in wire.chunks(4096) {
            self.give_to_client(part);
            let mut bytes = [0; 65536];
            while let Ok(length @ 1..) = self.client.reader().read(&mut bytes) {
                heard.extend_from_slice(&bytes[..length]);
            }
        }
        assert!(heard == data, "the client heard something else: {} of {} bytes", heard.len(), data.len());
    }

    /// The fatal alert that the client has been sent.
    fn alert_at_client(&mut self) -> Option<rustls::AlertDescription> {
        match self.client.process_new_packets() {
            Err(rustls::Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

/// Two record layers that talk to each other, each direction beginning at this record.
fn mirrored(
    version: Version,
    suite: Suite,
    sequence: u64,
) -> (super::record::Records, super::record::Records) {
    let keys = |seed: u8| {
        let mut keys = DirectionKeys::from_secret(suite, [seed; 48]);
        keys.sequence = sequence;
        keys
    };
    (
        super::record::Records::new(version, suite, keys(1), keys(2)),
        super::record::Records::new(version, suite, keys(2), keys(1)),
    )
}
