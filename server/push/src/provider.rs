//! One provider with its thread.

use std::io;
use std::time::Duration;

use crate::apns::{ApnsKey, ApnsTexts};
use crate::fcm::ServiceAccount;
use crate::notification::{Notification, Report};
use crate::settings::Settings;
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

/// One provider with its queue, its connections and its pauses.
#[derive(Debug)]
pub struct Provider {}

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
        drop((config, settings, reports));
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a notification. Never waits.
    ///
    /// # Errors
    /// There is no room, or the provider is stopped: the notification is given back.
    pub fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>> {
        Err(Box::new(notification))
    }

    /// Notifications that are held: waiting, under way, and between two attempts.
    pub fn length(&self) -> usize {
        0
    }

    /// Notifications that are held at most.
    pub fn limit(&self) -> usize {
        0
    }

    /// The most notifications that were ever held.
    pub fn high_water(&self) -> usize {
        0
    }

    /// How long the provider gets nothing, after refused credentials, an overload or an outage. Of several push services of
    /// Web Push: the shortest, when all pause.
    pub fn is_paused(&self) -> Option<Duration> {
        self.pause().map(|pause| pause.left)
    }

    /// As [`Provider::is_paused`], with the reason.
    pub fn pause(&self) -> Option<Pause> {
        None
    }

    /// Takes no more, waits for attempts under way for `within` at most, and reports whatever is left as
    /// [`crate::Outcome::Stopping`].
    pub fn stop(self, within: Duration) {
        let _ = within;
    }
}
