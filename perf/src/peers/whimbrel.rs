//! Whimbrel as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Accounts;
use crate::cli::ArchiveSwitch;
use crate::engine::target::Hint;
use crate::peers::running::free_port;
use crate::peers::{Eventing, Facts, Peer, Rooms, Setup, archive_fact};
use crate::variant::Variant;

/// The key that switches the archive on and off.
const ARCHIVE_KEY: (&str, &str) = ("archive", "enabled");

/// Rooms without limits of messages, as the others have them.
const ROOMS: &str = "[rooms]\noccupant_messages_per_second = 1000000\nroom_messages_per_second = 1000000\n\
    created_per_hour = 1000000\nper_account = 100000\n[limits]\ndirected_presence = 10000\n";

/// HTTP without limits of handshakes, as the others have them.
const HTTP: &str = "[http]\nrequests_per_minute = 100000000\nconnections_per_address = 1000000\n\
    websocket_handshakes = 4096\n";

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
pub(super) fn prepare(setup: &Setup<'_>) -> Result<Peer, String> {
    with(setup, setup.variant, setup.variant.to_string(), Hint::None)
}

/// As [`prepare`], with stream management, and messages that say whether they are to be kept.
pub(super) fn prepare_kept(setup: &Setup<'_>, kept: Kept) -> Result<Peer, String> {
    let (durability, name, hint) = match kept {
        Kept::Not => ("process", "Whimbrel, messages not kept", Hint::Forget),
        Kept::InProcess => ("process", "Whimbrel, durability = \"process\"", Hint::Keep),
        Kept::OnDisk => ("disk", "Whimbrel, durability = \"disk\"", Hint::Keep),
    };
    let variant = Variant { durability: Some(durability), ..setup.variant.clone() };
    with(setup, &variant, name.into(), hint)
}

fn with(setup: &Setup<'_>, variant: &Variant, name: String, hint: Hint) -> Result<Peer, String> {
    let folder = setup.folder;
    let whimbreld = program(setup.programs.whimbreld.as_deref(), "whimbreld")?;
    let whimbrelctl = program(setup.programs.whimbrelctl.as_deref(), "whimbrelctl")?;
    let data = folder.join("data");
    import(&whimbrelctl, &data, setup)?;
    let (plain_port, tls_port) = (free_port()?, free_port()?);
    let (port, listen_http) = if setup.is_web() {
        let port = free_port()?;
        (port, format!("127.0.0.1:{port}"))
    } else {
        (if variant.tls { tls_port } else { plain_port }, "none".to_owned())
    };
    let config = folder.join("whimbrel.toml");
    let text = configuration(&whimbreld, setup, variant)?;
    let (driver, workers, tls) = (variant.driver.clone(), variant.workers.to_string(), variant.tls);
    std::fs::write(&config, &text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let facts = facts(&whimbreld, variant, &text);
    let command = move || {
        let mut command = Command::new(&whimbreld);
        command
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data)
            .args([
                "--listen",
                &format!("127.0.0.1:{plain_port}"),
                "--listen-tls",
                &format!("127.0.0.1:{tls_port}"),
                "--listen-http",
                &listen_http,
            ])
            .args(["--allow-plaintext", "--driver", &driver, "--workers", &workers]);
        command
    };
    Ok(Peer {
        name,
        command: Box::new(command),
        port,
        tls,
        ready_file: None,
        transport: setup.transport,
        folder: folder.to_owned(),
        database: None,
        hint,
        facts,
        broker: None,
    })
}

/// Makes the accounts.
fn import(whimbrelctl: &Path, data: &Path, setup: &Setup<'_>) -> Result<(), String> {
    let file = setup.folder.join("accounts");
    let mut lines = Vec::new();
    Accounts::new("whimbrel", "localhost", false)
        .write_import(0, setup.accounts, &mut lines)
        .and_then(|()| std::fs::write(&file, lines))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let import = Command::new(whimbrelctl)
        .arg("--data")
        .arg(data)
        .args(["user", "import", "--create"])
        .arg(&file)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", whimbrelctl.display()))?;
    if !import.status.success() {
        let text = String::from_utf8_lossy(&import.stderr).into_owned();
        return Err(format!("whimbrelctl could not import the accounts: {}", text.trim()));
    }
    Ok(())
}

/// What is not as it comes.
fn configuration(whimbreld: &Path, setup: &Setup<'_>, variant: &Variant) -> Result<String, String> {
    let durability = variant.durability.map(|durability| format!("durability = \"{durability}\"\n"));
    let mut text = durability.unwrap_or_default();
    if let Some(switch) = setup.archive {
        text += &archive(whimbreld, setup.folder, switch)?;
    }
    if setup.rooms == Rooms::Unlimited {
        text += ROOMS;
    }
    if setup.eventing != Eventing::Off {
        text += "[pubsub]\ncreate = \"everyone\"\nmembers_max = 10000\n";
    }
    if setup.is_web() {
        text += HTTP;
        // As it comes it speaks TLS.
        text += if variant.tls { "" } else { "tls = false\n" };
    }
    Ok(text)
}

/// The lines that switch the archive; none where this whimbreld has no such key.
fn archive(whimbreld: &Path, folder: &Path, switch: ArchiveSwitch) -> Result<String, String> {
    let (table, key) = ARCHIVE_KEY;
    let text = format!("[{table}]\n{key} = {}\n", switch == ArchiveSwitch::On);
    let file = folder.join("archive.toml");
    std::fs::write(&file, &text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    // Whatever else it finds wrong, it says so when it does not know a key.
    let asked = Command::new(whimbreld)
        .arg("--data")
        .arg(folder.join("unused"))
        .arg("--config")
        .arg(&file)
        .arg("--check")
        .output()
        .map_err(|error| format!("cannot start {}: {error}", whimbreld.display()))?;
    let told = String::from_utf8_lossy(&asked.stderr).into_owned() + &String::from_utf8_lossy(&asked.stdout);
    let unknown = [table.to_owned(), format!("{table}.{key}")]
        .iter()
        .any(|key| told.contains(&format!("unknown key `{key}`")));
    Ok(if unknown { String::new() } else { text })
}

/// What reports say of it.
fn facts(whimbreld: &Path, variant: &Variant, config: &str) -> Facts {
    let mut facts = Facts::new();
    if let Ok(output) = Command::new(whimbreld).arg("--version").output() {
        facts.insert("version".into(), String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    // Where it was built; a program that was installed lies in no repository.
    let folder = whimbreld.parent().unwrap_or(Path::new("."));
    let commit = Command::new("git").arg("-C").arg(folder).args(["describe", "--always", "--dirty"]).output();
    if let Ok(output) = commit
        && output.status.success()
    {
        facts.insert("commit".into(), String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    facts.insert("driver".into(), variant.driver.clone());
    facts.insert(
        "workers".into(),
        if variant.workers == 0 { "one a core".into() } else { variant.workers.to_string() },
    );
    facts.insert("durability".into(), variant.durability.unwrap_or("as it comes").into());
    facts.insert("TLS".into(), if variant.tls { "direct" } else { "none" }.into());
    let (table, _) = ARCHIVE_KEY;
    let archive = if config.contains(&format!("[{table}]")) { config.contains("= true") } else { false };
    facts.insert("archive".into(), archive_fact(archive));
    facts
}

pub(crate) fn program(given: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find {name}: {error}"))?;
    let path = given.map_or_else(|| own.with_file_name(name), Path::to_owned);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: build it, or name it with --{name}", path.display()))
    }
}
