//! What the program knows of itself: what it needs to become another one, and to be there again if that fails.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::runtime::platform::Program;

/// The option by which a program is told to restore itself from a descriptor.
pub const RESTORE_OPTION: &str = "--upgrade-restore";

/// The option by which a child is told to read a state from a descriptor.
pub const REHEARSE_OPTION: &str = "--upgrade-rehearse";

/// The option by which a child is told to say what it can.
pub const PROBE_OPTION: &str = "--upgrade-probe";

/// How upgrades have gone since the process was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Upgrades that took place.
    pub done: u64,
    /// Upgrades that a restore gave up, so that the old program went on.
    pub fallen_back: u64,
}

/// How this process came to be.
#[derive(Debug)]
pub struct Launch {
    /// Where the program lies, as far as that is known: it may have been replaced since.
    pub path: PathBuf,
    /// The program's own file, whatever lies at its path by now.
    pub image: File,
    /// The command line, without what belongs to an upgrade. The first is the program's name.
    pub arguments: Vec<OsString>,
    /// Upgrades so far.
    pub tally: Tally,
}

/// What Linux adds to the name of a file that is gone.
const DELETED: &[u8] = b" (deleted)";

impl Launch {
    /// Of this process; to be called at its start, before anybody replaces the file.
    ///
    /// # Errors
    /// The system does not tell, or the file cannot be opened.
    pub fn of_this_process() -> io::Result<Launch> {
        let path = std::env::current_exe()?;
        // On Linux this is the very file that runs, whatever lies at its path.
        let itself = Path::new("/proc/self/exe");
        let image = File::open(itself).or_else(|_| File::open(&path))?;
        let text = path.as_os_str().as_bytes();
        let path = match text.strip_suffix(DELETED) {
            Some(before) => PathBuf::from(OsString::from_vec(before.to_vec())),
            None => path,
        };
        Ok(Launch { path, image, arguments: without_upgrade(std::env::args_os()), tally: Tally::default() })
    }

    /// The command line with which a program restores itself from a descriptor.
    #[must_use]
    pub fn restoring(&self, memory: RawFd) -> Vec<OsString> {
        let mut arguments = self.arguments.clone();
        arguments.push(format!("{RESTORE_OPTION}={memory}").into());
        arguments
    }

    /// Another program with this one's command line, to take over from a descriptor.
    ///
    /// # Errors
    /// A text with a NUL in it.
    pub fn successor(&self, path: &Path, memory: RawFd) -> io::Result<Program> {
        let arguments = self.restoring(memory);
        Program::at(path.as_os_str(), arguments.iter().map(OsString::as_os_str))
    }

    /// The program of an open file with this one's command line, to take over from a descriptor.
    ///
    /// # Errors
    /// A text with a NUL in it.
    pub fn predecessor(&self, image: File, memory: RawFd) -> io::Result<Program> {
        let arguments = self.restoring(memory);
        Program::of_file(image, arguments.iter().map(OsString::as_os_str))
    }
}

/// A command line without what belongs to an upgrade.
fn without_upgrade(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let belongs = |argument: &OsString| argument.as_bytes().starts_with(b"--upgrade-");
    arguments.filter(|argument| !belongs(argument)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_does_not_grow_from_upgrade_to_upgrade() {
        let line = ["whimbreld", "--data", "x", "--upgrade-restore=7"].map(OsString::from);
        assert_eq!(without_upgrade(line.into_iter()), ["whimbreld", "--data", "x"].map(OsString::from));
    }

    #[test]
    fn the_own_file_is_found() {
        let launch = Launch::of_this_process().unwrap();
        assert!(launch.image.metadata().unwrap().len() > 0);
        assert!(launch.path.is_absolute());
        let arguments = launch.restoring(9);
        assert_eq!(arguments.last().unwrap(), "--upgrade-restore=9");
    }
}
