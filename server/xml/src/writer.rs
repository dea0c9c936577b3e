//! Escaping: any string becomes well-formed text or a well-formed attribute value. And one more child for a finished element.

use super::chars::{DOUBLE, SINGLE, TEXT, is};
use super::lanes::{self, LANES};

/// Appends `text` as character data. `]]>` cannot arise, carriage returns survive, and characters that XML forbids
/// become U+FFFD.
pub fn escape_text(text: &str, out: &mut Vec<u8>) {
    escape(text, out, |b| {
        matches!(b, b'&' | b'<' | b'>' | b'\r' | 0xEF) || (b < 0x20 && b != b'\t' && b != b'\n')
    });
}

/// Bytes that are never escaped, and what addresses, ids and names are made of.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        plain[byte] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'@' | b'_');
        byte += 1;
    }
    plain
};

/// Whether nothing in it may have to be escaped. Sixteen bytes at once, the last ones a second time where they make no
/// whole block of their own.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return bytes.iter().all(|&b| IS_PLAIN[usize::from(b)]) };
    let (blocks, _) = bytes.as_chunks();
    blocks.iter().all(|block| lanes::not_plain(block) == 0) && lanes::not_plain(last) == 0
}

/// Appends `value` as the inside of an attribute, for either quote. White space survives as it is, and characters
/// that XML forbids become U+FFFD.
pub fn escape_attribute(value: &str, out: &mut Vec<u8>) {
    // Addresses, ids, names: as a rule nothing in them needs it.
    if is_plain(value.as_bytes()) {
        return out.extend_from_slice(value.as_bytes());
    }
    escape(value, out, |b| matches!(b, b'&' | b'<' | b'>' | b'"' | b'\'' | 0xEF) || b < 0x20);
}

/// Appends a space and an attribute. `name` is well-formed.
pub fn append_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    escape_attribute(value, out);
    out.push(b'"');
}

/// Appends a whole element with what `child` writes behind everything that it contains. `element` is well-formed and has
/// nothing around it, as this crate writes and accepts it.
pub fn append_child(element: &[u8], out: &mut Vec<u8>, child: impl FnOnce(&mut Vec<u8>)) {
    if let Some(open) = element.strip_suffix(b"/>") {
        let name = &open[1..];
        let end = name.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(name.len());
        out.extend_from_slice(open);
        out.push(b'>');
        child(out);
        out.extend_from_slice(b"</");
        out.extend_from_slice(&name[..end]);
        return out.push(b'>');
    }
    // The last `</` is its own: no comment or CDATA section can stand behind it.
    let end = memchr::memmem::rfind(element, b"</").unwrap_or(element.len());
    out.extend_from_slice(&element[..end]);
    child(out);
    out.extend_from_slice(&element[end..]);
}

fn escape(text: &str, out: &mut Vec<u8>, special: impl Fn(u8) -> bool) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len());
    let mut run = 0;
    let mut next = 0;
    while let Some(at) = candidate(bytes, next) {
        let b = bytes[at];
        next = at + 1;
        if !special(b) {
            // A run beyond ASCII is walked here: looking at sixteen bytes for each of its bytes costs more.
            while bytes.get(next).is_some_and(|&b| b >= 0x80 && b != 0xEF) {
                next += 1;
            }
            continue;
        }
        let (replacement, length): (&[u8], usize) = match b {
            b'&' => (b"&amp;", 1),
            b'<' => (b"&lt;", 1),
            b'>' => (b"&gt;", 1),
            b'"' => (b"&quot;", 1),
            b'\'' => (b"&apos;", 1),
            b'\t' => (b"&#x9;", 1),
            b'\n' => (b"&#xA;", 1),
            b'\r' => (b"&#xD;", 1),
            // U+FFFE and U+FFFF; other characters that begin with this byte stay.
            0xEF if matches!(bytes.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])) => {
                ("\u{FFFD}".as_bytes(), 3)
            }
            0xEF => continue,
            _ => ("\u{FFFD}".as_bytes(), 1),
        };
        out.extend_from_slice(&bytes[run..at]);
        out.extend_from_slice(replacement);
        run = at + length;
        next = run;
    }
    out.extend_from_slice(&bytes[run..]);
}

/// The first byte from `pos` on that escaping may have to replace.
#[inline]
fn candidate(bytes: &[u8], mut pos: usize) -> Option<usize> {
    while let Some(block) = lanes::block(bytes, pos) {
        let stop = lanes::not_plain(block);
        if stop != 0 {
            return Some(pos + stop.trailing_zeros() as usize);
        }
        pos += LANES;
    }
    let plain = |b: u8| is(b, TEXT) && is(b, DOUBLE) && is(b, SINGLE) && b >= 0x20;
    bytes[pos..].iter().position(|&b| !plain(b)).map(|more| pos + more)
}
