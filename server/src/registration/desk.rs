//! The desk of registration: takes what the HTTP API, streams and the operator ask, and sees it through: rules in the
//! directory's transactions, the message to the gateway, the key, the end of the old device's sessions.
//!
//! ```text
//!  request ─▶ rules, reading ─▶ rules, in a transaction ─▶ gateway ─▶ answer
//!  verify  ─▶ rules, reading ─▶ rules, in a transaction: the PIN is used up
//!                                   └▶ key drawn, SCRAM keys derived ─▶ transaction: account and keys
//!                                          └▶ at the account's home: its sessions end ─▶ answer
//! ```
//! Everything here runs on the thread of registration. Transactions run on the directory's writer; what follows a
//! commit runs on a worker, which for an account is its home, so that the old device's sessions have ended before the
//! new device has its key.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{CredentialsStamp, DirectoryError, WriteTransaction, Writer};
use zeroize::Zeroizing;

use crate::clock::unix_milliseconds;
use crate::config::Config;
use crate::effects::Effects;
use crate::env::Env;
use crate::runtime::jobs::Then;
use crate::service::register::{self, Removed};
use crate::shared::Shared;
use crate::stream::errors::StreamCondition;
use crate::stream::sasl::audit::{FailedLogin, Why};
use crate::stream::sasl::throttle::Verdict;
use crate::user::actors::Actors;
use crate::user::tables::Users;

use super::gate::{Gate, Pass};
use super::gateway::{Message, Outbound, Outcome};
use super::metrics::RegistrationMetrics;
use super::number::Number;
use super::pin::{Hasher, NoEntropy, Pin, SystemEntropy};
use super::refusal::Refusal;
use super::rules::{Asker, Limit, Refused, Rules, StepError};

/// The ticket's half that no worker's table of pending jobs has.
const NO_KEY: u64 = u32::MAX as u64;

/// How long a transaction and what follows it may take.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Rows that one sweep forgets at most.
const FORGET_MAX: usize = 10_000;

/// What the stream of a device hears whose account has been registered on another one.
///
/// RFC 6120 §4.9.3.12: the entity is not authorized any more. Not `conflict` (§4.9.3.3): a client that hears that comes
/// back with another resource, and here nothing but a new registration helps. It is also what XEP-0077 §3.2 ends
/// streams with whose registration is cancelled.
pub const REPLACED: (StreamCondition, &str) =
    (StreamCondition::NotAuthorized, "this number has been registered on another device");

/// A PIN is on its way.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Seconds for which the PIN is good.
    pub expires_in: u64,
    /// Seconds until another may be asked for.
    pub resend_in: u64,
}

/// A device is registered.
pub struct Registered {
    /// The account's bare JID.
    pub jid: String,
    /// Its key. Shown to the device, and never again.
    pub key: Zeroizing<String>,
}

/// What the operator's revocation has done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// A PIN was under way.
    pub pin: bool,
    /// There is an account, whose key is void now.
    pub account: bool,
    /// Sessions that were ended.
    pub sessions: usize,
}

/// The desk.
pub struct Desk {
    shared: Arc<Shared>,
    writer: Arc<Writer<Then>>,
    outbound: Arc<Outbound>,
    hasher: Hasher,
    /// When the server's clock was 0.
    started: Instant,
    closed: AtomicBool,
    gate: Gate,
}

/// What a transaction of the desk returns: a value for the desk, and what is to happen at the account's home first.
type Written<T> = (T, Option<Box<dyn FnOnce(&mut Actors, &Env, &mut Effects, &mut T) + Send>>);

impl Desk {
    /// Opens it.
    pub fn new(
        shared: Arc<Shared>,
        writer: Arc<Writer<Then>>,
        outbound: Arc<Outbound>,
        started: Instant,
    ) -> Desk {
        let hasher = Hasher::new(&shared.directory.server_secret());
        Desk {
            shared,
            writer,
            outbound,
            hasher,
            started,
            closed: AtomicBool::new(false),
            gate: Gate::default(),
        }
    }

