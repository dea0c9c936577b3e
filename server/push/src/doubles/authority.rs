//! Who vouches for the certificates of doubles.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::settings::Roots;

/// A certificate authority of its own, and a certificate for `localhost`.
pub struct Authority {
    pem: String,
    config: ServerConfig,
}

impl Authority {
    /// With new keys.
    ///
    /// # Panics
    /// A certificate cannot be made, which only a change of this function can cause.
    pub fn new() -> Authority {
        Authority::make().expect("certificates can be made")
    }

    fn make() -> Result<Authority, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Doubles of push providers");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let own_key = KeyPair::generate()?;
        let own = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&own_key, &issuer)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)?;
        Ok(Authority { pem, config })
    }

    /// Its certificate, for the file of roots.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// It alone, as roots of trust.
    ///
    /// # Panics
    /// Its certificate is none, which only a change of this module can cause.
    pub fn roots(&self) -> Roots {
        Roots::from_pem(self.pem.as_bytes()).expect("it is a certificate")
    }

    /// TLS of a server that speaks one protocol.
    pub(super) fn config(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}
