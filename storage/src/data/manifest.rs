//! What a backup consists of: a text beside directory and log, by which its parts are known to be of one cut.
//!
//! ```text
//! whimbrel backup 1
//! data-set 5f0c…                                      whose accounts and messages these are
//! number 7                                            which backup of its place; 0 for one that stands alone
//! taken 1764354716123                                 when, in milliseconds since 1970
//! directory 4325376 89abcdef                          length and checksum of directory/data.mdb
//! log 0123456789abcdef 67108992                       high-water mark: id of a log, and the end of its last record
//! segment LOG PATH BYTES USED CHECKSUM INODE SECONDS NANOSECONDS sealed|open
//! check 01234567                                      checksum of everything before
//! ```
//!
//! A segment's last four fields are about the file that it was copied from: as long as these are the same there, the next
//! backup of the place takes the segment from here. While a backup is being written, its segments are noted in a file of the
//! same form without a beginning and an end, so that what an interrupted one has copied is of use.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use crate::directory::CopiedFile;
use crate::log::{CopiedSegment, Stamp};

/// Its file in a backup.
pub(super) const MANIFEST: &str = "backup-manifest";
/// Its segments, while the backup is being written.
pub(super) const PARTIAL: &str = "backup-manifest.partial";
const TITLE: &str = "whimbrel backup 1";

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Manifest {
    pub(super) data_set: u64,
    pub(super) number: u64,
    pub(super) taken_ms: u64,
    pub(super) directory: CopiedFile,
    /// Id of each log, and where it ends.
    pub(super) ends: Vec<(u64, u64)>,
    pub(super) segments: Vec<CopiedSegment>,
}

