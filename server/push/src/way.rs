//! One attempt with whichever provider it is.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::apns::Apns;
use crate::fcm::Fcm;
use crate::notification::{Notification, Target};
use crate::provider::ProviderConfig;
use crate::settings::Settings;
use crate::verdict::Verdict;
use crate::webpush::{Hosts, WebPush};

/// The way to a provider. There is one for each thread.
pub(crate) enum Way {
    Fcm(Box<Fcm>),
    Apns(Box<Apns>),
    WebPush(Box<WebPush>),
}

/// Which lane a notification takes.
#[derive(Debug)]
pub(crate) enum Routes {
    Fcm,
    Apns,
    WebPush(Hosts),
}

impl Way {
    pub(crate) fn new(config: ProviderConfig, settings: &Settings) -> io::Result<(Way, Routes)> {
        Ok(match config {
            ProviderConfig::Fcm { account, endpoint } => {
                (Way::Fcm(Box::new(Fcm::new(account, &endpoint, settings)?)), Routes::Fcm)
            }
            ProviderConfig::Apns { key, topic, endpoint, texts } => {
                let way = Apns::new(key, topic, &endpoint, texts, settings)?;
                (Way::Apns(Box::new(way)), Routes::Apns)
            }
            ProviderConfig::WebPush { key, contact, hosts, private_addresses } => {
                let way = WebPush::new(key, &contact, hosts.clone(), private_addresses, settings)?;
                (Way::WebPush(Box::new(way)), Routes::WebPush(hosts))
            }
        })
    }

    /// Push services with pauses of their own.
    pub(crate) fn lanes(&self) -> usize {
        match self {
            Way::Fcm(_) | Way::Apns(_) => 1,
            Way::WebPush(way) => way.lanes(),
        }
    }

    /// Makes one attempt. The notification is of use for the time that is `left`.
    pub(crate) async fn attempt(&self, notification: &Notification, left: Duration) -> Verdict {
        match (self, &notification.target) {
            (Way::Fcm(way), Target::Fcm { token }) => way.attempt(notification, token, left).await,
            (Way::Apns(way), Target::Apns { .. }) => way.attempt(notification, left).await,
            (Way::WebPush(way), Target::WebPush { .. }) => way.attempt(notification, left).await,
            _ => Verdict::Refused("it is for another provider".to_owned()),
        }
    }

    /// An attempt that began then had no answer in time: the next one takes a connection that is younger.
    pub(crate) async fn stalled(&self, notification: &Notification, began: Instant) {
        match self {
            Way::Fcm(way) => way.stalled(began).await,
            Way::Apns(way) => way.stalled(began).await,
            Way::WebPush(way) => way.stalled(notification, began).await,
        }
    }
}

impl Routes {
    pub(crate) fn lanes(&self) -> usize {
        match self {
            Routes::Fcm | Routes::Apns => 1,
            Routes::WebPush(hosts) => hosts.len(),
        }
    }

    /// The lane of a target.
    ///
    /// # Errors
    /// It is for another provider, or at no push service of the list.
    pub(crate) fn lane(&self, target: &Target) -> Result<usize, String> {
        match (self, target) {
            (Routes::Fcm, Target::Fcm { .. }) | (Routes::Apns, Target::Apns { .. }) => Ok(0),
            (Routes::WebPush(hosts), Target::WebPush { endpoint, .. }) => {
                hosts.find(endpoint).map(|found| found.entry).map_err(|error| error.to_string())
            }
            _ => Err("it is for another provider".to_owned()),
        }
    }
}
