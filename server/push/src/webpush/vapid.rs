//! The server's own key for push services (VAPID, RFC 8292).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::es256::{Es256, POINT_BYTES};
use crate::key::KeyError;

/// The key by which push services know this server. Subscriptions belong to it: with another key they are worthless.
#[derive(Debug)]
pub struct VapidKey {
    pub(crate) pair: Es256,
}

impl VapidKey {
    /// From a PEM file.
    ///
    /// # Errors
    /// The file is no P-256 key in PKCS#8.
    pub fn from_pem(pem: &[u8]) -> Result<VapidKey, KeyError> {
        Ok(VapidKey { pair: Es256::from_pem(pem)? })
    }

    /// The text of a PEM file with a new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate_pem() -> Result<String, KeyError> {
        let text = STANDARD.encode(Es256::generate()?);
        let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("Base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// The public key, uncompressed.
    pub fn public(&self) -> [u8; POINT_BYTES] {
        self.pair.public()
    }

    /// The public key as browsers want it for `applicationServerKey`: URL-safe Base64 without padding.
    pub fn public_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public())
    }
}
