//! Accounts, wherever they can be changed: through the running server, which is then the directory's only writer,
//! or in the directory itself when no server runs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use whimbrel_storage::credentials::{Credentials, ITERATIONS_DEFAULT};
use whimbrel_storage::data;
use whimbrel_storage::directory::{self, Directory, DirectoryError, Options, WriteTransaction};

use crate::control::Client;
use crate::problem::Problem;

/// Address space for the directory when it is opened here, in bytes. No memory is taken for it.
const MAP_BYTES_MAX: u64 = 64 << 30;

/// Accounts in one request to the server. With the longest addresses a request stays below the server's limit.
const REQUEST_ACCOUNTS_MAX: usize = 128;
/// Bytes of one request to the server, roughly; its limit is 64 KiB.
const REQUEST_BYTES_MAX: usize = 48 * 1024;
/// Accounts written in one transaction when the directory is opened here.
const TRANSACTION_ACCOUNTS_MAX: usize = 1024;

/// A way to the accounts.
pub(crate) enum Accounts {
    /// Through the server.
    Server { client: Client, domain: String, iterations: NonZeroU32 },
    /// In the directory, which is locked meanwhile.
    Directory { directory: Directory, domain: String },
}

#[derive(Deserialize)]
struct Status {
    domain: String,
    scram_iterations: NonZeroU32,
}

impl Accounts {
    /// Opens the accounts of a data directory. `create` is the domain of a directory that may be made when there
    /// is none.
    pub(crate) fn open(data: &Path, create: Option<&str>) -> Result<Accounts, Problem> {
        if let Some(mut client) = Client::connect(data)? {
            let status: Status = client.ask("status", json!({}))?;
            return Ok(Accounts::Server {
                client,
                domain: status.domain,
                iterations: status.scram_iterations,
            });
        }
        data::examine(data).map_err(|error| Problem::new(error.to_string()))?;
        let path = data.join(data::DIRECTORY);
        // One of no length is what an interrupted first start leaves.
        let exists = std::fs::metadata(path.join("data.mdb")).is_ok_and(|found| found.len() > 0);
        let wanted = match create {
            Some(domain) => domain,
            None if exists => "",
            None => return Err(nothing_in(data)),
        };
        refuse_other_owner(data)?;
        let (directory, domain) = open_directory(&path, wanted)?;
        Ok(Accounts::Directory { directory, domain })
    }

    /// Another way to the same accounts, for another thread.
    pub(crate) fn another(&self, data: &Path) -> Result<Accounts, Problem> {
        match self {
            Accounts::Server { .. } => Accounts::open(data, None),
            Accounts::Directory { directory, domain } => {
                Ok(Accounts::Directory { directory: directory.clone(), domain: domain.clone() })
            }
        }
    }

    /// The domain of all addresses.
    pub(crate) fn domain(&self) -> &str {
        match self {
            Accounts::Server { domain, .. } | Accounts::Directory { domain, .. } => domain,
        }
    }

    /// PBKDF2 rounds that new credentials should have.
    pub(crate) fn iterations(&self) -> NonZeroU32 {
        match self {
            Accounts::Server { iterations, .. } => *iterations,
            Accounts::Directory { .. } => ITERATIONS_DEFAULT,
        }
    }

    /// How many accounts are best written at a time.
    pub(crate) fn batch(&self) -> usize {
        match self {
            Accounts::Server { .. } => REQUEST_ACCOUNTS_MAX,
            Accounts::Directory { .. } => TRANSACTION_ACCOUNTS_MAX,
        }
    }

    /// Creates accounts; says of each whether it was created (else it was there).
    pub(crate) fn add(&mut self, accounts: Vec<(String, Credentials)>) -> Result<Vec<bool>, Problem> {
        match self {
            Accounts::Server { client, domain, .. } => {
                #[derive(Deserialize)]
                struct Added {
                    created: Vec<bool>,
                }
                let encoded: Vec<Value> =
                    accounts.iter().map(|(local, keys)| account(local, domain, keys)).collect();
                by_request(encoded, |accounts| {
                    let added: Added = client.ask("user-add", json!({ "accounts": accounts }))?;
                    Ok(added.created)
                })
            }
            Accounts::Directory { directory, .. } => write(directory, move |transaction| {
                accounts.iter().map(|(local, keys)| transaction.create_account(local, keys)).collect()
            }),
        }
    }

    /// Gives an account other credentials.
    pub(crate) fn passwd(&mut self, local: &str, credentials: Credentials) -> Result<(), Problem> {
        match self {
            Accounts::Server { client, domain, .. } => {
                let account = account(local, domain, &credentials);
                client.ask::<Value>("user-passwd", json!({ "account": account })).map(|_| ())
            }
            Accounts::Directory { directory, domain } => {
                let owned = local.to_owned();
                let changed =
                    write(directory, move |transaction| transaction.set_credentials(&owned, &credentials))?;
                if changed { Ok(()) } else { Err(unknown(local, domain)) }
            }
        }
    }

