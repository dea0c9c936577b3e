//! Files that accounts have uploaded (XEP-0363), and the slots that wait for one: whose they are, and what has to be said of them.
//! The files themselves lie beside the directory.
//!
//! ```text
//! slot ─▶ file ─▶ erasure: its bytes are on the disk still ─▶ nothing
//!   └──────────────▲  a slot that nobody has used may have left something, too
//! ```
//! How they lie in the map is in docs/directory-format.md.

mod row;

use crate::actor::ActorId;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::{Directory, WriteTransaction};

use row::{DAY_MS, ID_BYTES};
pub use row::{NoUploadId, UPLOAD_NAME_BYTES_MAX, UPLOAD_RANDOM_BYTES, Upload, UploadId, UploadUsage};

/// Uploads of an account among which its slots are looked for at once.
const SLOTS_PAGE: usize = 256;

/// What may be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes of one account's files, those of its slots included.
    pub account_bytes: u64,
    /// Files of one account, slots included.
    pub account_files: u64,
    /// Bytes that slots of one account may be for in a day.
    pub day_bytes: u64,
    /// Slots of one account in a day.
    pub day_files: u64,
    /// Slots of one account that wait for their files.
    pub account_slots: u64,
    /// Bytes of all files, those of slots included.
    pub all_bytes: u64,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRefused {
    /// Too many wait. The oldest may be begun with until then; a transfer that has begun may take its time, and holds its slot.
    Slots {
        /// When, milliseconds since 1970.
        until_ms: u64,
    },
    /// The account's files are too many, or too large together; the oldest was uploaded then.
    Account {
        /// When, milliseconds since 1970; `None`: it has none.
        oldest_ms: Option<u64>,
    },
    /// The account has uploaded enough on this day, which ends then.
    Day {
        /// When, milliseconds since 1970.
        ends_ms: u64,
    },
    /// All files together are too large.
    All,
}

/// Whether a row of an account is a slot or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Slot,
    File,
}

impl Stage {
    fn table(self) -> Table {
        match self {
            Stage::Slot => Table::UploadSlots,
            Stage::File => Table::Uploads,
        }
    }
}

/// Key of a row of [`Table::UploadsOfAccounts`].
fn owned_key(actor: ActorId, id: &UploadId) -> [u8; 8 + ID_BYTES] {
    let mut key = [0; 8 + ID_BYTES];
    key[..8].copy_from_slice(&actor.key());
    key[8..].copy_from_slice(&id.0);
    key
}

