//! SASL on a stream (RFC 6120 §6): exchanges, guesses that are counted before they are looked at, and answers that are held
//! back.
//!
//! ```text
//! password, proof ─► may it be looked at? ─┬─► now ─► looked at ─► answered, perhaps later
//!                          ▲               ├─► not yet ─┐
//!                          └───────────────┼────────────┘ up to UNHEARD_TRIES times
//!                                          └─► refused unheard
//! ```

use std::sync::Arc;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::CredentialsStamp;
use zeroize::Zeroizing;

use super::{Negotiation, NegotiationEnv, NegotiationStep};
use crate::proto::errors::{StreamCondition, StreamEnd};
use crate::proto::sasl::audit::{FailedLogin, Why};
use crate::proto::sasl::throttle::Verdict;
use crate::proto::sasl::{self, Exchange, Failure, Mechanism, SaslError, Setup};
use crate::transport::Output;
use crate::xml::Stanza;

/// A password or proof for which there is no room among the guesses is tried so often before it is refused.
const UNHEARD_TRIES: u64 = 5;

/// Milliseconds for which one is tried at most.
const UNHEARD_MS_MAX: u64 = 10_000;

/// A password or proof that has not been looked at.
pub(super) enum Unheard {
    /// The text of a response.
    Proof(String),
    /// What PLAIN says.
    Plain {
        /// The account's normalised localpart.
        username: Box<str>,
        /// The password.
        password: Zeroizing<String>,
    },
}

/// Whether a guess may be looked at.
enum Chance {
    Now,
    /// Perhaps in so many milliseconds.
    Later(u64),
    No,
}

impl Negotiation {
    pub(super) fn sasl(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let step = match stanza.name() {
            "auth" => {
                let Some(mechanism) =
                    stanza.attribute("mechanism").and_then(|name| Mechanism::from_name(&name))
                else {
                    return self.failed(at, SaslError::InvalidMechanism.into(), Why::Protocol, out);
                };
                self.claimed = None;
                let setup = Setup {
                    mechanism,
                    offer: self.offer(at),
                    domain: Arc::from(&*at.shared.domain),
                    bindings: self.bindings.clone(),
                    server_nonce: at.shared.chance.bytes(),
                };
                let (exchange, step) = Exchange::start(setup, &stanza.to_element().content());
                self.exchange = Some(Box::new(exchange));
                step
            }
            "response" => return self.response(at, stanza, out),
            "abort" => match &mut self.exchange {
                Some(exchange) => exchange.abort(),
                None => return self.failed(at, SaslError::Aborted.into(), Why::Aborted, out),
            },
            _ => return Err((StreamCondition::UnsupportedStanzaType, None)),
        };
        self.go_on(at, step, out)
    }

    /// A proof is a guess: it is counted before it is looked at.
    pub(super) fn response(
        &mut self,
        at: &NegotiationEnv<'_>,
        stanza: &Stanza<'_>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.respond(at, stanza.to_element().content().into_owned(), out)
    }

    fn respond(
        &mut self,
        at: &NegotiationEnv<'_>,
        text: String,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        let proof = self.exchange.as_ref().is_some_and(|exchange| exchange.awaits_proof());
        if proof {
            match self.may_guess(at) {
                Chance::Now => {}
                Chance::Later(after_ms) => return Ok(self.try_later(Unheard::Proof(text), after_ms)),
                Chance::No => {
                    return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
                }
            }
        }
        let Some(exchange) = &mut self.exchange else {
            return self.failed(at, SaslError::MalformedRequest.into(), Why::Protocol, out);
        };
        let step = exchange.step(&text);
        match proof {
            true => self.judged(at, step, out),
            false => self.go_on(at, step, out),
        }
    }

