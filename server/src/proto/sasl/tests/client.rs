//! A SCRAM client, written from RFC 5802 alone and sharing nothing with the server's side.

use ring::{digest, hmac, pbkdf2};

use super::super::{Mechanism, base64};

/// One login attempt.
pub(super) struct Client {
    pub(super) mechanism: Mechanism,
    pub(super) password: String,
    pub(super) gs2_header: String,
    /// What stands behind the gs2 header in `c=`.
    pub(super) binding_data: Vec<u8>,
    /// Put before the proof in the last message, with its comma.
    pub(super) extension: &'static str,
    pub(super) bare: String,
}

/// What a client sends last, in parts that a test may spoil.
pub(super) struct Final {
    pub(super) binding: String,
    pub(super) nonce: String,
    pub(super) proof: Vec<u8>,
    /// The whole message.
    pub(super) message: String,
    /// The ServerSignature it expects.
    pub(super) server_final: String,
}

impl Client {
    pub(super) fn new(mechanism: Mechanism, gs2_header: &str, bare: &str) -> Self {
        Self {
            mechanism,
            password: super::PASSWORD.to_owned(),
            gs2_header: gs2_header.to_owned(),
            binding_data: Vec::new(),
            extension: "",
            bare: bare.to_owned(),
        }
    }

    pub(super) fn first(&self) -> String {
        base64::encode(format!("{}{}", self.gs2_header, self.bare).as_bytes())
    }

    pub(super) fn last(&self, server_first: &[u8]) -> Final {
        let server_first = std::str::from_utf8(server_first).expect("UTF-8");
        let value = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .expect("the attribute")
                .to_owned()
        };
        let (nonce, salt, iterations) = (value("r="), value("s="), value("i="));
        let salt = base64::decode(&salt).expect("base64");
        let binding = base64::encode(&[self.gs2_header.as_bytes(), &self.binding_data[..]].concat());
        let without_proof = format!("c={binding},r={nonce}{}", self.extension);
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);

        let sha1 = matches!(self.mechanism, Mechanism::ScramSha1 | Mechanism::ScramSha1Plus);
        let (length, hash, mac, kdf) = if sha1 {
            (
                20,
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                pbkdf2::PBKDF2_HMAC_SHA1,
            )
        } else {
            (32, &digest::SHA256, hmac::HMAC_SHA256, pbkdf2::PBKDF2_HMAC_SHA256)
        };
        let sign =
            |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(mac, key), message).as_ref().to_vec();
        let mut salted = vec![0; length];
        let iterations = iterations.parse().expect("a number");
        pbkdf2::derive(kdf, iterations, &salt, self.password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, &client_key);
        let signature = sign(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_key = sign(&salted, b"Server Key");
        Final {
            message: format!("{without_proof},p={}", base64::encode(&proof)),
            server_final: format!("v={}", base64::encode(&sign(&server_key, auth_message.as_bytes()))),
            binding,
            nonce,
            proof,
        }
    }
}
