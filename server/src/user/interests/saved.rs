//! What hashes of capabilities stand for, as it goes to another program.

use crate::proto::caps::HASH_BYTES;
use crate::proto::ns;
use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// A hash that is known, and the nodes of which its clients want to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHash<'a> {
    /// The hash.
    pub hash: &'a [u8; HASH_BYTES],
    /// The nodes, sorted.
    pub nodes: Vec<&'a str>,
}

/// Owns the hashes that workers know. Without them clients are asked again.
pub struct Capabilities;

impl Owner for Capabilities {
    const KIND: Kind = Kind::droppable("capabilities");
    type Record<'a> = KnownHash<'a>;

    fn write(record: &KnownHash<'_>, to: &mut Encoder) {
        to.raw(record.hash);
        to.count(record.nodes.len());
        record.nodes.iter().for_each(|node| to.text(node));
    }

    fn read<'a>(from: &mut Decoder<'a>) -> Result<KnownHash<'a>, StateError> {
        let hash = from.array()?;
        let mut nodes = Vec::new();
        for _ in 0..from.count()? {
            nodes.push(from.text()?);
        }
        match nodes.windows(2).all(|pair| pair[0] < pair[1]) {
            true => Ok(KnownHash { hash, nodes }),
            false => Err(StateError::Damaged("nodes of interest that are not in order")),
        }
    }

    fn samples() -> Vec<KnownHash<'static>> {
        let nodes = vec![ns::AVATAR_METADATA, ns::BOOKMARKS];
        vec![
            KnownHash { hash: &[7; HASH_BYTES], nodes },
            KnownHash { hash: &[9; HASH_BYTES], nodes: Vec::new() },
        ]
    }
}
