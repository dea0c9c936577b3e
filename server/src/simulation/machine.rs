//! The server of a world: real workers over a simulated network, with the logs of a folder.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::archive::{Archive, Tallies};
use whimbrel_storage::data::{self, Reconciled};
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{LogsAt, journal_folders};

use super::Settings;
use super::gathering::Gathering;
use super::push::Recorder;
use crate::chance::Chance;
use crate::clock::{Clock, VirtualClock};
use crate::config::Config;
use crate::env::Env;
use crate::exchange::links::Links;
use crate::proto::archive::ids::ArchiveIds;
use crate::proto::push::PushService;
use crate::proto::sasl::throttle::{self, Throttle};
use crate::push::outlet::Outlet;
use crate::runtime::driver::sim::{Network, Random, Sim};
use crate::runtime::driver::{Driver, Tuning, Wake};
use crate::runtime::mailbox;
use crate::runtime::timer::Millis;
use crate::shared::{InheritedTables, Shared, SharedParts};
use crate::tls::Acceptor;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::commits::{Commit, CommitTracker, Log};
use crate::user::jobs::{Backend, Completions, Jobs, Stepped};
use crate::worker::Worker;
use crate::worker::command::CommandQueue;
use crate::worker::core::Core;

/// When every world begins, in milliseconds since 1970.
const TIME_AT_START_MS: u64 = 1_700_000_000_000;

/// What seeds the hashers together with the seed of the world; the same in every run.
static SHARED_SEED: SharedSeed = SharedSeed::from_u64(0x77_68_69_6d);

/// The listeners of every server: one for STARTTLS, and one that speaks TLS from the first byte.
const TLS_LISTENERS: [bool; 2] = [false, true];

/// The chance that a server is given.
#[derive(Copy, Clone, Debug)]
pub(super) struct Words {
    hasher: u64,
    throttle: u64,
    /// Decides which worker is whose home: the same as long as the logs are.
    homes: u64,
    network: u64,
    /// What the server itself draws.
    server: u64,
}

impl Words {
    pub(super) fn draw(random: &mut Random) -> Words {
        let (hasher, throttle, homes) = (random.word(), random.word(), random.word());
        Words { hasher, throttle, homes, network: random.word(), server: homes }
    }

    /// For another server on the same logs.
    pub(super) fn again(self, random: &mut Random) -> Words {
        let drawn = Words::draw(random);
        Words { homes: self.homes, server: drawn.homes, ..drawn }
    }
}

/// What a machine is started with.
pub(super) struct Start<'a> {
    pub(super) settings: &'a Settings,
    pub(super) config: &'a Arc<Config>,
    pub(super) directory: &'a Directory,
    pub(super) words: Words,
    pub(super) now: Millis,
    pub(super) commit: Commit,
    /// What the program before has left, in an upgrade.
    pub(super) left: Option<Left>,
}

/// What a program leaves to the next one, beside its state.
pub(super) struct Left {
    /// The connections go on.
    pub(super) network: Network,
    /// What was durable of the streams of the run before.
    pub(super) streams: Vec<(u64, u32)>,
}

/// See the module.
pub(super) struct Machine {
    pub(super) network: Network,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) workers: Vec<Worker<Sim>>,
    pub(super) shared: Arc<Shared>,
    pub(super) stepped: Arc<Stepped>,
    pub(super) completions: Vec<Arc<Completions>>,
    pub(super) commands: Vec<Arc<CommandQueue>>,
    pub(super) lanes: Vec<mailbox::LaneGauge>,
    pub(super) recorder: Recorder,
    pub(super) gathering: Gathering,
}

