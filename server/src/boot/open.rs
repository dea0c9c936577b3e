//! Third phase: what lies in the data directory (the directory of accounts, the logs of messages, the control socket), the
//! certificate, and what all threads share.

use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Archive, Tallies};
use whimbrel_storage::data::{self, Reconciled};
use whimbrel_storage::directory::{Directory, DirectoryError, Options};
use whimbrel_storage::log::{self, LogsAt, Progress};

use super::archives;
use super::footprint::Footprint;
use super::kept;
use super::plan::Plan;
use super::rooms;
use crate::clock;
use crate::config::Config;
use crate::notify;
use crate::proto::sasl::throttle::{self, Guesses, Throttle};
use crate::push::keys::Keys;
use crate::quota::Registrations;
use crate::registration::gateway::{self, Gateway};
use crate::running::error::BootError;
use crate::running::socket::{Control, ControlSocket};
use crate::shared::push_accounts::PushAccounts;
use crate::shared::turn::ExternalServices;
use crate::shared::{self, DirectoryLock, EarlierStreams, InheritedTables, Shared, SharedParts};
use crate::takeover::Takeover;
use crate::takeover::kept::Kept;
use crate::tls::Acceptor;
use crate::user::commits::Logs;

/// How often reading the log at the start is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Accounts, or rooms, read at once to learn their homes.
const HOMES_PAGE: usize = 10_000;

