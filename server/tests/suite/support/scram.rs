//! The client's side of SCRAM (RFC 5802), written apart from the server's, so that one cannot hide the other's bug.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use whimbrel_server::xml::Element;

use super::Client;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// What the client does in an exchange; a test changes what it wants to be wrong.
pub(crate) struct Scram {
    /// Mechanism name.
    pub(crate) mechanism: &'static str,
    /// `n,,`, `y,,` or `p=TYPE,,`.
    pub(crate) gs2: String,
    /// The channel binding's data.
    pub(crate) binding: Vec<u8>,
    /// Changes the final message before it is sent.
    pub(crate) spoil: fn(String) -> String,
}

impl Scram {
    /// An honest exchange without channel binding.
    pub(crate) fn plain(mechanism: &'static str) -> Scram {
        Scram { mechanism, gs2: "n,,".into(), binding: Vec::new(), spoil: |message| message }
    }

    /// An honest exchange bound to the TLS channel.
    pub(crate) fn bound(mechanism: &'static str, binding: &str, data: Vec<u8>) -> Scram {
        Scram { mechanism, gs2: format!("p={binding},,"), binding: data, spoil: |message| message }
    }

    fn sha1(&self) -> bool {
        self.mechanism.starts_with("SCRAM-SHA-1") && !self.mechanism.starts_with("SCRAM-SHA-256")
    }

    fn mac(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = if self.sha1() { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY } else { hmac::HMAC_SHA256 };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    fn salted(&self, password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
        let (algorithm, length) =
            if self.sha1() { (pbkdf2::PBKDF2_HMAC_SHA1, 20) } else { (pbkdf2::PBKDF2_HMAC_SHA256, 32) };
        let mut out = vec![0; length];
        pbkdf2::derive(algorithm, NonZeroU32::new(rounds).unwrap(), salt, password.as_bytes(), &mut out);
        out
    }

    fn hash(&self, data: &[u8]) -> Vec<u8> {
        let algorithm = if self.sha1() { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    /// The server's challenge to a name: salt, in base64, and iterations.
    pub(crate) fn challenge(mechanism: &str, client: &mut Client, name: &str) -> (String, String) {
        let first = STANDARD.encode(format!("n,,n={name},r=client-nonce"));
        client.send(&format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{first}</auth>"));
        let challenge = client.stanza();
        assert_eq!(challenge.name(), "challenge", "{challenge:?}");
        let message = String::from_utf8(STANDARD.decode(challenge.content().as_bytes()).unwrap()).unwrap();
        let field = |key: &str| {
            let mut fields = message.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(name, _)| *name == key).expect("the server sends r, s and i").1.to_owned()
        };
        (field("s"), field("i"))
    }

    /// Runs the exchange on an open stream; the server's last answer. A success's signature is checked.
    pub(crate) fn run(&self, client: &mut Client, name: &str, password: &str) -> Element {
        let first_bare = format!("n={name},r=client-nonce");
        let first = STANDARD.encode(format!("{}{first_bare}", self.gs2));
        client.send(&format!("<auth xmlns='{SASL}' mechanism='{}'>{first}</auth>", self.mechanism));
        let challenge = client.stanza();
        if challenge.name() != "challenge" {
            return challenge;
        }
        let server_first =
            String::from_utf8(STANDARD.decode(challenge.content().as_bytes()).unwrap()).unwrap();
        let field = |key: &str| {
            let mut fields = server_first.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(name, _)| *name == key).expect("the server sends r, s and i").1
        };
        let salt = STANDARD.decode(field("s")).unwrap();
        let salted = self.salted(password, &salt, field("i").parse().unwrap());
        let client_key = self.mac(&salted, b"Client Key");
        let stored = self.hash(&client_key);
        let bound = [self.gs2.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={}", STANDARD.encode(bound), field("r"));
        let auth_message = format!("{first_bare},{server_first},{without_proof}");
        let signature = self.mac(&stored, auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let last = (self.spoil)(format!("{without_proof},p={}", STANDARD.encode(proof)));
        client.send(&format!("<response xmlns='{SASL}'>{}</response>", STANDARD.encode(last)));
        let answer = client.stanza();
        if answer.name() == "success" {
            let server_key = self.mac(&salted, b"Server Key");
            let expected = format!("v={}", STANDARD.encode(self.mac(&server_key, auth_message.as_bytes())));
            assert_eq!(STANDARD.decode(answer.content().as_bytes()).unwrap(), expected.as_bytes());
        }
        answer
    }
}
