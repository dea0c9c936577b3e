//! What an actor wants to be kept (XEP-0441).

use super::super::codec::{Decoder, Encoder};
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::super::transaction::check_size;
use super::super::{Directory, WriteTransaction};
use crate::actor::ActorId;

/// Most JIDs of both lists together.
pub const PREFERENCES_JIDS_MAX: usize = 1000;

/// Which messages are kept that neither list names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum ArchiveDefault {
    /// All.
    #[default]
    Always = 0,
    /// None.
    Never = 1,
    /// Those with contacts of the roster.
    Roster = 2,
}

/// What an actor wants to be kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ArchivePreferences {
    /// Which messages are kept that neither list names.
    pub default: ArchiveDefault,
    /// JIDs whose messages are kept.
    pub always: Vec<String>,
    /// JIDs whose messages are not.
    pub never: Vec<String>,
}

impl ArchivePreferences {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let default = match fields.byte()? {
            0 => ArchiveDefault::Always,
            1 => ArchiveDefault::Never,
            2 => ArchiveDefault::Roster,
            _ => return Err("an unknown default"),
        };
        let mut list = || {
            let count = fields.count()?;
            if count > PREFERENCES_JIDS_MAX {
                return Err("more JIDs than may be");
            }
            (0..count).map(|_| fields.text().map(str::to_owned)).collect::<Result<Vec<_>, _>>()
        };
        let (always, never) = (list()?, list()?);
        fields.close()?;
        Ok(Self { default, always, never })
    }

    fn encode(&self, key: &[u8], size: usize) -> Vec<u8> {
        let mut fields = Encoder::new(size);
        fields.byte(self.default as u8);
        for list in [&self.always, &self.never] {
            fields.count(list.len());
            list.iter().for_each(|jid| fields.text(jid.as_bytes()));
        }
        fields.seal(key)
    }
}

impl View<'_> {
    fn archive_preferences(&self, actor: ActorId) -> Result<Option<ArchivePreferences>, DirectoryError> {
        let key = actor.key();
        let Some(value) = self.get(Table::ArchivePreferences, &key)? else { return Ok(None) };
        ArchivePreferences::decode(&key, value).map(Some).map_err(damaged(Table::ArchivePreferences, &key))
    }
}

impl Directory {
    /// What an actor wants to be kept; `None`: it has not said.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_preferences(&self, actor: ActorId) -> Result<Option<ArchivePreferences>, DirectoryError> {
        self.read(|view| view.archive_preferences(actor))
    }
}

impl WriteTransaction<'_> {
    /// Keeps what a user wants to be kept.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for more than [`PREFERENCES_JIDS_MAX`] JIDs; the directory is
    /// damaged or cannot be written.
    pub fn set_archive_preferences(
        &mut self,
        local: &str,
        preferences: &ArchivePreferences,
    ) -> Result<(), DirectoryError> {
        let key = self.account(local)?.key();
        let jids = || preferences.always.iter().chain(&preferences.never);
        let count = jids().count();
        if count > PREFERENCES_JIDS_MAX {
            let what = "the list of archive preferences";
            return Err(DirectoryError::Size { what, bytes: count, max: PREFERENCES_JIDS_MAX });
        }
        let size = 9 + jids().map(|jid| 4 + jid.len()).sum::<usize>();
        check_size("the list of archive preferences", size)?;
        self.put(Table::ArchivePreferences, &key, &preferences.encode(&key, size))
    }
}
