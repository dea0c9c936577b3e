//! The lines of a file, numbered and of bounded length.

use std::io::{BufRead, BufReader, Read};

use zeroize::Zeroizing;

use crate::user;

/// Bytes of one line at most: the longest address, a tab, the longest password or the longest keys.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;

/// What some editors begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line as read.
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Numbered lines of bounded length.
pub(super) struct Lines<R> {
    source: BufReader<R>,
    line: Zeroizing<Vec<u8>>,
    number: u64,
    /// Bytes read so far.
    pub(super) bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Lines<R> {
        let source = BufReader::with_capacity(64 * 1024, source);
        Lines { source, line: Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + 1)), number: 0, bytes: 0 }
    }

    /// The domain of the first good line in what the first read brings.
    pub(super) fn peek_domain(&mut self) -> Option<String> {
        let seen = self.source.fill_buf().ok()?;
        let seen = seen.strip_prefix(BYTE_ORDER_MARK).unwrap_or(seen);
        let text = String::from_utf8_lossy(seen);
        text.lines().find_map(|line| user::bare(line.split('\t').next()?).ok()).map(|(_, domain)| domain)
    }

    pub(super) fn next(&mut self) -> std::io::Result<Option<(u64, Line<'_>)>> {
        self.line.clear();
        let mut limited = (&mut self.source).take(LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.bytes += read as u64;
        self.number += 1;
        if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if read > LINE_BYTES_MAX {
            self.bytes += self.source.skip_until(b'\n')? as u64;
            return Ok(Some((self.number, Line::TooLong)));
        }
        Ok(Some((self.number, Line::Whole(&self.line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_costs_no_memory_and_the_next_one_is_read() {
        let text = [vec![b'x'; 100_000], b"\nnext\nlast".to_vec()].concat();
        let mut lines = Lines::new(&text[..]);
        assert!(matches!(lines.next().unwrap(), Some((1, Line::TooLong))));
        assert!(matches!(lines.next().unwrap(), Some((2, Line::Whole(b"next")))));
        assert!(matches!(lines.next().unwrap(), Some((3, Line::Whole(b"last")))));
        assert!(lines.next().unwrap().is_none());
        assert_eq!(lines.bytes, text.len() as u64);
    }

    #[test]
    fn the_mark_that_some_editors_begin_a_file_with_belongs_to_no_address() {
        let mut lines = Lines::new("\u{feff}a@x.org\tb\n\u{feff}c".as_bytes());
        assert_eq!(lines.peek_domain().as_deref(), Some("x.org"));
        assert!(matches!(lines.next().unwrap(), Some((1, Line::Whole(b"a@x.org\tb")))));
        assert!(
            matches!(lines.next().unwrap(), Some((2, Line::Whole(line))) if line == "\u{feff}c".as_bytes())
        );
    }
}
