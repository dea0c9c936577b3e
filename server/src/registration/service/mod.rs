//! The service of registration: takes what the HTTP API, streams and the operator ask, and sees it through: rules in the
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
//!
//! | module | what |
//! | --- | --- |
//! | [`pins`] | PINs are asked for and told |
//! | [`accounts`] | an account is deleted; the operator revokes its key |

mod accounts;
mod pins;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{DirectoryError, WriteTransaction, Writer};
use zeroize::Zeroizing;

use crate::clock::unix_milliseconds;
use crate::config::Config;
use crate::drain::{DrainGate, InFlight};
use crate::env::Env;
use crate::outbound::Outbound;
use crate::shared::Shared;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

use super::gateway::Message;
use crate::phone::metrics::RegistrationMetrics;
use crate::phone::pin::Hasher;
use crate::phone::refusal::PhoneRefusal;
use crate::phone::rules::{Limit, Refused, Rules};

pub use accounts::REPLACED;
pub use pins::{Registered, Sent};

/// The ticket's half that no worker's table of pending jobs has.
const NO_KEY: u64 = u32::MAX as u64;

/// How long a transaction and what follows it may take.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Rows that one sweep forgets at most.
const FORGET_MAX: usize = 10_000;

/// The service: one for all ways in.
pub struct RegistrationService {
    shared: Arc<Shared>,
    writer: Arc<Writer<Then>>,
    outbound: Arc<Outbound<Message>>,
    hasher: Hasher,
    /// When the server's clock was 0.
    started: Instant,
    gate: DrainGate,
}

/// What a transaction of the service returns: a value for the service, and what is to happen at the account's home first.
type Written<T> = (T, Option<Box<dyn FnOnce(&mut Actors, &Env, &mut Effects, &mut T) + Send>>);

impl RegistrationService {
    /// Opens it.
    pub fn new(
        shared: Arc<Shared>,
        writer: Arc<Writer<Then>>,
        outbound: Arc<Outbound<Message>>,
        started: Instant,
    ) -> RegistrationService {
        let hasher = Hasher::new(&shared.directory.server_secret());
        RegistrationService { shared, writer, outbound, hasher, started, gate: DrainGate::default() }
    }

    /// Counts requests under way; shut during an upgrade and at the end.
    pub fn gate(&self) -> &DrainGate {
        &self.gate
    }

    /// Begins a request.
    ///
    /// # Errors
    /// [`PhoneRefusal::Busy`] during an upgrade and at the end.
    pub fn enter(&self) -> Result<InFlight, PhoneRefusal> {
        self.gate.enter().ok_or(PhoneRefusal::Busy)
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

    /// SCRAM keys of a key, on a thread that may take its time.
    async fn derive(&self, key: &Zeroizing<String>, config: &Config) -> Result<Credentials, PhoneRefusal> {
        let key = key.clone();
        let iterations = NonZeroU32::new(config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
        let derived = tokio::task::spawn_blocking(move || Credentials::derive(&key, iterations));
        derived.await.map_err(failed)?.map_err(failed)
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
    ) -> Result<T, PhoneRefusal> {
        // What follows a commit runs on a worker, and the workers end when the server does.
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(PhoneRefusal::Busy);
        }
        let (reply, answer) = oneshot::channel();
        let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
            let (mut value, follows) = job(transaction)?;
            let then = move |actors: &mut Actors, env: &Env, fx: &mut Effects| {
                if let Some(follows) = follows {
                    follows(actors, env, fx, &mut value);
                }
                // The one that asked may have gone.
                let _ = reply.send(value);
            };
            Ok(Box::new(then))
        };
        let ticket = ((worker as u64) << 32) | NO_KEY;
        if self.writer.try_submit(ticket, Box::new(job)).is_err() {
            return Err(PhoneRefusal::Busy);
        }
        match tokio::time::timeout(WRITE_WAIT_MAX, answer).await {
            Ok(Ok(value)) => Ok(value),
            // The worker has logged why it was not written, or it ends.
            Ok(Err(_)) => Err(PhoneRefusal::Failed),
            Err(_) => Err(PhoneRefusal::Busy),
        }
    }

    /// Counts a refusal, and writes the line of the audit log: one for each outcome, the number masked.
    fn tell(
        &self,
        step: &'static str,
        masked: &str,
        address: IpAddr,
        refusal: Option<&PhoneRefusal>,
        good: &'static str,
    ) {
        let outcome = refusal.map_or(good, PhoneRefusal::kind);
        tracing::info!(target: "registration", step, number = masked, %address, outcome);
        let Some(refusal) = refusal else { return };
        self.metrics().count(refusal);
        if let PhoneRefusal::Rule(Refused::Limit(limit @ (Limit::Server | Limit::ServerWrong), _)) = refusal {
            tracing::warn!(target: "registration", ?limit, "a limit of the whole server is reached: somebody may be guessing PINs");
        }
    }
}

fn rules<'a>(config: &'a Config, hasher: &'a Hasher) -> Rules<'a> {
    Rules { config: &config.registration, hasher, now_ms: unix_milliseconds() }
}

fn failed(error: impl std::fmt::Display) -> PhoneRefusal {
    tracing::error!(%error, "registration has failed");
    PhoneRefusal::Failed
}
