//! The `[upload]` table of the configuration.

mod s3;

pub use s3::S3Config;

use serde::{Deserialize, Serialize};
use whimbrel_storage::directory::UploadLimits;
use whimbrel_storage::jid::JidRef;

/// Files of one account, whatever is configured: its end takes all of them away in one transaction.
const ACCOUNT_FILES_CEILING: u32 = 100_000;

/// Threads that read and write files, whatever is configured.
const THREADS_CEILING: u32 = 64;

/// HTTP upload (XEP-0363).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadConfig {
    /// Whether there is one, where the HTTP server for clients listens. Switched off, nothing of it is announced; the files stay.
    pub enabled: bool,
    /// Its domain. Empty: `upload.` before the server's.
    pub domain: String,
    /// What URLs begin with, up to where their path begins. Empty: the server's domain and the port of `http.listen`.
    pub url: String,
    /// MiB of one file.
    pub file_mib_max: u32,
    /// MiB of all files.
    pub mib_max: u32,
    /// MiB of the file system that are left to the rest of the server.
    pub mib_left_free: u32,
    /// MiB of one account's files.
    pub account_mib_max: u32,
    /// Files of one account.
    pub account_files_max: u32,
    /// MiB that one account may upload in a day.
    pub account_mib_per_day: u32,
    /// Files that one account may upload in a day.
    pub account_files_per_day: u32,
    /// Slots of one account that wait for their files.
    pub account_slots_max: u32,
    /// Seconds for which a slot may be used.
    pub slot_seconds: u32,
    /// Days for which a file is kept; 0: for ever.
    pub keep_days: u32,
    /// Uploads and downloads at a time.
    pub transfers_max: u32,
    /// Uploads and downloads of one address (IPv6: one /64) at a time.
    pub transfers_per_address: u32,
    /// Seconds for one of them.
    pub transfer_seconds: u32,
    /// Threads that read and write files.
    pub threads: u32,
    /// An object store that files are kept in, in place of the data directory.
    pub s3: S3Config,
}

impl Default for UploadConfig {
    fn default() -> Self {
        UploadConfig {
            enabled: true,
            domain: String::new(),
            url: String::new(),
            file_mib_max: 100,
            mib_max: 64 * 1024,
            mib_left_free: 1024,
            account_mib_max: 2048,
            account_files_max: 10_000,
            account_mib_per_day: 1024,
            account_files_per_day: 1000,
            account_slots_max: 20,
            slot_seconds: 600,
            keep_days: 30,
            transfers_max: 128,
            transfers_per_address: 32,
            transfer_seconds: 1800,
            threads: 4,
            s3: S3Config::default(),
        }
    }
}

fn bytes(mib: u32) -> u64 {
    u64::from(mib) << 20
}

impl UploadConfig {
    /// The domain of the service of a server of this domain.
    pub fn domain_of(&self, server: &str) -> String {
        match self.domain.is_empty() {
            true => format!("upload.{server}"),
            false => self.domain.clone(),
        }
    }

    /// Bytes of one file.
    pub fn file_bytes_max(&self) -> u64 {
        bytes(self.file_mib_max)
    }

    /// Bytes of the file system that are left free.
    pub fn bytes_left_free(&self) -> u64 {
        bytes(self.mib_left_free)
    }

    /// Milliseconds for which a file is kept; `None`: for ever.
    pub fn keep_ms(&self) -> Option<u64> {
        (self.keep_days > 0).then(|| u64::from(self.keep_days) * 86_400_000)
    }

    /// What slots are given within.
    pub fn limits(&self) -> UploadLimits {
        UploadLimits {
            account_bytes: bytes(self.account_mib_max),
            account_files: self.account_files_max.into(),
            day_bytes: bytes(self.account_mib_per_day),
            day_files: self.account_files_per_day.into(),
            account_slots: self.account_slots_max.into(),
            all_bytes: bytes(self.mib_max),
        }
    }

