//! Where notifications of all threads go: to the provider of each push service, with a note of whose device they are for.
//!
//! Workers never wait here. A notification for which a provider has no room is given back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use whimbrel_push::webpush::Hosts;
use whimbrel_push::{Notification, Provider, Report, Target};
use whimbrel_storage::directory::PushDevice;

use crate::proto::push::{PushService, VOIP};
use crate::runtime::gauge::Gauge;

/// What takes notifications for a push service: a provider, or in the simulation what stands for it.
pub trait Carrier: Send + Sync {
    /// Takes a notification. Never waits.
    ///
    /// # Errors
    /// There is no room: it is given back.
    fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>>;

    /// Notifications that wait, most that ever waited, limit.
    fn gauge(&self) -> Gauge;

    /// How long nothing is sent.
    fn paused(&self) -> Duration;

    /// Ends it within about `wait`; what waits is reported.
    fn stop(self: Box<Self>, wait: Duration);
}

impl Carrier for Provider {
    fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>> {
        Provider::try_send(self, notification)
    }

    fn gauge(&self) -> Gauge {
        (self.length() as u64, self.high_water() as u64, self.limit() as u64)
    }

    fn paused(&self) -> Duration {
        self.is_paused().unwrap_or_default()
    }

    fn stop(self: Box<Self>, wait: Duration) {
        Provider::stop(*self, wait);
    }
}

/// Whose device a notification is for.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Localpart of its account.
    pub local: Box<str>,
    /// Its node.
    pub node: Box<str>,
    /// Its token.
    pub token: Box<str>,
    /// Gets the report, if somebody waits for it.
    pub reply: Option<SyncSender<Report>>,
}

impl Ticket {
    /// For a device of an account.
    pub fn of(local: &str, device: &PushDevice) -> Ticket {
        let (node, token) = (device.node.as_str().into(), device.token.as_str().into());
        Ticket { local: local.into(), node, token, reply: None }
    }
}

/// The way out for notifications.
pub struct Outlet {
    carriers: [RwLock<Option<Box<dyn Carrier>>>; 3],
    tickets: Mutex<HashMap<u64, Ticket, RandomState>>,
    next: AtomicU64,
    /// Of what a program that ends has not sent: whose it is.
    unsent: Mutex<Vec<Ticket>>,
    hosts: Option<Hosts>,
}

impl Outlet {
    /// Without carriers. `hosts`: the push services of Web Push.
    pub fn new(hosts: Option<Hosts>) -> Outlet {
        Outlet {
            carriers: [const { RwLock::new(None) }; 3],
            tickets: Mutex::default(),
            next: AtomicU64::new(1),
            unsent: Mutex::default(),
            hosts,
        }
    }

