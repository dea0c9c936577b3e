//! Files that are in an object store: where that is, and, in a backup, which they are.
//!
//! ```text
//! whimbrel objects 1
//! endpoint https://s3.example.org
//! bucket files
//! prefix uploads                     what names of objects begin with: prefix/00/ID
//! object ID BYTES CHECKSUM           in a backup alone: one that its directory has, in order of ids; length and CRC-32C
//! check 01234567                     checksum of everything before
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{UploadFiles, sync_folder};
use crate::directory::{Upload, UploadId};

/// The text in the folder of uploads.
pub(crate) const OBJECTS: &str = "objects";
const TITLE: &str = "whimbrel objects 1";

/// Bytes of a line at most.
const LINE_BYTES_MAX: u64 = 4096;

/// Where the objects of uploads are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace {
    /// Scheme, host and port of the store.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// What names of objects begin with; may be empty.
    pub prefix: String,
}

impl UploadFiles {
    /// Notes that files are kept in an object store from now on; `None`: they are not, but some of before may be, so that what is
    /// noted stays.
    ///
    /// # Errors
    /// The system's reason.
    pub fn note_place(&self, place: Option<&ObjectPlace>) -> io::Result<()> {
        let Some(place) = place else { return Ok(()) };
        if self.place()?.as_ref() == Some(place) {
            return Ok(());
        }
        let (path, new) = (self.folder.join(OBJECTS), self.folder.join(format!("{OBJECTS}.new")));
        let mut text = Text::create(&new)?;
        text.begin(place)?;
        text.end()?;
        fs::rename(&new, &path)?;
        sync_folder(&self.folder)
    }

    /// Where files are that are not here.
    ///
    /// # Errors
    /// The text cannot be read.
    pub fn place(&self) -> io::Result<Option<ObjectPlace>> {
        Ok(Listed::open(self)?.map(|listed| listed.place))
    }
}

/// A text that is written, with its checksum.
pub(crate) struct Text {
    file: BufWriter<File>,
    checksum: u32,
}

impl Text {
    fn create(path: &Path) -> io::Result<Text> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Text { file: BufWriter::new(file), checksum: 0 })
    }

    /// Begins the list of a backup.
    pub(crate) fn list(files: &UploadFiles, place: &ObjectPlace) -> io::Result<Text> {
        let mut text = Text::create(&files.folder.join(OBJECTS))?;
        text.begin(place)?;
        Ok(text)
    }

    fn begin(&mut self, place: &ObjectPlace) -> io::Result<()> {
        let ObjectPlace { endpoint, bucket, prefix } = place;
        self.line(&format!("{TITLE}\nendpoint {endpoint}\nbucket {bucket}\nprefix {prefix}\n"))
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, line.as_bytes());
        self.file.write_all(line.as_bytes())
    }

    /// Adds an object; they come in the order of their ids.
    pub(crate) fn object(&mut self, upload: &Upload) -> io::Result<()> {
        self.line(&format!("object {} {} {:08x}\n", upload.id, upload.bytes, upload.checksum))
    }

    /// Puts it on the disk.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let check = format!("check {:08x}\n", self.checksum);
        self.file.write_all(check.as_bytes())?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// A text that is read, line by line.
pub(crate) struct Listed {
    /// Where the objects are.
    pub(crate) place: ObjectPlace,
    lines: Lines,
    /// The object that was read last.
    next: Option<(UploadId, u64, u32)>,
}

struct Lines {
    file: BufReader<File>,
    checksum: u32,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the list of objects {what}"))
}

impl Lines {
    /// The next; `None`: the checksum at the end, which is right.
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        io::Read::take(&mut self.file, LINE_BYTES_MAX).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(broken("has no end"));
        }
        if let Some(check) = line.strip_prefix("check ") {
            let is_right = u32::from_str_radix(check.trim_end(), 16) == Ok(self.checksum);
            let is_end = self.file.fill_buf()?.is_empty();
            return if is_right && is_end {
                Ok(None)
            } else {
                Err(broken("has other contents than were written"))
            };
        }
        self.checksum = crc32c::crc32c_append(self.checksum, line.as_bytes());
        line.pop();
        Ok(Some(line))
    }

    fn field(&mut self, key: &str) -> io::Result<String> {
        let line = self.next()?.ok_or_else(|| broken("ends too soon"))?;
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        value.map(str::to_owned).ok_or_else(|| broken("is of another form"))
    }
}