/// Makes the data directory, for the server's user only: it holds keys.
fn make_data(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How the directory is opened.
fn directory_options(config: &Config) -> Options {
    Options {
        domain: config.domain.clone(),
        map_bytes_max: u64::from(config.directory_gib_max) << 30,
        ..Options::default()
    }
}

/// What a server has open.
pub(super) struct Opened {
    pub(super) directory: Directory,
    pub(super) control: ControlSocket,
    pub(super) logs: log::Opened<Archive>,
    /// What the index of the archives holds of the logs' segments.
    pub(super) tallies: Arc<Tallies>,
    /// What of the logs was dropped.
    pub(super) reconciled: Reconciled,
    /// How text messages are sent, where registration by phone number is on.
    pub(super) gateway: Option<Gateway>,
    /// Keys of push services, where there is push.
    pub(super) push: Option<Keys>,
    /// Sessions that the server before has left.
    pub(super) kept: Option<Kept>,
}

impl Opened {
    /// Opens everything. `footprint` is told when the directory is open. After privileges are dropped: the server must be
    /// able to read its files again.
    pub(super) fn open(
        plan: &Plan,
        mut takeover: Option<&mut Takeover>,
        footprint: Option<&mut Footprint>,
    ) -> Result<(Opened, Acceptor), BootError> {
        let config = &plan.config;
        make_data(&config.data).map_err(|source| BootError::Data { path: config.data.clone(), source })?;
        let mut kept = None;
        let (directory, homes, control) = match takeover.as_deref_mut() {
            None => {
                data::examine(&config.data)?;
                let path = config.data.join(data::DIRECTORY);
                let directory = Directory::open(&path, &directory_options(config))?;
                // What may refuse the start comes before kept sessions are taken.
                let homes = homes(&config.data, &directory, plan.workers)?;
                // Only now it is sure that no other server runs on this data.
                let (sessions, occupied) = kept::take(&config.data, &directory)?.unzip();
                kept = sessions;
                let gone = rooms::forget_temporary(&directory, config, &occupied.unwrap_or_default())?;
                if gone > 0 {
                    tracing::info!(rooms = gone, "temporary rooms of the run before are gone");
                }
                (directory, homes, ControlSocket::bind(&config.data)?)
            }
            Some(takeover) => {
                let (directory, control) = open_again(takeover, config)?;
                let homes = homes(&config.data, &directory, plan.workers)?;
                (directory, homes, control)
            }
        };
        if let Some(footprint) = footprint {
            footprint.holds(&directory);
        }
        let acceptor = Acceptor::new(&config.tls_settings())?;
        let lock = takeover.map(log_lock).transpose()?;
        let tallies = archives::tallies(&directory)?;
        let (logs, reconciled) = open_logs(plan, (&directory, &homes), lock, &tallies)?;
        let gateway = match config.registration.is_on() {
            true => {
                let made = gateway::from_config(&config.registration, &config.domain);
                Some(made.map_err(BootError::Registration)?)
            }
            false => None,
        };
        let push = Keys::read(&config.push).map_err(BootError::Push)?;
        Ok((Opened { directory, control, logs, tallies, reconciled, gateway, push, kept }, acceptor))
    }
}

/// Directory and control socket of the program before.
fn open_again(takeover: &mut Takeover, config: &Config) -> Result<(Directory, ControlSocket), BootError> {
    let lock = takeover.one::<DirectoryLock>().map_err(BootError::Takeover)?;
    let lock = File::from(takeover.copy(lock).map_err(BootError::Takeover)?);
    let directory =
        Directory::open_held(&config.data.join(data::DIRECTORY), &directory_options(config), lock)?;
    let control = takeover.one::<Control>().map_err(BootError::Takeover)?;
    let control = takeover.copy(control.listener).map_err(BootError::Takeover)?;
    Ok((directory, ControlSocket::held(UnixListener::from(control), &config.data)))
}

/// The lock on the logs, which the program before held.
fn log_lock(takeover: &mut Takeover) -> Result<File, BootError> {
    let mut lock = None;
    let read = takeover.state.each::<Logs>(|_, log| {
        lock = lock.or(log.lock);
        Ok(())
    });
    read.map_err(|error| BootError::Takeover(error.to_string()))?;
    let lock = lock.ok_or_else(|| BootError::Takeover("the lock on the logs did not come along".into()))?;
    takeover.copy(lock).map(File::from).map_err(BootError::Takeover)
}

/// Puts together what all threads share.
pub(super) fn share(
    plan: &Plan,
    opened: &Opened,
    acceptor: Acceptor,
    takeover: Option<&Takeover>,
) -> Result<Arc<Shared>, BootError> {
    let config = &plan.config;
    let hasher = SeedableRandomState::random();
    let limits = throttle::Limits::of(&config.limits);
    let streams = earlier_streams(opened, takeover)?;
    let throttle = match takeover {
        None => Throttle::new(limits, hasher.hash_one("throttle")),
        Some(takeover) => {
            Throttle::restored(limits, &takeover.one::<Guesses>().map_err(BootError::Takeover)?)
        }
    };
    let mut shared = Shared::new(SharedParts {
        config: config.clone(),
        directory: opened.directory.clone(),
        acceptor,
        throttle,
        hasher,
        workers: plan.workers,
        inherited: InheritedTables { homes: shared::home_seed(&opened.directory), streams },
    });
    shared.set_external(ExternalServices::load(&config.turn).map_err(BootError::Turn)?);
    if let Some(takeover) = takeover {
        let attempts = takeover.state.find::<Registrations>();
        let attempts = attempts.map_err(|error| BootError::Takeover(error.to_string()))?;
        attempts.iter().for_each(|attempts| shared.registrations.restore(attempts));
    }
    if let Err(error) = shared.publish_stats(&config.data) {
        let path = config.data.join(whimbrel_stats::FILE_NAME);
        tracing::warn!(%error, "cannot make {}; wsar will show the system only", path.display());
    }
    if config.push.is_on() {
        let accounts = PushAccounts::of(&opened.directory)?;
        // Nobody else sets it.
        let _ = shared.push_accounts.set(accounts);
    }
    shared.metrics[0].log_orphans.add(opened.reconciled.messages);
    Ok(Arc::new(shared))
}

/// What was durable of streams whose sessions a crash has ended. What the log tells of others is no longer true once they are
/// resumed: so it is asked only when the server before has left no sessions.
fn earlier_streams(opened: &Opened, takeover: Option<&Takeover>) -> Result<HashMap<u64, u32>, BootError> {
    let mut streams = HashMap::new();
    let Some(state) =
        takeover.map(|takeover| &takeover.state).or(opened.kept.as_ref().map(|kept| &kept.state))
    else {
        streams.extend(opened.logs.report.streams.iter().map(|seen| (seen.stream, seen.number)));
        return Ok(streams);
    };
    let read = state.each::<EarlierStreams>(|_, (stream, durable)| {
        streams.insert(stream, durable);
        Ok(())
    });
    read.map_err(|error| BootError::Takeover(error.to_string()))?;
    Ok(streams)
}

/// Opens the logs of messages, one for each worker, and tells what was found. Nothing of them is opened or made before it
/// is sure that they are those of the directory. Also returns what was dropped.
fn open_logs(
    plan: &Plan,
    (directory, homes): (&Directory, &HashMap<ActorId, usize>),
    lock: Option<File>,
    tallies: &Arc<Tallies>,
) -> Result<(log::Opened<Archive>, Reconciled), BootError> {
    let (config, workers) = (&plan.config, plan.workers);
    data::check_tie(&config.data, directory)?;
    let was_open = lock.is_some();
    let home = |actor: ActorId| homes.get(&actor.account()).copied();
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
    let logs = LogsAt { path: &path, options: &options, shards: workers, home: &home, progress: &progress };
    let settings = config.archive_settings();
    let mut opened = logs.open(lock, &|journal| Archive::new(journal, settings, tallies.clone()))?;
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

/// The home worker of every account and of every room, where there were other workers in the last run: what they have in the logs
/// moves there, and what is of nobody is dropped, so all of them must be known. Else nothing, because nothing moves.
fn homes(data: &Path, directory: &Directory, workers: usize) -> Result<HashMap<ActorId, usize>, BootError> {
    let mut homes = HashMap::new();
    let Some(before) = log::shards(&data.join(data::LOG))?.filter(|before| *before != workers) else {
        return Ok(homes);
    };
    let seed = shared::home_seed(directory);
    homes_of_accounts(directory, seed, workers, &mut homes)
        .and_then(|()| homes_of_rooms(directory, seed, workers, &mut homes))
        .map_err(|source| BootError::Homes { before, workers, source })?;
    Ok(homes)
}

fn homes_of_accounts(
    directory: &Directory,
    seed: u64,
    workers: usize,
    homes: &mut HashMap<ActorId, usize>,
) -> Result<(), DirectoryError> {
    let mut after: Option<String> = None;
    loop {
        let page = directory.accounts(after.as_deref(), HOMES_PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for local in &page {
            let id = directory.account_id(local)?;
            homes.extend(id.map(|id| (id, shared::home_of(seed, local, workers))));
        }
    }
}

fn homes_of_rooms(
    directory: &Directory,
    seed: u64,
    workers: usize,
    homes: &mut HashMap<ActorId, usize>,
) -> Result<(), DirectoryError> {
    let mut after: Option<Box<str>> = None;
    loop {
        let page = directory.rooms(|rooms| rooms.page(after.as_deref(), HOMES_PAGE))?;
        homes.extend(page.iter().map(|room| (room.actor, shared::home_of_room(seed, &room.name, workers))));
        let Some(last) = page.into_iter().last() else { return Ok(()) };
        after = Some(last.name);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use whimbrel_storage::credentials::Credentials;
    use whimbrel_storage::directory::run_inline;
    use whimbrel_storage::log::Log;

    use super::*;

    fn directory(data: &Path) -> Directory {
        let options = Options { domain: "localhost".into(), map_bytes_max: 1 << 30, ..Options::default() };
        Directory::open(&data.join(data::DIRECTORY), &options).unwrap()
    }

    fn make_accounts(data: &Path, names: &[&str]) {
        let directory = directory(data);
        for name in names {
            let name = (*name).to_owned();
            let credentials = Credentials::derive("secret", NonZeroU32::new(4096).unwrap()).unwrap();
            let made = run_inline(&directory, Box::new(move |t| t.create_account(&name, &credentials)));
            assert!(made.unwrap());
        }
    }

    /// Changes a byte in the row of an account, wherever the file has a copy of it.
    fn damage(data: &Path, name: &str) {
        let path = data.join(data::DIRECTORY).join("data.mdb");
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, name).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|at| bytes[at + name.len() + 30] ^= 0x40);
        std::fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn logs_do_not_move_while_an_account_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let names = ["alice", "mallory-whose-row-is-damaged", "zoe"];
        make_accounts(data, &names);
        assert_eq!(homes(data, &directory(data), 3).unwrap().len(), 0, "there are no logs");
        let options =
            log::Options { segment_bytes: 4 << 20, payload_bytes_max: 1 << 16, ..log::Options::default() };
        drop(Log::open_all(&data.join(data::LOG), &options, 2, &|_| None, &|_| {}).unwrap());
        assert_eq!(homes(data, &directory(data), 2).unwrap().len(), 0, "nothing moves");
        let all = homes(data, &directory(data), 3).unwrap();
        assert!(all.len() == 3 && all.values().all(|home| *home < 3), "{all:?}");
        damage(data, names[1]);
        assert!(homes(data, &directory(data), 2).is_ok(), "nothing moves, so nobody is asked");
        let refused = homes(data, &directory(data), 3).unwrap_err();
        assert!(matches!(refused, BootError::Homes { before: 2, workers: 3, .. }), "{refused}");
        let text = refused.to_string();
        for part in ["`workers` is 3 and was 2", "table accounts is damaged", "restore it from a backup"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
