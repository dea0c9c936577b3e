//! The configuration: embedded defaults, a TOML file over them, the command line over both.
//!
//! Unknown keys are errors that name the nearest known key, because a misspelt limit that is silently
//! ignored is worse than a server that does not start.

mod addresses;
mod archive;
mod http;
mod pubsub;
mod rooms;
mod turn;
mod upload;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use whimbrel_storage::credentials::ITERATIONS_MAX;
use whimbrel_storage::log;

pub use archive::ArchiveConfig;
pub use http::HttpConfig;
pub use pubsub::{NodeMakers, PubsubConfig};
pub use rooms::{RoomMakers, RoomsConfig};
pub use turn::{ExternalService, TurnConfig};
pub use upload::{S3Config, UploadConfig};

use crate::limits::Limits;
use crate::phone::settings::RegistrationConfig;
use crate::push::settings::PushConfig;
use crate::tls;

/// Which event-loop driver the workers use.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverChoice {
    /// io_uring where the kernel has what is needed, else mio.
    Auto,
    /// epoll on Linux, kqueue on FreeBSD.
    Mio,
    /// io_uring; falls back to mio with one log line when the kernel lacks it.
    Uring,
}

/// What a second login with a resource that is in use does (RFC 6120 §7.7.2.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceConflict {
    /// The older session is closed with the stream error `conflict`.
    ReplaceOlder,
    /// The newer one gets the stanza error `conflict`.
    RefuseNewer,
    /// The newer one gets a resource that the server makes up.
    Rename,
}

/// What must have happened to a message before its sender is told that it is safe.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk: it survives a power cut.
    Disk,
    /// It is with the kernel: it survives the end of the process, however sudden, but not that of the machine.
    Process,
}

/// TLS: where the certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain. Empty: a self-signed one is made in the data directory.
    pub certificate: PathBuf,
    /// PEM file with the private key. Empty together with `certificate`. Only its owner may read it.
    pub key: PathBuf,
    /// The key's group may read it, too.
    pub key_group_readable: bool,
}

/// Authentication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// PBKDF2 iterations of newly stored SCRAM keys.
    pub scram_iterations: u32,
    /// Threads that check PLAIN passwords.
    pub crypto_threads: u32,
    /// XEP-0077 account creation by anybody who connects.
    pub open_registration: bool,
    /// What happens to a second login with the same resource.
    pub resource_conflict: ResourceConflict,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            scram_iterations: 4096,
            crypto_threads: 1,
            open_registration: false,
            resource_conflict: ResourceConflict::ReplaceOlder,
        }
    }
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The one domain that this server serves.
    pub domain: String,
    /// The data directory.
    pub data: PathBuf,
    /// Addresses for STARTTLS connections (RFC 6120 §5).
    pub listen: Vec<SocketAddr>,
    /// Addresses for direct TLS (XEP-0368).
    pub listen_tls: Vec<SocketAddr>,
    /// Workers; 0 means one per core.
    pub workers: u32,
    /// Event-loop driver.
    pub driver: DriverChoice,
    /// Pin each worker to its core.
    pub pin_workers: bool,
    /// Permits SASL without TLS. For benchmarks on loopback addresses.
    pub allow_plaintext: bool,
    /// Connections that wait in the kernel's backlog per listener.
    pub backlog: u32,
    /// User to become after the sockets are bound. Empty: stay.
    pub user: String,
    /// Group to become after the sockets are bound. Empty: the user's own.
    pub group: String,
    /// Largest size of the directory's memory map in GiB (address space, not memory).
    pub directory_gib_max: u32,
    /// What must have happened to a message before its sender is told that it is safe.
    pub durability: Durability,
    /// Most MiB of disk that each worker's log of messages may use. When it is reached, messages are refused with
    /// `resource-constraint`.
    pub log_mib_max: u32,
    /// Size in MiB of the files that the log is made of, whose space is reserved in advance.
    pub log_segment_mib: u32,
    /// TLS.
    pub tls: TlsConfig,
    /// Authentication.
    pub auth: AuthConfig,
    /// The HTTP server for clients in browsers.
    pub http: HttpConfig,
    /// STUN and TURN servers.
    pub turn: TurnConfig,
    /// Registration by phone number.
    pub registration: RegistrationConfig,
    /// Message archives.
    pub archive: ArchiveConfig,
    /// Rooms.
    pub rooms: RoomsConfig,
    /// The publish-subscribe service.
    pub pubsub: PubsubConfig,
    /// Push.
    pub push: PushConfig,
    /// HTTP upload.
    pub upload: UploadConfig,
    /// Limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            domain: "localhost".into(),
            data: "./whimbrel-data".into(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5222))],
            listen_tls: vec![SocketAddr::from(([127, 0, 0, 1], 5223))],
            workers: 0,
            driver: DriverChoice::Auto,
            pin_workers: true,
            allow_plaintext: false,
            backlog: 4096,
            user: String::new(),
            group: String::new(),
            directory_gib_max: 64,
            durability: Durability::Disk,
            log_mib_max: 16 * 1024,
            log_segment_mib: 64,
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            http: HttpConfig::default(),
            turn: TurnConfig::default(),
            registration: RegistrationConfig::default(),
            archive: ArchiveConfig::default(),
            rooms: RoomsConfig::default(),
            pubsub: PubsubConfig::default(),
            push: PushConfig::default(),
            upload: UploadConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("{path}: unknown key `{key}`{}", .nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// The known key that is nearest to it, when one is near.
        nearest: Option<String>,
    },
    /// Values that cannot be used.
    #[error("configuration: {0}")]
    Invalid(String),
}

