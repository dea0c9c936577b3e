//! One provider with its thread.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::apns::{ApnsKey, ApnsTexts};
use crate::content;
use crate::fcm::ServiceAccount;
use crate::lane::{Closed, Job, Lane};
use crate::notification::{Notification, Report, Target};
use crate::run::{Handed, Loop};
use crate::settings::Settings;
use crate::way::{Routes, Way};
use crate::webpush::{Hosts, VapidKey};

/// Which provider it is, with its keys.
#[derive(Debug)]
pub enum ProviderConfig {
    /// Firebase Cloud Messaging.
    Fcm {
        /// The service account that may send.
        account: ServiceAccount,
        /// [`ProviderConfig::FCM`] but for tests.
        endpoint: String,
    },
    /// Apple Push Notification service.
    Apns {
        /// The key that signs provider tokens.
        key: ApnsKey,
        /// The app's bundle id, where a device names none.
        topic: String,
        /// [`ProviderConfig::APNS`], or [`ProviderConfig::APNS_SANDBOX`] for apps under development.
        endpoint: String,
        /// What is shown when the text is withheld.
        texts: ApnsTexts,
    },
    /// Web Push.
    WebPush {
        /// The server's key.
        key: VapidKey,
        /// Whom a push service asks when something is wrong: `mailto:` or `https:` (RFC 8292 §2.1).
        contact: String,
        /// Push services whose endpoints are accepted. Whatever a client registers, no request goes to another host.
        hosts: Hosts,
        /// Requests may go to private addresses and to this machine: for tests.
        private_addresses: bool,
    },
}

impl ProviderConfig {
    /// Where FCM takes messages.
    pub const FCM: &'static str = "https://fcm.googleapis.com";
    /// Where APNs takes messages.
    pub const APNS: &'static str = "https://api.push.apple.com";
    /// Where APNs takes messages for apps under development.
    pub const APNS_SANDBOX: &'static str = "https://api.sandbox.push.apple.com";
    /// Push services of the browsers: Chromium's, Firefox's, Safari's, Edge's.
    pub const WEB_PUSH_HOSTS: [&'static str; 6] = [
        "fcm.googleapis.com",
        "jmt17.google.com",
        "updates.push.services.mozilla.com",
        "*.push.services.mozilla.com",
        "web.push.apple.com",
        "*.notify.windows.com",
    ];
}

/// Why a provider gets nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long it lasts.
    pub left: Duration,
    /// What the provider said.
    pub reason: String,
    /// Our keys are refused.
    pub credentials: bool,
}

/// One provider with its queue, its connections and its pauses. Dropped, it is stopped at once.
#[derive(Debug)]
pub struct Provider {
    routes: Routes,
    shared: Arc<Shared>,
    handed: mpsc::UnboundedSender<Handed>,
    trying: Duration,
    /// Devices as numbers that nobody outside can aim at.
    devices: RandomState,
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and those who hand over look at.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Notifications that are held, by lane.
    lanes: Vec<AtomicUsize>,
    /// How many each lane may hold.
    share: usize,
    high_water: AtomicUsize,
    /// Pauses, by lane.
    closed: Mutex<Vec<Option<Closed>>>,
}

