//! One authentication exchange, whatever its mechanism.

use crate::proto::address;
use std::fmt;
use std::sync::Arc;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::jid::{JidRef, normalise_local};
use zeroize::Zeroizing;

use super::{ChannelBindings, Failure, Mechanism, Offer, SaslError, UnknownUsers, base64, plain, scram};

/// Random bytes of the server's half of a SCRAM nonce; 24 characters of base64.
pub const SERVER_NONCE_BYTES: usize = 18;

/// What an exchange begins with.
#[derive(Debug)]
pub struct Setup {
    /// The mechanism the client chose.
    pub mechanism: Mechanism,
    /// What the stream is like; the same that its `<mechanisms/>` was written from.
    pub offer: Offer,
    /// The domain of the accounts, normalised.
    pub domain: Arc<str>,
    /// The bindings of the TLS connection, if any.
    pub bindings: ChannelBindings,
    /// Fresh random bytes for SCRAM. Passed in, so that a simulation can repeat itself.
    pub server_nonce: [u8; SERVER_NONCE_BYTES],
}

/// What the caller does next.
#[derive(Debug, Eq, PartialEq)]
pub enum SaslStep {
    /// Send this in a `<challenge/>` and give the client's response to [`Exchange::step`].
    Challenge(Vec<u8>),
    /// Look up the account and call [`Exchange::credentials_found`].
    NeedCredentials {
        /// Its normalised localpart.
        username: Box<str>,
    },
    /// Look up the account, have the crypto pool run [`UnknownUsers::plain_check`], and call
    /// [`Exchange::plain_checked`].
    NeedPlainCheck {
        /// Its normalised localpart.
        username: Box<str>,
        /// The password the client sent.
        password: Zeroizing<String>,
    },
    /// The client is who it says; send `<success/>`. The exchange is over.
    Success {
        /// The account's normalised localpart.
        username: Box<str>,
        /// The mechanism's last message, if it has one.
        additional_data: Vec<u8>,
    },
    /// Send `<failure/>`. The exchange is over.
    Failure(Failure),
}

enum State {
    /// The client's first message is still to come.
    Initial,
    ScramFirstReceived(scram::FirstReceived),
    ScramFirstSent(scram::FirstSent),
    PlainChecking {
        username: Box<str>,
    },
    Over,
}

/// One exchange, from `<auth/>` to success or failure. After either, every call fails.
pub struct Exchange {
    setup: Setup,
    state: State,
}

// Boxed by each session that authenticates, thousands at once in a storm of logins.
const _: () = assert!(size_of::<Exchange>() <= 384);

impl Exchange {
    /// Begins with the text of `<auth/>`: base64 of the initial response, `=` for an empty one,
    /// or nothing, whereupon the client is asked for it with an empty challenge.
    #[must_use]
    pub fn start(setup: Setup, initial_response: &str) -> (Self, SaslStep) {
        let mut exchange = Self { setup, state: State::Initial };
        let step = match exchange.setup.offer.check(exchange.setup.mechanism) {
            Err(error) => exchange.fail(error),
            Ok(()) if initial_response.is_empty() => SaslStep::Challenge(Vec::new()),
            Ok(()) => exchange.step(initial_response),
        };
        (exchange, step)
    }

    /// Goes on with the text of `<response/>`.
    #[must_use]
    pub fn step(&mut self, response: &str) -> SaslStep {
        match base64::decode(response) {
            Ok(message) => self.receive(&message),
            Err(error) => self.fail(error),
        }
    }

    fn receive(&mut self, message: &[u8]) -> SaslStep {
        let setup = &self.setup;
        let next = match (std::mem::replace(&mut self.state, State::Over), setup.mechanism.scram_hash()) {
            (State::Initial, Some(hash)) => {
                scram::FirstReceived::read(setup, hash, message).map(|received| {
                    let username = received.username().into();
                    (State::ScramFirstReceived(received), SaslStep::NeedCredentials { username })
                })
            }
            (State::Initial, None) => plain::read(message, &setup.domain).map(|(username, password)| {
                let state = State::PlainChecking { username: username.clone() };
                (state, SaslStep::NeedPlainCheck { username, password })
            }),
            (State::ScramFirstSent(sent), _) => {
                sent.finish(setup, message).map(|(username, additional_data)| {
                    (State::Over, SaslStep::Success { username, additional_data })
                })
            }
            // A response that nobody asked for.
            (State::ScramFirstReceived(_) | State::PlainChecking { .. } | State::Over, _) => {
                Err(SaslError::MalformedRequest.into())
            }
        };
        match next {
            Ok((state, step)) => {
                self.state = state;
                step
            }
            Err(failure) => SaslStep::Failure(failure),
        }
    }

    /// Goes on after [`SaslStep::NeedCredentials`], `found` being `None` if there is no such account.
    #[must_use]
    pub fn credentials_found(&mut self, found: Option<&Credentials>, unknown: &UnknownUsers) -> SaslStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::ScramFirstReceived(received) => {
                let (sent, message) = received.challenge(&self.setup.server_nonce, found, unknown);
                self.state = State::ScramFirstSent(sent);
                SaslStep::Challenge(message)
            }
            _ => self.fail(SaslError::MalformedRequest),
        }
    }

    /// Goes on after [`SaslStep::NeedPlainCheck`] with what [`PlainCheck::run`](super::PlainCheck::run)
    /// said.
    #[must_use]
    pub fn plain_checked(&mut self, verdict: bool) -> SaslStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::PlainChecking { username } if verdict => {
                SaslStep::Success { username, additional_data: Vec::new() }
            }
            State::PlainChecking { .. } => self.fail(SaslError::NotAuthorized),
            _ => self.fail(SaslError::MalformedRequest),
        }
    }

    /// Ends the exchange at the client's `<abort/>`.
    #[must_use]
    pub fn abort(&mut self) -> SaslStep {
        self.fail(SaslError::Aborted)
    }

    /// Whether the next response has the client's proof: a guess at the password, for all that is known.
    #[must_use]
    pub fn awaits_proof(&self) -> bool {
        matches!(self.state, State::ScramFirstSent(_))
    }

    /// The mechanism.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.setup.mechanism
    }

    /// Whether it has succeeded or failed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The account the client has named, while the exchange goes on.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match &self.state {
            State::ScramFirstReceived(received) => Some(received.username()),
            State::ScramFirstSent(sent) => Some(sent.username()),
            State::PlainChecking { username } => Some(username),
            State::Initial | State::Over => None,
        }
    }

    fn fail(&mut self, error: SaslError) -> SaslStep {
        self.state = State::Over;
        SaslStep::Failure(error.into())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("mechanism", &self.setup.mechanism)
            .field("username", &self.username())
            .finish_non_exhaustive()
    }
}

/// Normalises the username. An authorisation identity must be that user's bare JID
/// (RFC 6120 §6.3.8): nobody acts for somebody else.
pub(super) fn check_identity(
    username: &str,
    authzid: Option<&str>,
    domain: &str,
) -> Result<Box<str>, Failure> {
    let username = normalise_local(username)
        .map_err(|_| Failure::new(SaslError::MalformedRequest, "invalid-username-encoding"))?;
    if let Some(authzid) = authzid {
        let own = JidRef::parse(authzid).is_ok_and(|jid| address::is_account(&jid, &username, domain));
        if !own {
            return Err(SaslError::InvalidAuthzid.into());
        }
    }
    Ok(username.into())
}
