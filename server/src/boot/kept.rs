//! Sessions that the server before has left, looked at before anything is made of them: what cannot be used is dropped, and the
//! server starts without.

use std::collections::HashSet;
use std::path::Path;

use whimbrel_storage::directory::{Directory, DirectoryError};

use crate::occupancy::saved::Occupancy;
use crate::takeover::kept::Kept;
use crate::upgrade::KINDS;
use crate::upgrade::rehearse;

/// The names of rooms in which somebody sits.
pub(super) type Occupied = HashSet<Box<str>>;

/// Takes what lies in the data directory, and tells in which rooms somebody sits who has come along.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn take(data: &Path, directory: &Directory) -> Result<Option<(Kept, Occupied)>, DirectoryError> {
    let taken = Kept::take(data, KINDS).map_err(|error| error.to_string()).and_then(|kept| {
        // Once they are given to the workers there is no way back.
        let read = kept.as_ref().map_or(Ok(()), |kept| rehearse::read_state(&kept.state, KINDS).map(drop));
        read.map_err(|error| error.to_string()).map(|()| kept)
    });
    match taken {
        Ok(None) => Ok(None),
        Ok(Some(kept)) => {
            let occupied = occupied(&kept, directory)?;
            Ok(Some((kept, occupied)))
        }
        Err(text) => {
            tracing::warn!(
                "sessions of before the stop cannot be resumed, and their clients log in anew: {text}"
            );
            Ok(None)
        }
    }
}

/// Rooms with an occupant whose account is still there.
fn occupied(kept: &Kept, directory: &Directory) -> Result<Occupied, DirectoryError> {
    let (mut occupied, mut failed) = (Occupied::default(), None);
    let read = kept.state.each::<Occupancy>(|_, record| {
        if !occupied.contains(record.room) {
            match directory.account_id(record.local) {
                Ok(account) if account.is_some_and(|account| account.raw() == record.account) => {
                    occupied.insert(record.room.into());
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        Ok(())
    });
    debug_assert!(read.is_ok(), "all of it was read before");
    failed.map_or(Ok(occupied), Err)
}