    /// Does what an exchange asks for before a password or proof has been looked at.
    pub(super) fn go_on(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match step {
            sasl::SaslStep::NeedCredentials { username } => {
                self.claimed = Some(username.clone());
                let found = match credentials(at, &username) {
                    Ok(found) => found,
                    Err(error) => return self.failed(at, error.into(), Why::Unavailable, out),
                };
                self.stamp = stamp(at, &username, found.as_ref());
                let Some(exchange) = &mut self.exchange else { return Ok(NegotiationStep::Continue) };
                let next = exchange.credentials_found(found.as_ref(), &at.shared.unknown_users);
                self.go_on(at, next, out)
            }
            sasl::SaslStep::NeedPlainCheck { username, password } => {
                self.claimed = Some(username.clone());
                self.check_plain(at, username, password, out)
            }
            sasl::SaslStep::Failure(failure) => {
                let why = match failure.error {
                    SaslError::Aborted => Why::Aborted,
                    _ => Why::Protocol,
                };
                self.failed(at, failure, why, out)
            }
            // Nothing succeeds without a password or proof.
            step @ (sasl::SaslStep::Challenge(_) | sasl::SaslStep::Success { .. }) => {
                self.answer(at, step, out)
            }
        }
    }

    /// A password is a guess: it is counted before it is looked at.
    fn check_plain(
        &mut self,
        at: &NegotiationEnv<'_>,
        username: Box<str>,
        password: Zeroizing<String>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match self.may_guess(at) {
            Chance::Now => {}
            Chance::Later(after_ms) => {
                return Ok(self.try_later(Unheard::Plain { username, password }, after_ms));
            }
            Chance::No => {
                return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
            }
        }
        match credentials(at, &username) {
            Ok(found) => {
                self.stamp = stamp(at, &username, found.as_ref());
                self.waiting = true;
                let check = at.shared.unknown_users.plain_check(found, &username, password);
                Ok(NegotiationStep::CheckPassword(check))
            }
            Err(error) => self.failed(at, error.into(), Why::Unavailable, out),
        }
    }

    /// Counts a guess, and notes for how long its answer is to be held back. Where there is no room for it, it waits for some, as
    /// others do: each that waits has as good a chance as the next, however often somebody else comes.
    fn may_guess(&mut self, at: &NegotiationEnv<'_>) -> Chance {
        let Some(claimed) = &self.claimed else { return Chance::No };
        if let Verdict::Proceed { delay_ms } = at.shared.throttle().begin(claimed, at.peer, at.now_ms) {
            self.delay_ms = delay_ms;
            self.unheard_until_ms = None;
            return Chance::Now;
        }
        let most_ms = UNHEARD_MS_MAX.min(u64::from(at.config.limits.preauth_seconds) * 1000 / 3);
        if self.unheard_until_ms.is_none() {
            at.metrics().login_waited.add(1);
        }
        let until_ms = *self.unheard_until_ms.get_or_insert(at.now_ms + most_ms);
        if at.now_ms >= until_ms {
            self.unheard_until_ms = None;
            return Chance::No;
        }
        Chance::Later((most_ms / UNHEARD_TRIES).clamp(1, until_ms - at.now_ms))
    }

    /// Nothing is read from the client meanwhile.
    fn try_later(&mut self, unheard: Unheard, after_ms: u64) -> NegotiationStep {
        self.waiting = true;
        self.unheard = Some(Box::new(unheard));
        NegotiationStep::AnswerLater(after_ms)
    }

    /// A password or proof has been looked at: what came of it is counted now and answered when it is due.
    pub(super) fn judged(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match &step {
            sasl::SaslStep::Success { username, .. } => {
                at.shared.throttle().succeeded(username, at.peer, at.now_ms);
            }
            _ => self.tell(at, Why::Credentials),
        }
        if self.delay_ms == 0 {
            return self.answer(at, step, out);
        }
        at.metrics().login_delayed.add(1);
        self.waiting = true;
        self.held_back = Some(Box::new(step));
        Ok(NegotiationStep::AnswerLater(std::mem::take(&mut self.delay_ms)))
    }

