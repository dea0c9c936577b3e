//! Requests that read and write accounts. While the server runs it is the directory's only writer.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{DirectoryError, Settings, WriteTransaction};
use whimbrel_storage::jid::normalise_local;

use crate::control::{ACCOUNTS_MAX, Account, Answer, ControlRefusal, PAGE_MAX, Problem, UserSettings};
use crate::env::Env;
use crate::operations::Control;
use crate::operations::handlers::{WAIT_MAX, unreadable};
use crate::service::register::Removed;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::Then;

/// The pending ack of every write of the control socket: worker 0, and a key that its table of pending jobs never has,
/// because each control client waits for its own write.
const TICKET: u64 = u32::MAX as u64;

impl Control {
    /// Creates accounts in one transaction.
    pub(super) fn user_add(&self, accounts: &[Account]) -> Answer {
        bounded(accounts.len())?;
        let prepared: Vec<(String, Credentials)> =
            accounts.iter().map(|account| self.prepare(account)).collect::<Result<_, _>>()?;
        let created = self.write(move |transaction| {
            prepared.iter().map(|(local, keys)| transaction.create_account(local, keys)).collect()
        });
        created.map(|created: Vec<bool>| json!({ "created": created }))
    }

    /// Stores other credentials.
    pub(super) fn user_passwd(&self, account: &Account) -> Answer {
        let (local, credentials) = self.prepare(account)?;
        if self.write(move |transaction| transaction.set_credentials(&local, &credentials))? {
            return Ok(json!({ "changed": true }));
        }
        Err(unknown(&account.jid))
    }

    /// Deletes an account, then tells its contacts and ends its sessions (XEP-0077 §3.2 names the condition).
    pub(super) fn user_del(&self, jid: &str) -> Answer {
        let local = self.local(jid)?;
        let deleted = local.clone();
        let gone = self.write(move |transaction| Removed::delete(transaction, &deleted))?;
        let Some(gone) = gone else { return Err(unknown(jid)) };
        let kicked = self.account_removed(local, gone)?;
        Ok(json!({ "deleted": true, "kicked": kicked }))
    }

    /// Sets what an account says of itself, and tells it.
    pub(super) fn user_config(&self, jid: &str, set: &UserSettings) -> Answer {
        let local = self.local(jid)?;
        let apply = |settings: &mut Settings, set: &UserSettings| {
            set.iter().try_for_each(|(name, value)| settings.set(name, value))
        };
        apply(&mut Settings::default(), set)
            .map_err(|text| Problem::new(ControlRefusal::BadRequest, text))?;
        let set = set.clone();
        let settings = self.write(move |transaction| {
            let mut settings = transaction.settings(&local)?;
            // What it takes does not depend on what was set before.
            let _ = apply(&mut settings, &set);
            Ok(transaction.set_settings(&local, settings)?.then_some(settings))
        })?;
        let Some(settings) = settings else { return Err(unknown(jid)) };
        Ok(json!({ "settings": settings.texts().into_iter().collect::<BTreeMap<_, _>>() }))
    }

    /// Which accounts exist, in the order asked.
    pub(super) fn user_exists(&self, jids: &[String]) -> Answer {
        bounded(jids.len())?;
        let exists = |jid: &String| {
            let local = self.local(jid)?;
            self.server.shared.directory.account_exists(&local).map_err(unreadable)
        };
        let exists: Vec<bool> = jids.iter().map(exists).collect::<Result<_, _>>()?;
        Ok(json!({ "exists": exists }))
    }

    /// A page of accounts.
    pub(super) fn user_list(&self, after: Option<&str>, max: usize) -> Answer {
        let after = after.map(normalise_local).transpose().map_err(|error| {
            Problem::new(ControlRefusal::BadRequest, format!("`after` is not a localpart: {error}"))
        })?;
        let max = max.min(PAGE_MAX);
        let accounts = self.server.shared.directory.accounts(after.as_deref(), max).map_err(unreadable)?;
        Ok(json!({ "more": max > 0 && accounts.len() == max, "accounts": accounts }))
    }

    fn prepare(&self, account: &Account) -> Result<(String, Credentials), Problem> {
        let bad = |text: String| Problem::new(ControlRefusal::BadRequest, format!("{}: {text}", account.jid));
        let local = self.local(&account.jid)?;
        let bytes = zeroize::Zeroizing::new(
            STANDARD.decode(&account.credentials).map_err(|error| bad(format!("credentials: {error}")))?,
        );
        let credentials = Credentials::decode(&bytes).map_err(|error| bad(error.to_string()))?;
        Ok((local, credentials))
    }

    /// Runs a write on the directory's writer and waits until it is committed.
    pub(super) fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError> + Send + 'static,
    ) -> Result<T, Problem> {
        // What follows a commit runs on a worker, and the workers end when the server does.
        if self.server.is_draining() {
            return Err(Problem::new(
                ControlRefusal::Busy,
                "the server stops and takes no changes; try again afterwards",
            ));
        }
        let (reply, replies) = sync_channel(1);
        let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
            let done = job(transaction)?;
            let then = move |_: &mut Actors, _: &Env, _: &mut Effects| {
                let _ = reply.try_send(done);
            };
            Ok(Box::new(then))
        };
        if self.server.writer.try_submit(TICKET, Box::new(job)).is_err() {
            let text =
                "the directory has too many changes to write (limits.directory_queue); try again later";
            return Err(Problem::new(ControlRefusal::Busy, text));
        }
        replies.recv_timeout(WAIT_MAX).map_err(|error| match error {
            RecvTimeoutError::Disconnected => {
                let text = "the change could not be written to the directory; the server's log says why";
                Problem::new(ControlRefusal::Failed, text)
            }
            RecvTimeoutError::Timeout => {
                let text = "the directory did not confirm the change in time; it may still be written";
                Problem::new(ControlRefusal::Timeout, text)
            }
        })
    }
}

fn unknown(jid: &str) -> Problem {
    Problem::new(ControlRefusal::NotFound, format!("there is no account {jid}"))
}

fn bounded(count: usize) -> Result<(), Problem> {
    if count <= ACCOUNTS_MAX {
        return Ok(());
    }
    Err(Problem::new(
        ControlRefusal::BadRequest,
        format!("{count} accounts in one request; at most {ACCOUNTS_MAX}"),
    ))
}
