//! What tells sleeping devices: the providers of push services with their threads, and what their reports lead to.
//!
//! ```text
//!  workers ─▶ outlet (crate::push) ─▶ push-fcm, push-apns, push-webpush: threads of whimbrel-push
//!                                                     │ reports
//!  directory's writer ◀── devices that are gone ◀─────┴──▶ metrics, log
//! ```
//! A device of which its provider says that it is gone is removed, unless it has another token by then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_push::{Kind, Notification, Outcome, Provider, ProviderConfig, Report, Settings};
use whimbrel_storage::directory::{DirectoryError, PushDevice, WriteTransaction, Writer};

use crate::config::Config;
use crate::env::Env;
use crate::proto::push::{DeviceFlags, PushService};
use crate::push::keys::Keys;
use crate::push::outlet::{self, Outlet, Ticket};
use crate::shared::Shared;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// The ticket's half that no worker's table of pending jobs has.
const NO_KEY: u64 = u32::MAX as u64;

/// Bytes of what a provider says that the log shows.
const SAID_MAX: usize = 300;

/// The providers while they run.
pub struct Notifier {
    shared: Arc<Shared>,
    writer: Arc<Writer<Then>>,
    outlet: Arc<Outlet>,
    /// The key by which browsers know this server.
    pub web_push_key: Option<String>,
}

impl Notifier {
    /// Starts the providers.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(shared: Arc<Shared>, writer: Arc<Writer<Then>>, keys: Keys) -> io::Result<Notifier> {
        let outlet = Arc::new(Outlet::new(keys.hosts.clone()));
        // A second start in one process has another `Shared`, so it is empty.
        let _ = shared.push.set(outlet.clone());
        let web_push_key = keys.web_push_key.clone();
        let notifier = Notifier { shared, writer, outlet, web_push_key };
        notifier.start_providers(keys)?;
        Ok(notifier)
    }

    fn start_providers(&self, keys: Keys) -> io::Result<()> {
        let config = self.config();
        for (service, provider) in keys.providers {
            let settings = Settings {
                queue: config.push.queue as usize,
                in_flight: config.push.in_flight as usize,
                roots: keys.roots.clone(),
                ..Settings::named(thread_name(service))
            };
            let provider = self.provider(service, provider, settings)?;
            self.outlet.set(service, Some(Box::new(provider)));
        }
        Ok(())
    }

    fn provider(
        &self,
        service: PushService,
        provider: ProviderConfig,
        settings: Settings,
    ) -> io::Result<Provider> {
        let (shared, writer, outlet) = (self.shared.clone(), self.writer.clone(), self.outlet.clone());
        let reports = move |report: Report| heard(&shared, &writer, &outlet, service, report);
        Provider::start(provider, settings, Box::new(reports))
    }

    /// Where notifications go.
    pub fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// Takes nothing more, and waits for what is under way. What is left the outlet knows.
    pub fn stop(&self, wait: Duration) {
        for service in PushService::ALL {
            if let Some(carrier) = self.outlet.set(service, None) {
                carrier.stop(wait);
            }
        }
    }

    /// Goes on after [`Notifier::stop`]: devices that were to be told something are told that there is something.
    pub fn go_on(&self) {
        let config = self.config();
        let started = match Keys::read(&config.push) {
            Ok(Some(keys)) => self.start_providers(keys).map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            tracing::error!(error, "push does not go on");
        }
        for ticket in self.outlet.take_unsent() {
            let Ok(devices) = self.devices(&ticket.local) else { continue };
            for device in devices.iter().filter(|device| *device.node == *ticket.node) {
                // One for which there is no room is told of the next message.
                let _ = self.send(&config, &ticket.local, device, Kind::Message, None);
            }
        }
    }

    /// The devices of an account.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn devices(&self, local: &str) -> Result<Vec<PushDevice>, DirectoryError> {
        match self.shared.directory.account_id(local)? {
            Some(account) => self.shared.directory.push_devices(account),
            None => Ok(Vec::new()),
        }
    }

    /// Sends a device a notification that says nothing of a message. `reply` gets the report. `false`: there is no room, or no
    /// such push service.
    #[must_use]
    pub fn send(
        &self,
        config: &Config,
        local: &str,
        device: &PushDevice,
        kind: Kind,
        reply: Option<std::sync::mpsc::SyncSender<Report>>,
    ) -> bool {
        let Some((service, target)) = outlet::target(device) else { return false };
        let flags = DeviceFlags(device.flags);
        let notification = Notification {
            id: 0,
            target,
            kind,
            count: None,
            sender: None,
            text: None,
            collapse: String::new(),
            time_to_live: Duration::from_secs(config.push.keep_seconds.into()),
            silent: flags.has(DeviceFlags::SILENT),
            sound: None,
            click_action: None,
            mutable_content: flags.has(DeviceFlags::MUTABLE_CONTENT),
            high_priority: !flags.has(DeviceFlags::NORMAL_PRIORITY),
        };
        let ticket = Ticket { reply, ..Ticket::of(local, device) };
        self.outlet.send(ticket, service, notification)
    }

    fn config(&self) -> Arc<Config> {
        self.shared.config.read().expect("nothing panics while it holds this lock").clone()
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn thread_name(service: PushService) -> &'static str {
    match service {
        PushService::Fcm => "push-fcm",
        PushService::Apns => "push-apns",
        PushService::WebPush => "push-webpush",
    }
}

/// A provider reports, on its own thread.
fn heard(shared: &Shared, writer: &Writer<Then>, outlet: &Outlet, service: PushService, report: Report) {
    shared.stats.push[service.index()].count(&report);
    let Some(ticket) = outlet.take(report.id) else { return };
    let name = service.name();
    let said = |text: &str| text.chars().take(SAID_MAX).collect::<String>();
    match &report.outcome {
        Outcome::Sent => {}
        Outcome::Gone(text) => {
            tracing::info!(user = &*ticket.local, service = name, said = said(text), "a device is gone");
            remove(shared, writer, &ticket);
        }
        Outcome::Refused(text) => {
            tracing::warn!(
                user = &*ticket.local,
                service = name,
                said = said(text),
                "a notification is refused"
            );
        }
        Outcome::Credentials(text) => {
            tracing::error!(
                service = name,
                said = said(text),
                "the push service refuses this server's key: see docs/push.md"
            );
        }
        Outcome::Overdue(text) => {
            tracing::debug!(service = name, said = said(text), "a notification could not be sent in time");
        }
        Outcome::Stopping => outlet.note_unsent(ticket.clone()),
    }
    if let Some(reply) = ticket.reply {
        // The one that waits may have gone.
        let _ = reply.try_send(report);
    }
}

/// Removes a device. If the directory has no room for it now, the next notification has the same answer.
fn remove(shared: &Shared, writer: &Writer<Then>, ticket: &Ticket) {
    let (local, node, token) = (ticket.local.clone(), ticket.node.clone(), ticket.token.clone());
    let home = shared.home_of(&local);
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<Then, DirectoryError> {
        transaction.push_device_gone(&local, &node, &token)?;
        let account = transaction.account_id(&local)?;
        Ok(Box::new(move |actors: &mut Actors, _: &Env, _: &mut Effects| {
            account.into_iter().for_each(|account| actors.pushes.changed(account));
        }))
    };
    let ticket = ((home as u64) << 32) | NO_KEY;
    if writer.try_submit(ticket, Box::new(job)).is_err() {
        tracing::debug!("a device that is gone is removed later");
    }
}
