//! A state file, mapped into memory: read in place, so that nothing is held twice.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The bytes of a state file.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps a state file.
    ///
    /// # Errors
    /// The system's reason, or it is empty.
    pub fn new(file: &File) -> std::io::Result<Mapped> {
        let mut first = [0];
        file.read_exact_at(&mut first, 0)?;
        // SAFETY: the file has no name, and its holders write only its attempt and its note from here on, which lie in
        // a page that is read before and not again.
        #[expect(unsafe_code, reason = "a memory map")]
        Ok(Mapped(unsafe { memmap2::Mmap::map(file)? }))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
