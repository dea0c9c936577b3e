//! SASL on the client's side (RFC 6120 §6): ANONYMOUS, PLAIN, SCRAM-SHA-1 and SCRAM-SHA-256.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::account::Accounts;
use crate::engine::keys::{Hash, Keys, Secret};
use crate::engine::scan::Element;

/// Iterations that the generator is willing to compute.
const ITERATIONS_MAX: u32 = 1_000_000;

/// Which mechanism to log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Sasl {
    /// The strongest that the server offers
    Auto,
    /// SCRAM-SHA-256
    #[value(name = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-1
    #[value(name = "scram-sha-1")]
    ScramSha1,
    /// PLAIN
    Plain,
    /// ANONYMOUS
    Anonymous,
}

/// A mechanism that has been chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Scram(Hash),
    Plain,
    Anonymous,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Mechanism::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(Hash::Sha1) => "SCRAM-SHA-1",
            Mechanism::Plain => "PLAIN",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }

    /// Chooses among what the features offer.
    pub(crate) fn choose(wanted: Sasl, features: &Element<'_>) -> Result<Mechanism, String> {
        const BY_STRENGTH: [Mechanism; 4] = [
            Mechanism::Scram(Hash::Sha256),
            Mechanism::Scram(Hash::Sha1),
            Mechanism::Plain,
            Mechanism::Anonymous,
        ];
        let offered = |mechanism: Mechanism| features.contains(format!(">{}<", mechanism.name()).as_bytes());
        let wanted = match wanted {
            Sasl::Auto => {
                return BY_STRENGTH.into_iter().find(|&mechanism| offered(mechanism)).ok_or_else(|| {
                    "the server offers no SASL mechanism that this tool knows; it may want TLS first \
                     (--tls starttls), or permission for plain logins on the server's side"
                        .to_owned()
                });
            }
            Sasl::ScramSha256 => BY_STRENGTH[0],
            Sasl::ScramSha1 => BY_STRENGTH[1],
            Sasl::Plain => BY_STRENGTH[2],
            Sasl::Anonymous => BY_STRENGTH[3],
        };
        if offered(wanted) {
            Ok(wanted)
        } else {
            Err(format!(
                "the server does not offer SASL {}; try --sasl auto or --tls starttls",
                wanted.name()
            ))
        }
    }
}

