//! `--check`: what a start would find, without starting. It is stricter than a start in what would run and should not go
//! on: a certificate that is about to expire, or logins without TLS where others can listen.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use whimbrel_objects::Settings;
use whimbrel_server::boot::{self, BootError};
use whimbrel_server::config::Config;
use whimbrel_server::push::keys::Keys;
use whimbrel_server::runtime::platform;
use whimbrel_server::shared::turn::ExternalServices;
use whimbrel_server::tls::certificate;
use whimbrel_server::upload::s3;
use whimbrel_storage::directory::{Directory, DirectoryError, Options};
use whimbrel_storage::{data, plain};

/// Prints what was found; every fault goes to standard error.
pub(crate) fn check(config: &Config, file: Option<&Path>) -> ExitCode {
    let from = file.map_or_else(|| "embedded defaults".to_owned(), |file| file.display().to_string());
    let workers = match config.workers {
        0 => "one worker per core".to_owned(),
        n => format!("{n} workers"),
    };
    // Before the user changes, as at a start: ports may need root.
    let tried = config.addresses().map(|(key, list)| {
        let list = if key == "http.listen" { websocket(config, list) } else { list };
        list.iter().map(|&address| (address, boot::check_address(key, address))).collect::<Vec<_>>()
    });
    let user = user(config);
    let data = data_directory(config);
    let runs = matches!(data, Ok(Data::InUse(_)));
    let [starttls, direct, websocket, registration] = tried.map(|list| addresses(&list, runs));
    let findings = [
        ("configuration", Ok(format!("{from}; domain {}, {workers}", config.domain))),
        ("user", user),
        ("STARTTLS", starttls),
        ("direct TLS", direct),
        ("WebSocket", websocket),
        ("registration", registration),
        ("without TLS", without_tls(config)),
        ("certificate", certificate(config)),
        ("push", push(config)),
        ("STUN and TURN", turn(config)),
        ("uploads", uploads(config)),
        ("data", data.map(|found| found.text(config))),
    ];
    let mut code = ExitCode::SUCCESS;
    for (what, finding) in findings {
        // A reader that closes the pipe does not want the rest.
        let _ = match finding {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => writeln!(std::io::stdout(), "{what:<14} {text}"),
            Err(text) => {
                code = ExitCode::FAILURE;
                writeln!(std::io::stderr(), "whimbreld: {what}: {}", plain(&text))
            }
        };
    }
    code
}

/// Becomes the configured user, so that what follows is seen with its eyes.
fn user(config: &Config) -> Result<String, String> {
    if config.user.is_empty() {
        return Ok(String::new());
    }
    boot::check_user(config).map_err(|error| error.to_string())?;
    let group = Some(&*config.group).filter(|group| !group.is_empty());
    platform::drop_privileges(&config.user, group)
        .map_err(|error| format!("cannot drop privileges: {error}"))?;
    Ok(config.user.clone())
}

/// The addresses for WebSocket that a start would insist on, or have: the one that nobody has asked for may be another's.
fn websocket<'c>(config: &Config, list: &'c [SocketAddr]) -> &'c [SocketAddr] {
    let is_free = |address: &SocketAddr| boot::check_address("http.listen", *address).is_ok();
    match config.http.is_by_default() && !list.iter().all(is_free) {
        true => &[],
        false => list,
    }
}

/// `runs`: a server uses the data directory, and with it ports of this configuration.
fn addresses(tried: &[(SocketAddr, Result<(), BootError>)], runs: bool) -> Result<String, String> {
    let mut list = Vec::new();
    for (address, result) in tried {
        match result {
            Err(BootError::Listen { source, .. })
                if runs && matches!(source.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {}
            Err(error) => return Err(error.to_string()),
            Ok(()) => {}
        }
        list.push(address.to_string());
    }
    Ok(list.join(", "))
}

/// A start warns of it only, so that benchmarks can be run; nobody serves so.
fn without_tls(config: &Config) -> Result<String, String> {
    if !config.allow_plaintext {
        return Ok(String::new());
    }
    let open: Vec<String> = config
        .listen
        .iter()
        .filter(|address| !address.ip().to_canonical().is_loopback())
        .map(ToString::to_string)
        .collect();
    if open.is_empty() {
        return Ok("logins permitted, on loopback addresses".to_owned());
    }
    Err(format!(
        "allow_plaintext is set and {} can be reached from elsewhere: passwords and messages would cross the network in \
         the clear; remove allow_plaintext, or listen on loopback addresses only",
        open.join(", ")
    ))
}

fn certificate(config: &Config) -> Result<String, String> {
    let found = certificate::facts(&config.tls_settings()).map_err(|error| error.to_string())?;
    let Some(facts) = found else {
        return Ok(format!("self-signed, made at the first start in {}", config.data.display()));
    };
    // The server's own is made anew when it does not fit.
    if !config.tls.certificate.as_os_str().is_empty() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let complaints = facts.complaints(&config.domain, since.as_secs().try_into().unwrap_or(i64::MAX));
        if !complaints.is_empty() {
            return Err(complaints.join("; "));
        }
    }
    let kind = if facts.self_signed { "self-signed, for" } else { "for" };
    Ok(format!("{}, {kind} {}", facts.path.display(), facts.names.join(", ")))
}

