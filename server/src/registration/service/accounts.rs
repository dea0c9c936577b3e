//! Accounts: their end by their own key, and the operator's revocation.

use std::net::IpAddr;
use std::time::Duration;

use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::CredentialsStamp;
use zeroize::Zeroizing;

use crate::env::Env;
use crate::phone::number::Number;
use crate::phone::refusal::PhoneRefusal;
use crate::phone::request::Revoked;
use crate::proto::errors::StreamCondition;
use crate::proto::sasl::audit::{FailedLogin, Why};
use crate::proto::sasl::throttle::Verdict;
use crate::service::register::{self, Removed};
use crate::user::actors::{Actors, Effects};
use crate::user::tables::Users;

use super::{RegistrationService, failed, rules};

/// What the stream of a device hears whose account has been registered on another one.
///
/// RFC 6120 §4.9.3.12: the entity is not authorized any more. Not `conflict` (§4.9.3.3): a client that hears that comes
/// back with another resource, and here nothing but a new registration helps. It is also what XEP-0077 §3.2 ends
/// streams with whose registration is cancelled.
pub const REPLACED: (StreamCondition, &str) =
    (StreamCondition::NotAuthorized, "this number has been registered on another device");

impl RegistrationService {
    /// Deletes the account of a number, when the key is its own.
    ///
    /// # Errors
    /// Why it is not deleted.
    pub async fn delete(
        &self,
        name: &str,
        key: Zeroizing<String>,
        address: IpAddr,
    ) -> Result<(), PhoneRefusal> {
        let number = Number::parse(name).or_else(|_| Number::parse(&format!("+{name}")));
        let under_way = self.enter();
        let (masked, result) = match number {
            _ if under_way.is_err() => ("-".to_owned(), Err(PhoneRefusal::Busy)),
            Ok(number) => (number.masked(), self.delete_of(&number, key, address).await),
            // As for an account that does not exist.
            Err(_) => ("-".to_owned(), Err(PhoneRefusal::Credentials)),
        };
        self.tell("delete", &masked, address, result.as_ref().err(), "deleted");
        result
    }

    async fn delete_of(
        &self,
        number: &Number,
        key: Zeroizing<String>,
        address: IpAddr,
    ) -> Result<(), PhoneRefusal> {
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
            return Err(PhoneRefusal::TooManyCredentials);
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
            return Err(PhoneRefusal::Credentials);
        }
        let deleted = self.write(self.shared.home_of(&local), move |transaction| {
            // Another device may have registered in between.
            let current = transaction.account_login(&local)?.map(|(_, stamp)| stamp);
            if current.is_none() || current != stamp {
                return Ok((false, None));
            }
            let Some(gone) = Removed::delete(transaction, &local)? else { return Ok((false, None)) };
            let then = move |actors: &mut Actors, env: &Env, fx: &mut Effects, _: &mut bool| {
                register::removed(actors, env, fx, &local, &gone);
            };
            Ok((true, Some(Box::new(then) as Box<_>)))
        });
        match deleted.await? {
            true => {
                self.metrics().deleted.add(1);
                Ok(())
            }
            false => Err(PhoneRefusal::Credentials),
        }
    }

    /// The operator makes void the PIN and the key of a number. The account stays, with what waits for it.
    ///
    /// # Errors
    /// It could not be done.
    pub async fn revoke(&self, number: &Number) -> Result<Revoked, PhoneRefusal> {
        let _under_way = self.enter()?;
        let config = self.config();
        let key = Credentials::random_key().map_err(failed)?;
        let credentials = self.derive(&key, &config).await?;
        let (hasher, local) = (self.hasher.clone(), number.digits().to_owned());
        let revoked = self.write(self.shared.home_of(&local), move |transaction| {
            let pin = rules(&config, &hasher).revoke(transaction, &local)?;
            let account = transaction.set_credentials(&local, &credentials)?;
            transaction.disable_push(&local, None)?;
            let id = transaction.account_id(&local)?;
            let end = move |actors: &mut Actors, _: &Env, fx: &mut Effects, revoked: &mut Revoked| {
                id.into_iter().for_each(|id| actors.pushes.forget(id));
                revoked.sessions = end_sessions(&mut actors.users, fx, &local);
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
}

/// Ends all sessions of an account for good, those that wait to be resumed as well; returns how many there were. What
/// was not acknowledged goes back to what waits.
pub(super) fn end_sessions(users: &mut Users, fx: &mut Effects, local: &str) -> usize {
    let keys = users.resources_of(local);
    let (condition, text) = REPLACED;
    for &key in &keys {
        users.end_for_good(fx, key, condition, Some(text));
    }
    keys.len()
}