impl Config {
    /// Reads a TOML file over the embedded defaults.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    /// Parses TOML text; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let syntax =
            |e: &toml::de::Error| ConfigError::Syntax { path: path.to_owned(), message: one_line(text, e) };
        let table: toml::Table = toml::from_str(text).map_err(|e| syntax(&e))?;
        let known =
            toml::Table::try_from(Config::default()).expect("the default configuration is plain TOML values");
        check_keys(&table, &known, "", path)?;
        toml::from_str(text).map_err(|e| syntax(&e))
    }

    /// Checks what types cannot: relations between values.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        if self.domain.is_empty() {
            return invalid("domain is empty; set it to the domain of the users' addresses".into());
        }
        if whimbrel_storage::jid::JidRef::parse(&self.domain).is_err() || self.domain.contains(['@', '/']) {
            return invalid(format!("domain `{}` is not a valid domain name", self.domain));
        }
        if self.listen.is_empty() && self.listen_tls.is_empty() {
            return invalid("listen and listen_tls are both empty; nobody could connect".into());
        }
        addresses::check(self).or_else(invalid)?;
        if self.workers > 1024 {
            return invalid(format!("workers is {}; at most 1024", self.workers));
        }
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            return invalid("tls.certificate and tls.key go together; set both or neither".into());
        }
        if !(1024..=ITERATIONS_MAX).contains(&self.auth.scram_iterations) {
            return invalid(format!(
                "auth.scram_iterations is {}; use 4096 (RFC 7677) to {ITERATIONS_MAX}",
                self.auth.scram_iterations
            ));
        }
        if self.auth.crypto_threads == 0 || self.auth.crypto_threads > 64 {
            return invalid("auth.crypto_threads must be 1 to 64".into());
        }
        if self.directory_gib_max == 0 {
            return invalid("directory_gib_max must be at least 1".into());
        }
        let least = (self.log_payload_bytes() as u64 + LOG_RECORD_BYTES) * 4;
        if u64::from(self.log_segment_mib) << 20 < least || self.log_segment_mib > 1024 {
            return invalid(format!(
                "log_segment_mib is {}; it must be at least {}, four times limits.stanza_bytes, and at most 1024",
                self.log_segment_mib,
                least.div_ceil(1 << 20)
            ));
        }
        if u64::from(self.log_mib_max) < 2 * u64::from(self.log_segment_mib) {
            return invalid("log_mib_max must have room for at least two files of log_segment_mib".into());
        }
        self.http.check().or_else(invalid)?;
        self.turn.check().or_else(invalid)?;
        self.registration.check().or_else(invalid)?;
        self.archive.check().or_else(invalid)?;
        self.rooms.check(&self.domain).or_else(invalid)?;
        let rooms = self.rooms.domain_of(&self.domain);
        self.pubsub.check(&self.domain, &rooms).or_else(invalid)?;
        let nodes = self.pubsub.domain_of(&self.domain);
        let push = self.push.domain_of(&self.domain);
        self.push.check(&self.domain, &[&self.domain, &rooms, &nodes]).or_else(invalid)?;
        self.upload.check(&self.domain, &[&self.domain, &rooms, &nodes, &push]).or_else(invalid)?;
        self.limits.check().or_else(invalid)
    }
}

