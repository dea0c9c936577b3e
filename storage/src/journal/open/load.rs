//! The segments of a journal, from its folder: for opening it, or for looking only.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::super::error::{Damage, LogError};
use super::super::format::layout::damaged_name;
use super::super::format::segment::{FORMAT, HEADER_BYTES, Header, HeaderFault, base_of, likely_bytes};
use super::super::live::Identity;
use super::super::live::files::{Files, PARTIAL};
use super::super::live::segment::Segment;

/// What may be done to the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// They are ours: they are mapped for writing, and what is no part of the journal is moved out of the way.
    Own,
    /// As [`Access::Own`], and this process had them open a moment ago: they are what their names and lengths say, and none of
    /// them is looked into. A page of each that is read from a disk takes longer than all else.
    Continue,
    /// Others may have them open: nothing is changed, and a file may go at any moment.
    Look,
}

/// The segments there are, by base.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) segments: VecDeque<Segment>,
    /// Bases of those whose header cannot be read.
    pub(crate) headless: Vec<u64>,
}

/// Maps the segments in the folder of a journal. Anything that is wrong with them is reported.
pub(crate) fn load(
    files: &dyn Files,
    folder: &Path,
    identity: &Identity,
    access: Access,
    damage: &mut Vec<Damage>,
) -> Result<Loaded, LogError> {
    let mut loader =
        Loader { files, folder, identity, access, damage, found: Vec::new(), headless: Vec::new() };
    for name in files.list(folder).map_err(|error| LogError::io("read", folder, error))? {
        let path = folder.join(&name);
        if name.ends_with(PARTIAL) {
            if access != Access::Look {
                files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
            }
        } else if let Some(base) = base_of(&name) {
            loader.file(&path, base)?;
        }
    }
    loader.in_order()
}

struct Loader<'a> {
    files: &'a dyn Files,
    folder: &'a Path,
    identity: &'a Identity,
    access: Access,
    damage: &'a mut Vec<Damage>,
    found: Vec<Segment>,
    headless: Vec<u64>,
}

impl Loader<'_> {
    fn report(&mut self, path: &Path, bytes: u64, what: &'static str) {
        self.damage.push(Damage { path: path.to_owned(), offset: 0, bytes, what });
    }

    /// Takes the file whose name tells this base.
    fn file(&mut self, path: &Path, named: u64) -> Result<(), LogError> {
        let map = match self.access {
            Access::Own | Access::Continue => self.files.open(path),
            Access::Look => self.files.view(path),
        };
        let map = match map {
            Ok(map) => map,
            // The server has deleted it since.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.access == Access::Look => {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.report(path, 0, "the file is empty");
                return self.set_aside(path, named);
            }
            Err(error) => return Err(LogError::io("open", path, error)),
        };
        if self.access == Access::Continue {
            self.found.push(Segment::new(named, map.len() as u64, path, map));
            return Ok(());
        }
        map.expect_touches();
        let header = Header::decode(map.bytes());
        map.expect_reads();
        match header {
            Ok(header) if header.log_id != self.identity.log_id => {
                self.report(path, map.len() as u64, "it is a segment of another log");
                drop(map);
                self.set_aside(path, named)?;
            }
            Ok(header) => {
                if header.base != named {
                    self.report(
                        path,
                        0,
                        "it holds another segment than its name tells; it is read as what it is",
                    );
                }
                self.found.push(Segment::new(header.base, header.bytes, path, map));
            }
            Err(HeaderFault::Format(found)) => {
                return Err(LogError::UnknownFormat { path: path.to_owned(), found, known: FORMAT });
            }
            Err(HeaderFault::Bad(what)) => {
                self.report(path, HEADER_BYTES as u64, what);
                self.headless.push(named);
                self.found.push(Segment::new(named, likely_bytes(map.len()), path, map));
            }
        }
        Ok(())
    }

    /// Sorts them, and leaves out what is there twice.
    fn in_order(mut self) -> Result<Loaded, LogError> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|segment| segment.base);
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for segment in found {
            if let Some(before) = segments.back_mut() {
                if self.headless.contains(&before.base) {
                    // Its length is not known, but where the next begins is.
                    before.bytes = segment.base - before.base;
                }
                if segment.base < before.end() {
                    let (path, base, bytes) = (segment.path.clone(), segment.base, segment.map.len() as u64);
                    drop(segment);
                    self.report(&path, bytes, "another file is this segment, too");
                    self.set_aside(&path, base)?;
                    continue;
                }
            }
            segments.push_back(segment);
        }
        Ok(Loaded { segments, headless: self.headless })
    }

    /// Moves a file that is no part of the journal out of the way.
    fn set_aside(&self, path: &Path, base: u64) -> Result<(), LogError> {
        if self.access == Access::Look {
            return Ok(());
        }
        let to = damaged_name(self.folder, base, 0);
        make_parent(self.files, &to)?;
        self.files.rename(path, &to).map_err(|error| LogError::io("move", path, error))
    }
}

/// Makes the folder of a file.
pub(super) fn make_parent(files: &dyn Files, path: &Path) -> Result<(), LogError> {
    let folder = path.parent().unwrap_or(path);
    files.make_folder(folder).map_err(|error| LogError::io("make", folder, error))
}
