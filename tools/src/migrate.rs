//! `user migrate`: accounts of another server with what belongs to them, from its export in the format of XEP-0227.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`export`] | reads the files |
//! | [`mail`] | messages that wait |
//! | [`prosody`], [`lua`] | what Prosody's exports lack, out of its files |
//! | [`leave`] | the way out: `user export` writes what `user migrate` reads |
//!
//! An account is written whole or not at all, and one that exists is left alone, so an interrupted run is gone on with by
//! starting it again. No server may run: it would not know of what is written beside it.

mod export;
pub(crate) mod leave;
mod lua;
mod mail;
mod prosody;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, DirectoryError, WriteTransaction, run_inline};

use crate::accounts::Accounts;
use crate::cli::MigrateArgs;
use crate::control::Client;
use crate::problem::Problem;
use crate::report::Report;
use crate::user;
use export::{Secret, User};
use mail::Mailbox;
use prosody::Store;

/// Accounts in one transaction.
const BATCH: usize = 64;

/// Remarks that are shown; all are counted.
const SHOWN_MAX: u64 = 100;

/// Runs it; exit code 1 when something could not be taken over.
pub(crate) fn run(data: &Path, args: &MigrateArgs, report: &Report) -> Result<ExitCode, Problem> {
    if Client::connect(data)?.is_some() {
        let text = format!("a server runs in {}; stop it first: whimbrelctl stop", data.display());
        return Err(Problem::of_kind("in-use", text));
    }
    let passwords = args.passwords.as_deref().map(open_passwords).transpose()?;
    let prosody = args.prosody_data.as_deref().map(prosody_data).transpose()?;
    let mut migration: Option<Migration<'_>> = None;
    let mut passwords = Some(passwords);
    for file in files(&args.paths)? {
        for mut user in export::read(&file)? {
            if let Some(store) = &prosody {
                store.complete(&mut user);
            }
            if migration.is_none() {
                let domain = args.create.create.then_some(user.domain.as_str());
                let passwords = passwords.take().flatten();
                migration = Some(Migration::begin(data, domain, args, passwords, report)?);
            }
            if let Some(migration) = &mut migration {
                migration.take(user)?;
            }
        }
    }
    match migration {
        Some(migration) => migration.end(),
        None => Err(Problem::of_kind(
            "not-found",
            "there are no users in these files; they are to be XEP-0227 exports",
        )),
    }
}

/// Prosody's data directory. A wrong path would look like one where nothing waits.
fn prosody_data(folder: &Path) -> Result<Store, Problem> {
    match std::fs::read_dir(folder) {
        Ok(_) => Ok(Store::new(folder)),
        Err(error) => Err(Problem::new(format!("cannot read {}: {error}", folder.display()))),
    }
}

/// The files, and those of folders that end with `.xml`, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Problem> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |error: std::io::Error| Problem::new(format!("cannot read {}: {error}", path.display()));
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let found = entry.map_err(failed)?.path();
            if found.extension().is_some_and(|extension| extension == "xml") {
                inside.push(found);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// A new file for its owner only.
fn open_passwords(path: &Path) -> Result<File, Problem> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| Problem::new(format!("cannot make {}: {error}", path.display())))
}

/// What has come of it so far.
#[derive(Default)]
struct Outcome {
    added: u64,
    existing: u64,
    contacts: u64,
    blocked: u64,
    vcards: u64,
    private: u64,
    nodes: u64,
    items: u64,
    new_passwords: u64,
    /// Messages that wait: of these accounts, and written.
    offline: u64,
    offline_written: u64,
    bad: u64,
}

/// A migration that is under way.
struct Migration<'a> {
    data: &'a Path,
    directory: Directory,
    domain: String,
    rounds: NonZeroU32,
    passwords: Option<File>,
    /// To be written together.
    waiting: Vec<(User, Credentials)>,
    mailbox: Mailbox,
    outcome: Outcome,
    report: &'a Report,
}