impl View<'_> {
    fn upload(&self, stage: Stage, id: &UploadId) -> Result<Option<Upload>, DirectoryError> {
        let Some(value) = self.get(stage.table(), &id.0)? else { return Ok(None) };
        Upload::decode(&id.0, value).map(Some).map_err(damaged(stage.table(), &id.0))
    }

    fn upload_usage(&self, actor: ActorId) -> Result<UploadUsage, DirectoryError> {
        let key = actor.key();
        let Some(value) = self.get(Table::UploadUsage, &key)? else { return Ok(UploadUsage::default()) };
        UploadUsage::decode(&key, value).map_err(damaged(Table::UploadUsage, &key))
    }

    /// Ids of an account behind one, at most so many.
    fn upload_ids(
        &self,
        actor: ActorId,
        after: Option<&UploadId>,
        max: usize,
    ) -> Result<Vec<UploadId>, DirectoryError> {
        let mut ids = Vec::new();
        let after = after.map(|after| owned_key(actor, after));
        let rows = self
            .behind_key(Table::UploadsOfAccounts, Some(after.as_ref().map_or(&actor.key()[..], |key| key)))?;
        for row in rows.take(max) {
            let (key, value) = row?;
            if !key.starts_with(&actor.key()) {
                break;
            }
            let read = || {
                Decoder::open(key, value)?.close()?;
                UploadId::of_key(key.get(8..).unwrap_or_default())
            };
            let id = read().map_err(damaged(Table::UploadsOfAccounts, key))?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// Until when the slot of an account that ends first may be used.
    fn first_slot_ends(&self, actor: ActorId, slots: u64) -> Result<Option<u64>, DirectoryError> {
        // No slot is older than the oldest of all accounts, and so many files have come since then at most as in its time.
        let Some(oldest) = self.first_uploads(Stage::Slot, 1, |_| true)?.pop() else { return Ok(None) };
        let (mut behind, mut left, mut first) = (oldest.id.before(), slots, None);
        while left > 0 {
            let ids = self.upload_ids(actor, behind.as_ref(), SLOTS_PAGE)?;
            behind = ids.last().copied();
            for id in &ids {
                if let Some(slot) = self.upload(Stage::Slot, id)? {
                    first = Some(first.unwrap_or(u64::MAX).min(slot.time_ms));
                    left = left.saturating_sub(1);
                }
            }
            if ids.len() < SLOTS_PAGE {
                break;
            }
        }
        Ok(first)
    }

    /// The first rows of a table, as long as `wanted` says so, at most so many.
    fn first_uploads(
        &self,
        stage: Stage,
        max: usize,
        wanted: impl Fn(&Upload) -> bool,
    ) -> Result<Vec<Upload>, DirectoryError> {
        let mut found = Vec::new();
        for row in self.all(stage.table())?.take(max) {
            let (key, value) = row?;
            let upload = Upload::decode(key, value).map_err(damaged(stage.table(), key))?;
            if !wanted(&upload) {
                break;
            }
            found.push(upload);
        }
        Ok(found)
    }
}

impl Directory {
    /// A file; `None`: there is none of this id.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn upload(&self, id: &UploadId) -> Result<Option<Upload>, DirectoryError> {
        self.read(|view| view.upload(Stage::File, id))
    }

    /// A slot that waits for its file.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn upload_slot(&self, id: &UploadId) -> Result<Option<Upload>, DirectoryError> {
        self.read(|view| view.upload(Stage::Slot, id))
    }

    /// Whether there is a file or a slot of this id, at one moment.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn knows_upload(&self, id: &UploadId) -> Result<bool, DirectoryError> {
        self.read(|view| {
            Ok(view.upload(Stage::File, id)?.is_some() || view.upload(Stage::Slot, id)?.is_some())
        })
    }

    /// Files of an account behind an id, the oldest first, out of at most `max` uploads: slots are left out. Also returns the id
    /// to go on behind; `None`: that is all.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn uploads_of(
        &self,
        actor: ActorId,
        after: Option<&UploadId>,
        max: usize,
    ) -> Result<(Vec<Upload>, Option<UploadId>), DirectoryError> {
        self.read(|view| {
            let ids = view.upload_ids(actor, after, max)?;
            let next = ids.last().copied().filter(|_| ids.len() == max);
            let mut files = Vec::new();
            for id in ids {
                files.extend(view.upload(Stage::File, &id)?);
            }
            Ok((files, next))
        })
    }

    /// Files of all accounts behind an id, the oldest first.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn uploads(&self, after: Option<&UploadId>, max: usize) -> Result<Vec<Upload>, DirectoryError> {
        self.read(|view| {
            let mut found = Vec::new();
            let rows = view.behind_key(Table::Uploads, after.map(|after| &after.0[..]))?;
            for row in rows.take(max) {
                let (key, value) = row?;
                found.push(Upload::decode(key, value).map_err(damaged(Table::Uploads, key))?);
            }
            Ok(found)
        })
    }

    /// What an account has uploaded.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn upload_usage(&self, actor: ActorId) -> Result<UploadUsage, DirectoryError> {
        self.read(|view| view.upload_usage(actor))
    }

    /// What all accounts have uploaded, and uploads whose bytes are to be removed.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn upload_totals(&self) -> Result<(UploadUsage, u64), DirectoryError> {
        self.read(|view| Ok((view.upload_usage(ActorId::NOBODY)?, view.len(Table::UploadErasures)?)))
    }

    /// Uploads whose bytes are to be removed, at most so many.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn upload_erasures(&self, max: usize) -> Result<Vec<UploadId>, DirectoryError> {
        self.read(|view| {
            let mut ids = Vec::new();
            for row in view.all(Table::UploadErasures)?.take(max) {
                let (key, value) = row?;
                let read = || Decoder::open(key, value)?.close().and_then(|()| UploadId::of_key(key));
                ids.push(read().map_err(damaged(Table::UploadErasures, key))?);
            }
            Ok(ids)
        })
    }

    /// Whether a slot, or a file, is to end: the first does that ends before the one time, or was given before the other.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn uploads_end(&self, slots_ms: u64, files_ms: u64) -> Result<bool, DirectoryError> {
        self.read(|view| {
            let slots = view.first_uploads(Stage::Slot, 1, |slot| slot.time_ms < slots_ms)?;
            let files = view.first_uploads(Stage::File, 1, |file| file.id.created_ms() < files_ms)?;
            Ok(!slots.is_empty() || !files.is_empty())
        })
    }
}

