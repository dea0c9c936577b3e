//! Start tags: names, attributes, values.

use super::{Attribute, AttributeKind, Context, QName, Scan, at32, fail};
use crate::chars::{self, AMPERSAND, DOUBLE, HIGH, NAME, NAME_START, SINGLE, SPACE, is, skip};
use crate::error::{FramingError, Problem};
use crate::lanes;

pub(super) enum TagEnd {
    More,
    Open,
    Empty,
}

/// The value of an attribute by its place in the frame.
struct Value {
    start: u32,
    end: u32,
    literal: bool,
}

/// One of 64 bits for a name, such that equal names have equal bits.
#[inline(always)]
fn mark(name: &[u8]) -> u64 {
    let ends =
        name.first().zip(name.last()).map_or(0, |(&first, &last)| usize::from(first) + 5 * usize::from(last));
    1 << ((ends + 11 * name.len()) & 63)
}

impl Scan {
    /// A qualified name at `start`. `None`: the bytes ran out.
    #[inline]
    pub(super) fn qname(&mut self, frame: &[u8], start: usize) -> Result<Option<QName>, FramingError> {
        let mut local = start;
        let mut high = false;
        loop {
            let Some(&first) = frame.get(local) else { return Ok(None) };
            if !is(first, NAME_START | HIGH) {
                return fail(Problem::UnexpectedByte(first), local);
            }
            let mut end = chars::skip_name(frame, local);
            let Some(&b) = frame.get(end) else {
                self.wait_for_end_of(NAME | HIGH, frame);
                return Ok(None);
            };
            let mut after = b;
            if b >= 0x80 {
                high = true;
                end = skip(frame, end, NAME | HIGH);
                let Some(&b) = frame.get(end) else {
                    self.wait_for_end_of(NAME | HIGH, frame);
                    return Ok(None);
                };
                after = b;
            }
            if high {
                check_name(&frame[local..end], local)?;
            }
            if after == b':' && local == start {
                local = end + 1;
                continue;
            }
            return Ok(Some(QName { start: at32(start), end: at32(end), local: at32(local) }));
        }
    }

    /// Reads attributes up to the end of the start tag.
    #[inline]
    pub(super) fn attributes(&mut self, frame: &[u8], context: &Context<'_>) -> Result<TagEnd, FramingError> {
        let mut pos = self.pos;
        loop {
            // The usual attribute at once; whatever is unusual, unfinished or wrong is left to the long way below.
            while let Some((name, value, after)) = plain_attribute(frame, pos) {
                let kind = if name.bytes(frame) == b"xmlns" {
                    self.declares = true;
                    AttributeKind::Default
                } else {
                    AttributeKind::Plain
                };
                self.attribute(frame, context, name, value, kind)?;
                pos = after;
            }
            // Kept at the end of what is complete: an unfinished attribute is read again from here.
            self.pos = pos;
            let Some(&b) = frame.get(pos) else { return Ok(TagEnd::More) };
            if is(b, SPACE) {
                pos = skip(frame, pos + 1, SPACE);
            }
            match frame.get(pos) {
                None => {
                    self.wait_for_end_of(SPACE, frame);
                    return Ok(TagEnd::More);
                }
                Some(b'>') => {
                    self.pos = pos + 1;
                    return Ok(TagEnd::Open);
                }
                Some(b'/') => match frame.get(pos + 1) {
                    None => return Ok(TagEnd::More),
                    Some(b'>') => {
                        self.pos = pos + 2;
                        return Ok(TagEnd::Empty);
                    }
                    Some(&b) => return fail(Problem::UnexpectedByte(b), pos + 1),
                },
                Some(&b) if pos == self.pos => return fail(Problem::UnexpectedByte(b), pos),
                Some(_) => {}
            }
            let Some(name) = self.qname(frame, pos)? else { return Ok(TagEnd::More) };
            let Some(value) = self.value(frame, name.end as usize)? else { return Ok(TagEnd::More) };
            pos = value.end as usize + 1;
            let kind = if name.has_prefix() {
                if name.prefix(frame) == b"xmlns" {
                    self.declares = true;
                    AttributeKind::Declaration
                } else {
                    self.prefixed = self.prefixed.saturating_add(1);
                    AttributeKind::Prefixed
                }
            } else if name.bytes(frame) == b"xmlns" {
                self.declares = true;
                AttributeKind::Default
            } else {
                AttributeKind::Plain
            };
            self.attribute(frame, context, name, value, kind)?;
        }
    }

    /// Takes in an attribute of the current start tag.
    #[inline(always)]
    fn attribute(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        name: QName,
        value: Value,
        kind: AttributeKind,
    ) -> Result<(), FramingError> {
        if self.attributes.len() - self.tag_attributes >= context.attributes_max {
            return fail(Problem::TooManyAttributes, name.start as usize);
        }
        let bit = mark(name.bytes(frame));
        self.twice |= self.marks & bit != 0;
        self.marks |= bit;
        let (value_start, value_end, literal) = (value.start, value.end, value.literal);
        self.attributes.push(Attribute { name, value_start, value_end, kind, literal });
        Ok(())
    }

