//! What devices are told by push, and the rules for it: nobody hears of what is not for them, and whoever is away hears of what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel_push::webpush::subscription_keys;
use whimbrel_push::{Notification, Target};
use whimbrel_storage::directory::PushDevice;

use super::Failure;
use super::client::Wanted;
use super::world::{World, local};
use crate::proto::push::PushService;
use crate::push::outlet::Carrier;
use crate::push::settings::{PushConfig, Show};
use crate::runtime::driver::sim::Random;
use crate::runtime::gauge::Gauge;

/// Seconds of the configuration: for acknowledgements, and between two notifications of a device.
const SECONDS: u32 = 1;

/// Key and secret of every browser (RFC 8291 §5).
const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// Where endpoints of subscriptions lie.
const ENDPOINT: &str = "https://push.sim.example/";

/// The table of the configuration, of a world with this seed.
pub(super) fn config(seed: u64) -> PushConfig {
    let mut config = PushConfig {
        show: Show::Text,
        ack_seconds: SECONDS,
        pause_seconds: SECONDS,
        per_device_per_hour: u32::MAX,
        per_account_per_hour: u32::MAX,
        // Few, so that accounts are forgotten and read again.
        accounts_remembered: Random::new(seed ^ 0x7075_7368).between(2, 50) as u32,
        ..PushConfig::default()
    };
    config.webpush.key = "of the simulation".into();
    config
}

/// Stands for a push service.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<Notification>>>);

impl Recorder {
    /// What devices were told since the last time.
    fn take(&self) -> Vec<Notification> {
        std::mem::take(&mut *self.0.lock().expect("nothing panics while it holds this lock"))
    }
}

impl Carrier for Recorder {
    fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>> {
        self.0.lock().expect("nothing panics while it holds this lock").push(notification);
        Ok(())
    }

    fn gauge(&self) -> Gauge {
        (0, 0, 1)
    }

    fn paused(&self) -> Duration {
        Duration::ZERO
    }

    fn stop(self: Box<Self>, _: Duration) {}
}

/// A device: the client of this number, and its user.
type DeviceOf = (usize, u32);

#[derive(Debug, Default)]
struct Device {
    /// Since when it is sure to be told: its client knows that it is enabled, and has not asked for an end of it.
    since: Option<u64>,
    /// When its client has asked for an end of it last.
    end_asked: Option<u64>,
    /// When it was told last.
    told: Option<u64>,
}

/// What is known of devices.
#[derive(Debug, Default)]
pub(super) struct PushOracle {
    devices: BTreeMap<DeviceOf, Device>,
    /// Notifications, and messages of which it was sure that a device had to be told.
    pub(super) counts: (u64, u64),
}

impl PushOracle {
    /// A client has asked to be told, or not to be any more.
    fn asked(&mut self, device: DeviceOf, on: bool, step: u64) {
        let known = self.devices.entry(device).or_default();
        if !on {
            known.since = None;
            known.end_asked = Some(step);
        }
    }

    /// A client knows that it is enabled; it asked in step `asked`, and perhaps for an end of it since.
    pub(super) fn confirmed(&mut self, device: DeviceOf, step: u64, asked: u64) {
        if let Some(known) = self.devices.get_mut(&device)
            && known.end_asked.is_none_or(|end| end < asked)
        {
            known.since.get_or_insert(step);
        }
    }