    /// Takes no more requests.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether it takes requests.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed) && !self.shared.draining.load(Ordering::Relaxed)
    }

    /// Who comes in; shut while an upgrade is under way.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Goes in with a request.
    ///
    /// # Errors
    /// [`Refusal::Busy`] while an upgrade is under way.
    pub fn enter(&self) -> Result<Pass<'_>, Refusal> {
        self.gate.enter().ok_or(Refusal::Busy)
    }

    /// The configuration of the last start or reload.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config.read().expect("nothing panics while it holds this lock").clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> &RegistrationMetrics {
        &self.shared.stats.registration[0]
    }

    /// What is shared with the rest of the server.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The queue of messages.
    pub fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    /// A device wants a PIN for its number.
    ///
    /// # Errors
    /// Why it gets none.
    pub async fn request(&self, phone: &str, device: &str, address: IpAddr) -> Result<Sent, Refusal> {
        self.metrics().requests.add(1);
        let number = Number::parse(phone);
        let masked = number.as_ref().map_or_else(|_| "-".to_owned(), Number::masked);
        let pass = self.enter();
        let result = match number {
            _ if pass.is_err() => Err(Refusal::Busy),
            Ok(number) => self.request_for(&number, device, address).await,
            Err(error) => Err(Refusal::Number(error)),
        };
        self.tell("request", &masked, address, result.as_ref().err(), "sent");
        result
    }

    async fn request_for(&self, number: &Number, device: &str, address: IpAddr) -> Result<Sent, Refusal> {
        let config = self.config();
        number.admit(&config.registration).map_err(Refusal::Number)?;
        let asker = asker(number, device, address)?;
        let look = self.rules(&config).may_request(&self.shared.directory, &asker);
        if let Some(refused) = look.map_err(failed)? {
            return Err(Refusal::Rule(refused));
        }
        let (settings, hasher, whose) = (config.clone(), self.hasher.clone(), asker.clone());
        let issued = self.write(0, move |transaction| {
            let rules = rules(&settings, &hasher);
            let issued = rules.request(transaction, &mut SystemEntropy, &whose);
            Ok((settled(issued)?, None))
        });
        let issued = issued.await?.map_err(failed)?.map_err(Refusal::Rule)?;
        let text = config.registration.message.replace("{domain}", &config.domain);
        let text = Zeroizing::new(text.replace("{pin}", issued.pin.digits()));
        let message = Message { id: issued.id, number: number.clone(), text };
        let sent = self.send(message, &config).await;
        if let Err(refusal) = sent {
            let (settings, hasher) = (config.clone(), self.hasher.clone());
            let withdrawn = self.write(0, move |transaction| {
                Ok((rules(&settings, &hasher).withdraw(transaction, &asker, issued.id)?, None))
            });
            // The PIN is then void when it expires; nobody knows it.
            let _ = withdrawn.await;
            return Err(refusal);
        }
        Ok(Sent {
            expires_in: config.registration.pin_seconds.into(),
            resend_in: config.registration.resend_seconds.into(),
        })
    }

    /// Sends a message and waits for what comes of it.
    ///
    /// # Errors
    /// It was not sent.
    pub async fn send(&self, message: Message, config: &Config) -> Result<(), Refusal> {
        let within = Duration::from_secs(config.registration.gateway_seconds.into());
        let Ok(outcome) = self.outbound.try_send(message, within) else { return Err(Refusal::Busy) };
        let Ok((outcome, took)) = outcome.await else { return Err(Refusal::Failed) };
        let metrics = self.metrics();
        if outcome != Outcome::Stopping {
            metrics.gateway_latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        match outcome {
            Outcome::Sent => {
                metrics.sent.add(1);
                Ok(())
            }
            Outcome::Refused => {
                metrics.send_refused.add(1);
                Err(Refusal::GatewayRefused)
            }
            Outcome::Unreachable => {
                metrics.send_failed.add(1);
                Err(Refusal::GatewayDown)
            }
            Outcome::Stopping => Err(Refusal::Busy),
        }
    }

    /// A device tells the PIN it was sent, and gets its key.
    ///
    /// # Errors
    /// Why it gets none.
    pub async fn verify(
        &self,
        phone: &str,
        pin: &str,
        device: &str,
        address: IpAddr,
    ) -> Result<Registered, Refusal> {
        self.metrics().verifications.add(1);
        let number = Number::parse(phone);
        let masked = number.as_ref().map_or_else(|_| "-".to_owned(), Number::masked);
        let pass = self.enter();
        let result = match (number, Pin::parse(pin)) {
            _ if pass.is_err() => Err(Refusal::Busy),
            (Err(error), _) => Err(Refusal::Number(error)),
            (_, None) => Err(Refusal::Pin),
            (Ok(number), Some(pin)) => self.verify_for(&number, pin, device, address).await,
        };
        self.tell("verify", &masked, address, result.as_ref().err(), "registered");
        result
    }

    async fn verify_for(
        &self,
        number: &Number,
        pin: Pin,
        device: &str,
        address: IpAddr,
    ) -> Result<Registered, Refusal> {
        let config = self.config();
        let asker = asker(number, device, address)?;
        let look = self.rules(&config).may_verify(&self.shared.directory, &asker);
        if let Some(refused) = look.map_err(failed)? {
            return Err(Refusal::Rule(refused));
        }
        let (settings, hasher) = (config.clone(), self.hasher.clone());
        let compared = self.write(0, move |transaction| {
            let result = rules(&settings, &hasher).verify(transaction, &asker, &pin);
            Ok((settled(result)?, None))
        });
        compared.await?.map_err(failed)?.map_err(Refusal::Rule)?;
        let key = Credentials::random_key().map_err(failed)?;
        let credentials = self.derive(&key, &config).await?;
        let local = number.digits().to_owned();
        let replaced = self.write(self.shared.home_of(&local), move |transaction| {
            let replaced = transaction.set_credentials(&local, &credentials)?;
            if !replaced {
                transaction.create_account(&local, &credentials)?;
            }
            let end = move |actors: &mut Actors, _: &Env, fx: &mut Effects, _: &mut bool| {
                end_sessions(&mut actors.users, fx, &local);
            };
            Ok((replaced, Some(Box::new(end) as Box<_>)))
        });
        let replaced = replaced.await?;
        self.metrics().verified.add(1);
        self.metrics().replaced.add(replaced.into());
        Ok(Registered { jid: format!("{}@{}", number.digits(), self.shared.domain), key })
    }

    /// SCRAM keys of a key, on a thread that may take its time.
    async fn derive(&self, key: &Zeroizing<String>, config: &Config) -> Result<Credentials, Refusal> {
        let key = key.clone();
        let iterations = NonZeroU32::new(config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
        let derived = tokio::task::spawn_blocking(move || Credentials::derive(&key, iterations));
        derived.await.map_err(failed)?.map_err(failed)
    }

    /// Deletes the account of a number, for who has its key.
    ///
    /// # Errors
    /// Why it is not deleted.
    pub async fn delete(&self, name: &str, key: Zeroizing<String>, address: IpAddr) -> Result<(), Refusal> {
        let number = Number::parse(name).or_else(|_| Number::parse(&format!("+{name}")));
        let pass = self.enter();
        let (masked, result) = match number {
            _ if pass.is_err() => ("-".to_owned(), Err(Refusal::Busy)),
            Ok(number) => (number.masked(), self.delete_of(&number, key, address).await),
            // As for an account that does not exist.
            Err(_) => ("-".to_owned(), Err(Refusal::Credentials)),
        };
        self.tell("delete", &masked, address, result.as_ref().err(), "deleted");
        result
    }

    async fn delete_of(
        &self,
        number: &Number,
        key: Zeroizing<String>,
        address: IpAddr,
    ) -> Result<(), Refusal> {
        let local = number.digits().to_owned();
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failed_login = |why| {
            let login = FailedLogin { account: Some(&local), address, mechanism: "API", why };
            self.shared.tell_failed_login(&login, now_ms);
        };
        // Counted before it is looked at, as on streams.
        let verdict = self.shared.throttle().begin(&local, address, now_ms);
        let Verdict::Proceed { delay_ms } = verdict else {
            failed_login(Why::Throttled);
            return Err(Refusal::TooManyCredentials);
        };
        let found = self.shared.credentials(&local).map_err(failed)?;
        let stamp = found.as_ref().map(CredentialsStamp::of);
        let check = self.shared.unknown_users.plain_check(found, &local, key);
        let right = tokio::task::spawn_blocking(move || check.run()).await.map_err(failed)?;
        match right {
            true => self.shared.throttle().succeeded(&local, address, now_ms),
            false => failed_login(Why::Credentials),
        }
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        if !right {
            return Err(Refusal::Credentials);
        }
        let deleted = self.write(self.shared.home_of(&local), move |transaction| {
            // Another device may have registered in between.
            let current = transaction.account_login(&local)?.map(|(_, stamp)| stamp);
            if current.is_none() || current != stamp {
                return Ok((false, None));
            }
            let Some(gone) = Removed::delete(transaction, &local)? else { return Ok((false, None)) };
            let then = move |actors: &mut Actors, env: &Env, fx: &mut Effects, _: &mut bool| {
                register::removed(actors, env, fx, &local, &gone)
            };
            Ok((true, Some(Box::new(then) as Box<_>)))
        });
        match deleted.await? {
            true => {
                self.metrics().deleted.add(1);
                Ok(())
            }
            false => Err(Refusal::Credentials),
        }
    }

    /// The operator makes void the PIN and the key of a number. The account stays, with what waits for it.
    ///
    /// # Errors
    /// It could not be done.
    pub async fn revoke(&self, number: &Number) -> Result<Revoked, Refusal> {
        let _pass = self.enter()?;
        let config = self.config();
        let key = Credentials::random_key().map_err(failed)?;
        let credentials = self.derive(&key, &config).await?;
        let (hasher, local) = (self.hasher.clone(), number.digits().to_owned());
        let revoked = self.write(self.shared.home_of(&local), move |transaction| {
            let pin = rules(&config, &hasher).revoke(transaction, &local)?;
            let account = transaction.set_credentials(&local, &credentials)?;
            let end = move |actors: &mut Actors, _: &Env, fx: &mut Effects, revoked: &mut Revoked| {
                revoked.sessions = end_sessions(&mut actors.users, fx, &local)
            };
            Ok((Revoked { pin, account, sessions: 0 }, Some(Box::new(end) as Box<_>)))
        });
        let revoked = revoked.await?;
        tracing::info!(
            target: "registration",
            number = number.masked(), pin = revoked.pin, account = revoked.account, "revoked by the operator"
        );
        Ok(revoked)
    }

    /// Forgets what no longer matters.
    pub async fn tidy(&self) {
        let forgotten = self.write(0, |transaction| {
            Ok((transaction.forget_registrations(unix_milliseconds(), FORGET_MAX)?, None))
        });
        if let Err(refusal) = forgotten.await {
            tracing::warn!(?refusal, "old registrations were not forgotten; it is tried again");
        }
    }

    fn rules<'a>(&'a self, config: &'a Config) -> Rules<'a> {
        rules(config, &self.hasher)
    }

    /// Runs a job on the directory's writer. After the commit what it returns is handed to `worker`, and then comes
    /// back here.
    async fn write<T: Send + 'static>(
        &self,
        worker: usize,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Written<T>, DirectoryError> + Send + 'static,
    ) -> Result<T, Refusal> {
        // What follows a commit runs on a worker, and the workers end when the server does.
        if !self.is_open() {
            return Err(Refusal::Busy);
        }
        let (reply, answer) = oneshot::channel();
        let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
            let (mut value, follows) = job(transaction)?;
            let then = move |actors: &mut Actors, env: &Env, fx: &mut Effects| {
                if let Some(follows) = follows {
                    follows(actors, env, fx, &mut value);
                }
                // Whoever asked may have gone.
                let _ = reply.send(value);
            };
            Ok(Box::new(then))
        };
        let ticket = ((worker as u64) << 32) | NO_KEY;
        if self.writer.try_submit(ticket, Box::new(job)).is_err() {
            return Err(Refusal::Busy);
        }
        match tokio::time::timeout(WRITE_WAIT_MAX, answer).await {
            Ok(Ok(value)) => Ok(value),
            // The worker has logged why it was not written, or it ends.
            Ok(Err(_)) => Err(Refusal::Failed),
            Err(_) => Err(Refusal::Busy),
        }
    }

    /// Counts a refusal, and writes the line of the audit log: one for each outcome, the number masked.
    fn tell(
        &self,
        step: &'static str,
        masked: &str,
        address: IpAddr,
        refusal: Option<&Refusal>,
        good: &'static str,
    ) {
        let outcome = refusal.map_or(good, Refusal::kind);
        tracing::info!(target: "registration", step, number = masked, %address, outcome);
        let Some(refusal) = refusal else { return };
        self.metrics().count(refusal);
        if let Refusal::Rule(Refused::Limit(limit @ (Limit::Server | Limit::ServerWrong), _)) = refusal {
            tracing::warn!(target: "registration", ?limit, "a limit of the whole server is reached: somebody may be guessing PINs");
        }
    }
}

