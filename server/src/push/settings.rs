//! The `[push]` table of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_push::ProviderConfig;
use whimbrel_push::webpush::Hosts;
use whimbrel_storage::jid::JidRef;

use crate::proto::push::PushService;

/// Devices that an account may have, whatever is configured: all of them are read for a message.
const DEVICES_CEILING: u32 = 64;

/// Hours for which a session may wait to be resumed, whatever is configured: four weeks.
const RESUME_HOURS_CEILING: u32 = 672;

/// What providers are told of a message, each with all before it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// That there is something.
    Nothing,
    /// How many messages wait.
    Count,
    /// Who has sent the last one.
    Sender,
    /// What is in it.
    Text,
}

/// Firebase Cloud Messaging.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FcmConfig {
    /// File with the key of a service account. Empty: no FCM.
    pub account: PathBuf,
    /// Where messages are sent. Empty: Google's.
    pub endpoint: String,
}

/// Apple Push Notification service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApnsConfig {
    /// File with the key, `.p8`. Empty: no APNs.
    pub key: PathBuf,
    /// The key's ten characters.
    pub key_id: String,
    /// The team's ten characters.
    pub team: String,
    /// The app's bundle id.
    pub topic: String,
    /// Whether the app is under development.
    pub sandbox: bool,
    /// Where messages are sent. Empty: Apple's.
    pub endpoint: String,
}

/// Web Push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebPushConfig {
    /// File with the server's key (VAPID). Empty: no Web Push.
    pub key: PathBuf,
    /// Whom a push service asks when something is wrong: `mailto:` or `https:`.
    pub contact: String,
    /// Push services to which requests may go: `host` or `*.domain`.
    pub hosts: Vec<String>,
    /// Whether these may have addresses that are none of the Internet's.
    pub private_addresses: bool,
}

impl Default for WebPushConfig {
    fn default() -> Self {
        WebPushConfig {
            key: PathBuf::new(),
            contact: String::new(),
            hosts: ProviderConfig::WEB_PUSH_HOSTS.map(str::to_owned).to_vec(),
            private_addresses: false,
        }
    }
}

/// Push. Off unless a provider has its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushConfig {
    /// The domain of the virtual push service. Empty: `push.` before the server's.
    pub domain: String,
    /// What providers are told.
    pub show: Show,
    /// Seconds that an inactive client has to acknowledge a message, and another one to read it.
    pub ack_seconds: u32,
    /// Seconds from one notification of a device to its next. Calls do not wait.
    pub pause_seconds: u32,
    /// Seconds for which a provider may keep a notification.
    pub keep_seconds: u32,
    /// Seconds for which a call is of use.
    pub call_seconds: u32,
    /// Hours for which a session waits to be resumed whose own device is told by push. 0: no longer than any other.
    pub resume_hours: u32,
    /// Stanzas that may wait for such a session once its contacts see it as gone. With one more it ends.
    pub resume_stanzas: u32,
    /// KiB of them.
    pub resume_kib: u32,
    /// Devices of one account.
    pub devices: u32,
    /// Notifications of one device in an hour.
    pub per_device_per_hour: u32,
    /// Notifications of all devices of one account in an hour.
    pub per_account_per_hour: u32,
    /// Notifications that wait for one provider.
    pub queue: u32,
    /// Requests to one provider at a time.
    pub in_flight: u32,
    /// Accounts of each worker of which it is remembered what their devices were told.
    pub accounts_remembered: u32,
    /// PEM file of the authorities that providers' certificates are checked against. Empty: the public ones.
    pub roots: PathBuf,
    /// Firebase Cloud Messaging.
    pub fcm: FcmConfig,
    /// Apple Push Notification service.
    pub apns: ApnsConfig,
    /// Web Push.
    pub webpush: WebPushConfig,
}

impl Default for PushConfig {
    fn default() -> Self {
        PushConfig {
            domain: String::new(),
            show: Show::Count,
            ack_seconds: 5,
            pause_seconds: 30,
            keep_seconds: 7 * 86_400,
            call_seconds: 30,
            resume_hours: 72,
            resume_stanzas: 10_000,
            resume_kib: 4096,
            devices: 10,
            per_device_per_hour: 240,
            per_account_per_hour: 1000,
            queue: 10_000,
            in_flight: 100,
            accounts_remembered: 100_000,
            roots: PathBuf::new(),
            fcm: FcmConfig::default(),
            apns: ApnsConfig::default(),
            webpush: WebPushConfig::default(),
        }
    }
}

impl PushConfig {
    /// Whether a push service is configured.
    pub fn has(&self, service: PushService) -> bool {
        let key = match service {
            PushService::Fcm => &self.fcm.account,
            PushService::Apns => &self.apns.key,
            PushService::WebPush => &self.webpush.key,
        };
        !key.as_os_str().is_empty()
    }

    /// Whether there is push at all.
    pub fn is_on(&self) -> bool {
        PushService::ALL.into_iter().any(|service| self.has(service))
    }

    /// The domain of the push service of a server of this domain.
    pub fn domain_of(&self, server: &str) -> String {
        match self.domain.is_empty() {
            true => format!("push.{server}"),
            false => self.domain.clone(),
        }
    }

    /// Seconds for which a session waits to be resumed whose own device is told by push; 0: no longer than any other.
    pub fn resume_seconds(&self) -> u32 {
        if self.is_on() { self.resume_hours * 3600 } else { 0 }
    }

    /// See [`PushConfig::call_seconds`].
    pub fn call_time(&self) -> Duration {
        Duration::from_secs(self.call_seconds.into())
    }

