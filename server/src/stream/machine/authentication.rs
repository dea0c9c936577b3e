//! SASL on a stream (RFC 6120 §6): exchanges, guesses that are counted before they are looked at, and answers that are held
//! back.

use std::sync::Arc;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::CredentialsStamp;

use super::{Negotiation, NegotiationEnv, NegotiationStep};
use crate::proto::errors::{StreamCondition, StreamEnd};
use crate::proto::sasl::audit::{FailedLogin, Why};
use crate::proto::sasl::throttle::Verdict;
use crate::proto::sasl::{self, Exchange, Failure, Mechanism, SaslError, Setup};
use crate::transport::Output;
use crate::xml::Stanza;

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
        let proof = self.exchange.as_ref().is_some_and(|exchange| exchange.awaits_proof());
        if proof && !self.may_guess(at) {
            return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
        }
        let Some(exchange) = &mut self.exchange else {
            return self.failed(at, SaslError::MalformedRequest.into(), Why::Protocol, out);
        };
        let step = exchange.step(&stanza.to_element().content());
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
                if !self.may_guess(at) {
                    return self.failed(at, SaslError::TemporaryAuthFailure.into(), Why::Throttled, out);
                }
                match credentials(at, &username) {
                    Ok(found) => {
                        self.stamp = stamp(at, &username, found.as_ref());
                        self.waiting = true;
                        Ok(NegotiationStep::CheckPassword(
                            at.shared.unknown_users.plain_check(found, &username, password),
                        ))
                    }
                    Err(error) => self.failed(at, error.into(), Why::Unavailable, out),
                }
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

    /// Counts a guess, and notes for how long its answer is to be held back. `false`: it is not to be looked at.
    pub(super) fn may_guess(&mut self, at: &NegotiationEnv<'_>) -> bool {
        let Some(claimed) = &self.claimed else { return false };
        match at.shared.throttle().begin(claimed, at.peer, at.now_ms) {
            Verdict::Proceed { delay_ms } => {
                self.delay_ms = delay_ms;
                true
            }
            Verdict::Refuse => false,
        }
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

    /// The answer that was held back is due.
    ///
    /// # Errors
    /// The stream error to send.
    pub fn answer_due(
        &mut self,
        at: &NegotiationEnv<'_>,
        out: &mut Output<'_>,
    ) -> Result<NegotiationStep, StreamEnd> {
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