impl WriteTransaction<'_> {
    /// Gives an account a slot; [`Upload::actor`] is filled in.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`]; the directory is damaged or cannot be written.
    pub fn add_upload_slot(
        &mut self,
        mut slot: Upload,
        limits: &UploadLimits,
        now_ms: u64,
    ) -> Result<Result<(), SlotRefused>, DirectoryError> {
        check_size("an upload's name and type", slot.name.len() + slot.media.len())?;
        slot.actor = self.account(&slot.local)?;
        if let Err(refused) = self.admit_slot(&slot, limits, now_ms)? {
            return Ok(Err(refused));
        }
        self.change_upload_usage(slot.actor, |usage| usage.promise(slot.bytes, now_ms))?;
        self.put(Table::UploadSlots, &slot.id.0, &slot.encode())?;
        let key = owned_key(slot.actor, &slot.id);
        self.put(Table::UploadsOfAccounts, &key, &Encoder::new(0).seal(&key))?;
        Ok(Ok(()))
    }

    fn admit_slot(
        &self,
        slot: &Upload,
        limits: &UploadLimits,
        now_ms: u64,
    ) -> Result<Result<(), SlotRefused>, DirectoryError> {
        let view = self.view();
        let mut usage = view.upload_usage(slot.actor)?;
        usage.enter_day(now_ms);
        if usage.slots >= limits.account_slots {
            let until_ms = view.first_slot_ends(slot.actor, usage.slots)?.unwrap_or(slot.time_ms);
            return Ok(Err(SlotRefused::Slots { until_ms }));
        }
        let day_bytes = usage.day_bytes.saturating_add(slot.bytes);
        if usage.day_files >= limits.day_files || day_bytes > limits.day_bytes {
            return Ok(Err(SlotRefused::Day { ends_ms: (usage.day + 1) * DAY_MS }));
        }
        let of_account = usage.bytes_taken().saturating_add(slot.bytes);
        if usage.files + usage.slots >= limits.account_files || of_account > limits.account_bytes {
            let oldest = view.upload_ids(slot.actor, None, 1)?;
            let oldest_ms = oldest.first().map(UploadId::created_ms);
            return Ok(Err(SlotRefused::Account { oldest_ms }));
        }
        let all = view.upload_usage(ActorId::NOBODY)?.bytes_taken().saturating_add(slot.bytes);
        Ok(if all > limits.all_bytes { Err(SlotRefused::All) } else { Ok(()) })
    }

    /// The file of a slot is on the disk. `false`: there is no such slot any more.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn finish_upload(
        &mut self,
        id: &UploadId,
        checksum: u32,
        now_ms: u64,
    ) -> Result<bool, DirectoryError> {
        let Some(slot) = self.view().upload(Stage::Slot, id)? else {
            if self.view().upload(Stage::File, id)?.is_none() {
                // Its bytes came after those of the slot were removed.
                self.erase_upload(id)?;
            }
            return Ok(false);
        };
        self.change_upload_usage(slot.actor, |usage| {
            usage.leave_slot(slot.bytes);
            usage.files += 1;
            usage.bytes += slot.bytes;
        })?;
        self.delete(Table::UploadSlots, &id.0)?;
        let file = Upload { time_ms: now_ms, checksum, ..slot };
        self.put(Table::Uploads, &id.0, &file.encode())?;
        Ok(true)
    }

    /// Removes a file; its bytes are to follow. Returns what it was.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn remove_upload(&mut self, id: &UploadId) -> Result<Option<Upload>, DirectoryError> {
        let found = self.view().upload(Stage::File, id)?;
        if let Some(file) = &found {
            self.end_upload(Stage::File, file)?;
        }
        Ok(found)
    }

    /// Removes all uploads of an account. Returns how many files there were.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn remove_uploads_of(&mut self, actor: ActorId) -> Result<u64, DirectoryError> {
        let mut files = 0;
        for id in self.view().upload_ids(actor, None, usize::MAX)? {
            for stage in [Stage::File, Stage::Slot] {
                if let Some(upload) = self.view().upload(stage, &id)? {
                    self.end_upload(stage, &upload)?;
                    files += u64::from(stage == Stage::File);
                }
            }
        }
        Ok(files)
    }

    /// Removes slots that were to be used before the one time, and files that were uploaded before the other, at most so many of
    /// each. Returns how many of each.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn end_uploads(
        &mut self,
        slots_ms: u64,
        files_ms: u64,
        max: usize,
    ) -> Result<(u64, u64), DirectoryError> {
        let slots = self.view().first_uploads(Stage::Slot, max, |slot| slot.time_ms < slots_ms)?;
        let files = self.view().first_uploads(Stage::File, max, |file| file.id.created_ms() < files_ms)?;
        slots.iter().try_for_each(|slot| self.end_upload(Stage::Slot, slot))?;
        files.iter().try_for_each(|file| self.end_upload(Stage::File, file))?;
        Ok((slots.len() as u64, files.len() as u64))
    }

    /// The bytes of these are removed.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn uploads_erased(&mut self, ids: &[UploadId]) -> Result<(), DirectoryError> {
        for id in ids {
            self.delete(Table::UploadErasures, &id.0)?;
        }
        Ok(())
    }

    fn end_upload(&mut self, stage: Stage, upload: &Upload) -> Result<(), DirectoryError> {
        let id = &upload.id;
        self.change_upload_usage(upload.actor, |usage| match stage {
            Stage::Slot => usage.leave_slot(upload.bytes),
            Stage::File => usage.leave_file(upload.bytes),
        })?;
        self.delete(stage.table(), &id.0)?;
        self.delete(Table::UploadsOfAccounts, &owned_key(upload.actor, id))?;
        self.erase_upload(id)
    }

    /// Has the bytes of an upload removed from the disk.
    fn erase_upload(&mut self, id: &UploadId) -> Result<(), DirectoryError> {
        self.put(Table::UploadErasures, &id.0, &Encoder::new(0).seal(&id.0))
    }

    /// Changes what is counted of an account, and of all.
    fn change_upload_usage(
        &mut self,
        actor: ActorId,
        change: impl Fn(&mut UploadUsage),
    ) -> Result<(), DirectoryError> {
        for actor in [actor, ActorId::NOBODY] {
            let mut usage = self.view().upload_usage(actor)?;
            change(&mut usage);
            let key = actor.key();
            self.put(Table::UploadUsage, &key, &usage.encode(&key))?;
        }
        Ok(())
    }
}