    /// Whether a subscription of Web Push may be told of anything.
    ///
    /// # Errors
    /// Why not, for its client.
    pub fn check_endpoint(&self, endpoint: &str) -> Result<(), String> {
        match &self.hosts {
            Some(hosts) => hosts.check(endpoint).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// This takes the notifications of a service from now on. Returns what did so before.
    pub fn set(&self, service: PushService, carrier: Option<Box<dyn Carrier>>) -> Option<Box<dyn Carrier>> {
        let mut place = self.carriers[service.index()].write().expect(NO_PANIC);
        std::mem::replace(&mut *place, carrier)
    }

    /// Sends a notification, and gives it its id. `false`: there is no room, or no such service.
    #[must_use]
    pub fn send(&self, ticket: Ticket, service: PushService, mut notification: Notification) -> bool {
        let place = self.carriers[service.index()].read().expect(NO_PANIC);
        let Some(carrier) = place.as_ref() else { return false };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        notification.id = id;
        // Before it is sent: its report may come at once.
        self.tickets().insert(id, ticket);
        let taken = carrier.try_send(notification).is_ok();
        if !taken {
            self.tickets().remove(&id);
        }
        taken
    }

    /// Whose device a notification was for. Once.
    pub fn take(&self, id: u64) -> Option<Ticket> {
        self.tickets().remove(&id)
    }

    /// A notification was not sent because the program ends.
    pub fn note_unsent(&self, ticket: Ticket) {
        self.unsent.lock().expect(NO_PANIC).push(ticket);
    }

    /// Those that were not sent.
    pub fn unsent(&self) -> Vec<Ticket> {
        self.unsent.lock().expect(NO_PANIC).clone()
    }

    /// Forgets those that were not sent, and returns them.
    pub fn take_unsent(&self) -> Vec<Ticket> {
        std::mem::take(&mut *self.unsent.lock().expect(NO_PANIC))
    }

    /// Notifications that wait for a service, most that ever waited, limit; and for how long it gets nothing.
    pub fn gauge(&self, service: PushService) -> Option<(Gauge, Duration)> {
        let place = self.carriers[service.index()].read().expect(NO_PANIC);
        place.as_ref().map(|carrier| (carrier.gauge(), carrier.paused()))
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<u64, Ticket, RandomState>> {
        self.tickets.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics while it holds this lock";

/// A device as its provider knows it. `None`: another release has written it.
pub fn target(device: &PushDevice) -> Option<(PushService, Target)> {
    let service = PushService::from_code(device.service)?;
    let token = device.token.clone();
    let target = match service {
        PushService::Fcm => Target::Fcm { token },
        PushService::Apns => {
            let topic = Some(device.topic.clone()).filter(|topic| !topic.is_empty());
            Target::Apns { token, topic, voip: device.topic.ends_with(VOIP) }
        }
        PushService::WebPush => {
            let (public, secret) = device.keys.split_first_chunk()?;
            Target::WebPush { endpoint: token, p256dh: *public, auth: secret.try_into().ok()? }
        }
    };
    Some((service, target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use whimbrel_push::Kind;

    struct Places(Arc<AtomicUsize>);

    impl Carrier for Places {
        fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>> {
            match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(Box::new(notification)),
            }
        }

        fn gauge(&self) -> Gauge {
            (0, 0, 2)
        }

        fn paused(&self) -> Duration {
            Duration::ZERO
        }

        fn stop(self: Box<Self>, _: Duration) {}
    }

    fn notification() -> Notification {
        Notification {
            id: 0,
            target: Target::Fcm { token: "t".into() },
            kind: Kind::Test,
            count: None,
            sender: None,
            text: None,
            collapse: String::new(),
            time_to_live: Duration::ZERO,
            silent: false,
            sound: None,
            click_action: None,
            mutable_content: false,
            high_priority: true,
        }
    }

    #[test]
    fn what_is_taken_has_a_ticket_and_what_is_not_has_none() {
        let outlet = Outlet::new(None);
        let device = PushDevice { node: "n".into(), service: 1, ..PushDevice::default() };
        let send = || outlet.send(Ticket::of("juliet", &device), PushService::Fcm, notification());
        assert!(!send(), "no such service");
        outlet.set(PushService::Fcm, Some(Box::new(Places(Arc::new(AtomicUsize::new(1))))));
        assert!(send() && !send());
        assert_eq!(outlet.tickets().len(), 1);
        let id = *outlet.tickets().keys().next().unwrap();
        assert_eq!(&*outlet.take(id).unwrap().local, "juliet");
        assert!(outlet.take(id).is_none());
    }

    #[test]
    fn a_device_is_what_its_provider_knows() {
        let device = |service, keys: usize, topic: &str| PushDevice {
            service,
            token: "t".into(),
            keys: vec![4; keys],
            topic: topic.into(),
            ..PushDevice::default()
        };
        assert_eq!(target(&device(1, 0, "")).unwrap().0, PushService::Fcm);
        let voip = target(&device(2, 0, "org.x.voip")).unwrap().1;
        let topic = Some("org.x.voip".to_owned());
        assert_eq!(voip, Target::Apns { token: "t".into(), topic, voip: true });
        assert!(matches!(target(&device(3, 81, "")).unwrap().1, Target::WebPush { .. }));
        assert!(target(&device(3, 80, "")).is_none() && target(&device(9, 0, "")).is_none());
    }
}
