//! Whimbrel as a peer.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::account::Accounts;
use crate::cli::PeersArgs;
use crate::engine::target::Hint;
use crate::peers::{Peer, free_port};

/// One way to run whimbreld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    driver: String,
    /// 0: as many as it chooses.
    workers: u32,
    durability: Option<&'static str>,
    tls: bool,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let mut words = text.split(':');
        let driver = words.next().unwrap_or_default();
        if !["auto", "mio", "uring"].contains(&driver) {
            return Err(format!("`{driver}` is no driver: auto, mio or uring"));
        }
        let mut variant = Variant { driver: driver.into(), workers: 0, durability: None, tls: false };
        for word in words {
            match word {
                "disk" => variant.durability = Some("disk"),
                "process" => variant.durability = Some("process"),
                "tls" => variant.tls = true,
                number => {
                    let wrong =
                        |_| format!("`{number}` is no number of workers, no durability and not `tls`");
                    variant.workers = number.parse().map_err(wrong)?;
                }
            }
        }
        Ok(variant)
    }
}

impl Display for Variant {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Variant { driver, workers, durability, tls } = self;
        match workers {
            0 => write!(f, "Whimbrel {driver}")?,
            n => write!(f, "Whimbrel {driver}, {n} worker{}", if *n == 1 { "" } else { "s" })?,
        }
        if let Some(durability) = durability {
            write!(f, ", {durability}")?;
        }
        if *tls { write!(f, ", TLS") } else { Ok(()) }
    }
}

/// What is compared with itself, by the first of the ways to run.
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
    kept: Kept,
    folder: &Path,
    accounts: u64,
) -> Result<Peer, String> {
    let (durability, name, hint) = match kept {
        Kept::Not => ("process", "Whimbrel, messages not kept", Hint::Forget),
        Kept::InProcess => ("process", "Whimbrel, durability = \"process\"", Hint::Keep),
        Kept::OnDisk => ("disk", "Whimbrel, durability = \"disk\"", Hint::Keep),
    };
    let first = args.whimbrel.first().ok_or("there is no way to run whimbreld")?;
    let variant = Variant { durability: Some(durability), ..first.clone() };
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
        .args(["user", "import"])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_named_as_it_is_asked_for() {
        for (text, name) in [
            ("auto", "Whimbrel auto"),
            ("mio:1", "Whimbrel mio, 1 worker"),
            ("uring:2:process", "Whimbrel uring, 2 workers, process"),
            ("mio:disk:tls", "Whimbrel mio, disk, TLS"),
        ] {
            assert_eq!(text.parse::<Variant>().map(|variant| variant.to_string()), Ok(name.to_owned()));
        }
        for wrong in ["", "epoll", "mio:many", "mio:1:ssl"] {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }
}