    /// Puts back what takes effect at a start only, and names what would have changed.
    pub fn keep_fixed(&mut self, old: &PushConfig) -> Vec<&'static str> {
        let mut changed = Vec::new();
        macro_rules! fixed {
            ($($field:ident),*) => {
                $(if self.$field != old.$field {
                    changed.push(concat!("push.", stringify!($field)));
                    self.$field = old.$field.clone();
                })*
            };
        }
        fixed!(domain, queue, in_flight, roots, fcm, apns, webpush);
        changed
    }

    /// Checks what types cannot; the text says what is wrong and what to do. `others`: the server's domain, and those of its
    /// other services.
    ///
    /// # Errors
    /// The text.
    pub fn check(&self, server: &str, others: &[&str]) -> Result<(), String> {
        let wrong = |key: &str, text: String| Err(format!("push.{key} {text}"));
        let domain = self.domain_of(server);
        if JidRef::parse(&domain).is_err() || domain.contains(['@', '/']) {
            return wrong("domain", format!("`{domain}` is not a valid domain name"));
        }
        if self.is_on() && others.contains(&domain.as_str()) {
            return wrong(
                "domain",
                format!("is `{domain}`, which is another service's; give it one of its own"),
            );
        }
        for (key, value) in self.at_least_one() {
            if value == 0 {
                return wrong(key, "is 0; set it to at least 1".into());
            }
        }
        if self.devices > DEVICES_CEILING {
            return wrong("devices", format!("is {}; at most {DEVICES_CEILING}", self.devices));
        }
        if self.resume_hours > RESUME_HOURS_CEILING {
            let text = format!("is {}; at most {RESUME_HOURS_CEILING}", self.resume_hours);
            return wrong("resume_hours", text);
        }
        if self.ack_seconds > 60 {
            return wrong("ack_seconds", format!("is {}; at most 60", self.ack_seconds));
        }
        self.check_providers()
    }

    fn at_least_one(&self) -> [(&'static str, u32); 12] {
        [
            ("ack_seconds", self.ack_seconds),
            ("pause_seconds", self.pause_seconds),
            ("keep_seconds", self.keep_seconds),
            ("call_seconds", self.call_seconds),
            ("resume_stanzas", self.resume_stanzas),
            ("resume_kib", self.resume_kib),
            ("devices", self.devices),
            ("per_device_per_hour", self.per_device_per_hour),
            ("per_account_per_hour", self.per_account_per_hour),
            ("queue", self.queue),
            ("in_flight", self.in_flight),
            ("accounts_remembered", self.accounts_remembered),
        ]
    }

    fn check_providers(&self) -> Result<(), String> {
        for (key, endpoint) in [("fcm.endpoint", &self.fcm.endpoint), ("apns.endpoint", &self.apns.endpoint)]
        {
            if !endpoint.is_empty() && !endpoint.starts_with("https://") {
                return Err(format!(
                    "push.{key} is `{endpoint}`; write an address that begins with https://"
                ));
            }
        }
        if self.has(PushService::Apns) {
            for (key, value) in
                [("key_id", &self.apns.key_id), ("team", &self.apns.team), ("topic", &self.apns.topic)]
            {
                if value.is_empty() {
                    return Err(format!("push.apns.{key} is empty; it goes with push.apns.key"));
                }
            }
        }
        if self.has(PushService::WebPush) {
            if !["mailto:", "https:"].iter().any(|kind| self.webpush.contact.starts_with(kind)) {
                let text = "write whom a push service may ask, like mailto:admin@example.org";
                return Err(format!("push.webpush.contact is `{}`; {text}", self.webpush.contact));
            }
            Hosts::new(&self.webpush.hosts).map_err(|error| format!("push.webpush.hosts: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_is_off_until_a_provider_has_its_key() {
        let mut config = PushConfig::default();
        assert!(!config.is_on());
        assert_eq!(config.check("x.org", &["x.org"]), Ok(()));
        config.fcm.account = "fcm.json".into();
        assert!(config.is_on() && config.has(PushService::Fcm) && !config.has(PushService::Apns));
        assert_eq!(config.check("x.org", &["x.org"]), Ok(()));
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let on = || {
            let mut config = PushConfig::default();
            (config.apns.key, config.webpush.key) = ("key.p8".into(), "vapid.pem".into());
            (config.apns.key_id, config.apns.team) = ("ABCDEFGHIJ".into(), "KLMNOPQRST".into());
            (config.apns.topic, config.webpush.contact) = ("org.x".into(), "mailto:a@x.org".into());
            config
        };
        assert_eq!(on().check("x.org", &["x.org"]), Ok(()));
        type Change<'a> = &'a dyn Fn(&mut PushConfig);
        let table: [(Change<'_>, &str); 10] = [
            (&|c| c.domain = "a@b".into(), "push.domain"),
            (&|c| c.domain = "x.org".into(), "another service's"),
            (&|c| c.queue = 0, "push.queue is 0"),
            (&|c| c.devices = 65, "push.devices is 65"),
            (&|c| c.ack_seconds = 61, "push.ack_seconds is 61"),
            (&|c| c.resume_hours = 673, "push.resume_hours is 673"),
            (&|c| c.apns.team.clear(), "push.apns.team is empty"),
            (&|c| c.fcm.endpoint = "http://x".into(), "push.fcm.endpoint"),
            (&|c| c.webpush.contact.clear(), "push.webpush.contact"),
            (&|c| c.webpush.hosts.clear(), "push.webpush.hosts"),
        ];
        for (change, said) in table {
            let mut config = on();
            change(&mut config);
            let error = config.check("x.org", &["x.org"]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