    /// Deletes an account; returns how many of its sessions were ended.
    pub(crate) fn del(&mut self, local: &str) -> Result<u64, Problem> {
        match self {
            Accounts::Server { client, domain, .. } => {
                #[derive(Deserialize)]
                struct Deleted {
                    kicked: u64,
                }
                let jid = format!("{local}@{domain}");
                Ok(client.ask::<Deleted>("user-del", json!({ "jid": jid }))?.kicked)
            }
            Accounts::Directory { directory, domain } => {
                let (owned, domain_of_all) = (local.to_owned(), domain.clone());
                // No server runs that could tell the contacts.
                let deleted = write(directory, move |transaction| {
                    transaction.end_subscriptions(&owned, &domain_of_all)?;
                    transaction.delete_account(&owned)
                })?;
                if deleted { Ok(0) } else { Err(unknown(local, domain)) }
            }
        }
    }

    /// Sets what an account says of itself; returns all of it.
    pub(crate) fn config(
        &mut self,
        local: &str,
        set: &[(String, String)],
    ) -> Result<BTreeMap<String, String>, Problem> {
        match self {
            Accounts::Server { client, domain, .. } => {
                #[derive(Deserialize)]
                struct Configured {
                    settings: BTreeMap<String, String>,
                }
                let set: BTreeMap<&str, &str> =
                    set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let body = json!({ "jid": format!("{local}@{domain}"), "set": set });
                Ok(client.ask::<Configured>("user-config", body)?.settings)
            }
            Accounts::Directory { directory, domain } => {
                let mut settings = directory.settings(local).map_err(failed)?;
                set.iter()
                    .try_for_each(|(name, value)| settings.set(name, value))
                    .map_err(|text| Problem::of_kind("bad-request", text))?;
                let owned = local.to_owned();
                if !write(directory, move |transaction| transaction.set_settings(&owned, settings))? {
                    return Err(unknown(local, domain));
                }
                let texts = settings.texts().into_iter();
                Ok(texts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            }
        }
    }

    /// Says of each localpart whether there is such an account.
    pub(crate) fn exist(&mut self, locals: &[String]) -> Result<Vec<bool>, Problem> {
        match self {
            Accounts::Server { client, domain, .. } => {
                #[derive(Deserialize)]
                struct Exist {
                    exists: Vec<bool>,
                }
                let jids: Vec<Value> =
                    locals.iter().map(|local| json!(format!("{local}@{domain}"))).collect();
                by_request(jids, |jids| {
                    Ok(client.ask::<Exist>("user-exists", json!({ "jids": jids }))?.exists)
                })
            }
            Accounts::Directory { directory, .. } => {
                locals.iter().map(|local| directory.account_exists(local).map_err(failed)).collect()
            }
        }
    }

    /// A page of localparts in their order, after `after`; the next page is empty when this one is the last.
    pub(crate) fn page(&mut self, after: Option<&str>) -> Result<Vec<String>, Problem> {
        const PAGE: usize = 1000;
        match self {
            Accounts::Server { client, .. } => {
                #[derive(Deserialize)]
                struct Page {
                    accounts: Vec<String>,
                }
                let page: Page = client.ask("user-list", json!({ "after": after, "max": PAGE }))?;
                Ok(page.accounts)
            }
            Accounts::Directory { directory, .. } => directory.accounts(after, PAGE).map_err(failed),
        }
    }
}

fn account(local: &str, domain: &str, keys: &Credentials) -> Value {
    json!({ "jid": format!("{local}@{domain}"), "credentials": STANDARD.encode(keys.encode()) })
}

/// Asks in as many requests as the server's limits make necessary.
fn by_request(
    items: Vec<Value>,
    mut ask: impl FnMut(Vec<Value>) -> Result<Vec<bool>, Problem>,
) -> Result<Vec<bool>, Problem> {
    let mut answers = Vec::with_capacity(items.len());
    let (mut request, mut bytes) = (Vec::new(), 0);
    let mut flush = |request: Vec<Value>| {
        let asked = request.len();
        let answer = ask(request)?;
        if answer.len() != asked {
            return Err(Problem::new("the server gives a strange answer: not one for each account"));
        }
        answers.extend(answer);
        Ok(())
    };
    for item in items {
        let size = item.to_string().len() + 1;
        if !request.is_empty() && (request.len() == REQUEST_ACCOUNTS_MAX || bytes + size > REQUEST_BYTES_MAX)
        {
            flush(std::mem::take(&mut request))?;
            bytes = 0;
        }
        bytes += size;
        request.push(item);
    }
    if !request.is_empty() {
        flush(request)?;
    }
    Ok(answers)
}

fn write<T: 'static>(
    directory: &Directory,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError> + Send + 'static,
) -> Result<T, Problem> {
    directory::run_inline(directory, Box::new(job)).map_err(failed)
}

