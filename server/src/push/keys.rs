//! The files that the configuration names, read: keys of providers and authorities.

use std::path::Path;

use whimbrel_push::webpush::Hosts;
use whimbrel_push::{ApnsKey, ApnsTexts, KeyError, ProviderConfig, Roots, ServiceAccount, VapidKey};

use super::settings::PushConfig;
use crate::proto::push::PushService;

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Providers with their keys.
#[derive(Debug)]
pub struct Keys {
    /// Those that are configured.
    pub providers: Vec<(PushService, ProviderConfig)>,
    /// Who may vouch for their certificates.
    pub roots: Roots,
    /// Push services of Web Push, where it is configured.
    pub hosts: Option<Hosts>,
    /// The key by which browsers know this server, as they want it; where Web Push is configured.
    pub web_push_key: Option<String>,
}

impl Keys {
    /// Reads the files. `None`: there is no push.
    ///
    /// # Errors
    /// A file cannot be used; the text says which and why.
    pub fn read(config: &PushConfig) -> Result<Option<Keys>, String> {
        if !config.is_on() {
            return Ok(None);
        }
        let roots = match config.roots.as_os_str().is_empty() {
            true => Roots::bundled(),
            false => key("push.roots", &config.roots, Roots::from_pem)?,
        };
        let mut keys = Keys { providers: Vec::new(), roots, hosts: None, web_push_key: None };
        if config.has(PushService::Fcm) {
            let account = key("push.fcm.account", &config.fcm.account, ServiceAccount::from_json)?;
            let endpoint = or(&config.fcm.endpoint, ProviderConfig::FCM);
            keys.providers.push((PushService::Fcm, ProviderConfig::Fcm { account, endpoint }));
        }
        if config.has(PushService::Apns) {
            keys.providers.push((PushService::Apns, apns(config)?));
        }
        if config.has(PushService::WebPush) {
            let key = key("push.webpush.key", &config.webpush.key, VapidKey::from_pem)?;
            let hosts = Hosts::new(&config.webpush.hosts).map_err(|error| error.to_string())?;
            (keys.hosts, keys.web_push_key) = (Some(hosts.clone()), Some(key.public_text()));
            let contact = config.webpush.contact.clone();
            let private_addresses = config.webpush.private_addresses;
            let provider = ProviderConfig::WebPush { key, contact, hosts, private_addresses };
            keys.providers.push((PushService::WebPush, provider));
        }
        Ok(Some(keys))
    }
}

fn apns(config: &PushConfig) -> Result<ProviderConfig, String> {
    let apns = &config.apns;
    let read = |pem: &[u8]| ApnsKey::new(pem, &apns.key_id, &apns.team);
    let usual = match apns.sandbox {
        true => ProviderConfig::APNS_SANDBOX,
        false => ProviderConfig::APNS,
    };
    Ok(ProviderConfig::Apns {
        key: key("push.apns.key", &apns.key, read)?,
        topic: apns.topic.clone(),
        endpoint: or(&apns.endpoint, usual),
        texts: ApnsTexts::default(),
    })
}

fn or(given: &str, usual: &str) -> String {
    if given.is_empty() { usual.to_owned() } else { given.to_owned() }
}

fn key<T>(name: &str, path: &Path, read: impl FnOnce(&[u8]) -> Result<T, KeyError>) -> Result<T, String> {
    let shown = path.display();
    let length =
        std::fs::metadata(path).map_err(|error| format!("{name}: cannot read {shown}: {error}"))?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{name}: {shown} has {length} bytes, more than any key"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: cannot read {shown}: {error}"))?;
    read(&bytes).map_err(|error| format!("{name}: {shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let mut config = PushConfig::default();
        assert!(Keys::read(&config).unwrap().is_none());
        config.webpush.key = path.clone();
        let missing = Keys::read(&config).unwrap_err();
        assert!(
            missing.contains("push.webpush.key: cannot read") && missing.contains("key.pem"),
            "{missing}"
        );
        std::fs::write(&path, "nonsense").unwrap();
        let wrong = Keys::read(&config).unwrap_err();
        assert!(wrong.contains("push.webpush.key") && wrong.contains("P-256"), "{wrong}");
        std::fs::write(&path, VapidKey::generate_pem().unwrap()).unwrap();
        let keys = Keys::read(&config).unwrap().unwrap();
        assert_eq!(keys.providers.len(), 1);
        assert!(keys.hosts.is_some() && keys.web_push_key.is_some());
        config.fcm.account = path;
        assert!(Keys::read(&config).unwrap_err().contains("push.fcm.account"));
    }
}
