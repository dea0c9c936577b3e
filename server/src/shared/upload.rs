//! What a slot for an upload (XEP-0363) is made from.

use whimbrel_objects::Store;
use whimbrel_storage::directory::UploadId;
use whimbrel_upload::url::{self, SlotKey};

use crate::config::Config;

/// Where uploads go, while the HTTP server takes them.
#[derive(Clone, Debug)]
pub struct UploadSlots {
    /// Signs URLs.
    pub key: SlotKey,
    /// The first port of the HTTP server.
    pub port: u16,
    /// Where files are kept, when that is not the data directory.
    pub store: Option<Store>,
}

impl UploadSlots {
    /// What URLs begin with.
    fn base(&self, config: &Config) -> String {
        if !config.upload.url.is_empty() {
            return config.upload.url.clone();
        }
        let scheme = if config.http.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", config.domain, self.port)
    }

    /// URLs of a slot that may be used until a time: where its file is put, and where it is got from.
    pub fn urls(&self, config: &Config, id: &UploadId, name: &str, until_seconds: u64) -> (String, String) {
        let base = self.base(config);
        let put = url::slot_url(&base, &self.key, id, name, until_seconds);
        (put, url::file_url(&base, id, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_the_http_server_or_to_what_is_in_front_of_it() {
        let slots = UploadSlots { key: SlotKey::new(&[0; 32]), port: 5443, store: None };
        let id = UploadId::new(0, [0; 16]);
        let mut config = Config::default();
        let (put, get) = slots.urls(&config, &id, "a b", 7);
        assert_eq!(get, format!("https://localhost:5443/upload/{id}/a%20b"));
        assert!(put.starts_with(&format!("{get}?until=7&key=")), "{put}");
        config.upload.url = "https://files.example.org".into();
        assert!(slots.urls(&config, &id, "a", 7).1.starts_with("https://files.example.org/upload/"));
    }
}
