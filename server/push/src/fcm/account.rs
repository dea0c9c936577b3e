//! The key of a service account, as Google's console gives it: JSON with an RSA key in it.

use std::fmt;

use ring::signature::RsaKeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::key::KeyError;

/// Bytes of such a file at most; real ones have 2,400.
pub const ACCOUNT_BYTES_MAX: usize = 64 << 10;

/// A service account that may send messages of its project.
pub struct ServiceAccount {
    pub(crate) project_id: String,
    pub(crate) client_email: String,
    pub(crate) token_uri: String,
    pub(crate) private_key_id: Option<String>,
    pub(crate) pair: RsaKeyPair,
}

#[derive(Deserialize)]
struct File {
    project_id: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// From the text of the file.
    ///
    /// # Errors
    /// It is no such file, or its key cannot be used.
    pub fn from_json(json: &[u8]) -> Result<ServiceAccount, KeyError> {
        if json.len() > ACCOUNT_BYTES_MAX {
            return Err(KeyError::ServiceAccount("it is too long".to_owned()));
        }
        // The error of serde_json may quote what it reads, so only its place is told.
        let file: File = serde_json::from_slice(json).map_err(|error| {
            KeyError::ServiceAccount(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let project_id = file.project_id.filter(|id| is_project(id)).ok_or(KeyError::Field("project_id"))?;
        let client_email =
            file.client_email.filter(|email| !email.is_empty()).ok_or(KeyError::Field("client_email"))?;
        let token_uri =
            file.token_uri.filter(|uri| uri.starts_with("https://")).ok_or(KeyError::Field("token_uri"))?;
        let pem = Zeroizing::new(file.private_key.ok_or(KeyError::Field("private_key"))?);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| KeyError::Field("private_key: PKCS#8 in PEM is expected"))?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| KeyError::Field("private_key: an RSA key of 2048 to 4096 bits is expected"))?;
        Ok(ServiceAccount { project_id, client_email, token_uri, private_key_id: file.private_key_id, pair })
    }

    /// The project whose devices it reaches.
    pub fn project_id(&self) -> &str {
        &self.project_id
    }
}

/// What may stand in the path of a request: letters, digits, hyphens, and the dots and colons of projects of old domains.
fn is_project(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':'))
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("project_id", &self.project_id).finish_non_exhaustive()
    }
}
