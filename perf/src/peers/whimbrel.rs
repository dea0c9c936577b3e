//! Whimbrel as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Accounts;
use crate::cli::PeersArgs;
use crate::engine::target::Hint;
use crate::peers::{Peer, free_port};

/// Imports the accounts.
///
/// # Errors
/// The programs are not there, or the import fails.
pub(super) fn prepare(args: &PeersArgs, folder: &Path, accounts: u64) -> Result<Peer, String> {
    with(args, folder, accounts, "", Hint::None)
}

/// As [`prepare`]; messages are not kept.
pub(super) fn without_log(args: &PeersArgs, folder: &Path, accounts: u64) -> Result<Peer, String> {
    with(args, folder, accounts, "process", Hint::Forget)
}

/// As [`prepare`]; messages survive the process.
pub(super) fn log_in_process(args: &PeersArgs, folder: &Path, accounts: u64) -> Result<Peer, String> {
    with(args, folder, accounts, "process", Hint::Keep)
}

/// As [`prepare`]; messages survive a power cut.
pub(super) fn log_on_disk(args: &PeersArgs, folder: &Path, accounts: u64) -> Result<Peer, String> {
    with(args, folder, accounts, "disk", Hint::Keep)
}

fn with(
    args: &PeersArgs,
    folder: &Path,
    accounts: u64,
    durability: &'static str,
    hint: Hint,
) -> Result<Peer, String> {
    let whimbreld = program(args.whimbreld.as_deref(), "whimbreld")?;
    let whimbrelctl = program(args.whimbrelctl.as_deref(), "whimbrelctl")?;
    let data = folder.join("data");
    let file = folder.join("accounts");
    let mut lines = Vec::new();
    Accounts::new("whimbrel", "localhost", false)
        .write_import(0, accounts, &mut lines)
        .and_then(|()| std::fs::write(&file, lines))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let import = Command::new(&whimbrelctl)
        .arg("--data")
        .arg(&data)
        .args(["user", "import"])
        .arg(&file)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", whimbrelctl.display()))?;
    if !import.status.success() {
        let text = String::from_utf8_lossy(&import.stderr).into_owned();
        return Err(format!("whimbrelctl could not import the accounts: {}", text.trim()));
    }
    let (port, tls_port) = (free_port()?, free_port()?);
    let (driver, workers) =
        match args.whimbrel.as_deref().map(|text| text.split_once(':').unwrap_or((text, "0"))) {
            Some((driver, workers)) => (driver.to_owned(), workers.to_owned()),
            None => ("auto".into(), "0".into()),
        };
    let name = match hint {
        Hint::None => {
            format!("Whimbrel ({driver}, workers {})", if workers == "0" { "one a core" } else { &workers })
        }
        Hint::Forget => "Whimbrel, messages not kept".into(),
        Hint::Keep => format!("Whimbrel, durability = \"{durability}\""),
    };
    let config = folder.join("whimbrel.toml");
    let text = if durability.is_empty() { String::new() } else { format!("durability = \"{durability}\"\n") };
    std::fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let command = move || {
        let mut command = Command::new(&whimbreld);
        command
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data)
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--listen-tls",
                &format!("127.0.0.1:{tls_port}"),
            ])
            .args(["--allow-plaintext", "--driver", &driver, "--workers", &workers]);
        command
    };
    Ok(Peer { name, command: Box::new(command), port, ready_file: None, folder: folder.to_owned(), hint })
}

fn program(given: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find {name}: {error}"))?;
    let path = given.map_or_else(|| own.with_file_name(name), Path::to_owned);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: build it, or name it with --{name}", path.display()))
    }
}
