//! vCards (XEP-0054), as the bytes they came as.

use crate::actor::ActorId;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::rooms::Room;
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::{Directory, WriteTransaction};

impl View<'_> {
    fn vcard(&self, local: &str) -> Result<Option<Vec<u8>>, DirectoryError> {
        match self.account(local)? {
            Some(account) => self.vcard_of(account),
            None => Ok(None),
        }
    }

    fn vcard_of(&self, actor: ActorId) -> Result<Option<Vec<u8>>, DirectoryError> {
        let key = actor.key();
        let Some(value) = self.get(Table::Vcards, &key)? else { return Ok(None) };
        let decoded = Decoder::open(&key, value).and_then(|mut fields| {
            let vcard = fields.bytes()?.to_vec();
            fields.close().map(|()| vcard)
        });
        decoded.map(Some).map_err(damaged(Table::Vcards, &key))
    }
}

impl Directory {
    /// A user's vCard.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn vcard(&self, local: &str) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.read(|view| view.vcard(local))
    }

    /// A room's vCard (XEP-0486).
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn room_vcard(&self, room: ActorId) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.read(|view| view.vcard_of(room))
    }
}

impl WriteTransaction<'_> {
    /// Sets a user's vCard.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for more than
    /// [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is damaged or cannot be written.
    pub fn set_vcard(&mut self, local: &str, vcard: &[u8]) -> Result<(), DirectoryError> {
        let account = self.account(local)?;
        self.put_vcard(account, vcard)
    }

    /// Sets a room's vCard; an empty one is none. The room must be there.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for more than [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is damaged or cannot
    /// be written.
    pub fn set_room_vcard(&mut self, room: &Room, vcard: &[u8]) -> Result<(), DirectoryError> {
        match vcard {
            [] => self.delete(Table::Vcards, &room.actor.key()).map(|_| ()),
            vcard => self.put_vcard(room.actor, vcard),
        }
    }

    fn put_vcard(&mut self, actor: ActorId, vcard: &[u8]) -> Result<(), DirectoryError> {
        let key = actor.key();
        check_size("the vCard", vcard.len())?;
        let mut fields = Encoder::new(4 + vcard.len());
        fields.text(vcard);
        self.put(Table::Vcards, &key, &fields.seal(&key))
    }
}