    /// Every device of whom this is sure has been told since these messages were sent: their numbers, users and steps.
    fn judge(&mut self, messages: &[(u32, usize, u64)]) -> Result<(), String> {
        for &(n, user, sent) in messages {
            for (&(owner, client), device) in self.devices.range((user, 0)..(user + 1, 0)) {
                if device.since.is_none_or(|since| since >= sent) {
                    continue;
                }
                self.counts.1 += 1;
                if device.told.is_none_or(|told| told < sent) {
                    return Err(format!(
                        "message {n}, sent in step {sent}, waits for user {owner}, who is away, and the device of client \
                         {client} is not told: {device:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The device that an endpoint belongs to.
fn device_of(target: &Target) -> Option<DeviceOf> {
    let Target::WebPush { endpoint, .. } = target else { return None };
    let (user, client) = endpoint.strip_prefix(ENDPOINT)?.strip_prefix('u')?.split_once("/d")?;
    Some((user.parse().ok()?, client.parse().ok()?))
}

/// A device that an account has had from before the world began.
pub(super) fn device(user: usize, number: u32, resource: &str) -> PushDevice {
    let (public, secret) = subscription_keys(P256DH, AUTH).expect("those of the RFC's example");
    PushDevice {
        node: format!("d{number}"),
        service: PushService::WebPush.code(),
        token: format!("{ENDPOINT}{}/d{number}", local(user)),
        keys: [&public[..], &secret[..]].concat(),
        resource: resource.to_owned(),
        ..PushDevice::default()
    }
}

impl World {
    /// A device is known that no client of this world has enabled.
    pub(super) fn has_device(&mut self, device: DeviceOf) {
        self.pushes.devices.entry(device).or_default();
    }

    /// A client has its device told of messages, or not any more.
    pub(super) fn turn_push(&mut self, index: usize) {
        let (user, number) = (self.clients[index].user, self.clients[index].number);
        let on = self.random.permille(700);
        self.pushes.asked((user, number), on, self.step);
        let jid = format!("push.{}", super::world::DOMAIN);
        if !on {
            let disable = format!("<disable xmlns='urn:xmpp:push:0' jid='{jid}' node='d{number}'/>");
            return self.ask(index, "set", None, &disable, Wanted::Anything);
        }
        let endpoint = format!("{ENDPOINT}{}/d{number}", local(user));
        let form_type = "http://jabber.org/protocol/pubsub#publish-options";
        let fields = [
            ("FORM_TYPE", form_type),
            ("service", "webpush"),
            ("device_id", &endpoint),
            ("p256dh", P256DH),
            ("auth", AUTH),
        ];
        let fields: String = fields
            .iter()
            .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
            .collect();
        let enable = format!(
            "<enable xmlns='urn:xmpp:push:0' jid='{jid}' node='d{number}'><x xmlns='jabber:x:data' type='submit'>{fields}</x></enable>"
        );
        self.ask(index, "set", None, &enable, Wanted::Enabled);
    }

    /// Looks at what devices were told in the last turn.
    pub(super) fn hear_pushes(&mut self) {
        for told in self.recorder.take() {
            let Some(device) = device_of(&told.target) else {
                return self.fail(format!("a notification goes nowhere: {:?}", told.target));
            };
            let Some(known) = self.pushes.devices.get_mut(&device) else {
                return self.fail(format!("device {device:?} is told, and has never been enabled"));
            };
            known.told = Some(self.step);
            self.pushes.counts.0 += 1;
            if let Err(what) = self.oracle.may_be_told(device.0, told.text.as_deref()) {
                return self.fail(what);
            }
        }
    }

    /// Everything that is still to be told is told, and everybody who is away has been.
    pub(super) fn settle_pushes(&mut self) -> Result<(), Failure> {
        for _ in 0..2 * SECONDS + 2 {
            self.pass(1000);
            self.round();
        }
        // Of few accounts it is remembered that something is still to be told. Of the others, the next message tells it.
        if self.shared.metrics.iter().any(|metrics| metrics.refused_push_queue.get() > 0) {
            return self.stop_at_failure();
        }
        let waiting: BTreeSet<u32> = self.waiting().unwrap_or_default();
        let messages = self.oracle.waiting_for_the_absent(&waiting);
        if let Err(what) = self.pushes.judge(&messages) {
            self.fail(what);
        }
        self.stop_at_failure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_sure_to_be_told_when_its_end_was_asked_for_before_the_answer_came() {
        for (end, sure) in [(None, true), (Some(4), false), (Some(2), true)] {
            let mut oracle = PushOracle::default();
            let device = (1, 2);
            oracle.asked(device, true, 1);
            if let Some(step) = end {
                oracle.asked(device, false, step);
            }
            oracle.confirmed(device, 5, 3);
            assert_eq!(oracle.judge(&[(7, 1, 6)]).is_err(), sure, "end asked for in step {end:?}");
        }
    }
}
