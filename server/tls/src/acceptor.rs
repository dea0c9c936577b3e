//! What all connections share: the server's certificate and the rules of TLS.

use std::sync::{Arc, RwLock};

use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};

use super::certificate::{self, Certificate};
use super::error::TlsError;
use super::{Tls, bindings};
use crate::Settings;

/// The protocol's name in ALPN (XEP-0368 §3, RFC 7301).
pub const ALPN: &[u8] = b"xmpp-client";

/// The protocol's name of HTTP/1.1 (RFC 7301 §6).
const ALPN_HTTP: &[u8] = b"http/1.1";

/// The certificate with everything made from it. Connections keep the one they began with.
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// The `tls-server-end-point` binding.
    pub(super) end_point: Option<Arc<[u8]>>,
    /// End of the certificate's validity, in seconds of Unix time.
    expires: u64,
}

/// The same certificate for the two protocols that are spoken over TLS.
struct Identities {
    xmpp: Arc<Identity>,
    https: Arc<Identity>,
}

/// Begins TLS on connections. Shared by all workers.
pub struct Acceptor {
    identities: RwLock<Identities>,
}

impl Acceptor {
    /// Reads the certificate that is given; without one, makes a self-signed one in its directory or takes the
    /// one made before.
    ///
    /// # Errors
    /// Which file cannot be used and why.
    pub fn new(settings: &Settings) -> Result<Self, TlsError> {
        Ok(Acceptor { identities: RwLock::new(identities(settings)?) })
    }

    /// TLS for a new connection. Nothing is allocated before the client's first byte.
    pub fn begin(&self) -> Tls {
        Tls::new(self.identities.read().expect("nothing panics while it holds this lock").xmpp.clone())
    }

    /// As [`Acceptor::begin`], for HTTP/1.1.
    pub fn begin_https(&self) -> Tls {
        Tls::new(self.identities.read().expect("nothing panics while it holds this lock").https.clone())
    }

    /// End of the certificate's validity, in seconds of Unix time; 0 when that was before 1970.
    pub fn expires(&self) -> u64 {
        self.identities.read().expect("nothing panics while it holds this lock").xmpp.expires
    }

    /// Reads the certificate again, for connections that come from now on.
    ///
    /// # Errors
    /// Which file cannot be used and why; the old certificate stays in use.
    pub fn reload(&self, settings: &Settings) -> Result<(), TlsError> {
        let new = identities(settings)?;
        *self.identities.write().expect("nothing panics while it holds this lock") = new;
        Ok(())
    }
}

fn identities(settings: &Settings) -> Result<Identities, TlsError> {
    let Certificate { certified, facts, .. } = certificate::load_or_make(settings)?;
    facts.warn(&settings.domain);
    let expires = u64::try_from(facts.not_after).unwrap_or(0);
    let end_point = certified.end_entity_cert().ok().and_then(|der| bindings::server_end_point(der));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // RFC 7590 §3.1: no version before TLS 1.2; rustls has nothing but AEAD suites with forward secrecy.
    let mut rules = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // A client may leave ALPN out, as most do after STARTTLS; one that only offers other protocols is refused
    // with no_application_protocol (RFC 7301 §3.2), whichever way it came.
    rules.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption: its tickets would cost more than the one signature they save.
    rules.session_storage = Arc::new(NoServerSessionStorage {});
    rules.send_tls13_tickets = 0;
    rules.max_early_data_size = 0;
    rules.enable_secret_extraction = true;
    let mut https = rules.clone();
    https.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    let identity =
        |rules| Arc::new(Identity { config: Arc::new(rules), end_point: end_point.clone(), expires });
    Ok(Identities { xmpp: identity(rules), https: identity(https) })
}