impl Listed {
    /// Opens that of a folder of uploads; `None`: it has none.
    pub(crate) fn open(files: &UploadFiles) -> io::Result<Option<Listed>> {
        let file = match File::open(files.folder.join(OBJECTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut lines = Lines { file: BufReader::new(file), checksum: 0 };
        if lines.next()?.as_deref() != Some(TITLE) {
            return Err(broken("is of another form"));
        }
        let (endpoint, bucket) = (lines.field("endpoint")?, lines.field("bucket")?);
        let prefix = lines.field("prefix")?;
        let mut listed = Listed { place: ObjectPlace { endpoint, bucket, prefix }, lines, next: None };
        listed.step()?;
        Ok(Some(listed))
    }

    fn step(&mut self) -> io::Result<()> {
        self.next = match self.lines.next()? {
            None => None,
            Some(line) => Some(read(&line).ok_or_else(|| broken("is of another form"))?),
        };
        Ok(())
    }

    /// Length and checksum of an object; `None`: it is not listed. Ids are asked for in their order.
    pub(crate) fn find(&mut self, id: &UploadId) -> io::Result<Option<(u64, u32)>> {
        while let Some((found, bytes, checksum)) = self.next {
            if found == *id {
                return Ok(Some((bytes, checksum)));
            }
            if found > *id {
                break;
            }
            self.step()?;
        }
        Ok(None)
    }

    /// Reads the rest, and compares the checksum.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while self.next.is_some() {
            self.step()?;
        }
        Ok(())
    }
}

fn read(line: &str) -> Option<(UploadId, u64, u32)> {
    let mut fields = line.strip_prefix("object ")?.split(' ');
    let id = fields.next()?.parse().ok()?;
    let bytes = fields.next()?.parse().ok()?;
    let checksum = u32::from_str_radix(fields.next()?, 16).ok()?;
    fields.next().is_none().then_some((id, bytes, checksum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::ActorId;

    fn upload(second: u64) -> Upload {
        let text = String::new;
        let id = UploadId::new(second, [7; 16]);
        let (actor, bytes, checksum) = (ActorId::NOBODY, second * 10, 0xabc);
        Upload { id, actor, local: text(), name: text(), media: text(), bytes, time_ms: 0, checksum }
    }

    #[test]
    fn a_list_reads_back_and_tells_when_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let files = UploadFiles::of(folder.path());
        files.prepare().unwrap();
        assert_eq!(files.place().unwrap(), None);
        let place = ObjectPlace { endpoint: "https://a".into(), bucket: "b".into(), prefix: String::new() };
        files.note_place(Some(&place)).unwrap();
        files.note_place(None).unwrap();
        assert_eq!(files.place().unwrap(), Some(place.clone()));
        let moved = ObjectPlace { prefix: "p/q".into(), ..place };
        files.note_place(Some(&moved)).unwrap();
        let mut text = Text::list(&files, &moved).unwrap();
        [1, 3, 4].iter().for_each(|second| text.object(&upload(*second)).unwrap());
        text.end().unwrap();
        let mut listed = Listed::open(&files).unwrap().unwrap();
        assert_eq!(listed.place, moved);
        for (second, expected) in [(1, Some((10, 0xabc))), (2, None), (3, Some((30, 0xabc))), (5, None)] {
            assert_eq!(listed.find(&upload(second).id).unwrap(), expected, "{second}");
        }
        listed.finish().unwrap();
        let path = folder.path().join("uploads").join(OBJECTS);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in
            [(" 30 ", " 31 "), ("check", "chec"), ("prefix p/q", "prefix p"), ("\ncheck", "\n\ncheck")]
        {
            fs::write(&path, text.replace(from, to)).unwrap();
            let read = Listed::open(&files).and_then(|listed| listed.unwrap().finish());
            assert!(read.is_err(), "{from} → {to}");
        }
        fs::write(&path, format!("{text}more\n")).unwrap();
        assert!(Listed::open(&files).and_then(|listed| listed.unwrap().finish()).is_err());
    }
}
