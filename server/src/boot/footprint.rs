//! What a start leaves on disk: nothing, when it fails.
//!
//! What can be known is asked before anything is made ([`preflight`]): the user, the addresses, the certificate, the files
//! in the data directory. Anything that fails later takes away again what this start has made ([`Footprint`]), and nothing else:
//! a directory that had accounts before, or one that another server got first, stays as it is.

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};
use whimbrel_storage::data;
use whimbrel_storage::directory::Directory;

use crate::config::Config;
use crate::registration::gateway::DEAD_LETTERS;
use crate::running::BootError;
use crate::running::socket::SOCKET_NAME;
use crate::runtime::platform;
use crate::tls::certificate;

/// What a data directory may have in it before there is a directory of accounts: leavings of this server, and the recording of
/// `wsar`.
const OWN: [&str; 7] =
    [data::DIRECTORY, data::LOG, "tls", "wsar", SOCKET_NAME, whimbrel_stats::FILE_NAME, DEAD_LETTERS];

/// Files named in a message at most.
const NAMED_MAX: usize = 3;

/// Asks what a start needs of the system, and makes nothing.
///
/// # Errors
/// The first thing that would keep the server from starting.
pub(super) fn preflight(config: &Config) -> Result<(), BootError> {
    check_user(config)?;
    for (key, addresses) in config.addresses() {
        if key == "http.listen" && config.http.is_by_default() {
            continue;
        }
        addresses.iter().try_for_each(|&address| check_address(key, address))?;
    }
    refuse_foreign_files(&config.data)?;
    certificate::facts(&config.tls_settings()).map_err(|error| BootError::Tls(error.into()))?;
    Ok(())
}

/// Whether the process can become the configured user.
///
/// # Errors
/// Why not.
pub fn check_user(config: &Config) -> Result<(), BootError> {
    if config.user.is_empty() {
        return Ok(());
    }
    let group = Some(&*config.group).filter(|group| !group.is_empty());
    platform::can_drop_privileges(&config.user, group)
        .map_err(|source| BootError::System { what: "cannot drop privileges", source })
}

/// Whether an address can be bound. Nobody can connect to it meanwhile.
///
/// # Errors
/// Why it cannot.
pub fn check_address(key: &'static str, address: SocketAddr) -> Result<(), BootError> {
    let bound = || -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // As the listeners do: connections of an earlier run that linger are no obstacle, another listener is.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    bound().map_err(|source| BootError::Listen { address, key, source })
}

/// Refuses a folder that is no data directory yet and has other files in it: a slip in the configuration must not strew
/// the server's files into somebody's home. Hidden files and `lost+found`, which a new file system has, are no obstacle.
///
/// # Errors
/// Which files are there; the folder cannot be read.
pub fn refuse_foreign_files(data: &Path) -> Result<(), BootError> {
    if has_accounts(data) {
        return Ok(());
    }
    let failed = |source| BootError::Data { path: data.to_owned(), source };
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut foreign = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let own = OWN.contains(&&*name)
            || name.starts_with("log.discarded-")
            || ["unfinished-backup", "backup-manifest"].contains(&&*name);
        if !own && !name.starts_with('.') && name != "lost+found" {
            foreign.push(name);
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    foreign.sort();
    let more = if foreign.len() > NAMED_MAX { ", …" } else { "" };
    foreign.truncate(NAMED_MAX);
    Err(BootError::ForeignFiles { path: data.to_owned(), names: foreign.join(", ") + more })
}

/// Whether there is a directory of accounts. One of no length is what an interrupted first start leaves.
fn has_accounts(data: &Path) -> bool {
    std::fs::metadata(data.join(data::DIRECTORY).join("data.mdb")).is_ok_and(|found| found.len() > 0)
}

/// What was there before a start.
pub(super) struct Footprint {
    data: PathBuf,
    /// Folders down to the data directory that were not there, the innermost first.
    folders: Vec<PathBuf>,
    /// What was in the data directory; `None` when it had accounts, so that nothing of it is to go.
    names: Option<HashSet<OsString>>,
    /// Its directory, once this start has it: while its lock is held, no other server is in there.
    held: Option<Directory>,
}

impl Footprint {
    /// Before a start.
    pub(super) fn before(data: &Path) -> Footprint {
        let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let folders = whole.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        let names = (!has_accounts(data)).then(|| {
            let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        });
        Footprint { data: whole, folders, names, held: None }
    }

    /// This start has the directory.
    pub(super) fn holds(&mut self, directory: &Directory) {
        self.held = Some(directory.clone());
    }

    /// The start has failed: takes away what it has made. Anything that cannot be removed stays; the reason of the failure says more.
    pub(super) fn remove(self) {
        if let (Some(names), Some(_held)) = (&self.names, &self.held) {
            let entries = std::fs::read_dir(&self.data).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| !names.contains(&entry.file_name())) {
                let path = entry.path();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let _ = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
        }
        // Only where they are empty.
        for folder in &self.folders {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_is_no_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let table = [(".profile", true), ("tls", true), ("lost+found", true), ("thesis.tex", false)];
        for (name, is_good) in table {
            std::fs::write(data.join(name), "x").unwrap();
            assert_eq!(refuse_foreign_files(data).is_ok(), is_good, "{name}");
        }
        let text = refuse_foreign_files(data).unwrap_err().to_string();
        assert!(text.contains("thesis.tex") && !text.contains("profile"), "{text}");
        // A server that has served from here may keep notes beside the accounts.
        std::fs::create_dir(data.join(data::DIRECTORY)).unwrap();
        std::fs::write(data.join(data::DIRECTORY).join("data.mdb"), "x").unwrap();
        refuse_foreign_files(data).unwrap();
    }

    #[test]
    fn only_what_was_made_goes() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let footprint = Footprint::before(&data);
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("made"), "x").unwrap();
        // Without the directory's lock it may be another server's.
        footprint.remove();
        assert!(data.join("made").exists());
        let footprint = Footprint::before(&data);
        footprint.remove();
        assert!(data.join("made").exists());
    }
}