/// One login under way.
pub(crate) struct Exchange {
    mechanism: Mechanism,
    account: u64,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Writes `<auth/>`.
    pub(crate) fn start(
        mechanism: Mechanism,
        account: u64,
        accounts: &Accounts,
        out: &mut Vec<u8>,
    ) -> Exchange {
        let name = Accounts::name(account);
        let mut first_bare = String::new();
        let message = match mechanism {
            Mechanism::Anonymous => String::new(),
            Mechanism::Plain => format!("\0{name}\0{}", accounts.password(account)),
            Mechanism::Scram(_) => {
                let mut nonce = [0; 18];
                SystemRandom::new().fill(&mut nonce).expect("the system's random source answers");
                first_bare = format!("n={name},r={}", STANDARD.encode(nonce));
                format!("n,,{first_bare}")
            }
        };
        let encoded = STANDARD.encode(message);
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{}'>{encoded}</auth>",
            mechanism.name()
        );
        out.extend_from_slice(auth.as_bytes());
        Exchange { mechanism, account, first_bare, server_signature: Vec::new() }
    }

    /// Answers `<challenge/>` with `<response/>`.
    pub(crate) fn challenge(
        &mut self,
        challenge: &Element<'_>,
        accounts: &Accounts,
        keys: &mut Keys,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Mechanism::Scram(hash) = self.mechanism else {
            return Err(format!("the server sent a challenge in a {} login", self.mechanism.name()));
        };
        let bad = || "the server's SCRAM challenge cannot be read".to_owned();
        let first = STANDARD.decode(challenge.text().trim_ascii()).map_err(|_| bad())?;
        let first = String::from_utf8(first).map_err(|_| bad())?;
        let field = |name: &str| first.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(bad);
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        let own_nonce = self.first_bare.split_once(",r=").map_or("", |(_, nonce)| nonce);
        if !nonce.starts_with(own_nonce) || nonce.len() == own_nonce.len() {
            return Err("the server's SCRAM nonce does not continue ours".to_owned());
        }
        let salt = STANDARD.decode(salt).map_err(|_| bad())?;
        let iterations = iterations
            .parse::<NonZeroU32>()
            .ok()
            .filter(|iterations| iterations.get() <= ITERATIONS_MAX)
            .ok_or_else(|| {
                format!("the server wants {iterations} SCRAM iterations; at most {ITERATIONS_MAX}")
            })?;
        let password = accounts.password(self.account);
        let secret = Secret {
            account: accounts.secret_of(self.account),
            password: &password,
            salt: &salt,
            iterations,
        };
        let pair = keys.pair(hash, &secret);
        let (client, server) = (&pair.client[..hash.bytes()], &pair.server[..hash.bytes()]);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{first},{without_proof}", self.first_bare);
        let stored = hash.digest(client);
        let signature = hash.hmac(stored.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        self.server_signature = hash.hmac(server, signed.as_bytes()).as_ref().to_vec();
        let last = STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof)));
        let response = format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>");
        out.extend_from_slice(response.as_bytes());
        Ok(())
    }

    /// Checks `<success/>`: a SCRAM server must prove that it knows the account (RFC 5802 §5).
    pub(crate) fn success(&self, success: &Element<'_>) -> Result<(), String> {
        if !matches!(self.mechanism, Mechanism::Scram(_)) {
            return Ok(());
        }
        let data = STANDARD.decode(success.text().trim_ascii()).unwrap_or_default();
        let signature = data.strip_prefix(b"v=").and_then(|text| STANDARD.decode(text).ok());
        if signature.as_deref() == Some(&self.server_signature) {
            Ok(())
        } else {
            Err("the server's SCRAM signature is wrong: it does not know the account's password".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    fn element(bytes: &[u8]) -> Element<'_> {
        match scan::next(bytes) {
            Ok(Some((Item::Element(element), _))) => element,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_strongest_offer_is_taken_and_a_missing_one_is_named() {
        let bytes = b"<features><mechanisms><mechanism>PLAIN</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
            <mechanism>SCRAM-SHA-256-PLUS</mechanism></mechanisms></features>";
        let features = element(bytes);
        assert_eq!(Mechanism::choose(Sasl::Auto, &features), Ok(Mechanism::Scram(Hash::Sha1)));
        assert_eq!(Mechanism::choose(Sasl::Plain, &features), Ok(Mechanism::Plain));
        assert!(Mechanism::choose(Sasl::ScramSha256, &features).unwrap_err().contains("SCRAM-SHA-256"));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        let accounts = Accounts::new("seed", "localhost", false);
        let mut out = Vec::new();
        let mut exchange = Exchange::start(Mechanism::Scram(Hash::Sha1), 1, &accounts, &mut out);
        let nonce = exchange.first_bare.split_once(",r=").unwrap().1.to_owned();
        let challenge = STANDARD.encode(format!("r={nonce}more,s=c2FsdA==,i=10"));
        let challenge = format!("<challenge>{challenge}</challenge>");
        let mut keys = Keys::open(None);
        exchange.challenge(&element(challenge.as_bytes()), &accounts, &mut keys, &mut out).unwrap();
        assert!(out.windows(9).any(|window| window == b"<response"));
        assert!(exchange.success(&element(b"<success>dj1vb3Bz</success>")).is_err());
        let foreign = format!("<challenge>{}</challenge>", STANDARD.encode("r=other,s=c2FsdA==,i=10"));
        assert!(exchange.challenge(&element(foreign.as_bytes()), &accounts, &mut keys, &mut out).is_err());
    }
}
