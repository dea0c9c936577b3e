//! What lies in the data directory: the directory, and the logs of messages.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::data::{self, Reconciled};
use whimbrel_storage::directory::{Directory, Options};
use whimbrel_storage::log::{self, Log, Opened, Progress};

use crate::clock;
use crate::config::Config;
use crate::notify;
use crate::running::error::BootError;
use crate::shared;

/// How often reading the log at the start is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Accounts read at once to learn their homes.
const ACCOUNTS_PAGE: usize = 10_000;

/// Makes the data directory, for the server's user only: it holds keys.
pub(super) fn make_data(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How the directory is opened.
pub(super) fn directory_options(config: &Config) -> Options {
    Options {
        domain: config.domain.clone(),
        map_bytes_max: u64::from(config.directory_gib_max) << 30,
        ..Options::default()
    }
}

/// Opens the logs of messages, one for each worker, and tells what was found. Nothing of them is opened or made before it
/// is sure that they are those of the directory. Also returns what was dropped.
pub(super) fn open_logs(
    config: &Config,
    directory: &Directory,
    workers: usize,
    lock: Option<File>,
) -> Result<(Opened, Reconciled), BootError> {
    data::check_tie(&config.data, directory)?;
    let was_open = lock.is_some();
    let seed = shared::home_seed(directory);
    // Asked for only when the number of workers has changed since the last run.
    let homes = OnceLock::new();
    let home =
        |user: ActorId| homes.get_or_init(|| homes_of_all(directory, seed, workers)).get(&user).copied();
    let told = Mutex::new(Instant::now());
    let progress = |progress: Progress| {
        let mut told = told.lock().expect("nothing panics while it holds this lock");
        if told.elapsed() >= PROGRESS_INTERVAL {
            *told = Instant::now();
            let (done, total) = (progress.bytes_done >> 20, progress.bytes_total >> 20);
            tracing::info!("reading the message log: {done} of {total} MiB, {} messages", progress.messages);
            notify::starting(&format!("reading the message log: {done} of {total} MiB"));
        }
    };
    let path = config.data.join(data::LOG);
    let options = log::Options { now_ms: clock::unix_milliseconds(), ..config.log_options() };
    let mut opened = Log::open_all_locked(&path, &options, workers, &home, &progress, lock)?;
    let report = &opened.report;
    for damage in &report.damage {
        tracing::error!(
            %damage,
            "a part of the message log is lost: its messages will not be delivered; what there is of it was copied to \
             log/damaged"
        );
    }
    if report.tail_bytes_cut > 0 {
        tracing::info!(bytes = report.tail_bytes_cut, "an unfinished end of the message log was cut off");
    }
    if report.orphans > 0 {
        tracing::info!(messages = report.orphans, "messages of removed accounts were dropped");
    }
    let reconciled = data::reconcile(&config.data, directory, &mut opened, was_open)?;
    tell_dropped(&reconciled);
    Ok((opened, reconciled))
}

fn tell_dropped(reconciled: &Reconciled) {
    let Reconciled { orphans: accounts, messages, never_had } = *reconciled;
    if never_had > 0 {
        tracing::warn!(
            accounts = never_had,
            messages,
            "the directory is older than the message log: messages of accounts that it does not have were dropped, and \
             new accounts get numbers that none of those had"
        );
    } else if accounts > 0 {
        tracing::info!(accounts, messages, "messages of deleted accounts were dropped");
    }
}

/// The home worker of every account.
fn homes_of_all(directory: &Directory, seed: u64, workers: usize) -> HashMap<ActorId, usize> {
    let mut homes = HashMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = match directory.accounts(after.as_deref(), ACCOUNTS_PAGE) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot read the accounts");
                return homes;
            }
        };
        let Some(last) = page.last() else { return homes };
        after = Some(last.clone());
        for local in &page {
            if let Ok(Some(id)) = directory.account_id(local) {
                homes.insert(id, shared::home_of(seed, local, workers));
            }
        }
    }
}
