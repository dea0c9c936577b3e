//! Reading the kernel's text files. Each source keeps its buffer, so that a sample allocates nothing.

use std::fs::File;
use std::io::{self, Read};
use std::str::SplitAsciiWhitespace;

use crate::collect::strange;

/// A file is read up to this length.
const LENGTH_MAX: u64 = 4 << 20;

/// The text of a file, read anew into the buffer.
pub(super) fn read<'a>(path: &str, buffer: &'a mut String) -> io::Result<&'a str> {
    buffer.clear();
    let at_path = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    File::open(path).map_err(at_path)?.take(LENGTH_MAX).read_to_string(buffer).map_err(at_path)?;
    Ok(buffer)
}

/// The next word as a number.
pub(super) fn number(words: &mut SplitAsciiWhitespace<'_>, path: &str) -> io::Result<u64> {
    let word = words.next().ok_or_else(|| strange(format!("{path}: a line is too short")))?;
    word.parse().map_err(|_| strange(format!("{path}: `{word}` where a number should be")))
}

/// The words after the word that a line begins with; `None`: no such line.
pub(super) fn after<'a>(text: &'a str, first: &str) -> Option<SplitAsciiWhitespace<'a>> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(first)).then_some(words)
    })
}

/// The number after a line's first word; 0: no such line (an older kernel).
pub(super) fn named(text: &str, first: &str) -> u64 {
    after(text, first).and_then(|mut words| words.next()?.parse().ok()).unwrap_or(0)
}

/// A value of a pair of lines of which the first has the names (`/proc/net/snmp`); 0: no such name.
pub(super) fn paired(text: &str, line: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_kernels_files() {
        let meminfo = "MemTotal:  100 kB\nMemFree:    7 kB\n";
        assert_eq!((named(meminfo, "MemFree:"), named(meminfo, "Zswap:")), (7, 0));
        let snmp = "Ip: A B\nIp: 1 2\nTcp: RtoMin CurrEstab Retrans\nTcp: -1 5 9\n";
        assert_eq!((paired(snmp, "Tcp", "CurrEstab"), paired(snmp, "Tcp", "Retrans")), (5, 9));
        assert_eq!((paired(snmp, "Ip", "Retrans"), paired(snmp, "Udp", "A")), (0, 0));
        let mut words = "7 x".split_ascii_whitespace();
        assert_eq!(number(&mut words, "f").unwrap(), 7);
        assert_eq!(number(&mut words, "f").unwrap_err().to_string(), "f: `x` where a number should be");
        assert_eq!(number(&mut words, "f").unwrap_err().to_string(), "f: a line is too short");
    }
}