impl Machine {
    /// Starts it at a time, with what its logs hold.
    pub(super) fn start(start: Start<'_>) -> Result<Machine, String> {
        let (shared, logs, tallies) = share(&start)?;
        let recorder = Recorder::default();
        if start.config.push.is_on() {
            let outlet = Arc::new(Outlet::new(None));
            outlet.set(PushService::WebPush, Some(Box::new(recorder.clone())));
            let _ = shared.push.set(outlet);
        }
        let Start { settings, config, directory, words, now, commit, left } = start;
        let path = config.data.join("log");
        let count = settings.workers;
        let clock = VirtualClock::new(TIME_AT_START_MS, now.0);
        let network = match left {
            Some(left) => left.network,
            None => Network::new(count, words.network, settings.weather.clone()),
        };
        network.advance(now);
        let drivers: Vec<Sim> =
            (0..count).map(|worker| Sim::new(&network, worker, Tuning::default())).collect();
        let wakers: Vec<Arc<dyn Wake>> = drivers.iter().map(Driver::waker).collect();
        // Nobody takes results while a job is being run, so a full queue would stop the only thread there is.
        let room = settings.jobs * count + 4096;
        let completions: Vec<Arc<Completions>> =
            wakers.iter().map(|wake| Arc::new(Completions::new(room, wake.clone()))).collect();
        let gathering = Gathering::start(directory, &tallies, &path)?;
        let folders = journal_folders(&path).map_err(|error| error.to_string())?;
        let reader = PageReader::new(directory.clone(), Arc::new(Folders::new(folders)));
        let stepped = Arc::new(Stepped::new(settings.jobs, reader));
        let posts = mailbox::grid(count, config.limits.mailbox_room());
        let lanes = posts.iter().flat_map(|post| (0..count).flat_map(|to| post.gauges(to))).collect();
        let commands: Vec<Arc<CommandQueue>> =
            wakers.iter().map(|wake| Arc::new(CommandQueue::new(wake.clone()))).collect();
        let parts = drivers.into_iter().zip(posts).zip(logs).enumerate();
        let workers = parts
            .map(|(worker, ((driver, post), log))| {
                let backend = Backend::Stepped(stepped.clone());
                let env = Env {
                    shared: shared.clone(),
                    config: config.clone(),
                    worker,
                    now,
                    clock: Clock::Virtual(clock.clone()),
                    broadcast_max: 2,
                };
                let actors =
                    Actors::new(shared.hasher.clone(), CommitTracker::new(log, tallies.clone(), commit));
                let jobs = Jobs::new(worker, backend, completions[worker].clone());
                let fx = Effects::new(Links::new(post, wakers.clone()), jobs);
                let core = Core::new(actors, env, fx, TLS_LISTENERS.to_vec());
                Worker::new(driver, core, commands[worker].clone())
            })
            .collect();
        Ok(Machine {
            network,
            clock,
            workers,
            shared,
            stepped,
            completions,
            commands,
            lanes,
            recorder,
            gathering,
        })
    }
}

/// What the workers of a machine share, their logs, and what archives hold of them.
type Parts = (Arc<Shared>, Vec<Log>, Arc<Tallies>);

/// What the workers of a machine share, and their logs as they lie in the folder.
fn share(start: &Start<'_>) -> Result<Parts, String> {
    let &Start { settings, config, directory, words, now, ref left, .. } = start;
    let acceptor = Acceptor::new(&config.tls_settings()).map_err(|error| error.to_string())?;
    let hasher = SeedableRandomState::with_seed(words.hasher, &SHARED_SEED);
    let limits = throttle::Limits { entries: 256, known: 256, ..throttle::Limits::of(&config.limits) };
    let throttle = Throttle::new(limits, words.throttle);
    let count = settings.workers;
    // The time of a world is not that of the system: all streams are young.
    let options = whimbrel_storage::log::Options {
        resume_window_ms: u64::MAX,
        now_ms: TIME_AT_START_MS + now.0,
        ..config.log_options()
    };
    // The number of workers never changes.
    let tallies = Arc::new(Tallies::of(directory).map_err(|error| error.to_string())?);
    let path = config.data.join("log");
    data::check_tie(&config.data, directory).map_err(|error| error.to_string())?;
    let at = LogsAt { path: &path, options: &options, shards: count, home: &|_| None, progress: &|_| {} };
    let kept = config.archive_settings();
    let mut opened = at
        .open(None, &|journal| Archive::new(journal, kept, tallies.clone()))
        .map_err(|error| error.to_string())?;
    if let Some(damage) = opened.report.damage.first() {
        return Err(damage.to_string());
    }
    let reconciled = data::reconcile(&config.data, directory, &mut opened, left.is_some());
    let reconciled = reconciled.map_err(|error| error.to_string())?;
    // No account of a world is ever removed.
    if reconciled != Reconciled::default() {
        return Err(format!("messages waited for accounts that are not there: {reconciled:?}"));
    }
    let mut streams: HashMap<u64, u32> =
        opened.report.streams.iter().map(|seen| (seen.stream, seen.number)).collect();
    for &(stream, durable) in left.iter().flat_map(|left| &left.streams) {
        streams.entry(stream).or_insert(durable);
    }
    let inherited = InheritedTables { homes: words.homes, streams };
    let mut shared = Shared::new(SharedParts {
        config: config.clone(),
        directory: directory.clone(),
        acceptor,
        throttle,
        hasher,
        workers: count,
        inherited,
    });
    shared.chance = Chance::seeded(words.server);
    // The directory's secret is the system's chance.
    shared.archive_ids = ArchiveIds::new(&u128::from(words.homes).to_le_bytes());
    let shared = Arc::new(shared);
    Ok((shared, opened.logs, tallies))
}
