//! What an owner does for the state, and the row that stands for it in the list of kinds.

use std::fmt::Debug;

use super::codec::{Decoder, Encoder};
use super::counts::Counts;
use super::error::{StateError, WriteError};
use super::frame::StateWriter;
use super::kind::Kind;
use super::state::Block;

/// The owner of a kind of block: what it carries over an upgrade, and how that lies in bytes.
///
/// A record borrows what it holds: from the running server when it is written, from the state when it is read. So
/// anybody can read it (the new program, a rehearsal, a fuzzer) before anything is made of it.
pub trait Owner {
    /// Its kind.
    const KIND: Kind;

    /// One record of a block.
    type Record<'a>: PartialEq + Debug;

    /// Writes a record, in the version that [`Encoder::version`] names.
    fn write(record: &Self::Record<'_>, to: &mut Encoder);

    /// Reads a record, in the version that [`Decoder::version`] names.
    ///
    /// # Errors
    /// It is damaged.
    fn read<'a>(from: &mut Decoder<'a>) -> Result<Self::Record<'a>, StateError>;

    /// Examples, one for each thing that can be different: a new program must read them before anything is stopped for
    /// it, and every later version must read them for ever.
    fn samples() -> Vec<Self::Record<'static>>;

    /// Counts what a rehearsal is to find beside the number of records.
    fn count(_record: &Self::Record<'_>, _counts: &mut Counts) {}

    /// Tells the descriptors that must stay open when the process becomes another program. The sockets of sessions are
    /// not among them: their workers mark those themselves.
    fn descriptors(_record: &Self::Record<'_>, _keep: &mut Vec<u32>) {}
}

/// What is done with any kind, without knowing it.
pub struct Row {
    /// The kind.
    pub kind: Kind,
    read: fn(&Block<'_>, &mut Counts) -> Result<(), StateError>,
    write_samples: fn(&StateWriter) -> Result<(), WriteError>,
    samples: fn() -> Vec<Vec<u8>>,
    round_trip: fn(&[u8]) -> Result<(), StateError>,
}

impl Row {
    /// The row of an owner.
    #[must_use]
    pub const fn of<O: Owner>() -> Row {
        Row {
            kind: O::KIND,
            read: read::<O>,
            write_samples: write_samples::<O>,
            samples: samples::<O>,
            round_trip: round_trip::<O>,
        }
    }

    /// Reads all records of a block and counts them.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(&self, block: &Block<'_>, counts: &mut Counts) -> Result<(), StateError> {
        (self.read)(block, counts)
    }

    /// Writes the owner's examples, if the reader knows the kind.
    ///
    /// # Errors
    /// The system has no memory for it.
    pub fn write_samples(&self, to: &StateWriter) -> Result<(), WriteError> {
        match to.versions().of(&self.kind) {
            Some(_) => (self.write_samples)(to),
            None => Ok(()),
        }
    }

    /// The owner's examples as bytes, each for itself.
    #[must_use]
    pub fn samples(&self) -> Vec<Vec<u8>> {
        (self.samples)()
    }

    /// Reads records from any bytes for as long as they are some, writes those again, and reads them once more.
    ///
    /// # Errors
    /// Why the first record that is none is none.
    ///
    /// # Panics
    /// When the second reading gives something else than the first.
    pub fn round_trip(&self, bytes: &[u8]) -> Result<(), StateError> {
        (self.round_trip)(bytes)
    }
}

fn read<O: Owner>(block: &Block<'_>, counts: &mut Counts) -> Result<(), StateError> {
    block.each::<O>(|record| {
        counts.add(O::KIND.name, 1);
        O::count(&record, counts);
        Ok(())
    })
}

fn write_samples<O: Owner>(to: &StateWriter) -> Result<(), WriteError> {
    let mut blocks = to.blocks::<O>(0);
    for record in O::samples() {
        blocks.put(&record)?;
    }
    blocks.finish()
}

fn samples<O: Owner>() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for record in O::samples() {
        let mut encoder = Encoder::new(O::KIND.newest);
        O::write(&record, &mut encoder);
        samples.push(encoder.bytes().to_vec());
    }
    samples
}

fn round_trip<O: Owner>(bytes: &[u8]) -> Result<(), StateError> {
    let mut encoder = Encoder::new(O::KIND.newest);
    let (records, end) = read_while::<O>(bytes);
    for record in &records {
        O::write(record, &mut encoder);
    }
    // Side by side, because records that borrow from one buffer are of one type.
    let both = [bytes, encoder.bytes()].concat();
    let (first, second) = both.split_at(bytes.len());
    let again = read_while::<O>(second);
    assert_eq!(again, (read_while::<O>(first).0, Ok(())), "`{}`: what was written is read", O::KIND.name);
    end
}

/// Reads records for as long as they are some.
fn read_while<O: Owner>(bytes: &[u8]) -> (Vec<O::Record<'_>>, Result<(), StateError>) {
    let mut decoder = Decoder::new(bytes, O::KIND.newest);
    let mut records = Vec::new();
    while !decoder.is_empty() {
        match O::read(&mut decoder) {
            Ok(record) => records.push(record),
            Err(error) => return (records, Err(error)),
        }
    }
    (records, Ok(()))
}
