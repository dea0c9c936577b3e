//! What all threads share, as far as it goes to another program: the lock on the directory, and what was durable of the
//! streams of the run before.

use crate::saved::Owner;
use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::saved::kind::Kind;

/// Owns the descriptor of the lock on the directory, which is held all the time.
pub struct DirectoryLock;

impl Owner for DirectoryLock {
    const KIND: Kind = Kind::required("directory");
    type Record<'a> = u32;

    fn write(record: &u32, to: &mut Encoder) {
        to.number(*record);
    }

    fn read(from: &mut Decoder<'_>) -> Result<u32, StateError> {
        from.number()
    }

    fn samples() -> Vec<u32> {
        vec![6]
    }

    fn descriptors(record: &u32, keep: &mut Vec<u32>) {
        keep.push(*record);
    }
}

/// Owns what was durable of the streams of the run before the process was started, while they may still be resumed: the
/// stream, and the number of its last stanza up to which everything was.
pub struct EarlierStreams;

impl Owner for EarlierStreams {
    const KIND: Kind = Kind::required("streams");
    type Record<'a> = (u64, u32);

    fn write((stream, durable): &(u64, u32), to: &mut Encoder) {
        to.raw(&stream.to_le_bytes());
        to.number(*durable);
    }

    fn read(from: &mut Decoder<'_>) -> Result<(u64, u32), StateError> {
        Ok((u64::from_le_bytes(*from.array()?), from.number()?))
    }

    fn samples() -> Vec<(u64, u32)> {
        vec![(0xfeed, 17)]
    }
}