/// Ends all sessions of an account for good, those that wait to be resumed as well; returns how many there were. What
/// was not acknowledged goes back to what waits.
fn end_sessions(users: &mut Users, fx: &mut Effects, local: &str) -> usize {
    let keys = users.resources_of(local);
    let (condition, text) = REPLACED;
    for &key in &keys {
        users.end_for_good(fx, key, condition, Some(text));
    }
    keys.len()
}

fn rules<'a>(config: &'a Config, hasher: &'a Hasher) -> Rules<'a> {
    Rules { config: &config.registration, hasher, now_ms: unix_milliseconds() }
}

/// Names of devices: what an app draws at random and keeps.
fn asker(number: &Number, device: &str, address: IpAddr) -> Result<Asker, Refusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !(8..=128).contains(&device.len()) || !device.bytes().all(good) {
        return Err(Refusal::Device);
    }
    Ok(Asker { number: number.digits().to_owned(), device: device.to_owned(), address })
}

/// What a transaction does with a step: a failure of the directory undoes it, and without random bytes nothing was
/// written.
fn settled<T>(result: Result<T, StepError>) -> Result<Result<T, NoEntropy>, DirectoryError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(StepError::NoEntropy(error)) => Ok(Err(error)),
        Err(StepError::Directory(error)) => Err(error),
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "registration has failed");
    Refusal::Failed
}