/// Bytes of a record in the log beside its message.
const LOG_RECORD_BYTES: u64 = 64;

/// Bytes that stamping may add to a stanza: addresses of at most 3,071 bytes, escaped, and declarations.
const STAMP_BYTES: usize = 24 * 1024;

impl Config {
    /// Bytes of the longest message that the log must take.
    fn log_payload_bytes(&self) -> usize {
        self.limits.stanza_bytes as usize + STAMP_BYTES
    }

    /// What TLS is to know of this.
    pub fn tls_settings(&self) -> tls::Settings {
        tls::Settings {
            domain: self.domain.clone(),
            self_signed: self.data.join("tls"),
            certificate: self.tls.certificate.clone(),
            key: self.tls.key.clone(),
            key_group_readable: self.tls.key_group_readable,
        }
    }

    /// The settings of what a worker archives.
    pub fn archive_settings(&self) -> whimbrel_storage::archive::Settings {
        whimbrel_storage::archive::Settings { heads_bytes_max: (self.archive.memory_mib as usize) << 20 }
    }

    /// The settings of the log.
    pub fn log_options(&self) -> log::Options {
        log::Options {
            segment_bytes: u64::from(self.log_segment_mib) << 20,
            durability: match self.durability {
                Durability::Disk => log::Durability::Disk,
                Durability::Process => log::Durability::Process,
            },
            user_bytes_max: self.limits.offline_bytes,
            user_messages_max: self.limits.offline_messages,
            log_bytes_max: u64::from(self.log_mib_max) << 20,
            payload_bytes_max: self.log_payload_bytes(),
            resume_window_ms: self.limits.resume_window_seconds() * 1000,
            ..log::Options::default()
        }
    }
}

/// The parser's error with line, column and the text there, on one line.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = words::plain(&error.message().trim().replace('\n', "; "));
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let excerpt: String = text.lines().nth(line).unwrap_or_default().trim().chars().take(80).collect();
    format!("line {}, column {column} (`{excerpt}`): {message}", line + 1)
}

fn check_keys(
    given: &toml::Table,
    known: &toml::Table,
    prefix: &str,
    path: &Path,
) -> Result<(), ConfigError> {
    for (key, value) in given {
        match (known.get(key), value) {
            (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
                check_keys(given, known, &format!("{prefix}{key}."), path)?;
            }
            (Some(_), _) => {}
            (None, _) => {
                let nearest = known
                    .keys()
                    .map(|k| (strsim::damerau_levenshtein(k, key), k))
                    .min()
                    .filter(|(distance, k)| *distance <= k.len().max(key.len()) / 2)
                    .map(|(_, k)| format!("{prefix}{k}"));
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    key: format!("{prefix}{key}"),
                    nearest,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let config = Config::parse(text, Path::new("w.toml"))?;
        config.check().map(|()| config)
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn each_mistake_is_named() {
        let table = [
            ("domian = 'x.org'", "unknown key `domian`; did you mean `domain`?"),
            (
                "[limits]\nstanza_byte = 3",
                "unknown key `limits.stanza_byte`; did you mean `limits.stanza_bytes`?",
            ),
            ("[tlss]\nkey = 'a'", "unknown key `tlss`; did you mean `tls`?"),
            ("listen = ['nonsense']", "w.toml"),
            ("driver = 'kqueue'", "kqueue"),
            ("domain = ''", "domain is empty"),
            ("[tls]\nkey = 'a.pem'", "set both or neither"),
            ("listen = []\nlisten_tls = []", "nobody could connect"),
            (
                "listen_tls = ['127.0.0.1:5222']",
                "listen_tls has 127.0.0.1:5222, but listen has 127.0.0.1:5222",
            ),
            ("[http]\nlisten = ['127.0.0.1:5223']", "http.listen has 127.0.0.1:5223"),
            ("[registration]\nlisten = ['127.0.0.1:5223']", "registration.listen has 127.0.0.1:5223"),
            ("[limits]\nsessions = 0", "limits.sessions is 0"),
            ("x", "w.toml"),
        ];
        for (text, expected) in table {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
