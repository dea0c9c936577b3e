//! PINs: asked for, sent, and told.

use std::net::IpAddr;
use std::time::Duration;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::DirectoryError;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::env::Env;
use crate::outbound::SendOutcome;
use crate::phone::number::Number;
use crate::phone::pin::{NoEntropy, Pin, SystemEntropy};
use crate::phone::refusal::PhoneRefusal;
use crate::phone::rules::{Asker, StepError};
use crate::registration::gateway::Message;
use crate::user::actors::{Actors, Effects};

use super::accounts::end_sessions;
use super::{RegistrationService, failed, rules};

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

impl RegistrationService {
    /// A device wants a PIN for its number.
    ///
    /// # Errors
    /// Why it gets none.
    pub async fn request(&self, phone: &str, device: &str, address: IpAddr) -> Result<Sent, PhoneRefusal> {
        self.metrics().requests.add(1);
        let number = Number::parse(phone);
        let masked = number.as_ref().map_or_else(|_| "-".to_owned(), Number::masked);
        let under_way = self.enter();
        let result = match number {
            _ if under_way.is_err() => Err(PhoneRefusal::Busy),
            Ok(number) => self.request_for(&number, device, address).await,
            Err(error) => Err(PhoneRefusal::Number(error)),
        };
        self.tell("request", &masked, address, result.as_ref().err(), "sent");
        result
    }

    async fn request_for(
        &self,
        number: &Number,
        device: &str,
        address: IpAddr,
    ) -> Result<Sent, PhoneRefusal> {
        let config = self.config();
        number.admit(&config.registration).map_err(PhoneRefusal::Number)?;
        let asker = asker(number, device, address)?;
        let look = self.rules(&config).may_request(&self.shared.directory, &asker);
        if let Some(refused) = look.map_err(failed)? {
            return Err(PhoneRefusal::Rule(refused));
        }
        let (settings, hasher, whose) = (config.clone(), self.hasher.clone(), asker.clone());
        let issued = self.write(0, move |transaction| {
            let rules = rules(&settings, &hasher);
            let issued = rules.request(transaction, &mut SystemEntropy, &whose);
            Ok((settled(issued)?, None))
        });
        let issued = issued.await?.map_err(failed)?.map_err(PhoneRefusal::Rule)?;
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
    pub async fn send(&self, message: Message, config: &Config) -> Result<(), PhoneRefusal> {
        let within = Duration::from_secs(config.registration.gateway_seconds.into());
        let Ok(outcome) = self.outbound.try_send(message, within) else { return Err(PhoneRefusal::Busy) };
        let Ok((outcome, took)) = outcome.await else { return Err(PhoneRefusal::Failed) };
        let metrics = self.metrics();
        if outcome != SendOutcome::Stopping {
            metrics.gateway_latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        match outcome {
            SendOutcome::Sent => {
                metrics.sent.add(1);
                Ok(())
            }
            SendOutcome::Refused => {
                metrics.send_refused.add(1);
                Err(PhoneRefusal::GatewayRefused)
            }
            SendOutcome::Unreachable => {
                metrics.send_failed.add(1);
                Err(PhoneRefusal::GatewayDown)
            }
            SendOutcome::Stopping => Err(PhoneRefusal::Busy),
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
    ) -> Result<Registered, PhoneRefusal> {
        self.metrics().verifications.add(1);
        let number = Number::parse(phone);
        let masked = number.as_ref().map_or_else(|_| "-".to_owned(), Number::masked);
        let under_way = self.enter();
        let result = match (number, Pin::parse(pin)) {
            _ if under_way.is_err() => Err(PhoneRefusal::Busy),
            (Err(error), _) => Err(PhoneRefusal::Number(error)),
            (_, None) => Err(PhoneRefusal::Pin),
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
    ) -> Result<Registered, PhoneRefusal> {
        let config = self.config();
        let asker = asker(number, device, address)?;
        let look = self.rules(&config).may_verify(&self.shared.directory, &asker);
        if let Some(refused) = look.map_err(failed)? {
            return Err(PhoneRefusal::Rule(refused));
        }
        let (settings, hasher) = (config.clone(), self.hasher.clone());
        let compared = self.write(0, move |transaction| {
            let result = rules(&settings, &hasher).verify(transaction, &asker, &pin);
            Ok((settled(result)?, None))
        });
        compared.await?.map_err(failed)?.map_err(PhoneRefusal::Rule)?;
        let key = Credentials::random_key().map_err(failed)?;
        let credentials = self.derive(&key, &config).await?;
        let local = number.digits().to_owned();
        let replaced = self.write(self.shared.home_of(&local), move |transaction| {
            let replaced = transaction.set_credentials(&local, &credentials)?;
            match replaced {
                // The old device is told nothing any more, whoever has it now.
                true => _ = transaction.disable_push(&local, None)?,
                false => _ = transaction.create_account(&local, &credentials)?,
            }
            let account = transaction.account_id(&local)?;
            let end = move |actors: &mut Actors, _: &Env, fx: &mut Effects, _: &mut bool| {
                account.into_iter().for_each(|account| actors.pushes.forget(account));
                end_sessions(&mut actors.users, fx, &local);
            };
            Ok((replaced, Some(Box::new(end) as Box<_>)))
        });
        let replaced = replaced.await?;
        self.metrics().verified.add(1);
        self.metrics().replaced.add(replaced.into());
        Ok(Registered { jid: format!("{}@{}", number.digits(), self.shared.domain), key })
    }
}

/// Names of devices: what an app draws at random and keeps.
fn asker(number: &Number, device: &str, address: IpAddr) -> Result<Asker, PhoneRefusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !(8..=128).contains(&device.len()) || !device.bytes().all(good) {
        return Err(PhoneRefusal::Device);
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