/// The keys of push services are read, as at a start.
fn push(config: &Config) -> Result<String, String> {
    let Some(keys) = Keys::read(&config.push)? else { return Ok(String::new()) };
    let services: Vec<&str> = keys.providers.iter().map(|(service, _)| service.name()).collect();
    let web_push =
        keys.web_push_key.map(|key| format!("; browsers subscribe with {key}")).unwrap_or_default();
    Ok(format!("{} at {}{web_push}", services.join(", "), config.push.domain_of(&config.domain)))
}

/// The object store that files are kept in. It is not asked.
fn uploads(config: &Config) -> Result<String, String> {
    let store = s3::settings(&config.upload, |name| std::env::var_os(name))?;
    let place = |store: Settings| format!("{} at {}, {}/", store.bucket, store.endpoint, store.prefix);
    Ok(store.map(place).unwrap_or_default())
}

/// Where clients are sent for calls.
fn turn(config: &Config) -> Result<String, String> {
    ExternalServices::load(&config.turn).map(|_| config.turn.services.join(", "))
}

/// What the data directory is.
enum Data {
    /// So many accounts are in it.
    Accounts(u64),
    /// A server runs there: its process, when that is known.
    InUse(Option<u32>),
    /// It is new, or yet to be made.
    New,
}

impl Data {
    fn text(&self, config: &Config) -> String {
        let shown = config.data.display();
        match self {
            Data::Accounts(n) => format!("{shown}: {n} accounts"),
            Data::InUse(Some(process)) => format!("{shown}: in use by process {process}"),
            Data::InUse(None) => format!("{shown}: in use"),
            Data::New => format!("{shown}: no accounts yet"),
        }
    }
}

fn data_directory(config: &Config) -> Result<Data, String> {
    let shown = config.data.display();
    data::examine(&config.data).map_err(|error| error.to_string())?;
    boot::refuse_foreign_files(&config.data).map_err(|error| error.to_string())?;
    if config.data.join(data::DIRECTORY).exists() {
        let me = probe(&config.data)?;
        let owner = std::fs::metadata(&config.data).map_err(|error| format!("{shown}: {error}"))?.uid();
        if owner != me {
            return Err(format!(
                "{shown} belongs to user {owner}, and files made by user {me} would be unusable for the server; run this \
                 with: sudo -u '#{owner}'"
            ));
        }
        let options = Options { domain: config.domain.clone(), map_bytes_max: 1 << 30, ..Options::default() };
        return match Directory::open(&config.data.join(data::DIRECTORY), &options) {
            Ok(directory) => {
                let accounts = directory.account_count().map_err(|error| error.to_string())?;
                data::check_tie(&config.data, &directory).map_err(|error| error.to_string())?;
                Ok(Data::Accounts(accounts))
            }
            Err(DirectoryError::Locked { pid, .. }) => Ok(Data::InUse(pid)),
            Err(error) => Err(error.to_string()),
        };
    }
    let absolute = std::path::absolute(&config.data).map_err(|error| format!("{shown}: {error}"))?;
    let nearest = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    probe(nearest)?;
    Ok(Data::New)
}

/// Whether files can be made in a folder, and by which user. Only trying tells: file systems can be mounted read-only or
/// be full.
fn probe(folder: &Path) -> Result<u32, String> {
    let path = folder.join(format!(".whimbrel-check-{}", std::process::id()));
    let written = std::fs::write(&path, b"x").and_then(|()| Ok(std::fs::metadata(&path)?.uid()));
    let _ = std::fs::remove_file(&path);
    written.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => "it must belong to the user who runs the server",
            ErrorKind::ReadOnlyFilesystem => "mount it writable or use another data directory",
            ErrorKind::StorageFull => "free some space",
            ErrorKind::NotADirectory => "move the file away or use another data directory",
            _ => "use another data directory",
        };
        format!("cannot write into {}: {error}; {remedy}", folder.display())
    })
}
