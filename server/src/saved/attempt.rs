//! The two fields of a state file that are written after the file is complete: how often a restore was begun, and the note
//! that a program leaves which has given up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the number of attempts lies.
pub(super) const ATTEMPT_AT: u64 = 48;

const NOTE_AT: u64 = 52;

/// Bytes of the note at most.
pub const NOTE_BYTES_MAX: usize = 1024;

/// How often somebody has begun to restore from a file; counts this time as well.
///
/// # Errors
/// The system's reason.
pub fn count_attempt(file: &File) -> io::Result<u32> {
    let mut before = [0; 4];
    file.read_exact_at(&mut before, ATTEMPT_AT)?;
    let before = u32::from_le_bytes(before);
    file.write_all_at(&before.saturating_add(1).to_le_bytes(), ATTEMPT_AT)?;
    Ok(before)
}

/// Leaves a note for the program that restores next; cut where there is no room. Allocates nothing: a signal handler
/// calls it.
///
/// # Errors
/// The system's reason.
pub fn leave_note(file: &File, note: &str) -> io::Result<()> {
    let cut = (0..=NOTE_BYTES_MAX.min(note.len())).rev().find(|&at| note.is_char_boundary(at)).unwrap_or(0);
    file.write_all_at(&note.as_bytes()[..cut], NOTE_AT + 4)?;
    file.write_all_at(&(cut as u32).to_le_bytes(), NOTE_AT)
}

/// The note that was left; empty when there is none.
///
/// # Errors
/// The system's reason.
pub fn note(file: &File) -> io::Result<String> {
    let mut length = [0; 4];
    file.read_exact_at(&mut length, NOTE_AT)?;
    let mut note = vec![0; (u32::from_le_bytes(length) as usize).min(NOTE_BYTES_MAX)];
    file.read_exact_at(&mut note, NOTE_AT + 4)?;
    Ok(String::from_utf8_lossy(&note).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_a_note_is_kept() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(note(&file).unwrap(), "");
        assert_eq!((count_attempt(&file).unwrap(), count_attempt(&file).unwrap()), (0, 1));
        leave_note(&file, &"ü".repeat(NOTE_BYTES_MAX)).unwrap();
        assert_eq!(note(&file).unwrap(), "ü".repeat(NOTE_BYTES_MAX / 2));
    }
}
