//! The thread that looks, a few times a second, at what has no single writer: queues that several threads fill, and the
//! process as a whole.

pub mod archives;
pub mod busiest;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_stats::Cell;
use whimbrel_storage::directory::Writer;

use crate::allocator;
use crate::clock;
use crate::config::Config;
use crate::memory;
use crate::proto::push::PushService;
use crate::proto::sm::NOT_DURABLE_MAX;
use crate::registration::Registration;
use crate::runtime::gauge::Gauge;
use crate::runtime::mailbox::LaneGauge;
use crate::runtime::platform;
use crate::shared::Shared;
use crate::stats::{QueueMetrics, ServerMetrics};
use crate::takeover::TakeoverOutcome;
use crate::takeover::launch::Tally;
use crate::takeover::outcome;
use crate::user::jobs::{Completions, CryptoPool, Then};
use crate::worker::command::CommandQueue;
use archives::Archives;

/// Notes an upgrade by which this program came to be.
pub fn upgraded(metrics: &ServerMetrics, outcome: &TakeoverOutcome, tally: &Tally) {
    metrics.upgrades.set(tally.done);
    metrics.upgrades_failed.set(tally.fallen_back);
    metrics.upgrade_pause.set(u64::try_from(outcome.pause.as_micros()).unwrap_or(u64::MAX));
    metrics.upgrade_sessions.set(outcome::sessions(&outcome.carried));
    metrics.upgrade_closed.set(outcome.closed_count());
}

/// The version as one number, three digits a part: the stats file has nothing but numbers.
fn version() -> u64 {
    let parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap_or(0));
    parts.fold(0, |version, part: u64| version * 1000 + part)
}

/// How often the stats thread looks.
const PERIOD: Duration = Duration::from_millis(250);

/// What the stats thread looks at.
pub struct Watched {
    /// Holds the metrics.
    pub shared: Arc<Shared>,
    /// The directory's writer.
    pub writer: Arc<Writer<Then>>,
    /// The crypto pool.
    pub crypto: Arc<CryptoPool>,
    /// Completed jobs of each worker.
    pub completions: Vec<Arc<Completions>>,
    /// Commands to each worker.
    pub commands: Vec<Arc<CommandQueue>>,
    /// Mailboxes, by sending and receiving worker.
    pub lanes: Vec<Vec<[LaneGauge; 2]>>,
    /// Registration, where there is one.
    pub registration: Option<Arc<Registration>>,
    /// Archives; `None`: there are none.
    pub archives: Option<Archives>,
    /// When the server started.
    pub started: Instant,
}

impl Watched {
    /// The inbound mailboxes of a worker.
    fn look_at_mailboxes(&self, worker: usize, cells: &QueueMetrics) {
        let (mut parcels, mut bytes, mut recipients) = ((0, 0, 0), (0, 0, 0), (0, 0, 0));
        let mut fullest = [0; 3];
        for lane in self.lanes.iter().flat_map(|from| &from[worker]) {
            let three =
                |(length, high, limit): (usize, usize, usize)| (length as u64, high as u64, limit as u64);
            let figures =
                [(lane.len(), lane.high_water(), lane.limit()), lane.bytes(), lane.weight()].map(three);
            for (all, figures) in [&mut parcels, &mut bytes, &mut recipients].into_iter().zip(figures) {
                *all = together(*all, figures);
            }
            fullest = std::array::from_fn(|at| fullest[at].max(figures[at].0));
        }
        put(parcels, [&cells.mailbox_length, &cells.mailbox_high, &cells.mailbox_limit]);
        put(bytes, [&cells.mailbox_bytes_length, &cells.mailbox_bytes_high, &cells.mailbox_bytes_limit]);
        put(recipients, [&cells.recipients_length, &cells.recipients_high, &cells.recipients_limit]);
        let cells = [&cells.mailbox_fullest, &cells.mailbox_bytes_fullest, &cells.recipients_fullest];
        cells.into_iter().zip(fullest).for_each(|(cell, length)| cell.set(length));
    }

    /// Whether its disk has failed it.
    fn look_at_directory(&self, cells: &ServerMetrics) {
        let reopened = self.shared.directory.reopened();
        if reopened > cells.directory_reopened.get() {
            tracing::warn!(
                times = reopened,
                "the disk failed while the directory was written; it was opened anew"
            );
        }
        cells.directory_reopened.set(reopened);
    }

    /// The queues of what is sent to others: text messages, notifications.
    fn look_at_senders(&self) {
        if let Some(registration) = &self.registration {
            let cells = &self.shared.stats.registration[0];
            put(registration.gauge(), [&cells.sms_length, &cells.sms_high, &cells.sms_limit]);
        }
        let Some(outlet) = self.shared.push.get() else { return };
        for service in PushService::ALL {
            let cells = &self.shared.stats.push[service.index()];
            if let Some((gauge, paused)) = outlet.gauge(service) {
                put(gauge, [&cells.length, &cells.high, &cells.limit]);
                cells.paused.set(u64::try_from(paused.as_millis()).unwrap_or(u64::MAX));
            }
        }
    }

    /// What the directory has of streams. When it cannot be read, the figure of before stays.
    fn look_at_counts(&self, cells: &ServerMetrics) {
        if let Ok(counts) = self.shared.directory.stream_count_total() {
            cells.stream_counts.set(counts);
        }
    }

