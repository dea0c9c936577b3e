//! Whose messages a folder of logs holds, and those that are nobody's.

use std::path::{Path, PathBuf};

use super::{Log, LogError, Owner, Position};
use crate::actor::ActorId;
use crate::journal::Reader;
use crate::journal::format::layout::{Layout, Lock};
use crate::journal::format::segment::base_of;
use crate::journal::live::files::{Files, System};

/// What was dropped by [`Log::drop_orphans`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Orphans {
    /// Actors that are not there.
    pub actors: u64,
    /// Messages that waited for them.
    pub messages: u64,
}

impl<S: Reader> Log<S> {
    /// Drops what waits for actors that are not there. Nobody can be given it, and nobody must be: an account that is
    /// made later is somebody else's. Anything that a crash has left for [`ActorId::NOBODY`] is dropped without being counted.
    pub fn drop_orphans(&mut self, is_there: &dyn Fn(ActorId) -> bool) -> Orphans {
        let mut orphans = Orphans::default();
        let gone: Vec<ActorId> = self.actors().filter(|actor| !is_there(*actor)).collect();
        for actor in gone {
            let messages = self.purge(actor).messages;
            if actor != ActorId::NOBODY {
                orphans.actors += 1;
                orphans.messages += messages;
            }
        }
        orphans
    }
}

/// Whether there are logs in a folder (`None`: there are not), and whose they are.
///
/// # Errors
/// The folder cannot be read; its layout is damaged, or missing while there are logs.
pub fn owner(folder: &Path) -> Result<Option<Option<Owner>>, LogError> {
    Ok(Layout::read(&System, folder)?.map(|layout| layout.owner))
}

/// How many logs of a folder are written to (`None`: there are none). Opened with another number, what waits in them moves.
///
/// # Errors
/// As [`owner`].
pub fn shards(folder: &Path) -> Result<Option<usize>, LogError> {
    Ok(Layout::read(&System, folder)?.map(|layout| layout.log_ids.len()))
}

/// Where the journals of a folder lie, by their ids.
///
/// # Errors
/// There are no logs, or the layout cannot be read.
pub fn journal_folders(folder: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    Ok(Layout::read(&System, folder)?.ok_or_else(missing)?.journals(folder))
}

/// The ids of the journals of a folder that nobody writes to any more.
///
/// # Errors
/// As [`journal_folders`].
pub fn sealed_journals(folder: &Path) -> Result<Vec<u64>, LogError> {
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    let layout = Layout::read(&System, folder)?.ok_or_else(missing)?;
    Ok(layout.sealed.iter().map(|log| log.log_id).collect())
}

/// As [`journal_folders`], those first that were written to first: all messages of an actor in one of them are older than
/// those in the next.
///
/// # Errors
/// As [`journal_folders`].
pub fn journals_by_age(folder: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    let layout = Layout::read(&System, folder)?.ok_or_else(missing)?;
    let mut journals = layout.journals(folder);
    journals.rotate_left(layout.log_ids.len());
    Ok(journals)
}

/// Deletes segments of sealed logs that are not needed, and logs that have none left, but for the gathered one. The folder must be open in this
/// process, and nobody else may write its layout meanwhile. Returns the ids of the logs that are gone.
///
/// # Errors
/// There are no logs, or something cannot be read or deleted; what was deleted is gone then.
pub fn retire_sealed(folder: &Path, is_needed: &dyn Fn(u64, Position) -> bool) -> Result<Vec<u64>, LogError> {
    retire_sealed_in(&System, folder, is_needed)
}

/// [`retire_sealed`] with the file system given.
pub(crate) fn retire_sealed_in(
    files: &dyn Files,
    folder: &Path,
    is_needed: &dyn Fn(u64, Position) -> bool,
) -> Result<Vec<u64>, LogError> {
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    let mut layout = Layout::read(files, folder)?.ok_or_else(missing)?;
    let mut gone = Vec::new();
    for log in &layout.sealed {
        let at = log.folder(folder);
        let mut is_empty = true;
        for name in files.list(&at).map_err(|error| LogError::io("read", &at, error))? {
            let Some(base) = base_of(&name) else { continue };
            if is_needed(log.log_id, Position(base)) {
                is_empty = false;
                continue;
            }
            let path = at.join(&name);
            files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        if is_empty && !log.is_gathered() {
            gone.push(log.log_id);
        }
    }
    if !gone.is_empty() {
        layout.sealed.retain(|log| !gone.contains(&log.log_id));
        layout.write(files, folder)?;
        layout.remove_others(files, folder)?;
    }
    Ok(gone)
}

/// Notes whose messages the logs in a folder are. They must be open in this process, or nobody else's.
///
/// # Errors
/// There are no logs, or they cannot be written.
pub fn belong_to(folder: &Path, owner: Owner) -> Result<(), LogError> {
    let layout = Layout::read(&System, folder)?;
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    layout.ok_or_else(missing)?.belong_to(&System, folder, owner)
}

/// Moves the logs in a folder out of the way, to a folder beside it with a name of its own, which is returned. What
/// waits in them is not delivered any more.
///
/// # Errors
/// Another process has them open; the folder cannot be moved.
pub fn discard(folder: &Path) -> Result<PathBuf, LogError> {
    let _lock = Lock::take(folder)?;
    let mut number = 1;
    let aside = loop {
        let aside = folder.with_file_name(format!("log.discarded-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    System.rename(folder, &aside).map_err(|error| LogError::io("move", folder, error))?;
    Ok(aside)
}
