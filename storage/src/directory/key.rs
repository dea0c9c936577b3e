//! Keys of the tables.
//!
//! LMDB allows 511 bytes; a localpart may have 1,023 and a JID 3,071. So an account is an actor with a number
//! ([`ActorId`]), which stands for it in all other tables, and a text that is too long stands in its key with its first bytes and its SHA-256.
//! The full text is then at the head of the value, and is compared when the value is read.
//!
//! ```text
//! accounts              localpart (up to 479 bytes)  |  its first 479 bytes, SHA-256 (32)
//! rosters, private      actor (8, big endian), text (up to 471)  |  actor, first 471 bytes, SHA-256 (32)
//! removals              actor, roster version (8, big endian)
//! pubsub_nodes          as rosters
//! pubsub_items          actor, number of the node (8, big endian), sequence (8, big endian)
//! pubsub_item_ids, -_members  actor, number of the node, text (up to 463)  |  its first 463 bytes, SHA-256
//! nodes_of_accounts     as pubsub_members
//! rooms, rooms_public   name, as accounts
//! room_names            actor
//! room_affiliations, room_nicks  actor, text, as rosters
//! room_removals         actor, version of the affiliations (8, big endian)
//! room_links            actor, hash of a token (16)
//! rooms_of_accounts     actor of the account, actor of the room
//! rooms_made            actor
//! push_devices          actor, node, as rosters
//! push_tokens           hash of push service and token (32)
//! stream_counts         actor, stream (8, big endian)
//! upload_slots, uploads, upload_erasures  id of the upload (24)
//! uploads_of_accounts   actor, id of the upload
//! upload_usage          actor; nobody for all
//! registrations         the number's digits
//! quotas                kind (1), keyed hash of what is counted (16)
//! archive, -_erased     actor, id of a message (8, big endian)
//! archive_segments      id of the journal (8, big endian), position of the segment (8, big endian)
//! all others            actor
//! ```
//!
//! The two forms cannot be confused: only the second has 511 bytes.

use crate::actor::ActorId;
use crate::jid::PART_BYTES_MAX;

use super::error::DirectoryError;

/// Most bytes LMDB allows.
const KEY_BYTES_MAX: usize = 511;
const HASH_BYTES: usize = 32;

/// Most bytes of a contact: the longest JID (RFC 7622 §3.1).
pub const CONTACT_BYTES_MAX: usize = 3 * PART_BYTES_MAX + 2;

/// A key, on the stack.
pub(super) struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: usize,
    hashed: bool,
}

impl Key {
    /// Of an account. `None` for a text that can be no localpart: empty or too long.
    pub(super) fn account(local: &str) -> Option<Self> {
        Self::new(&[], local, PART_BYTES_MAX)
    }

    /// Of something that an account has many of, by a text. `None` when that is empty or longer than `max`.
    pub(super) fn owned(actor: ActorId, text: &str, max: usize) -> Option<Self> {
        Self::new(&actor.key(), text, max)
    }

    /// Of something that a node of an account has many of, by a text; `prefix` is actor and node. `None` as in
    /// [`Key::owned`].
    pub(super) fn of_node(prefix: &[u8; 16], text: &str, max: usize) -> Option<Self> {
        Self::new(prefix, text, max)
    }

    /// Of a removal.
    pub(super) fn removal(actor: ActorId, version: u64) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&actor.key());
        key[8..].copy_from_slice(&version.to_be_bytes());
        key
    }

    fn new(prefix: &[u8], text: &str, max: usize) -> Option<Self> {
        if text.is_empty() || text.len() > max {
            return None;
        }
        let mut key = Self { bytes: [0; KEY_BYTES_MAX], length: 0, hashed: false };
        key.push(prefix);
        let room = KEY_BYTES_MAX - HASH_BYTES - prefix.len();
        if text.len() <= room {
            key.push(text.as_bytes());
        } else {
            key.push(&text.as_bytes()[..room]);
            key.push(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
            key.hashed = true;
        }
        Some(key)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether the text is too long to stand in the key, so that the value must have it.
    pub(super) fn is_hashed(&self) -> bool {
        self.hashed
    }
}

/// The text in a stored key after `prefix` bytes; `None` when the value has it.
pub(super) fn text_of(key: &[u8], prefix: usize) -> Result<Option<&str>, &'static str> {
    if key.len() == KEY_BYTES_MAX {
        return Ok(None);
    }
    let text = key.get(prefix..).ok_or("the key is cut short")?;
    std::str::from_utf8(text).map(Some).map_err(|_| "the key is not UTF-8")
}

/// The error for a text that cannot be a key.
pub(super) fn size_error(what: &'static str, text: &str, max: usize) -> DirectoryError {
    DirectoryError::Size { what, bytes: text.len(), max }
}