/// Opens a directory; without a wanted domain, the one it has.
pub(crate) fn open_directory(path: &Path, wanted: &str) -> Result<(Directory, String), Problem> {
    open_with(wanted, |options| Directory::open(path, options))
}

/// The directory of a data directory, for reading, whether a server runs or not; and its domain.
pub(crate) fn open_to_read(data: &Path) -> Result<(Directory, String), Problem> {
    let path = directory_of(data)?;
    if Client::connect(data)?.is_some() {
        return open_beside(&path);
    }
    refuse_other_owner(data)?;
    match open_directory(&path, "") {
        // A server that starts or ends.
        Err(problem) if problem.kind == "locked" => open_beside(&path),
        opened => opened,
    }
}

/// The folder of the directory, which must be there.
pub(crate) fn directory_of(data: &Path) -> Result<PathBuf, Problem> {
    data::examine(data).map_err(|error| Problem::new(error.to_string()))?;
    let path = data.join(data::DIRECTORY);
    match std::fs::metadata(path.join("data.mdb")) {
        Ok(found) if found.len() > 0 => Ok(path),
        _ => Err(nothing_in(data)),
    }
}

/// Opens a directory for reading alone, whoever else has it open.
pub(crate) fn open_beside(path: &Path) -> Result<(Directory, String), Problem> {
    open_with("", |options| Directory::open_beside(path, options))
}

fn open_with(
    wanted: &str,
    open: impl Fn(&Options) -> Result<Directory, DirectoryError>,
) -> Result<(Directory, String), Problem> {
    let open = |domain: &str| {
        open(&Options { domain: domain.to_owned(), map_bytes_max: MAP_BYTES_MAX, ..Options::default() })
    };
    match open(wanted) {
        Ok(directory) => Ok((directory, wanted.to_owned())),
        // An existing directory tells its domain; the caller compares addresses with it.
        Err(DirectoryError::OtherDomain { found, .. }) => {
            open(&found).map(|directory| (directory, found)).map_err(failed)
        }
        Err(error @ DirectoryError::Locked { .. }) => Err(Problem::of_kind(
            "locked",
            format!("{error} (a server there that starts or ends does not answer on its control socket)"),
        )),
        Err(error) => Err(failed(error)),
    }
}

/// The path is shown whole: what is wrong with it is often where it begins.
pub(crate) fn nothing_in(data: &Path) -> Problem {
    let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let text = format!(
        "there are no accounts in {}; is --data right? `user add` and `user import` make a data directory with --create",
        whole.display()
    );
    Problem::of_kind("not-found", text)
}

fn failed(error: DirectoryError) -> Problem {
    Problem::new(error.to_string())
}

pub(crate) fn unknown(local: &str, domain: &str) -> Problem {
    Problem::of_kind("not-found", format!("there is no account {local}@{domain}"))
}

/// Root, working in the data directory of the server's user, would leave files there that the server cannot use.
pub(crate) fn refuse_other_owner(data: &Path) -> Result<(), Problem> {
    let Ok(found) = std::fs::metadata(data) else { return Ok(()) };
    // SAFETY: geteuid has no preconditions and cannot fail.
    #[expect(unsafe_code, reason = "the one system call here")]
    let me = unsafe { libc::geteuid() };
    if found.uid() == me {
        return Ok(());
    }
    let text = format!(
        "{} belongs to user {}, and files made here by user {me} would be unusable for the server; run: sudo -u \
         '#{}' whimbrelctl …",
        data.display(),
        found.uid(),
        found.uid()
    );
    Err(Problem::of_kind("wrong-user", text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use whimbrel_storage::directory::{Item, Subscription};

    use super::*;

    #[test]
    fn an_account_deleted_without_a_server_leaves_no_subscription_with_its_contacts() {
        let data = tempfile::tempdir().unwrap();
        let mut accounts = Accounts::open(data.path(), Some("x.example")).unwrap();
        let keys = || Credentials::derive("secret", NonZeroU32::MIN).unwrap();
        accounts.add(vec![("juliet".into(), keys()), ("romeo".into(), keys())]).unwrap();
        let Accounts::Directory { directory, .. } = &accounts else { panic!("no server runs") };
        let directory = directory.clone();
        for (local, contact) in [("juliet", "romeo@x.example"), ("romeo", "juliet@x.example")] {
            let (contact, subscription) = (contact.to_owned(), Subscription::Both);
            let item = Item { contact, subscription, listed: true, ..Item::default() };
            write(&directory, move |transaction| transaction.put_roster_item(local, &item)).unwrap();
        }
        accounts.del("juliet").unwrap();
        let item = directory.roster_item("romeo", "juliet@x.example").unwrap().unwrap();
        assert_eq!(item.subscription, Subscription::None);
        assert!(accounts.del("juliet").is_err(), "she is gone");
    }
}