impl<'a> Migration<'a> {
    fn begin(
        data: &'a Path,
        create: Option<&str>,
        args: &MigrateArgs,
        passwords: Option<File>,
        report: &'a Report,
    ) -> Result<Migration<'a>, Problem> {
        let accounts = Accounts::open(data, create)?;
        let rounds = user::rounds(args.iterations, &accounts);
        let Accounts::Directory { directory, domain } = accounts else {
            return Err(Problem::of_kind("in-use", "a server has just been started here; stop it first"));
        };
        let (waiting, mailbox, outcome) = (Vec::new(), Mailbox::Closed, Outcome::default());
        Ok(Migration { data, directory, domain, rounds, passwords, waiting, mailbox, outcome, report })
    }

    /// Takes a user over, unless it is there already or cannot be.
    fn take(&mut self, user: User) -> Result<(), Problem> {
        let jid = format!("{}@{}", user.local, user.domain);
        for remark in &user.remarks {
            self.bad(&format!("{jid}: {remark}"));
        }
        if user.domain != self.domain {
            self.bad(&format!("{jid}: the accounts here are of {}", self.domain));
            return Ok(());
        }
        let exists =
            self.directory.account_exists(&user.local).map_err(|error| Problem::new(error.to_string()))?;
        if exists || self.waiting.iter().any(|(other, _)| other.local == user.local) {
            self.outcome.existing += 1;
            return Ok(());
        }
        let Some(credentials) = self.credentials(&user, &jid)? else { return Ok(()) };
        self.waiting.push((user, credentials));
        if self.waiting.len() == BATCH { self.flush() } else { Ok(()) }
    }

    /// The user's keys, or those of a new password; `None` when there are none to be had, which is told.
    fn credentials(&mut self, user: &User, jid: &str) -> Result<Option<Credentials>, Problem> {
        let made = match &user.secret {
            Secret::Password(password) => {
                Credentials::derive(password, self.rounds).map_err(|error| error.to_string())
            }
            Secret::Keys(keys) => {
                Credentials::from_rfc5803(keys.iter().map(String::as_str)).map_err(|error| error.to_string())
            }
            Secret::None => Err("there is neither a password nor a key".to_owned()),
        };
        let reason = match made {
            Ok(credentials) => return Ok(Some(credentials)),
            Err(reason) => reason,
        };
        let Some(file) = &mut self.passwords else {
            self.bad(&format!("{jid}: {reason}; with --passwords FILE such accounts get new passwords"));
            return Ok(None);
        };
        let failed =
            |error: &dyn std::fmt::Display| Problem::new(format!("cannot make a new password: {error}"));
        let password = Credentials::random_key().map_err(|error| failed(&error))?;
        // On disk before the account is: an account whose password nobody knows is worse than a password without one.
        writeln!(file, "{jid}\t{}", password.as_str())
            .and_then(|()| file.sync_data())
            .map_err(|error| failed(&error))?;
        self.outcome.new_passwords += 1;
        let credentials = Credentials::derive(&password, self.rounds);
        credentials.map(Some).map_err(|error| failed(&error))
    }

    /// Writes what waits: all together, or, where one of them cannot be written, each by itself.
    fn flush(&mut self) -> Result<(), Problem> {
        let waiting = std::mem::take(&mut self.waiting);
        let write = |directory: &Directory, users: Vec<(User, Credentials)>| {
            run_inline(
                directory,
                Box::new(move |transaction| {
                    users.iter().try_for_each(|(user, credentials)| put(transaction, user, credentials))
                }),
            )
        };
        if write(&self.directory, waiting.clone()).is_ok() {
            waiting.iter().try_for_each(|(user, _)| self.written(user))?;
            return self.mailbox.commit();
        }
        for (user, credentials) in waiting {
            match write(&self.directory, vec![(user.clone(), credentials)]) {
                Ok(()) => self.written(&user)?,
                Err(error @ DirectoryError::Size { .. }) => {
                    self.bad(&format!("{}@{}: {error}", user.local, user.domain));
                }
                Err(error) => return Err(Problem::new(error.to_string())),
            }
        }
        self.mailbox.commit()
    }

    /// An account is there: its messages follow.
    fn written(&mut self, user: &User) -> Result<(), Problem> {
        self.outcome.count(user);
        if !user.offline.is_empty() {
            let written = self.mailbox.write(self.data, &self.directory, &user.local, &user.offline)?;
            self.outcome.offline_written += written;
        }
        Ok(())
    }

    fn bad(&mut self, text: &str) {
        self.outcome.bad += 1;
        if self.outcome.bad <= SHOWN_MAX {
            self.report.note(text);
        }
    }

    fn end(mut self) -> Result<ExitCode, Problem> {
        self.flush()?;
        self.mailbox.commit()?;
        self.mailbox.close()?;
        let Outcome { added, existing, contacts, blocked, vcards, private, nodes, items, .. } = self.outcome;
        let Outcome { new_passwords, offline, offline_written, bad, .. } = self.outcome;
        let offline_left = offline - offline_written;
        let value = json!({
            "added": added, "existing": existing, "contacts": contacts, "blocked": blocked, "vcards": vcards,
            "private": private, "nodes": nodes, "items": items, "new_passwords": new_passwords,
            "offline": offline_written, "offline_left": offline_left, "bad": bad,
        });
        self.report.result(&value, || {
            let mut text = format!(
                "{added} accounts added, {existing} existed; {contacts} contacts, {blocked} blocked addresses, {vcards} \
                 vCards, {private} pieces of private XML, {nodes} nodes with {items} items, {offline_written} messages \
                 that wait\n"
            );
            if new_passwords > 0 {
                text += &format!("{new_passwords} accounts have new passwords, which are in the file\n");
            }
            if offline_left > 0 {
                text += &format!(
                    "{offline_left} messages that wait are left behind: only a log that no server has opened takes them, \
                     as far as it has room\n"
                );
            }
            if bad > 0 {
                text += &format!("{bad} remarks, at most {SHOWN_MAX} of them shown\n");
            }
            text
        });
        Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Milliseconds since 1970: an export does not say when an item was published.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Outcome {
    fn count(&mut self, user: &User) {
        self.added += 1;
        self.contacts += user.roster.len() as u64;
        self.blocked += user.blocked.len() as u64;
        self.vcards += u64::from(user.vcard.is_some());
        self.private += user.private.len() as u64;
        self.offline += user.offline.len() as u64;
        self.nodes += user.nodes.len() as u64;
        self.items += user.nodes.iter().map(|node| node.items.len() as u64).sum::<u64>();
    }
}

/// Writes an account with all that belongs to it.
fn put(
    transaction: &mut WriteTransaction<'_>,
    user: &User,
    credentials: &Credentials,
) -> Result<(), DirectoryError> {
    let local = &user.local;
    if !transaction.create_account(local, credentials)? {
        return Ok(());
    }
    for item in &user.roster {
        transaction.put_roster_item(local, item)?;
    }
    transaction.set_blocked(local, &user.blocked)?;
    transaction.set_settings(local, user.settings)?;
    for device in &user.devices {
        transaction.enable_push(local, device, user.devices.len())?;
    }
    if let Some(vcard) = &user.vcard {
        transaction.set_vcard(local, vcard.as_bytes())?;
    }
    for (name, namespace, xml) in &user.private {
        transaction.set_private(local, name, namespace, xml.as_bytes())?;
    }
    if let Some(account) = transaction.account_id(local)? {
        let owner = format!("{local}@{}", user.domain);
        for node in &user.nodes {
            node.put(transaction, (account, &owner), now_ms())?;
        }
    }
    Ok(())
}