impl Manifest {
    fn encode(&self) -> String {
        let mut text = format!("{TITLE}\ndata-set {:016x}\n", self.data_set);
        let CopiedFile { bytes, checksum } = self.directory;
        let _ = writeln!(text, "number {}\ntaken {}", self.number, self.taken_ms);
        let _ = writeln!(text, "directory {bytes} {checksum:08x}");
        for (log, end) in &self.ends {
            let _ = writeln!(text, "log {log:016x} {end}");
        }
        self.segments.iter().for_each(|segment| text += &encode_segment(segment));
        let check = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "check {check:08x}");
        text
    }

    fn decode(text: &str) -> Option<Self> {
        let (body, check) = text.rsplit_once("check ")?;
        if u32::from_str_radix(check.trim_end(), 16) != Ok(crc32c::crc32c(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next() != Some(TITLE) {
            return None;
        }
        let mut next = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let data_set = u64::from_str_radix(next("data-set")?, 16).ok()?;
        let number = next("number")?.parse().ok()?;
        let taken_ms = next("taken")?.parse().ok()?;
        let (bytes, checksum) = next("directory")?.split_once(' ')?;
        let directory =
            CopiedFile { bytes: bytes.parse().ok()?, checksum: u32::from_str_radix(checksum, 16).ok()? };
        let (mut ends, mut segments) = (Vec::new(), Vec::new());
        for line in lines {
            match line.strip_prefix("log ") {
                Some(rest) => {
                    let (log, end) = rest.split_once(' ')?;
                    ends.push((u64::from_str_radix(log, 16).ok()?, end.parse().ok()?));
                }
                None => segments.push(decode_segment(line)?),
            }
        }
        Some(Self { data_set, number, taken_ms, directory, ends, segments })
    }

    /// That of a backup; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(super) fn read(backup: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(backup.join(MANIFEST)) {
            Ok(text) => {
                let damaged = || io::Error::new(io::ErrorKind::InvalidData, "its manifest is damaged");
                Self::decode(&text).map(Some).ok_or_else(damaged)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, and removes the partial one.
    pub(super) fn write(&self, backup: &Path) -> io::Result<()> {
        let mut file = create(&backup.join(MANIFEST))?;
        file.write_all(self.encode().as_bytes())?;
        file.sync_all()?;
        fs::remove_file(backup.join(PARTIAL))
    }
}

/// A list of the segments of a backup that is being written.
pub(super) struct Partial(File);

impl Partial {
    pub(super) fn create(backup: &Path) -> io::Result<Self> {
        create(&backup.join(PARTIAL)).map(Self)
    }

    pub(super) fn note(&mut self, segment: &CopiedSegment) -> io::Result<()> {
        self.0.write_all(encode_segment(segment).as_bytes())
    }

    /// The segments that an interrupted backup has on the disk.
    pub(super) fn read(backup: &Path) -> Vec<CopiedSegment> {
        let text = fs::read(backup.join(PARTIAL)).unwrap_or_default();
        // What a power cut has left of the last line is none.
        String::from_utf8_lossy(&text).lines().filter_map(decode_segment).collect()
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn encode_segment(segment: &CopiedSegment) -> String {
    let CopiedSegment { log_id, path, stamp, used, checksum, is_sealed, .. } = segment;
    let Stamp { bytes, inode, modified: (seconds, nanoseconds) } = stamp;
    let path = path.display();
    let state = if *is_sealed { "sealed" } else { "open" };
    format!(
        "segment {log_id:016x} {path} {bytes} {used} {checksum:08x} {inode} {seconds} {nanoseconds} {state}\n"
    )
}

fn decode_segment(line: &str) -> Option<CopiedSegment> {
    let fields: Vec<&str> = line.strip_prefix("segment ")?.split(' ').collect();
    let [log, path, bytes, used, checksum, inode, seconds, nanoseconds, state] = fields[..] else {
        return None;
    };
    let path = PathBuf::from(path);
    // It is put behind a folder's name, and must not lead out of it.
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let base = u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?;
    let modified = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
    Some(CopiedSegment {
        log_id: u64::from_str_radix(log, 16).ok()?,
        base,
        stamp: Stamp { bytes: bytes.parse().ok()?, inode: inode.parse().ok()?, modified },
        used: used.parse().ok()?,
        checksum: u32::from_str_radix(checksum, 16).ok()?,
        is_sealed: match state {
            "sealed" => true,
            "open" => false,
            _ => return None,
        },
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Manifest {
        let stamp = Stamp { bytes: 1 << 26, inode: 77, modified: (-3, 999_999_999) };
        let segment = |base: u64, is_sealed| CopiedSegment {
            log_id: 0xfedc,
            path: format!("generation-1/0/{base:016x}.seg").into(),
            base,
            stamp,
            used: 5000,
            checksum: 0x12,
            is_sealed,
        };
        Manifest {
            data_set: u64::MAX,
            number: 3,
            taken_ms: 1_764_354_716_123,
            directory: CopiedFile { bytes: 8192, checksum: 0xabc },
            ends: vec![(0xfedc, 1 << 27), (1, 0)],
            segments: vec![segment(0, true), segment(1 << 26, false)],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_no_changed_byte_passes() {
        let folder = tempfile::tempdir().unwrap();
        Partial::create(folder.path()).unwrap();
        some().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Some(some()));
        let text = some().encode();
        for at in 0..text.len() - 1 {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Manifest::decode(&changed), None, "at {at}");
        }
        assert_eq!(Manifest::decode(""), None);
    }

    #[test]
    fn of_a_partial_one_the_whole_lines_count() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Partial::read(folder.path()), []);
        let mut partial = Partial::create(folder.path()).unwrap();
        some().segments.iter().for_each(|segment| partial.note(segment).unwrap());
        assert_eq!(Partial::read(folder.path()), some().segments);
        let text = fs::read_to_string(folder.path().join(PARTIAL)).unwrap();
        let first = text.lines().next().unwrap().len();
        for cut in [first + 1, first + 20, text.len() - 3, text.len() - 5] {
            fs::write(folder.path().join(PARTIAL), &text.as_bytes()[..cut]).unwrap();
            assert_eq!(Partial::read(folder.path()), some().segments[..1], "at {cut}");
        }
        let out = text.replace("generation-1/", "../generation-1/");
        fs::write(folder.path().join(PARTIAL), out).unwrap();
        assert_eq!(Partial::read(folder.path()), [], "it leads out of the backup");
    }
}