    /// The answer that was held back is due, or a password or proof that may not be looked at yet is to be tried again.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn answer_due(
        &mut self,
        at: &NegotiationEnv<'_>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        if let Some(unheard) = self.unheard.take() {
            self.waiting = false;
            return match *unheard {
                Unheard::Proof(text) => self.respond(at, text, out),
                Unheard::Plain { username, password } => self.check_plain(at, username, password, out),
            };
        }
        let Some(step) = self.held_back.take() else { return Ok(NegotiationStep::Continue) };
        self.waiting = false;
        self.answer(at, *step, out)
    }

    /// Tells the client what came of its exchange so far.
    pub(super) fn answer(
        &mut self,
        at: &NegotiationEnv<'_>,
        step: sasl::SaslStep,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        match step {
            sasl::SaslStep::Challenge(message) => {
                out.element(|out| sasl::write_challenge(&message, out));
                Ok(NegotiationStep::Continue)
            }
            sasl::SaslStep::Success { username, additional_data } => {
                out.element(|out| sasl::write_success(&additional_data, out));
                self.user = Some(username);
                self.exchange = None;
                self.restart();
                Ok(NegotiationStep::Authenticated)
            }
            sasl::SaslStep::Failure(failure) => self.refuse(at, failure, out),
            // These come before a password or proof.
            sasl::SaslStep::NeedCredentials { .. } | sasl::SaslStep::NeedPlainCheck { .. } => {
                Ok(NegotiationStep::Continue)
            }
        }
    }

    /// The crypto pool has checked a password.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn plain_checked(
        &mut self,
        at: &NegotiationEnv<'_>,
        accepted: bool,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.waiting = false;
        let Some(exchange) = &mut self.exchange else { return Ok(NegotiationStep::Continue) };
        let step = exchange.plain_checked(accepted);
        self.judged(at, step, out)
    }

    /// The crypto pool had no room for a check.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn plain_refused(
        &mut self,
        at: &NegotiationEnv<'_>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.waiting = false;
        self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Unavailable, out)
    }

    /// The account and mechanism of a check that the crypto pool is to make, for the case that the connection ends first.
    pub fn guess(&self) -> Option<(Box<str>, &'static str)> {
        let mechanism = self.exchange.as_ref().map_or("-", |exchange| exchange.mechanism().name());
        self.claimed.clone().map(|account| (account, mechanism))
    }

    /// Ends an exchange in failure without a password or proof having been looked at.
    pub(super) fn failed(
        &mut self,
        at: &NegotiationEnv<'_>,
        failure: Failure,
        why: Why,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.tell(at, why);
        self.refuse(at, failure, out)
    }

    /// Counts a failure, also that which ends the stream, and leaves a line about it.
    pub(super) fn tell(&self, at: &NegotiationEnv<'_>, why: Why) {
        let mechanism = self.exchange.as_ref().map_or("-", |exchange| exchange.mechanism().name());
        let login = FailedLogin { account: self.claimed.as_deref(), address: at.peer, mechanism, why };
        at.shared.note_failed_login(at.worker, &login, at.now_ms);
    }

    /// Answers with `<failure/>`; the last one that a stream may have ends it (RFC 6120 §6.4.5).
    pub(super) fn refuse(
        &mut self,
        at: &NegotiationEnv<'_>,
        failure: Failure,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
        self.exchange = None;
        self.failures = self.failures.saturating_add(1);
        out.element(|out| failure.write(out));
        if self.failures >= at.config.limits.sasl_attempts {
            return Err((StreamCondition::PolicyViolation, Some("too many failed authentication attempts")));
        }
        Ok(NegotiationStep::Continue)
    }
}

/// The stamp of an account's credentials. One is made of made-up credentials where there is no account, and forgotten,
/// so that it takes as long.
fn stamp(at: &NegotiationEnv<'_>, username: &str, found: Option<&Credentials>) -> Option<CredentialsStamp> {
    let fake = at.shared.unknown_users.credentials(username);
    let stamp = CredentialsStamp::of(found.unwrap_or(&fake));
    found.map(|_| stamp)
}

fn credentials(at: &NegotiationEnv<'_>, username: &str) -> Result<Option<Credentials>, SaslError> {
    at.shared.credentials(username).map_err(|error| {
        tracing::error!(user = username, %error, "cannot read the credentials of an account");
        SaslError::TemporaryAuthFailure
    })
}