impl Provider {
    /// Starts the thread. Each notification that is taken is reported once, on that thread; `reports` must not block it.
    ///
    /// # Errors
    /// The configuration cannot be used, or the thread cannot be started.
    pub fn start(
        config: ProviderConfig,
        settings: Settings,
        reports: Box<dyn Fn(Report) + Send + Sync>,
    ) -> io::Result<Provider> {
        let (way, routes) = Way::new(config, &settings)?;
        let lanes = routes.lanes();
        let shared = Arc::new(Shared {
            lanes: (0..lanes).map(|_| AtomicUsize::new(0)).collect(),
            share: (settings.queue / lanes).max(1),
            high_water: AtomicUsize::new(0),
            closed: Mutex::new(vec![None; lanes]),
        });
        // Bounded by the places: what is in it holds one each.
        let (handed, queue) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (name, trying) = (settings.name, settings.trying);
        let runtime = Loop::runtime()?;
        let served = Loop { way, settings, shared: shared.clone(), reports, handed: queue, stop: stopped };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || served.run(runtime))?;
        let devices = RandomState::new();
        Ok(Provider { routes, shared, handed, trying, devices, stop: Some(stop), thread: Some(thread) })
    }

    /// Takes a notification. Never waits. Of a text no more is kept than any provider takes, and a field that is longer than
    /// it may be is left out.
    ///
    /// # Errors
    /// There is no room, or the provider is stopped: the notification is given back.
    pub fn try_send(&self, mut notification: Notification) -> Result<(), Box<Notification>> {
        let found = self.routes.lane(&notification.target);
        let lane = *found.as_ref().unwrap_or(&0);
        if !self.shared.enter(lane) {
            return Err(Box::new(notification));
        }
        let device = match &notification.target {
            Target::Fcm { token } | Target::Apns { token, .. } => self.devices.hash_one(token),
            Target::WebPush { endpoint, .. } => self.devices.hash_one(endpoint),
        };
        content::bound(&mut notification);
        let job = Job::new(notification, device, Instant::now(), self.trying);
        let handed = match found {
            Ok(lane) => Handed::Send(lane, job),
            Err(reason) => Handed::Refuse(lane, job, reason),
        };
        self.handed.send(handed).map_err(|error| {
            self.shared.leave(lane);
            let (Handed::Send(_, job) | Handed::Refuse(_, job, _)) = error.0;
            Box::new(Arc::unwrap_or_clone(job.notification))
        })
    }

    /// Notifications that are held: waiting, under way, and between two attempts.
    pub fn length(&self) -> usize {
        self.shared.length()
    }

    /// Notifications that are held at most.
    pub fn limit(&self) -> usize {
        self.shared.share * self.shared.lanes.len()
    }

    /// The most notifications that were ever held.
    pub fn high_water(&self) -> usize {
        self.shared.high_water.load(Relaxed)
    }

    /// How long the provider gets nothing, after refused credentials, an overload or an outage. Of several push services of
    /// Web Push: the shortest pause, when all pause.
    pub fn is_paused(&self) -> Option<Duration> {
        self.pause().map(|pause| pause.left)
    }

    /// As [`Provider::is_paused`], with the reason.
    pub fn pause(&self) -> Option<Pause> {
        let now = Instant::now();
        let closed = self.shared.closed();
        let open = |closed: &Option<Closed>| closed.as_ref().is_none_or(|closed| closed.until <= now);
        if closed.iter().any(open) {
            return None;
        }
        let first = closed.iter().flatten().min_by_key(|closed| closed.until)?;
        let (reason, credentials) = (first.reason.clone(), first.credentials);
        Some(Pause { left: first.until - now, reason, credentials })
    }

    /// Takes no more, waits for attempts under way for `within` at most, and reports whatever is left as
    /// [`crate::Outcome::Stopping`].
    pub fn stop(mut self, within: Duration) {
        // The thread may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(within));
        // A panic there has been told by the thread itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// Takes a place.
    fn enter(&self, lane: usize) -> bool {
        let held = &self.lanes[lane];
        let entered =
            held.fetch_update(Relaxed, Relaxed, |held| (held < self.share).then_some(held + 1)).is_ok();
        if entered {
            self.high_water.fetch_max(self.length(), Relaxed);
        }
        entered
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, lane: usize) {
        self.lanes[lane].fetch_sub(1, Relaxed);
    }

    fn length(&self) -> usize {
        self.lanes.iter().map(|held| held.load(Relaxed)).sum()
    }

    /// Nothing that holds it leaves anything half done.
    fn closed(&self) -> MutexGuard<'_, Vec<Option<Closed>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells which lanes pause.
    pub(crate) fn tell_pauses(&self, lanes: &[Lane]) {
        let mut told = self.closed();
        for (told, lane) in told.iter_mut().zip(lanes) {
            if told.as_ref() != lane.closed() {
                *told = lane.closed().cloned();
            }
        }
    }
}