    /// What accounts have uploaded. One that cannot be read keeps the figures of before.
    fn look_at_uploads(&self) {
        if let Ok((usage, erasures)) = self.shared.directory.upload_totals() {
            let cells = &self.shared.stats.upload[0];
            cells.files.set(usage.files);
            cells.bytes.set(usage.bytes);
            cells.slots.set(usage.slots);
            cells.erasures.set(erasures);
        }
        if let Some(store) = self.shared.uploads.get().and_then(|uploads| uploads.store.as_ref()) {
            let (cells, counts) = (&self.shared.stats.upload[0], store.counts());
            cells.s3_requests.set(counts.requests.load(Ordering::Relaxed));
            cells.s3_failed.set(counts.failed.load(Ordering::Relaxed));
            cells.s3_aborted.set(counts.aborted.load(Ordering::Relaxed));
            cells.s3_held.set(store.held_bytes());
        }
    }

    fn look_at_nodes(&self, cells: &ServerMetrics) {
        // One that cannot be read keeps the figures of before.
        if let Ok((nodes, items, service)) = self.shared.directory.pubsub_counts() {
            cells.pep_nodes.set(nodes);
            cells.pep_items.set(items);
            cells.pubsub_nodes.set(service.nodes);
            cells.pubsub_items.set(service.items);
            cells.pubsub_bytes.set(service.bytes);
            cells.pubsub_members.set(service.members);
        }
    }

    /// Looks once at everything.
    pub fn look(&self) {
        let stats = &self.shared.stats;
        let config = self.shared.config.read().map(|config| Arc::clone(&config)).unwrap_or_default();
        let limits = &config.limits;
        for (worker, cells) in stats.queues.iter().enumerate() {
            let gauge = self.completions[worker].gauge();
            put(gauge, [&cells.completions_length, &cells.completions_high, &cells.completions_limit]);
            let gauge = self.commands[worker].gauge();
            put(gauge, [&cells.commands_length, &cells.commands_high, &cells.commands_limit]);
            let gauge = self.commands[worker].newcomers_gauge();
            put(gauge, [&cells.newcomers_length, &cells.newcomers_high, &cells.newcomers_limit]);
            self.look_at_mailboxes(worker, cells);
            cells.commit_limit.set(NOT_DURABLE_MAX as u64);
            cells.output_limit.set(limits.output_backlog_bytes.into());
            cells.held_limit.set(limits.held_bytes.into());
        }
        self.look_at_server(&stats.server[0], &config);
    }

    /// What there is once in a server.
    fn look_at_server(&self, cells: &ServerMetrics, config: &Config) {
        let limits = &config.limits;
        let (length, high, limit) = self.writer.gauge();
        let gauge = (length as u64, high as u64, limit as u64);
        put(gauge, [&cells.directory_length, &cells.directory_high, &cells.directory_limit]);
        self.look_at_directory(cells);
        put(self.crypto.gauge(), [&cells.crypto_length, &cells.crypto_high, &cells.crypto_limit]);
        if let Some(archives) = &self.archives {
            archives.look(cells, &self.shared.directory, config.archive.bytes_max());
        }
        self.look_at_nodes(cells);
        self.look_at_counts(cells);
        self.look_at_senders();
        self.look_at_uploads();
        cells.version.set(version());
        cells.certificate_expires.set(self.shared.acceptor.expires());
        cells.uptime.set(self.started.elapsed().as_secs());
        cells.seen.set(clock::unix_milliseconds());
        cells.draining.set(self.shared.draining.load(std::sync::atomic::Ordering::Relaxed).into());
        let figures = self.shared.throttle().figures();
        cells.login_remembered.set(figures.remembered);
        cells.login_driven_out.set(figures.driven_out);
        cells.login_known.set(figures.known);
        self.shared.survey(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        cells.unauthenticated.set(self.shared.admission.counts().1.into());
        let allocator = allocator::figures();
        cells.allocator_in_use.set(allocator.in_use);
        let budget = memory::budget_bytes(limits.memory_mib.into(), platform::memory_bytes());
        cells.memory_budget.set(budget);
        if let Some(pressure) = self.shared.memory.look(allocator.in_use, budget) {
            tracing::warn!(
                ?pressure,
                used = allocator.in_use,
                budget,
                "the memory budget (limits.memory_mib)"
            );
        }
        cells.memory_pressure.set(self.shared.memory.pressure() as u64);
        cells.allocations.set(allocator.allocations);
        if let Ok(usage) = platform::usage() {
            cells.cpu_user.set(usage.user_us);
            cells.cpu_system.set(usage.system_us);
            cells.faults_minor.set(usage.faults_minor);
            cells.faults_major.set(usage.faults_major);
            cells.switches_voluntary.set(usage.switches_voluntary);
            cells.switches_involuntary.set(usage.switches_involuntary);
            cells.memory_peak.set(usage.memory_peak_bytes);
        }
    }
}

/// Length, highest mark and limit of two queues that are shown as one: what waits is added up, the marks are each one's own.
fn together(one: (u64, u64, u64), other: (u64, u64, u64)) -> (u64, u64, u64) {
    (one.0 + other.0, one.1.max(other.1), one.2.max(other.2))
}

fn put(gauge: Gauge, cells: [&Cell; 3]) {
    for (cell, value) in cells.into_iter().zip([gauge.0, gauge.1, gauge.2]) {
        cell.set(value);
    }
}

/// The stats thread. It ends when this is dropped.
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks once, and starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(watched: Watched) -> io::Result<Watch> {
        watched.look();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("stats".into()).spawn(move || {
            let mut busiest = busiest::Page::new(&watched.shared);
            let mut retired = Instant::now();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                watched.look();
                if retired.elapsed() >= archives::RETIRE_PERIOD
                    && let Some(archives) = &watched.archives
                {
                    archives.retire();
                    retired = Instant::now();
                }
                busiest.look(&watched.shared, watched.started.elapsed());
            }
            watched.look();
        })?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
