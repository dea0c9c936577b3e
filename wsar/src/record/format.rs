//! Blocks in bytes: making them, and finding the sound ones in any bytes.

use std::sync::Arc;

use super::varint;
use crate::sample::{Kind, Sample, Schema, Series};

/// What a recording begins with.
pub const MAGIC: &[u8; 8] = b"WSARREC1";

/// What a block begins with.
const TAG: [u8; 4] = *b"\xb1WB\n";

/// Bytes of a block before its payload.
const HEAD: usize = 32;

const SCHEMA: u16 = 1;
const SAMPLES: u16 = 2;

/// Samples in one block at most.
pub const SAMPLES_MAX: usize = 64;

/// Bytes of a payload at most, packed or not.
const PAYLOAD_MAX: usize = 64 << 20;

/// Words of a sample at most.
pub const WORDS_MAX: usize = 1 << 20;

/// Places that look like the begin of a block, tried after a damaged one at most.
const TRIES_MAX: usize = 1000;

/// The number by which blocks of samples name their schema.
pub fn schema_id(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}

/// The payload of a schema.
pub fn schema_payload(schema: &Schema) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, schema.series().len() as u64);
    for series in schema.series() {
        out.push(series.kind as u8);
        for text in [&series.name, &series.key, &series.instance, &series.unit, &series.help] {
            varint::put(&mut out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Reads the payload of a schema. `None`: it is not one.
pub fn schema_of(payload: &[u8]) -> Option<Schema> {
    let mut input = payload;
    let count = varint::take_count(&mut input)?;
    let mut series = Vec::new();
    let mut words = 0;
    for _ in 0..count {
        let (&kind, rest) = input.split_first()?;
        input = rest;
        let kind = Kind::from_number(kind)?;
        words += kind.words();
        if words > WORDS_MAX {
            return None;
        }
        let mut text = || {
            let length = varint::take_count(&mut input)?;
            let (text, rest) = input.split_at(length);
            input = rest;
            Some(Box::<str>::from(std::str::from_utf8(text).ok()?))
        };
        let (name, key, instance, unit, help) = (text()?, text()?, text()?, text()?, text()?);
        series.push(Series { name, key, instance, kind, unit, help });
    }
    input.is_empty().then(|| Schema::new(series))
}

/// The payload of some samples, which share a schema and follow one another in time.
pub fn samples_payload(samples: &[Sample]) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(first) = samples.first() else { return out };
    let zero = vec![0; first.values.len()];
    let (mut time, mut last) = (first.time_ms, &zero);
    for sample in samples {
        varint::put(&mut out, sample.time_ms.saturating_sub(time));
        let changed = last.iter().zip(&sample.values).filter(|(old, new)| old != new).count();
        varint::put(&mut out, changed as u64);
        let mut left_out = 0;
        for (old, new) in last.iter().zip(&sample.values) {
            if old == new {
                left_out += 1;
                continue;
            }
            varint::put(&mut out, left_out);
            varint::put_signed(&mut out, new.wrapping_sub(*old) as i64);
            left_out = 0;
        }
        (time, last) = (sample.time_ms, &sample.values);
    }
    out
}

/// Reads the payload of some samples. `None`: it is not what it should be.
pub fn samples_of(payload: &[u8], count: usize, first_ms: u64, schema: &Arc<Schema>) -> Option<Vec<Sample>> {
    let mut input = payload;
    if count > SAMPLES_MAX || schema.words() > WORDS_MAX {
        return None;
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut time_ms = first_ms;
    for _ in 0..count {
        time_ms = time_ms.checked_add(varint::take(&mut input)?)?;
        let mut values = samples.last().map_or_else(|| vec![0; schema.words()], |last| last.values.clone());
        let changed = varint::take_count(&mut input)?;
        let mut at = 0usize;
        for _ in 0..changed {
            at = at.checked_add(usize::try_from(varint::take(&mut input)?).ok()?)?;
            let value = values.get_mut(at)?;
            *value = value.wrapping_add(varint::take_signed(&mut input)? as u64);
            at += 1;
        }
        samples.push(Sample { time_ms, schema: schema.clone(), values });
    }
    input.is_empty().then_some(samples)
}

fn block(kind: u16, count: u16, schema: u32, first_ms: u64, payload: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(payload);
    let mut out = Vec::with_capacity(HEAD + packed.len());
    out.extend_from_slice(&TAG);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&schema.to_le_bytes());
    out.extend_from_slice(&first_ms.to_le_bytes());
    out.extend_from_slice(&packed);
    let checksum = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// A block for a schema, and the number that names it.
pub fn schema_block(schema: &Schema) -> (Vec<u8>, u32) {
    let payload = schema_payload(schema);
    let id = schema_id(&payload);
    (block(SCHEMA, 0, id, 0, &payload), id)
}

/// A block for at most [`SAMPLES_MAX`] samples of one schema.
///
/// # Panics
/// If there are none, or too many.
pub fn samples_block(samples: &[Sample], schema: u32) -> Vec<u8> {
    assert!((1..=SAMPLES_MAX).contains(&samples.len()), "{} samples in a block", samples.len());
    block(SAMPLES, samples.len() as u16, schema, samples[0].time_ms, &samples_payload(samples))
}

/// A sound block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Where it begins.
    pub offset: usize,
    kind: u16,
    count: usize,
    /// Its schema.
    pub schema: u32,
    /// Time of its first sample.
    pub first_ms: u64,
    unpacked: usize,
    packed: &'a [u8],
}

impl Block<'_> {
    /// Whether it holds samples.
    pub fn has_samples(&self) -> bool {
        self.kind == SAMPLES
    }

    /// The schema that it holds. `None`: it holds none that can be read.
    pub fn schema(&self) -> Option<Schema> {
        if self.kind != SCHEMA {
            return None;
        }
        schema_of(&self.unpack()?)
    }

    /// The samples that it holds, when `schema` is theirs. `None`: it holds none that can be read.
    pub fn samples(&self, schema: &Arc<Schema>) -> Option<Vec<Sample>> {
        if self.kind != SAMPLES {
            return None;
        }
        samples_of(&self.unpack()?, self.count, self.first_ms, schema)
    }

    fn unpack(&self) -> Option<Vec<u8>> {
        lz4_flex::block::decompress(self.packed, self.unpacked).ok().filter(|out| out.len() == self.unpacked)
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Not a recording at all.
    #[error("it is not a recording of wsar; left alone")]
    Foreign,
    /// The end of a file that was being written.
    #[error("it is torn at byte {0}, as after a crash; what is before is shown")]
    Torn(usize),
    /// Damage with something sound after it.
    #[error("bytes {0} to {1} are damaged; what is before and after is shown")]
    Damaged(usize, usize),
    /// A sound block that makes no sense.
    #[error("the block at byte {0} cannot be read; skipped")]
    Unreadable(usize),
}

/// The sound blocks of a file, and what is wrong with it.
pub fn scan(bytes: &[u8]) -> (Vec<Block<'_>>, Vec<Trouble>) {
    let (mut blocks, mut troubles) = (Vec::new(), Vec::new());
    if !bytes.starts_with(MAGIC) {
        // A file that was just made may have less than its first bytes.
        let torn = MAGIC.starts_with(bytes);
        return (blocks, vec![if torn { Trouble::Torn(0) } else { Trouble::Foreign }]);
    }
    let (mut at, mut tries) = (MAGIC.len(), 0);
    while at < bytes.len() {
        if let Some((block, next)) = block_at(bytes, at) {
            blocks.push(block);
            at = next;
            continue;
        }
        let sound = (at + 1..bytes.len().saturating_sub(HEAD - 1)).find(|&place| {
            bytes[place..].starts_with(&TAG) && tries < TRIES_MAX && {
                tries += 1;
                block_at(bytes, place).is_some()
            }
        });
        match sound {
            Some(place) => {
                troubles.push(Trouble::Damaged(at, place));
                at = place;
            }
            None => {
                troubles.push(Trouble::Torn(at));
                break;
            }
        }
    }
    (blocks, troubles)
}

/// The sound block at a place, and where the next one begins.
pub fn block_at(bytes: &[u8], offset: usize) -> Option<(Block<'_>, usize)> {
    let head = bytes.get(offset..offset.checked_add(HEAD)?)?;
    let u16_at = |at: usize| u16::from_le_bytes(head[at..at + 2].try_into().expect("two bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let (length, unpacked) = (u32_at(8) as usize, u32_at(12) as usize);
    if head[..4] != TAG || length > PAYLOAD_MAX || unpacked > PAYLOAD_MAX {
        return None;
    }
    let end = offset + HEAD + length;
    if crc32c::crc32c(bytes.get(offset + 8..end)?) != u32_at(4) {
        return None;
    }
    let block = Block {
        offset,
        kind: u16_at(16),
        count: u16_at(18).into(),
        schema: u32_at(20),
        first_ms: u64::from_le_bytes(head[24..32].try_into().expect("eight bytes")),
        unpacked,
        packed: &bytes[offset + HEAD..end],
    };
    Some((block, end))
}
