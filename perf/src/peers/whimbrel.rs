//! Whimbrel as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Accounts;
use crate::cli::PeersArgs;
use crate::peers::{Peer, free_port};

/// Imports the accounts.
///
/// # Errors
/// The programs are not there, or the import fails.
pub(super) fn prepare(args: &PeersArgs, folder: &Path, accounts: u64) -> Result<Peer, String> {
    let whimbreld = program(args.whimbreld.as_deref(), "whimbreld")?;
    let whimbrelctl = program(args.whimbrelctl.as_deref(), "whimbrelctl")?;
    let data = folder.join("data");
    let file = folder.join("accounts");
    let mut lines = Vec::new();
    Accounts::new("whimbrel", "localhost")
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
    let name =
        format!("Whimbrel ({driver}, workers {})", if workers == "0" { "one a core" } else { &workers });
    let command = move || {
        let mut command = Command::new(&whimbreld);
        command
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
    Ok(Peer { name, command: Box::new(command), port, ready_file: None, folder: folder.to_owned() })
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
