//! Keys for ES256 (RFC 7518 §3.4): ECDSA over P-256 with SHA-256.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::key::KeyError;

/// Bytes of an uncompressed point of P-256.
pub(crate) const POINT_BYTES: usize = 65;

/// A key that signs.
pub(crate) struct Es256 {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Es256 {
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Es256, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| KeyError::P256("it has no such section".to_owned()))?;
        Es256::from_der(der.secret_pkcs8_der())
    }

    fn from_der(der: &[u8]) -> Result<Es256, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|error| KeyError::P256(error.to_string()))?;
        Ok(Es256 { pair, random })
    }

    /// A new key, as PKCS#8.
    pub(crate) fn generate() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|der| der.as_ref().to_vec())
            .map_err(|_| KeyError::P256("the system gives no random bytes".to_owned()))
    }

    /// The public key, uncompressed.
    pub(crate) fn public(&self) -> [u8; POINT_BYTES] {
        self.pair.public_key().as_ref().try_into().expect("ring writes points of P-256 uncompressed")
    }

    /// The signature, as JWS wants it: r and s, 32 bytes each. `None`: the system gives no random bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(&self.random, message).ok().map(|signature| signature.as_ref().to_vec())
    }
}

impl fmt::Debug for Es256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Es256(…)")
    }
}
