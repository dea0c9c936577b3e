//! A file that comes, to the disk or to the object store: whole or not at all.

use std::io;
use std::sync::Arc;

use whimbrel_objects::Failure;
use whimbrel_storage::directory::Upload;
use whimbrel_storage::uploads::IncomingFile;

use super::transfers::Transfer;
use super::{Core, key_of};

/// Why a file is given up.
pub(super) enum Fault {
    /// There is no thread for it.
    Busy,
    /// The disk has no room.
    NoRoom,
    /// The disk has failed.
    Disk(io::Error),
    /// The object store has not taken it.
    Store(Failure),
}

enum Held {
    /// It is worked on by the threads alone; when it is given up, they remove it.
    Disk(IncomingFile, Arc<Transfer>),
    /// It is worked on by the store's thread alone; when it is given up, that has it forgotten. It has the transfer, too.
    Object(whimbrel_objects::Incoming),
}

/// A file that comes. The transfer of the slot ends when what came of a file that is given up is gone.
pub(super) struct Incoming {
    core: Arc<Core>,
    held: Option<Held>,
    /// Bytes of the disk that uploads leave to others.
    left_free: u64,
}

impl Incoming {
    /// Begins the file of a slot.
    pub(super) async fn begin(
        core: &Arc<Core>,
        slot: &Upload,
        left_free: u64,
        transfer: Arc<Transfer>,
    ) -> Result<Incoming, Fault> {
        let held = match &core.store {
            Some(store) => {
                let begun = store.begin(&key_of(&slot.id), slot.bytes, transfer).await;
                Held::Object(begun.map_err(Fault::Store)?)
            }
            None => begin_file(core, slot, left_free, transfer).await?,
        };
        Ok(Incoming { core: core.clone(), held: Some(held), left_free })
    }

    /// Writes a piece, and gives its emptied buffer back.
    pub(super) async fn write(&mut self, piece: Vec<u8>) -> Result<Vec<u8>, Fault> {
        match self.held.take() {
            None => Err(Fault::Busy),
            Some(Held::Disk(file, transfer)) => self.write_file(file, transfer, piece).await,
            Some(Held::Object(object)) => {
                let store = self.core.store.as_ref().ok_or(Fault::Busy)?;
                let (object, piece) = object.write(store, piece).await.map_err(Fault::Store)?;
                self.held = Some(Held::Object(object));
                Ok(piece)
            }
        }
    }

    /// Looks at the disk each time: others write to it, too.
    async fn write_file(
        &mut self,
        mut file: IncomingFile,
        transfer: Arc<Transfer>,
        mut piece: Vec<u8>,
    ) -> Result<Vec<u8>, Fault> {
        let (files, left_free) = (self.core.files.clone(), self.left_free);
        let written = self.core.threads.run(move || {
            let written = match files.free_bytes() {
                Ok(free) if free < left_free => Err(io::ErrorKind::StorageFull.into()),
                Ok(_) => file.write(&piece),
                Err(error) => Err(error),
            };
            piece.clear();
            (written, Held::Disk(file, transfer), piece)
        });
        let (written, held, piece) = written.await.map_err(|_| Fault::Busy)?;
        self.held = Some(held);
        written.map(|()| piece).map_err(Fault::Disk)
    }

    /// All of it is here. Returns its checksum when it will stay, whatever happens to the machine.
    pub(super) async fn finish(mut self) -> Result<u32, Fault> {
        match self.held.take() {
            None => Err(Fault::Busy),
            Some(Held::Disk(file, transfer)) => {
                let finished = self.core.threads.run(move || (file.finish(), transfer));
                finished.await.map_err(|_| Fault::Busy)?.0.map_err(Fault::Disk)
            }
            Some(Held::Object(object)) => {
                let store = self.core.store.as_ref().ok_or(Fault::Busy)?;
                object.finish(store).await.map_err(Fault::Store)
            }
        }
    }
}

async fn begin_file(
    core: &Arc<Core>,
    slot: &Upload,
    left_free: u64,
    transfer: Arc<Transfer>,
) -> Result<Held, Fault> {
    let (files, id, bytes) = (core.files.clone(), slot.id, slot.bytes);
    let begun = core.threads.run(move || {
        if files.free_bytes()? < bytes.saturating_add(left_free) {
            return Ok(None);
        }
        files.begin(&id).map(|file| Some(Held::Disk(file, transfer)))
    });
    begun.await.map_err(|_| Fault::Busy)?.map_err(Fault::Disk)?.ok_or(Fault::NoRoom)
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.core.threads.drop_there(held);
        }
    }
}
