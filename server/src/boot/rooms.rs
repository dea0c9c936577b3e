//! Rooms that were to be gone with their last occupant, whom a crash has taken first.

use std::collections::HashSet;

use whimbrel_storage::directory::rooms::{Room, RoomFlags};
use whimbrel_storage::directory::{Directory, DirectoryError, run_inline};

use crate::config::Config;
use crate::service::pubsub::groups;

/// Rooms that are looked at in one transaction.
const PAGE: usize = 256;

/// Members from whose bookmarks a room goes in one transaction.
const BOOKMARKS_AT_ONCE: usize = 1024;

/// Destroys the temporary rooms of the run before: nobody is in a room when the server starts, but for those who sit in the
/// `occupied` ones with sessions that were kept. These end with the last who leaves.
///
/// # Errors
/// The directory cannot be read or written.
pub(crate) fn forget_temporary(
    directory: &Directory,
    config: &Config,
    occupied: &HashSet<Box<str>>,
) -> Result<u64, DirectoryError> {
    let (mut after, mut gone) = (None::<String>, 0);
    loop {
        let page = directory.rooms(|rooms| rooms.page(after.as_deref(), PAGE))?;
        let Some(last) = page.last() else { return Ok(gone) };
        after = Some(last.name.to_string());
        let is_over =
            |room: &Room| !room.config.flags.has(RoomFlags::PERSISTENT) && !occupied.contains(&*room.name);
        let temporary: Vec<_> = page.into_iter().filter(is_over).collect();
        if temporary.is_empty() {
            continue;
        }
        gone += temporary.len() as u64;
        for room in &temporary {
            forget_bookmarks(directory, config, room)?;
        }
        run_inline(
            directory,
            Box::new(move |transaction| temporary.iter().try_for_each(|room| transaction.destroy_room(room))),
        )?;
    }
}

/// Takes a room out of the bookmarks in which the server keeps it: clients would make another of its name.
fn forget_bookmarks(directory: &Directory, config: &Config, room: &Room) -> Result<(), DirectoryError> {
    if !groups::keeps(&config.rooms, &room.config) {
        return Ok(());
    }
    let jid = format!("{}@{}", room.name, config.rooms.domain_of(&config.domain));
    let mut holders = groups::holders(directory, room, &config.domain)?;
    while !holders.is_empty() {
        let some = holders.split_off(holders.len().saturating_sub(BOOKMARKS_AT_ONCE));
        let jid = jid.clone();
        // No client is there yet that would have to be told.
        run_inline(directory, Box::new(move |transaction| groups::forget(transaction, &jid, &some)))?;
    }
    Ok(())
}
