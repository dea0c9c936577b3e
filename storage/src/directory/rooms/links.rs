//! Links that make members of a room: each has a token that is known to those who have the link, and of which only a hash is kept.

use super::RoomsView;
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::tables::{Table, damaged};
use crate::directory::transaction::check_size;

/// Bytes of a hash of a token.
const HASH_BYTES: usize = 16;

/// Bytes of a hash by which people name a link.
const SHOWN_BYTES: usize = 5;

/// What is kept of a token: the first half of its SHA-256. A token is as random as that is long, so nobody finds one from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkHash([u8; HASH_BYTES]);

impl LinkHash {
    /// Of a token, or of what somebody gives for one.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        Self(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }

    /// By which people name the link.
    #[must_use]
    pub fn id(&self) -> String {
        self.0[..SHOWN_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A link that makes members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomLink {
    /// Of its token.
    pub hash: LinkHash,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it is of no use, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
    /// How many may become members by it; 0: any number.
    pub uses_max: u64,
    /// How many have.
    pub uses: u64,
    /// What its maker has noted; empty for nothing.
    pub note: String,
}

impl RoomLink {
    /// Whether it makes members at this time. One that is used up is not there any more.
    #[must_use]
    pub fn is_good(&self, now_ms: u64) -> bool {
        self.expires_ms == 0 || now_ms < self.expires_ms
    }

    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(36 + self.note.len());
        for number in [self.created_ms, self.expires_ms, self.uses_max, self.uses] {
            fields.number(number);
        }
        fields.text(self.note.as_bytes());
        fields.seal(key)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let hash = key.get(8..).and_then(|hash| <[u8; HASH_BYTES]>::try_from(hash).ok());
        let hash = LinkHash(hash.ok_or("the key is no hash of a room's link")?);
        let mut fields = Decoder::open(key, value)?;
        let mut number = || fields.number();
        let (created_ms, expires_ms, uses_max, uses) = (number()?, number()?, number()?, number()?);
        let note = fields.text()?.to_owned();
        fields.close()?;
        Ok(Self { hash, created_ms, expires_ms, uses_max, uses, note })
    }
}

fn link_key(room: ActorId, hash: LinkHash) -> [u8; 8 + HASH_BYTES] {
    let mut key = [0; 8 + HASH_BYTES];
    key[..8].copy_from_slice(&room.key());
    key[8..].copy_from_slice(&hash.0);
    key
}

impl RoomsView<'_> {
    /// The link of a room with this token, expired or not.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn link(&self, room: ActorId, hash: LinkHash) -> Result<Option<RoomLink>, DirectoryError> {
        let key = link_key(room, hash);
        let Some(value) = self.view.get(Table::RoomLinks, &key)? else { return Ok(None) };
        RoomLink::decode(&key, value).map(Some).map_err(damaged(Table::RoomLinks, &key))
    }

    /// All links of a room, those made first before others.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn links(&self, room: ActorId) -> Result<Vec<RoomLink>, DirectoryError> {
        let mut links = Vec::new();
        for row in self.view.prefixed(Table::RoomLinks, &room.key())? {
            let (key, value) = row?;
            links.push(RoomLink::decode(key, value).map_err(damaged(Table::RoomLinks, key))?);
        }
        links.sort_by_key(|link| (link.created_ms, link.hash.0));
        Ok(links)
    }
}

impl WriteTransaction<'_> {
    /// Adds a link to a room. `false`: it has `links_max` already, without those that have expired, which are forgotten.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for too long a note; the directory is damaged or cannot be written.
    pub fn add_room_link(
        &mut self,
        room: ActorId,
        link: &RoomLink,
        links_max: usize,
    ) -> Result<bool, DirectoryError> {
        check_size("the note of a link", link.note.len())?;
        let (good, expired): (Vec<RoomLink>, Vec<RoomLink>) =
            self.rooms().links(room)?.into_iter().partition(|known| known.is_good(link.created_ms));
        for link in expired {
            self.delete(Table::RoomLinks, &link_key(room, link.hash))?;
        }
        if good.len() >= links_max {
            return Ok(false);
        }
        self.put_link(room, link)?;
        Ok(true)
    }

    /// Somebody becomes a member by a link: `None` if there is no such link, or it has expired. The last one who may use it uses it
    /// up: it is forgotten.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn use_room_link(
        &mut self,
        room: ActorId,
        hash: LinkHash,
        now_ms: u64,
    ) -> Result<Option<RoomLink>, DirectoryError> {
        let link = self.rooms().link(room, hash)?.filter(|link| link.is_good(now_ms));
        let Some(mut link) = link else { return Ok(None) };
        link.uses += 1;
        if link.uses_max != 0 && link.uses >= link.uses_max {
            self.delete(Table::RoomLinks, &link_key(room, hash))?;
        } else {
            self.put_link(room, &link)?;
        }
        Ok(Some(link))
    }

    /// Makes links void: the one that people name so, or all of the room. Returns how many.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn revoke_room_links(&mut self, room: ActorId, id: Option<&str>) -> Result<u64, DirectoryError> {
        let mut revoked = 0;
        for link in self.rooms().links(room)? {
            if id.is_none_or(|id| link.hash.id() == id) {
                self.delete(Table::RoomLinks, &link_key(room, link.hash))?;
                revoked += 1;
            }
        }
        Ok(revoked)
    }

    fn put_link(&mut self, room: ActorId, link: &RoomLink) -> Result<(), DirectoryError> {
        let key = link_key(room, link.hash);
        self.put(Table::RoomLinks, &key, &link.encode(&key))
    }
}
