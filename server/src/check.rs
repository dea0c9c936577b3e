//! `--check`: what a start would find, without starting.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use whimbrel_server::config::Config;
use whimbrel_server::tls::certificate;
use whimbrel_storage::data;
use whimbrel_storage::directory::{Directory, DirectoryError, Options};

/// Prints what was found; every fault goes to standard error.
pub(crate) fn check(config: &Config, file: Option<&Path>) -> ExitCode {
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let from = file.map_or_else(|| "embedded defaults".to_owned(), |file| file.display().to_string());
    let workers = match config.workers {
        0 => "one worker per core".to_owned(),
        n => format!("{n} workers"),
    };
    let findings = [
        ("configuration", Ok(format!("{from}; domain {}, {workers}", config.domain))),
        ("STARTTLS", Ok(list(&config.listen))),
        ("direct TLS", Ok(list(&config.listen_tls))),
        ("certificate", certificate(config)),
        ("data", data_directory(config)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (what, finding) in findings {
        // Whoever closes the pipe does not want the rest.
        let _ = match finding {
            Ok(text) => writeln!(std::io::stdout(), "{what:<14} {text}"),
            Err(text) => {
                code = ExitCode::FAILURE;
                writeln!(std::io::stderr(), "whimbreld: {what}: {text}")
            }
        };
    }
    code
}

fn certificate(config: &Config) -> Result<String, String> {
    match certificate::facts(&config.tls_settings()).map_err(|error| error.to_string())? {
        None => Ok(format!("self-signed, made at the first start in {}", config.data.display())),
        Some(facts) => {
            let kind = if facts.self_signed { "self-signed, for" } else { "for" };
            Ok(format!("{}, {kind} {}", facts.path.display(), facts.names.join(", ")))
        }
    }
}

fn data_directory(config: &Config) -> Result<String, String> {
    let shown = config.data.display();
    data::examine(&config.data).map_err(|error| error.to_string())?;
    if config.data.join("directory").exists() {
        let options = Options { domain: config.domain.clone(), map_bytes_max: 1 << 30, ..Options::default() };
        return match Directory::open(&config.data.join("directory"), &options) {
            Ok(directory) => {
                let accounts = directory.account_count().map_err(|error| error.to_string())?;
                data::check_tie(&config.data, &directory).map_err(|error| error.to_string())?;
                probe(&config.data)?;
                Ok(format!("{shown}: {accounts} accounts"))
            }
            Err(DirectoryError::Locked { pid, .. }) => {
                let by = pid.map(|pid| format!(" by process {pid}")).unwrap_or_default();
                Ok(format!("{shown}: in use{by}"))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    let absolute = std::path::absolute(&config.data).map_err(|error| format!("{shown}: {error}"))?;
    let nearest = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    probe(nearest)?;
    Ok(format!("{shown}: no accounts yet"))
}

/// Whether files can be made in a folder. Only trying tells: file systems can be mounted read-only or be full.
fn probe(folder: &Path) -> Result<(), String> {
    let path = folder.join(format!(".whimbrel-check-{}", std::process::id()));
    let written = std::fs::write(&path, b"x");
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
