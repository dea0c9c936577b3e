//! Which uploads and downloads are under way. There are as many with a connection as the share of the connections says; this bounds
//! those of one address, lets one upload of a slot happen at a time, and bounds them all together with those whose clients have gone
//! and whose files are still to be removed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_http::Block;
use whimbrel_storage::directory::UploadId;

/// Those under way; clones are the same.
#[derive(Clone)]
pub(super) struct Transfers(Arc<Mutex<Table>>);

struct Table {
    all: usize,
    all_max: usize,
    of: HashMap<Block, u32>,
    uploads: HashSet<UploadId>,
}

/// Why a transfer cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The address has as many as it may.
    Address,
    /// The slot's file is on its way.
    UnderWay,
    /// There are too many.
    All,
}

/// A transfer, under way until this is dropped.
pub(super) struct Transfer {
    table: Transfers,
    block: Block,
    upload: Option<UploadId>,
}

impl Transfers {
    /// So many at most.
    pub(super) fn new(all_max: usize) -> Transfers {
        let (of, uploads) = (HashMap::new(), HashSet::new());
        Transfers(Arc::new(Mutex::new(Table { all: 0, all_max, of, uploads })))
    }

    /// Whether the file of a slot is on its way, or what came of it is being removed.
    pub(super) fn has(&self, id: &UploadId) -> bool {
        self.table().uploads.contains(id)
    }

    /// Begins one; `upload`: the slot of an upload.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) fn begin(
        &self,
        address: IpAddr,
        upload: Option<UploadId>,
        per_address: u32,
    ) -> Result<Transfer, Refused> {
        let block = Block::of(address);
        let mut table = self.table();
        if table.all == table.all_max {
            return Err(Refused::All);
        }
        if table.of.get(&block).is_some_and(|has| *has >= per_address) {
            return Err(Refused::Address);
        }
        if upload.is_some_and(|id| !table.uploads.insert(id)) {
            return Err(Refused::UnderWay);
        }
        *table.of.entry(block).or_insert(0) += 1;
        table.all += 1;
        drop(table);
        Ok(Transfer { table: self.clone(), block, upload })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut table = self.table.table();
        table.all -= 1;
        if let Entry::Occupied(mut has) = table.of.entry(self.block) {
            *has.get_mut() -= 1;
            if *has.get() == 0 {
                has.remove();
            }
        }
        if let Some(id) = &self.upload {
            table.uploads.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_a_slot_one() {
        let transfers = Transfers::new(3);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let id = UploadId::new(1, [0; 16]);
        let first = transfers.begin(one, Some(id), 2).ok().unwrap();
        assert_eq!(transfers.begin(other, Some(id), 2).err(), Some(Refused::UnderWay));
        let second = transfers.begin(one, None, 2).ok().unwrap();
        assert_eq!(transfers.begin(one, None, 2).err(), Some(Refused::Address));
        let third = transfers.begin(other, None, 2).ok().unwrap();
        assert_eq!(transfers.begin(other, None, 2).err(), Some(Refused::All));
        assert!(transfers.has(&id));
        drop((first, third));
        assert!(!transfers.has(&id));
        assert!(transfers.begin(one, Some(id), 2).is_ok());
        drop(second);
        assert!(transfers.table().of.is_empty() && transfers.table().uploads.is_empty());
    }
}
