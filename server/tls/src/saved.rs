//! TLS of a connection as it goes to another program in the same process. How it is written is its owner's affair.

use super::suite::{Suite, Version};

/// TLS between two messages of its protocol: a handshake under way cannot be saved.
#[derive(Clone, PartialEq, Eq)]
pub enum SavedTls<'a> {
    /// It begins with the client's next byte.
    Fresh,
    /// After the handshake.
    Established(Box<SavedRecords<'a>>),
}

/// The record layer of one connection.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedRecords<'a> {
    /// Version of the protocol.
    pub version: Version,
    /// The cipher suite.
    pub suite: Suite,
    /// What opens the client's records.
    pub read: SavedDirection<'a>,
    /// What seals ours.
    pub write: SavedDirection<'a>,
    /// The part of an incoming record that has come.
    pub partial: &'a [u8],
    /// A KeyUpdate of the client waits for its answer.
    pub owes_key_update: bool,
    /// The client has ended TLS, and what it said before waits to be handled.
    pub peer_closed: bool,
    /// Records without data since the last with some.
    pub quiet: u8,
    /// The beginning of a handshake message that was cut between records, less than five bytes.
    pub message: &'a [u8],
}

/// One direction.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedDirection<'a> {
    /// Number of the next record.
    pub sequence: u64,
    /// What key and nonce are made from (TLS 1.3), or themselves (TLS 1.2).
    pub secret: SavedSecret<'a>,
}

/// The secret part of one direction.
#[derive(Clone, PartialEq, Eq)]
pub enum SavedSecret<'a> {
    /// TLS 1.3: the traffic secret.
    Traffic(&'a [u8]),
    /// TLS 1.2: the key, and the fixed part of the nonce.
    Key(&'a [u8], &'a [u8]),
}
