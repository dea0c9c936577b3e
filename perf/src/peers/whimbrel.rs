//! Whimbrel as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Accounts;
use crate::cli::PeersArgs;
use crate::engine::target::Hint;
use crate::peers::{Peer, free_port};
use crate::variant::Variant;

/// What becomes of messages, where whimbreld is compared with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Messages are not kept.
    Not,
    /// They survive the process.
    InProcess,
    /// They survive a power cut.
    OnDisk,
}

/// Imports the accounts.
///
/// # Errors
/// The programs are not there, or the import fails.
pub(super) fn prepare(
    args: &PeersArgs,
    variant: &Variant,
    folder: &Path,
    accounts: u64,
) -> Result<Peer, String> {
    with(args, variant, variant.to_string(), folder, accounts, Hint::None)
}

/// As [`prepare`], with stream management, and messages that say whether they are to be kept.
pub(super) fn prepare_kept(
    args: &PeersArgs,
    variant: &Variant,
    kept: Kept,
    folder: &Path,
    accounts: u64,
) -> Result<Peer, String> {
    let (durability, name, hint) = match kept {
        Kept::Not => ("process", "Whimbrel, messages not kept", Hint::Forget),
        Kept::InProcess => ("process", "Whimbrel, durability = \"process\"", Hint::Keep),
        Kept::OnDisk => ("disk", "Whimbrel, durability = \"disk\"", Hint::Keep),
    };
    let variant = Variant { durability: Some(durability), ..variant.clone() };
    with(args, &variant, name.into(), folder, accounts, hint)
}

fn with(
    args: &PeersArgs,
    variant: &Variant,
    name: String,
    folder: &Path,
    accounts: u64,
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
        .args(["user", "import", "--create"])
        .arg(&file)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", whimbrelctl.display()))?;
    if !import.status.success() {
        let text = String::from_utf8_lossy(&import.stderr).into_owned();
        return Err(format!("whimbrelctl could not import the accounts: {}", text.trim()));
    }
    let (port, tls_port) = (free_port()?, free_port()?);
    let config = folder.join("whimbrel.toml");
    let durability = variant.durability.map(|durability| format!("durability = \"{durability}\"\n"));
    let text = durability.unwrap_or_default();
    let (driver, workers, tls) = (variant.driver.clone(), variant.workers.to_string(), variant.tls);
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
    Ok(Peer {
        name,
        command: Box::new(command),
        port: if tls { tls_port } else { port },
        tls,
        ready_file: None,
        folder: folder.to_owned(),
        hint,
    })
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
