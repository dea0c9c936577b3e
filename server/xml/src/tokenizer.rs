//! The tokenizer: walks one element, checks everything XML and its namespaces demand, and can stop at any byte.
//!
//! Every decision is made at a fixed byte of the element, whatever the pieces it arrives in, so that a split stream
//! gives the same result as a whole one. When the bytes run out inside a token, the state keeps the beginning of
//! that token and the class of bytes that cannot end it: what arrives next is skipped by that class, and the token is
//! looked at again only when it can make progress. A token is therefore parsed a bounded number of times and the
//! work stays linear even if bytes arrive one by one.

mod bindings;
mod content;
mod parts;
mod prefixes;
mod tag;

use super::chars::{SPACE, skip};
use super::error::{FramingError, Problem};
use super::namespace::{self, Sources, StreamNamespaces, Uri};
use bindings::Bindings;
#[cfg(test)]
pub(super) use bindings::COMPARED;
pub(super) use parts::{Attribute, AttributeKind, ChildRange, Open, QName};
use tag::{TagEnd, plain_name};

/// Nesting beyond this is refused whatever the configuration says: owned trees are walked recursively.
pub(super) const DEPTH_CEILING: usize = 1000;

/// What holds outside the element that is scanned.
#[derive(Copy, Clone)]
pub(super) struct Context<'a> {
    pub(super) inherited: Option<&'a StreamNamespaces>,
    /// The default namespace and the meaning of `stream`: none of them before the stream header.
    pub(super) in_stream: bool,
    pub(super) depth_max: usize,
    pub(super) attributes_max: usize,
    /// Most prefixes that the elements around one place declare.
    pub(super) prefixes_max: usize,
    /// Most elements and attributes.
    pub(super) nodes_max: usize,
}

/// Receives the parts of an element as they are found.
pub(super) trait Handler {
    fn open(&mut self, _scan: &Scan, _sources: Sources<'_>) {}
    fn text(&mut self, _raw: &[u8]) {}
    fn cdata(&mut self, _raw: &[u8]) {}
    fn close(&mut self) {}
}

/// Only validates.
pub(super) struct Validate;

impl Handler for Validate {}

#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
enum Mode {
    /// In text, or at the `<` of markup.
    #[default]
    Content,
    /// In a start tag, after its name or after an attribute.
    Tag,
    Cdata,
}

/// The state of one element's scan; all positions count from the `<` of the element.
#[derive(Debug, Default)]
pub(super) struct Scan {
    mode: Mode,
    /// Bytes that may be skipped before it makes sense to look again, from `scanned` on.
    wait: u8,
    /// The text run, or the CDATA content, holds bytes beyond ASCII.
    run_high: bool,
    /// The current start tag declares namespaces.
    declares: bool,
    /// The current start tag has this many prefixed attributes.
    prefixed: u16,
    /// Two attributes of the current start tag have the same bit of `marks`, so perhaps the same name.
    twice: bool,
    /// The [`mark`]s of the attributes of the current start tag.
    marks: u64,
    scanned: usize,
    pos: usize,
    /// Where the text run or the CDATA content began.
    run: usize,
    tag: QName,
    tag_attributes: usize,
    /// Elements and attributes so far.
    pub(super) nodes: usize,
    /// How many of `attributes` belong to the first-level element.
    pub(super) root_attributes: usize,
    pub(super) root: Option<Open>,
    pub(super) content_start: usize,
    pub(super) content_end: usize,
    pub(super) open: Vec<Open>,
    pub(super) attributes: Vec<Attribute>,
    bindings: Bindings,
    pub(super) children: Vec<ChildRange>,
    pub(super) decoded: Vec<u8>,
    /// Bit i: the stream's declaration i is used inside; bit 63: the prefix `stream` is.
    pub(super) inherited_used: u64,
    order: Vec<u16>,
}

pub(super) const STREAM_PREFIX_USED: u64 = 1 << 63;
const _: () = assert!(namespace::STREAM_DECLARATIONS_MAX < 63);

fn fail<T>(problem: Problem, at: usize) -> Result<T, FramingError> {
    Err(FramingError::new(problem, at))
}

/// Positions fit: [`super::Limits`] caps frames far below 4 GiB.
#[inline]
fn at32(position: usize) -> u32 {
    position as u32
}

impl Scan {
    /// Ready for another element; keeps its allocations.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.mode = Mode::Content;
        self.wait = 0;
        self.run_high = false;
        self.pos = 0;
        self.run = 0;
        self.nodes = 0;
        self.root_attributes = 0;
        self.root = None;
        self.inherited_used = 0;
        self.open.clear();
        self.attributes.clear();
        self.bindings.clear();
        self.children.clear();
        self.decoded.clear();
    }