    /// Puts back what takes effect at a start only, and names what would have changed.
    pub fn keep_fixed(&mut self, old: &UploadConfig) -> Vec<&'static str> {
        let mut changed = Vec::new();
        macro_rules! fixed {
            ($($field:ident),*) => {
                $(if self.$field != old.$field {
                    changed.push(concat!("upload.", stringify!($field)));
                    self.$field = old.$field.clone();
                })*
            };
        }
        fixed!(enabled, domain, threads, transfers_max, s3);
        changed
    }

    /// Checks what types cannot; the text says what is wrong and what to do. `others`: the server's domain, and those of its
    /// other services.
    ///
    /// # Errors
    /// The text.
    pub fn check(&self, server: &str, others: &[&str]) -> Result<(), String> {
        let wrong = |key: &str, text: &str| Err(format!("upload.{key} {text}"));
        let domain = self.domain_of(server);
        if JidRef::parse(&domain).is_err() || domain.contains(['@', '/']) {
            return wrong("domain", &format!("is `{domain}`, which is no domain"));
        }
        if self.enabled && others.contains(&domain.as_str()) {
            let text = format!("is `{domain}`, which is another service's; give it one of its own");
            return wrong("domain", &text);
        }
        if !self.url.is_empty() && !is_base(&self.url) {
            let text = format!("is `{}`; write it like https://upload.example.org, without a path", self.url);
            return wrong("url", &text);
        }
        for (key, value) in self.at_least_one() {
            if value == 0 {
                return wrong(key, "is 0; set it to at least 1, or upload.enabled to false");
            }
        }
        for (key, value, most) in [
            ("account_files_max", self.account_files_max, ACCOUNT_FILES_CEILING),
            ("threads", self.threads, THREADS_CEILING),
            ("slot_seconds", self.slot_seconds, 86_400),
            ("transfer_seconds", self.transfer_seconds, 86_400),
        ] {
            if value > most {
                return wrong(key, &format!("is {value}; at most {most}"));
            }
        }
        self.s3.check(self.file_bytes_max())
    }

    fn at_least_one(&self) -> [(&'static str, u32); 12] {
        [
            ("file_mib_max", self.file_mib_max),
            ("mib_max", self.mib_max),
            ("account_mib_max", self.account_mib_max),
            ("account_files_max", self.account_files_max),
            ("account_mib_per_day", self.account_mib_per_day),
            ("account_files_per_day", self.account_files_per_day),
            ("account_slots_max", self.account_slots_max),
            ("slot_seconds", self.slot_seconds),
            ("transfers_max", self.transfers_max),
            ("transfers_per_address", self.transfers_per_address),
            ("transfer_seconds", self.transfer_seconds),
            ("threads", self.threads),
        ]
    }
}

/// `https://upload.example.org:8443`.
fn is_base(url: &str) -> bool {
    let authority = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    authority.is_some_and(|authority| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        !authority.is_empty() && authority.bytes().all(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let others = ["x.org", "conference.x.org"];
        assert_eq!(UploadConfig::default().check("x.org", &others), Ok(()));
        type Change = fn(&mut UploadConfig);
        let table: [(&str, Change); 9] = [
            ("upload.domain is `a@b`", |c| c.domain = "a@b".into()),
            ("another service's", |c| c.domain = "conference.x.org".into()),
            ("upload.url is `https://a.example/`", |c| c.url = "https://a.example/".into()),
            ("upload.url", |c| c.url = "a.example".into()),
            ("upload.url", |c| c.url = "https://a'b".into()),
            ("upload.file_mib_max is 0", |c| c.file_mib_max = 0),
            ("upload.transfer_seconds is 0", |c| c.transfer_seconds = 0),
            ("upload.account_files_max is 100001; at most", |c| c.account_files_max = 100_001),
            ("upload.threads is 65", |c| c.threads = 65),
        ];
        for (said, change) in table {
            let mut config = UploadConfig::default();
            change(&mut config);
            let error = config.check("x.org", &others).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
        let off = UploadConfig { enabled: false, domain: "x.org".into(), ..UploadConfig::default() };
        assert_eq!(off.check("x.org", &others), Ok(()), "nobody asks for it");
        let with_port = UploadConfig { url: "https://[::1]:8443".into(), ..UploadConfig::default() };
        assert_eq!(with_port.check("x.org", &others), Ok(()));
    }
}
