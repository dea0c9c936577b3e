//! Which bytes and characters XML allows where, as one table and a few range checks.

use super::error::{FramingError, Problem};
use super::lanes::{self, LANES};

/// May begin a name (ASCII, without the colon).
pub(super) const NAME_START: u8 = 1;
/// May stand in a name (ASCII, without the colon).
pub(super) const NAME: u8 = 2;
/// Needs no attention in text.
pub(super) const TEXT: u8 = 4;
/// Needs no attention in a value between `"`.
pub(super) const DOUBLE: u8 = 8;
/// Needs no attention in a value between `'`.
pub(super) const SINGLE: u8 = 16;
/// White space of XML.
pub(super) const SPACE: u8 = 32;
/// Part of a character beyond ASCII.
pub(super) const HIGH: u8 = 64;
/// Begins a reference.
pub(super) const AMPERSAND: u8 = 128;

pub(super) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        if b.is_ascii_alphabetic() || b == b'_' {
            class |= NAME_START | NAME;
        }
        if b.is_ascii_digit() || b == b'-' || b == b'.' {
            class |= NAME;
        }
        let space = matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        if space {
            class |= SPACE;
        }
        if space || (b >= 0x20 && b < 0x80 && b != b'<' && b != b'&') {
            if b != b'>' {
                class |= TEXT;
            }
            if b != b'"' {
                class |= DOUBLE;
            }
            if b != b'\'' {
                class |= SINGLE;
            }
        }
        if b >= 0x80 {
            class |= HIGH;
        }
        if b == b'&' {
            class |= AMPERSAND;
        }
        table[i] = class;
        i += 1;
    }
    table
}

pub(super) const fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// The first position from `pos` on whose byte is in none of the classes, or the length.
#[inline]
pub(super) fn skip(bytes: &[u8], mut pos: usize, classes: u8) -> usize {
    while let Some(&b) = bytes.get(pos) {
        if !is(b, classes) {
            break;
        }
        pos += 1;
    }
    pos
}

/// `Char` of XML 1.0.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}'
        | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

const fn is_name(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '0'..='9' | '-' | '.' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// Whether `name` is an `NCName`.
pub(super) fn is_ncname(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name)
}

/// Checks a run of text or a value that holds bytes beyond ASCII; its ASCII part has been checked already.
/// `start` is where the run begins in the frame, for the error.
#[cold]
pub(super) fn check_high(run: &[u8], start: usize) -> Result<(), FramingError> {
    if let Err(error) = std::str::from_utf8(run) {
        return Err(FramingError::new(Problem::InvalidUtf8, start + error.valid_up_to()));
    }
    // U+FFFE and U+FFFF are EF BF BE and EF BF BF; no other forbidden character is valid UTF-8 beyond ASCII.
    for at in memchr::memchr_iter(0xEF, run) {
        if matches!(run.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])) {
            return Err(FramingError::new(Problem::ForbiddenCharacter, start + at));
        }
    }
    Ok(())
}

/// The longest reference accepted, in bytes with `&` and `;`. The longest meaningful one is `&#1114111;`; a few
/// leading zeros are harmless, a whole stanza of them is not.
pub(super) const REFERENCE_BYTES_MAX: usize = 32;

/// Parses the reference that begins at `bytes[at]`. `None` if it is not complete.
pub(super) fn reference(bytes: &[u8], at: usize) -> Result<Option<(char, usize)>, FramingError> {
    let bad = |problem| Err(FramingError::new(problem, at));
    let mut pos = at + 1;
    let Some(&first) = bytes.get(pos) else { return Ok(None) };
    if first != b'#' {
        if !is(first, NAME_START | HIGH) {
            return bad(Problem::UnexpectedByte(first));
        }
        pos = skip(bytes, pos, NAME);
        if pos - at > 5 {
            return bad(Problem::Entity);
        }
        let Some(&end) = bytes.get(pos) else { return Ok(None) };
        if end != b';' {
            return bad(if is(end, HIGH) { Problem::Entity } else { Problem::UnexpectedByte(end) });
        }
        let c = match &bytes[at + 1..pos] {
            b"amp" => '&',
            b"lt" => '<',
            b"gt" => '>',
            b"quot" => '"',
            b"apos" => '\'',
            _ => return bad(Problem::Entity),
        };
        return Ok(Some((c, pos + 1)));
    }
    pos += 1;
    let radix = match bytes.get(pos) {
        None => return Ok(None),
        Some(b'x') => 16,
        Some(_) => 10,
    };
    if radix == 16 {
        pos += 1;
    }
    let digits = pos;
    let mut code = 0_u32;
    loop {
        let Some(&b) = bytes.get(pos) else { return Ok(None) };
        if b == b';' && pos > digits {
            break;
        }
        let Some(digit) = char::from(b).to_digit(radix) else { return bad(Problem::BadReference) };
        code = code.saturating_mul(radix).saturating_add(digit);
        pos += 1;
        if pos - at >= REFERENCE_BYTES_MAX {
            return bad(Problem::BadReference);
        }
    }
    match char::from_u32(code).filter(|&c| is_char(c)) {
        Some(c) => Ok(Some((c, pos + 1))),
        None => bad(Problem::BadReference),
    }
}

/// As [`skip`] with [`NAME`].
#[inline(always)]
pub(super) fn skip_name(bytes: &[u8], mut pos: usize) -> usize {
    while let Some(block) = lanes::block(bytes, pos) {
        let end = lanes::not_name(block);
        if end != 0 {
            return pos + end.trailing_zeros() as usize;
        }
        pos += LANES;
    }
    skip(bytes, pos, NAME)
}

/// As [`skip`] with [`TEXT`], and also with [`HIGH`] unless only `ASCII` is to be skipped.
#[inline(always)]
pub(super) fn skip_text<const ASCII: bool>(bytes: &[u8], mut pos: usize) -> usize {
    while let Some(block) = lanes::block(bytes, pos) {
        let stop = lanes::not_text::<ASCII>(block);
        if stop == 0 {
            pos += LANES;
            continue;
        }
        pos += stop.trailing_zeros() as usize;
        if !is(bytes[pos], SPACE) {
            return pos;
        }
        pos += 1;
    }
    skip(bytes, pos, if ASCII { TEXT } else { TEXT | HIGH })
}

/// The first position from `pos` on whose byte needs attention in a value between `quote`, or the length: the quote,
/// `<`, `&`, controls including white space but the blank, and what is not ASCII if only `ASCII` is to be skipped.
#[inline(always)]
pub(super) fn skip_value<const ASCII: bool>(bytes: &[u8], mut pos: usize, quote: u8) -> usize {
    while let Some(block) = lanes::block(bytes, pos) {
        let stop = lanes::not_value::<ASCII>(block, quote);
        if stop != 0 {
            return pos + stop.trailing_zeros() as usize;
        }
        pos += LANES;
    }
    while let Some(&b) = bytes.get(pos) {
        if b == quote || b == b'<' || b == b'&' || b < 0x20 || (ASCII && b >= 0x80) {
            break;
        }
        pos += 1;
    }
    pos
}
