//! A provider, what it reports, and notifications.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use whimbrel_push::doubles::{Apns, Authority, Fcm, Hand, Options, WebPush, hand};
use whimbrel_push::webpush::Hosts;
use whimbrel_push::{
    ApnsKey, ApnsTexts, Clock, Kind, Notification, Outcome, Provider, ProviderConfig, Report, ServiceAccount,
    Settings, Target, VapidKey,
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was reported.
#[derive(Clone, Default)]
pub(crate) struct Reports(Arc<(Mutex<Vec<Report>>, Condvar)>);

impl Reports {
    pub(crate) fn listener(&self) -> Box<dyn Fn(Report) + Send + Sync> {
        let reports = self.clone();
        Box::new(move |report| {
            reports.0.0.lock().unwrap().push(report);
            reports.0.1.notify_all();
        })
    }

    /// All reports, when there are as many.
    pub(crate) fn wait(&self, count: usize) -> Vec<Report> {
        let end = Instant::now() + PATIENCE;
        let mut reports = self.0.0.lock().unwrap();
        while reports.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {count} reports: {reports:?}");
            reports = self.0.1.wait_timeout(reports, left).unwrap().0;
        }
        reports.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// The outcome of one notification.
    pub(crate) fn outcome(&self, id: u64) -> Outcome {
        self.report(id).outcome
    }

    pub(crate) fn report(&self, id: u64) -> Report {
        for count in 1.. {
            if let Some(report) = self.wait(count).into_iter().find(|report| report.id == id) {
                return report;
            }
        }
        unreachable!()
    }
}

/// What all tests begin with.
pub(crate) struct Bench {
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) hand: Hand,
    pub(crate) reports: Reports,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let (clock, hand) = hand();
        Bench { authority: Authority::new(), clock, hand, reports: Reports::default() }
    }

    /// With pauses that are short; an attempt has time enough.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            attempt: Duration::from_secs(30),
            pause_first: Duration::from_millis(5),
            pause_max: Duration::from_millis(50),
            pause_credentials: Duration::from_millis(20),
            seed: Some(1),
            roots: self.authority.roots(),
            clock: self.clock.clone(),
            ..Settings::named("push-test")
        }
    }

    pub(crate) fn start(&self, config: ProviderConfig, settings: Settings) -> Provider {
        Provider::start(config, settings, self.reports.listener()).unwrap()
    }

    pub(crate) fn fcm(&self, options: Options) -> Fcm {
        Fcm::start(&self.authority, options, self.clock.clone()).unwrap()
    }

    pub(crate) fn apns(&self, options: Options) -> Apns {
        Apns::start(&self.authority, options, self.clock.clone()).unwrap()
    }

    pub(crate) fn webpush(&self) -> WebPush {
        WebPush::start(&self.authority, Options::default(), self.clock.clone()).unwrap()
    }
}

pub(crate) fn fcm_config(double: &Fcm) -> ProviderConfig {
    let account = ServiceAccount::from_json(double.account_json().as_bytes()).unwrap();
    ProviderConfig::Fcm { account, endpoint: double.url() }
}

pub(crate) fn apns_config(double: &Apns) -> ProviderConfig {
    ProviderConfig::Apns {
        key: ApnsKey::new(double.key_pem().as_bytes(), double.key_id(), double.team_id()).unwrap(),
        topic: double.topic().to_owned(),
        endpoint: double.url(),
        texts: ApnsTexts::default(),
    }
}

pub(crate) fn vapid() -> VapidKey {
    VapidKey::from_pem(VapidKey::generate_pem().unwrap().as_bytes()).unwrap()
}

pub(crate) fn webpush_config(key: VapidKey, hosts: &[&str]) -> ProviderConfig {
    ProviderConfig::WebPush {
        key,
        contact: "mailto:operator@example.org".to_owned(),
        hosts: Hosts::new(hosts).unwrap(),
        private_addresses: true,
    }
}

pub(crate) fn fcm_target(token: &str) -> Target {
    Target::Fcm { token: token.to_owned() }
}

pub(crate) fn apns_target(token: &str) -> Target {
    Target::Apns { token: token.to_owned(), topic: None, voip: false }
}

pub(crate) fn notification(id: u64, target: Target) -> Notification {
    Notification {
        id,
        target,
        kind: Kind::Message,
        count: Some(3),
        sender: Some("romeo@example.org".to_owned()),
        text: Some("But, soft!".to_owned()),
        collapse: "Y29udmVyc2F0aW9u".to_owned(),
        time_to_live: Duration::from_secs(600),
        silent: false,
        sound: None,
        click_action: None,
        mutable_content: true,
        high_priority: true,
    }
}