    /// Gives back memory beyond what is in use and beyond so many entries of each table.
    pub(super) fn shrink(&mut self, keep: usize) {
        self.open.shrink_to(keep);
        self.attributes.shrink_to(keep);
        self.bindings.shrink_to(keep);
        // A stanza of many children comes in many pieces, and the table is not to be copied for each.
        if self.children.capacity() > 2 * self.children.len() {
            self.children.shrink_to(keep);
        }
        self.decoded.shrink_to(16 * keep);
        self.order.shrink_to(keep);
    }

    /// Skips what cannot end the token that was incomplete. False: still incomplete.
    #[inline]
    pub(super) fn resume(&mut self, frame: &[u8]) -> bool {
        if self.wait != 0 {
            self.scanned = skip(frame, self.scanned, self.wait);
            if self.scanned == frame.len() {
                return false;
            }
            self.wait = 0;
        }
        true
    }

    fn wait_for_end_of(&mut self, classes: u8, frame: &[u8]) {
        self.wait = classes;
        self.scanned = frame.len();
    }

    pub(super) fn sources<'a>(
        &'a self,
        frame: &'a [u8],
        inherited: Option<&'a StreamNamespaces>,
    ) -> Sources<'a> {
        Sources { frame, decoded: &self.decoded, inherited }
    }

    /// Scans the start tag at the beginning of the frame. `Some(end)` once it is complete: it is in `root`.
    pub(super) fn header(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
    ) -> Result<Option<(usize, bool)>, FramingError> {
        if !self.resume(frame) {
            return Ok(None);
        }
        if self.mode == Mode::Content && !self.start_tag(frame)? {
            return Ok(None);
        }
        let open = match self.attributes(frame, context)? {
            TagEnd::More => return Ok(None),
            TagEnd::Open => true,
            TagEnd::Empty => false,
        };
        self.enter(frame, context, &mut Validate)?;
        Ok(Some((self.pos, open)))
    }

    /// Scans the element that begins the frame. `Some(end)` once it is complete.
    pub(super) fn element<H: Handler>(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        handler: &mut H,
    ) -> Result<Option<usize>, FramingError> {
        if !self.resume(frame) {
            return Ok(None);
        }
        loop {
            match self.mode {
                Mode::Content => {
                    if !self.open.is_empty() && !self.text(frame, handler)? {
                        return Ok(None);
                    }
                    let Some(&next) = frame.get(self.pos + 1) else { return Ok(None) };
                    match next {
                        b'/' => {
                            if !self.end_tag(frame)? {
                                return Ok(None);
                            }
                            handler.close();
                            if self.open.is_empty() {
                                return Ok(Some(self.pos));
                            }
                        }
                        b'!' => {
                            if !self.cdata_start(frame)? {
                                return Ok(None);
                            }
                        }
                        b'?' => return fail(Problem::Restricted, self.pos),
                        _ => {
                            if !self.start_tag(frame)? {
                                return Ok(None);
                            }
                        }
                    }
                }
                Mode::Tag => match self.attributes(frame, context)? {
                    TagEnd::More => return Ok(None),
                    TagEnd::Open => self.enter(frame, context, handler)?,
                    TagEnd::Empty => {
                        self.enter(frame, context, handler)?;
                        self.leave(frame, self.pos, self.pos);
                        handler.close();
                        if self.open.is_empty() {
                            return Ok(Some(self.pos));
                        }
                    }
                },
                Mode::Cdata => {
                    if !self.cdata(frame, handler)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// At the `<` of a start tag: reads its name. False: the bytes ran out.
    #[inline]
    fn start_tag(&mut self, frame: &[u8]) -> Result<bool, FramingError> {
        let name = match plain_name(frame, self.pos + 1) {
            Some(name) => name,
            None => match self.qname(frame, self.pos + 1)? {
                Some(name) => name,
                None => return Ok(false),
            },
        };
        if self.open.len() == 1 {
            self.children.push(ChildRange {
                name,
                namespace: Uri::None,
                start: at32(self.pos),
                end: at32(self.pos),
            });
        }
        self.tag = name;
        self.pos = name.end as usize;
        self.declares = false;
        self.prefixed = 0;
        self.twice = false;
        self.marks = 0;
        self.attributes.truncate(self.root_attributes);
        self.tag_attributes = self.attributes.len();
        self.mode = Mode::Tag;
        Ok(true)
    }

    /// The start tag is complete: namespaces, uniqueness, depth.
    #[inline]
    fn enter<H: Handler>(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        handler: &mut H,
    ) -> Result<(), FramingError> {
        let depth = self.open.len();
        let at = self.tag.start as usize;
        if depth >= context.depth_max.min(DEPTH_CEILING) {
            return fail(Problem::TooDeep, at);
        }
        self.nodes += 1 + self.attributes.len() - self.tag_attributes;
        if self.nodes > context.nodes_max {
            return fail(Problem::TooManyNodes, at);
        }
        let bindings = at32(self.bindings.len());
        let mut default = match self.open.last() {
            Some(parent) => parent.default,
            None if context.in_stream => Uri::Client,
            None => Uri::None,
        };
        if self.declares {
            default = self.declare(frame, context, default)?;
        }
        let namespace = if self.tag.has_prefix() { self.resolve(frame, context, self.tag)? } else { default };
        if self.twice {
            self.check_unique(frame)?;
        }
        if self.prefixed > 0 {
            self.check_prefixed(frame, context)?;
        }
        let open = Open { name: self.tag, namespace, default, bindings };
        match depth {
            0 => {
                self.root = Some(open);
                self.root_attributes = self.attributes.len();
                self.content_start = self.pos;
            }
            1 => {
                if let Some(child) = self.children.last_mut() {
                    child.namespace = namespace;
                }
            }
            _ => {}
        }
        self.open.push(open);
        self.run = self.pos;
        self.mode = Mode::Content;
        handler.open(self, self.sources(frame, context.inherited));
        Ok(())
    }

    /// The innermost element ends: its end tag is `tag..end`.
    #[inline]
    fn leave(&mut self, frame: &[u8], tag: usize, end: usize) {
        if let Some(closed) = self.open.pop()
            && self.bindings.len() > closed.bindings as usize
        {
            self.bindings.truncate(frame, closed.bindings as usize);
        }
        match self.open.len() {
            0 => self.content_end = tag,
            1 => {
                if let Some(child) = self.children.last_mut() {
                    child.end = at32(end);
                }
            }
            _ => {}
        }
        self.pos = end;
        self.run = end;
    }

    /// At `</`. False: the bytes ran out.
    #[inline]
    fn end_tag(&mut self, frame: &[u8]) -> Result<bool, FramingError> {
        let start = self.pos;
        let Some(open) = self.open.last() else { return fail(Problem::UnexpectedEndTag, start) };
        let expected = open.name;
        let length = (expected.end - expected.start) as usize;
        let after = start + 2 + length;
        if frame.get(after) == Some(&b'>') && &frame[start + 2..after] == expected.bytes(frame) {
            self.leave(frame, start, after + 1);
            return Ok(true);
        }
        let Some(end) = self.end_tag_slow(frame, expected)? else { return Ok(false) };
        self.leave(frame, start, end);
        Ok(true)
    }

    fn end_tag_slow(&mut self, frame: &[u8], expected: QName) -> Result<Option<usize>, FramingError> {
        let start = self.pos;
        let Some(name) = self.qname(frame, start + 2)? else { return Ok(None) };
        if name.bytes(frame) != expected.bytes(frame) {
            return fail(Problem::MismatchedEndTag, start);
        }
        self.end_of_end_tag(frame, name.end as usize)
    }

    fn end_of_end_tag(&mut self, frame: &[u8], name_end: usize) -> Result<Option<usize>, FramingError> {
        let end = skip(frame, name_end, SPACE);
        match frame.get(end) {
            None => {
                self.wait_for_end_of(SPACE, frame);
                Ok(None)
            }
            Some(b'>') => Ok(Some(end + 1)),
            Some(&b) => fail(Problem::UnexpectedByte(b), end),
        }
    }

    /// `</stream:stream>` at the beginning of the frame. `Some(end)` once complete.
    pub(super) fn stream_end(&mut self, frame: &[u8]) -> Result<Option<usize>, FramingError> {
        if !self.resume(frame) {
            return Ok(None);
        }
        let Some(name) = self.qname(frame, 2)? else { return Ok(None) };
        if name.bytes(frame) != b"stream:stream" {
            return fail(Problem::UnexpectedEndTag, 0);
        }
        self.end_of_end_tag(frame, name.end as usize)
    }

    /// The attributes of the start tag that was read last.
    pub(super) fn tag_attributes(&self) -> &[Attribute] {
        &self.attributes[self.tag_attributes..]
    }

    /// Memory on the heap, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.open.capacity() * size_of::<Open>()
            + self.attributes.capacity() * size_of::<Attribute>()
            + self.bindings.heap_bytes()
            + self.children.capacity() * size_of::<ChildRange>()
            + self.decoded.capacity()
            + self.order.capacity() * size_of::<u16>()
    }
}
