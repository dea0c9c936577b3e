//! SCRAM's two rounds (RFC 5802 §5, RFC 7677).

use whimbrel_storage::credentials::{Credentials, ScramHash, ScramKeys};

use super::exchange::{SERVER_NONCE_BYTES, Setup, check_identity};
use super::message::{BindingFlag, ClientFinal, ClientFirst};
use super::{BindingType, Failure, SaslError, UnknownUsers, base64};

/// The client has said who it is; its keys are being looked up.
pub(super) struct FirstReceived {
    hash: ScramHash,
    binding: Option<BindingType>,
    gs2_header: Box<str>,
    username: Box<str>,
    /// `client-first-message-bare`, the beginning of the AuthMessage.
    bare: Box<str>,
    client_nonce: Box<str>,
}

impl FirstReceived {
    /// Reads `client-first-message` and holds it against what the stream offers.
    pub(super) fn read(setup: &Setup, hash: ScramHash, message: &[u8]) -> Result<Self, Failure> {
        let first = ClientFirst::parse(message)?;
        let binding = match (first.binding, setup.mechanism.binds_channel()) {
            (BindingFlag::Used(name), true) => Some(
                setup
                    .bindings
                    .find(name)
                    .ok_or(Failure::new(SaslError::MalformedRequest, "unsupported-channel-binding-type"))?,
            ),
            (BindingFlag::Used(_), false) => {
                return Err(Failure::new(SaslError::MalformedRequest, "channel-binding-not-supported"));
            }
            // RFC 5802 §6: the -PLUS mechanism is chosen by using a binding.
            (_, true) => return Err(Failure::new(SaslError::MalformedRequest, "other-error")),
            // Somebody cut -PLUS out of the list of mechanisms that this client saw.
            (BindingFlag::NotOffered, false) if setup.offer.offers_binding() => {
                return Err(Failure::new(SaslError::NotAuthorized, "server-does-support-channel-binding"));
            }
            (BindingFlag::NotOffered | BindingFlag::Unsupported, false) => None,
        };
        let username = check_identity(&first.username, first.authzid.as_deref(), &setup.domain)?;
        Ok(Self {
            hash,
            binding,
            gs2_header: first.gs2_header.into(),
            username,
            bare: first.bare.into(),
            client_nonce: first.nonce.into(),
        })
    }

    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// Goes on with the account's keys, or with made-up ones, and writes `server-first-message`.
    pub(super) fn challenge(
        self,
        server_nonce: &[u8; SERVER_NONCE_BYTES],
        found: Option<&Credentials>,
        unknown: &UnknownUsers,
    ) -> (FirstSent, Vec<u8>) {
        // Made for everybody, so that it takes as long for those who exist.
        let fake = unknown.credentials(&self.username);
        let keys = found.unwrap_or(&fake).keys(self.hash).clone();
        let nonce = format!("{}{}", self.client_nonce, base64::encode(server_nonce));
        let server_first = format!("r={nonce},s={},i={}", base64::encode(keys.salt()), keys.iterations());
        let state = FirstSent {
            keys,
            exists: found.is_some(),
            binding: self.binding,
            gs2_header: self.gs2_header,
            username: self.username,
            nonce: nonce.into(),
            auth_message: format!("{},{server_first},", self.bare),
        };
        (state, server_first.into_bytes())
    }
}

/// The client has its challenge and owes the proof.
pub(super) struct FirstSent {
    keys: ScramKeys,
    exists: bool,
    binding: Option<BindingType>,
    gs2_header: Box<str>,
    username: Box<str>,
    /// Both nonces joined.
    nonce: Box<str>,
    /// AuthMessage up to and with its second comma.
    auth_message: String,
}

impl FirstSent {
    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// Reads `client-final-message` and writes `server-final-message`.
    pub(super) fn finish(mut self, setup: &Setup, message: &[u8]) -> Result<(Box<str>, Vec<u8>), Failure> {
        let last = ClientFinal::parse(message)?;
        let encoding = Failure::new(SaslError::MalformedRequest, "invalid-encoding");
        let binding = base64::decode(last.binding).map_err(|_| encoding)?;
        let proof = base64::decode(last.proof).map_err(|_| encoding)?;

        if last.nonce != &*self.nonce {
            return Err(Failure::new(SaslError::NotAuthorized, "other-error"));
        }
        let bound = binding.strip_prefix(self.gs2_header.as_bytes()).is_some_and(|data| match self.binding {
            Some(binding) => setup.bindings.matches(binding, data),
            None => data.is_empty(),
        });
        if !bound {
            return Err(Failure::new(SaslError::NotAuthorized, "channel-bindings-dont-match"));
        }
        self.auth_message.push_str(last.without_proof);
        let proven = self.keys.verify_proof(self.auth_message.as_bytes(), &proof);
        // No proof fits made-up keys; this says so without trusting that.
        if !(proven & self.exists) {
            return Err(Failure::new(SaslError::NotAuthorized, "invalid-proof"));
        }
        let signature = self.keys.server_signature(self.auth_message.as_bytes());
        Ok((self.username, format!("v={}", base64::encode(signature.as_bytes())).into_bytes()))
    }
}
