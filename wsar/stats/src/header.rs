//! The header in bytes. It is written whole before the file gets its name, and checked whole before it is believed.

use std::any::TypeId;

use crate::describe::Kind;
use crate::file::Block;
use crate::read::{Group, Metric, ReadError};

pub(crate) const MAGIC: &[u8; 8] = b"WHIMSTAT";
pub(crate) const VERSION: u32 = 1;
/// Length of the fixed part.
pub(crate) const FIXED: usize = 64;
/// Blocks begin at a multiple of this.
pub(crate) const PAGE: usize = 4096;
/// Blocks are cut at multiples of this: two cache lines, since processors fetch them in pairs.
pub(crate) const LINE: usize = 128;
/// Descriptions are at most this long.
pub(crate) const DESCRIPTIONS_MAX: usize = 1 << 20;
/// A file is at most this long.
pub(crate) const FILE_MAX: usize = 1 << 30;
const GROUPS_MAX: u32 = 64;

/// What the fixed part says.
pub(crate) struct Fixed {
    pub(crate) checksum: u32,
    pub(crate) file_bytes: u64,
    pub(crate) started_unix_ns: u64,
    pub(crate) pid: u32,
    pub(crate) groups: u32,
    pub(crate) description_bytes: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads the fixed part.
pub(crate) fn fixed(bytes: &[u8; FIXED]) -> Result<Fixed, ReadError> {
    if &bytes[..8] != MAGIC {
        return Err(ReadError::Foreign);
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(ReadError::Version(version));
    }
    let fixed = Fixed {
        checksum: u32_at(bytes, 12),
        file_bytes: u64_at(bytes, 16),
        started_unix_ns: u64_at(bytes, 24),
        pid: u32_at(bytes, 32),
        groups: u32_at(bytes, 36),
        description_bytes: u32_at(bytes, 40) as usize,
    };
    if fixed.description_bytes > DESCRIPTIONS_MAX || fixed.groups > GROUPS_MAX {
        return Err(ReadError::Damaged("its header is longer than any can be"));
    }
    if fixed.file_bytes > FILE_MAX as u64 || (fixed.file_bytes as usize) < FIXED + fixed.description_bytes {
        return Err(ReadError::Damaged("it gives a length that cannot be"));
    }
    Ok(fixed)
}

/// A group while the header is put together.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) instances: usize,
    pub(crate) offset: usize,
    pub(crate) stride: usize,
    metrics: &'static [crate::Description],
    block: TypeId,
}

impl Plan {
    pub(crate) fn of<T: Block>(name: &'static str, label: &'static str, instances: usize) -> Plan {
        let words: usize = T::DESCRIPTIONS.iter().map(|d| d.kind.words()).sum();
        let stride = (words * 8).next_multiple_of(LINE).max(LINE);
        // What makes a `Block` safe to map; see there.
        assert_eq!((size_of::<T>(), align_of::<T>()), (stride, LINE), "a block is as long as its metrics");
        Plan { name, label, instances, offset: 0, stride, metrics: T::DESCRIPTIONS, block: TypeId::of::<T>() }
    }

    pub(crate) fn is_of<T: Block>(&self) -> bool {
        self.block == TypeId::of::<T>()
    }
}

/// Gives each group its place, and returns the header and the length of the file.
pub(crate) fn lay_out(groups: &mut [Plan], started_unix_ns: u64, pid: u32) -> (Vec<u8>, usize) {
    // Offsets have a fixed width, so the header is as long without them as with them.
    let mut at = (FIXED + descriptions(groups).len()).next_multiple_of(PAGE);
    for group in groups.iter_mut() {
        group.offset = at;
        at = (at + group.stride * group.instances).next_multiple_of(PAGE);
    }
    let descriptions = descriptions(groups);
    assert!(descriptions.len() <= DESCRIPTIONS_MAX && at <= FILE_MAX, "a stats file of {at} bytes");
    let mut bytes = Vec::with_capacity(FIXED + descriptions.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(at as u64).to_ne_bytes());
    bytes.extend_from_slice(&started_unix_ns.to_ne_bytes());
    bytes.extend_from_slice(&pid.to_ne_bytes());
    bytes.extend_from_slice(&(groups.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&(descriptions.len() as u32).to_ne_bytes());
    bytes.resize(FIXED, 0);
    bytes.extend_from_slice(&descriptions);
    let checksum = crc32c::crc32c(&bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_ne_bytes());
    (bytes, at)
}

fn descriptions(groups: &[Plan]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        let length = u16::try_from(text.len()).expect("names and help are short");
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    for group in groups {
        text(&mut out, group.name);
        text(&mut out, group.label);
        out.extend_from_slice(&(group.instances as u32).to_ne_bytes());
        out.extend_from_slice(&(group.offset as u64).to_ne_bytes());
        out.extend_from_slice(&(group.stride as u64).to_ne_bytes());
        out.extend_from_slice(&(group.metrics.len() as u32).to_ne_bytes());
        for metric in group.metrics {
            out.push(metric.kind as u8);
            text(&mut out, metric.name);
            text(&mut out, metric.unit);
            text(&mut out, metric.help);
        }
    }
    out
}

/// Reads the descriptions.
pub(crate) fn groups(fixed: &Fixed, descriptions: &[u8]) -> Result<Vec<Group>, ReadError> {
    let mut input = Input(descriptions);
    let groups = (0..fixed.groups).map(|_| group(&mut input, fixed.file_bytes)).collect::<Result<_, _>>()?;
    match input.0 {
        [] => Ok(groups),
        _ => Err(ReadError::Damaged("its descriptions go on after the last group")),
    }
}

fn group(input: &mut Input<'_>, file_bytes: u64) -> Result<Group, ReadError> {
    let (name, label) = (input.text()?, input.text()?);
    let (instances, offset, stride) = (input.u32()? as usize, input.u64()?, input.u64()?);
    let count = input.u32()?;
    let mut metrics = Vec::new();
    let mut word = 0;
    for _ in 0..count {
        let kind = Kind::from_number(input.take::<1>()?[0]);
        let kind = kind.ok_or(ReadError::Damaged("it has a metric of an unknown kind"))?;
        let (name, unit, help) = (input.text()?, input.text()?, input.text()?);
        metrics.push(Metric { name, unit, help, kind, word });
        word += kind.words();
    }
    let end = (instances as u64).checked_mul(stride).and_then(|length| length.checked_add(offset));
    let fits = end.is_some_and(|end| end <= file_bytes) && stride >= word as u64 * 8;
    if !fits || !offset.is_multiple_of(8) || !stride.is_multiple_of(8) {
        return Err(ReadError::Damaged("a group of metrics lies outside the file"));
    }
    Ok(Group { name, label, instances, offset: offset as usize, stride: stride as usize, metrics })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], ReadError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(ReadError::Damaged("its header is cut short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        Ok(self.bytes(N)?.try_into().expect("N bytes"))
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        Ok(u32::from_ne_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_ne_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String, ReadError> {
        let length = u16::from_ne_bytes(self.take()?);
        let bytes = self.bytes(length.into())?;
        let text = std::str::from_utf8(bytes).map_err(|_| ReadError::Damaged("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}