    /// `= "value"` from after the attribute's name: where the value begins and ends.
    #[inline]
    fn value(&mut self, frame: &[u8], mut pos: usize) -> Result<Option<Value>, FramingError> {
        if frame.get(pos) != Some(&b'=') {
            pos = skip(frame, pos, SPACE);
            match frame.get(pos) {
                None => {
                    self.wait_for_end_of(SPACE, frame);
                    return Ok(None);
                }
                Some(b'=') => {}
                Some(&b) => return fail(Problem::UnexpectedByte(b), pos),
            }
        }
        pos = skip(frame, pos + 1, SPACE);
        let quote = match frame.get(pos) {
            None => {
                self.wait_for_end_of(SPACE, frame);
                return Ok(None);
            }
            Some(&quote @ (b'"' | b'\'')) => quote,
            Some(&b) => return fail(Problem::UnexpectedByte(b), pos),
        };
        let start = pos + 1;
        let end = chars::skip_value::<true>(frame, start, quote);
        if frame.get(end) == Some(&quote) {
            return Ok(Some(Value { start: at32(start), end: at32(end), literal: true }));
        }
        self.value_slow(frame, start, end, quote)
    }

    /// A value that holds more than plain ASCII before `pos`, or is incomplete, or wrong.
    fn value_slow(
        &mut self,
        frame: &[u8],
        start: usize,
        mut pos: usize,
        quote: u8,
    ) -> Result<Option<Value>, FramingError> {
        let mut literal = true;
        let mut high = false;
        loop {
            match frame.get(pos) {
                None => {
                    let class = if quote == b'"' { DOUBLE } else { SINGLE };
                    self.wait_for_end_of(class | HIGH | AMPERSAND, frame);
                    return Ok(None);
                }
                Some(&b) if b == quote => break,
                Some(b'&' | b'\t' | b'\n' | b'\r') => {
                    literal = false;
                    pos += 1;
                }
                Some(0x80..) => high = true,
                Some(b'<') => return fail(Problem::UnexpectedByte(b'<'), pos),
                Some(_) => return fail(Problem::ForbiddenCharacter, pos),
            }
            pos = chars::skip_value::<false>(frame, pos, quote);
        }
        if high || !literal {
            check_value(&frame[..pos], start)?;
        }
        Ok(Some(Value { start: at32(start), end: at32(pos), literal }))
    }
}

/// A name without a prefix, in ASCII, with at least so many bytes after its beginning that they can be looked at
/// together. `None`: look again the long way.
#[inline(always)]
pub(super) fn plain_name(frame: &[u8], start: usize) -> Option<QName> {
    let block = lanes::block(frame, start)?;
    let length = lanes::not_name(block).trailing_zeros() as usize;
    let after = *block.get(length)?;
    if !is(block[0], NAME_START) || after == b':' || after >= 0x80 {
        return None;
    }
    Some(QName { start: at32(start), end: at32(start + length), local: at32(start) })
}

/// ` name="value"` in plain ASCII, written as nearly everybody does, and where it ends. `None`: look again the long
/// way.
#[inline(always)]
fn plain_attribute(frame: &[u8], pos: usize) -> Option<(QName, Value, usize)> {
    if *frame.get(pos)? != b' ' {
        return None;
    }
    let name = plain_name(frame, pos + 1)?;
    let [equals, quote] = *frame.get(name.end as usize..)?.first_chunk()?;
    if equals != b'=' || (quote != b'"' && quote != b'\'') {
        return None;
    }
    let start = name.end as usize + 2;
    let end = chars::skip_value::<true>(frame, start, quote);
    if *frame.get(end)? != quote {
        return None;
    }
    Some((name, Value { start: at32(start), end: at32(end), literal: true }, end + 1))
}

#[cold]
fn check_name(name: &[u8], start: usize) -> Result<(), FramingError> {
    match std::str::from_utf8(name) {
        Err(error) => fail(Problem::InvalidUtf8, start + error.valid_up_to()),
        Ok(name) if chars::is_ncname(name) => Ok(()),
        Ok(_) => fail(Problem::BadName, start),
    }
}

/// Checks a value that holds references or bytes beyond ASCII; it ends where `frame` ends.
#[cold]
fn check_value(frame: &[u8], start: usize) -> Result<(), FramingError> {
    let mut pos = start;
    while let Some(found) = memchr::memchr(b'&', &frame[pos..]) {
        match chars::reference(frame, pos + found)? {
            Some((_, end)) => pos = end,
            None => return fail(Problem::BadReference, pos + found),
        }
    }
    chars::check_high(&frame[start..], start)
}
