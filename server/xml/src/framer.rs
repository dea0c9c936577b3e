//! Cuts the bytes of a stream into its header, its stanzas and its end.

use super::chars::{SPACE, skip};
use super::error::{FramingError, Problem};
use super::header::{self, StreamHeader};
use super::namespace::{PREFIXES_MAX, StreamNamespaces};
use super::stanza::Stanza;
use super::tokenizer::{Context, Scan, Validate};

/// How much a client may send in one piece.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest stanza in bytes, from its `<` to its `>`; at most [`Limits::FRAME_BYTES_CEILING`] counts.
    pub stanza_bytes_max: usize,
    /// Deepest nesting of elements in a stanza; the stanza itself has depth 1. At most 1000 counts.
    pub depth_max: u16,
    /// Most attributes of one element, namespace declarations included.
    pub attributes_max: u16,
    /// Longest XML declaration and stream header together, in bytes.
    pub header_bytes_max: usize,
}

impl Limits {
    /// No frame is longer than this, in bytes, whatever the configuration says.
    pub const FRAME_BYTES_CEILING: usize = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self { stanza_bytes_max: 256 * 1024, depth_max: 128, attributes_max: 64, header_bytes_max: 8 * 1024 }
    }
}

/// What the stream expects next.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum Phase {
    /// A stream header: the connection is new, or the stream restarts.
    BeforeHeader,
    /// Stanzas, or the end of the stream.
    InStream,
}

/// One part of a stream.
#[derive(Debug)]
pub enum Frame<'a> {
    /// `<stream:stream …>`, with or without an XML declaration before it.
    StreamOpen(StreamHeader),
    /// One complete first-level element, whatever its name.
    Stanza(Stanza<'a>),
    /// `</stream:stream>`.
    StreamClose,
}

/// An unfinished frame of one session: its bytes so far and how far they have been read.
///
/// Exists only between the first and the last byte of a frame that arrives in pieces.
#[derive(Debug, Default)]
pub struct Partial {
    buffer: Vec<u8>,
    progress: Progress,
}

/// How far the frame in a buffer has been read.
#[derive(Debug, Default)]
struct Progress {
    scan: Scan,
    /// Where the XML declaration, if any, ended.
    prolog: usize,
}

impl Partial {
    /// Bytes of the frame received so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes of the frame received so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether it holds no bytes. Never true of one that a [`Framer`] left behind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Memory it occupies, in bytes, itself included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity() + self.progress.scan.heap_bytes()
    }

    fn reset(&mut self) {
        self.buffer.clear();
        self.progress.scan.reset();
        self.progress.prolog = 0;
    }
}

/// A buffer larger than this is not kept for the next frame, in bytes.
const BUFFER_KEPT_MAX: usize = 64 * 1024;

/// As many entries of each of a scan's tables are kept for the next frame.
const SCAN_KEPT_MAX: usize = 256;

/// The buffer of an unfinished frame holds at least this many bytes, which is room for most stanzas.
const PARTIAL_BYTES_MIN: usize = 512;

/// A resumed frame takes over the input in pieces of this many bytes, lest a large read be copied for a small rest.
const RESUME_BYTES: usize = 2048;

/// The tokenizer of one worker: scratch memory that every session of the worker uses in turn.
#[derive(Debug, Default)]
pub struct Framer {
    /// The frame at hand. Its buffer is used only if the frame arrived in pieces.
    work: Box<Partial>,
    /// Swapped in when `work` goes to a session.
    spare: Option<Box<Partial>>,
}

/// What the scan of a frame found.
enum Found {
    More,
    Header(StreamHeader, usize),
    Stanza(usize),
    End(usize),
}

impl Framer {
    /// With empty scratch memory, which grows to what the streams need.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds bytes of a stream. Returns how many of them are done with, and the frame that they end.
    ///
    /// Without a frame all bytes are consumed; what is unfinished is in `partial`, to be passed again with the bytes
    /// that follow. With a frame, call again with the rest of `input`. White space between stanzas is consumed.
    /// `namespaces` is what the header of this stream declared ([`StreamHeader::namespaces`]).
    ///
    /// # Errors
    /// The bytes are not a stream that XMPP allows, or exceed `limits`. The stream cannot be read further.
    pub fn next<'a>(
        &'a mut self,
        phase: Phase,
        namespaces: Option<&'a StreamNamespaces>,
        partial: &mut Option<Box<Partial>>,
        input: &'a [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Frame<'a>>), FramingError> {
        let limit = match phase {
            Phase::BeforeHeader => limits.header_bytes_max,
            Phase::InStream => limits.stanza_bytes_max,
        }
        .min(Limits::FRAME_BYTES_CEILING);
        let context = Context {
            inherited: namespaces,
            in_stream: phase == Phase::InStream,
            depth_max: usize::from(limits.depth_max),
            attributes_max: usize::from(limits.attributes_max),
            prefixes_max: PREFIXES_MAX,
            nodes_max: usize::MAX,
        };
        if let Some(unfinished) = partial.take() {
            let idle = std::mem::replace(&mut self.work, unfinished);
            self.spare.get_or_insert(idle);
            return self.resume(&context, partial, input, limit);
        }
        let start = skip(input, 0, SPACE);
        let Some(&first) = input.get(start) else { return Ok((input.len(), None)) };
        if first != b'<' {
            return Err(FramingError::new(header::problem_before_markup(phase, first), 0));
        }
        let rest = &input[start..];
        let frame = &rest[..rest.len().min(limit)];
        self.work.reset();
        match scan(&mut self.work.progress, &context, frame)? {
            Found::More => {
                if rest.len() > limit {
                    return Err(FramingError::new(Problem::TooLong, limit));
                }
                self.work.buffer.extend_from_slice(frame);
                self.put_aside(partial);
                Ok((input.len(), None))
            }
            Found::Header(header, end) => Ok((start + end, Some(Frame::StreamOpen(header)))),
            Found::End(end) => Ok((start + end, Some(Frame::StreamClose))),
            Found::Stanza(end) => {
                let stanza = Stanza::new(&frame[..end], &self.work.progress.scan, namespaces);
                Ok((start + end, Some(Frame::Stanza(stanza))))
            }
        }
    }

    /// Takes back the first bytes of the frame that [`Framer::next`] has just returned: those that had come before, as many as
    /// [`Partial::len`] has said. They are read anew together with what follows them.
    #[must_use]
    pub fn unread(&self, bytes: usize) -> Box<Partial> {
        let buffer = &self.work.buffer;
        Box::new(Partial { buffer: buffer[..bytes.min(buffer.len())].to_vec(), ..Partial::default() })
    }

    /// Goes on with the frame in `work`.
    fn resume<'a>(
        &'a mut self,
        context: &Context<'a>,
        partial: &mut Option<Box<Partial>>,
        input: &'a [u8],
        limit: usize,
    ) -> Result<(usize, Option<Frame<'a>>), FramingError> {
        let before = self.work.buffer.len();
        let mut taken = 0;
        loop {
            let room = limit.saturating_sub(before + taken);
            let piece = (input.len() - taken).min(room).min(RESUME_BYTES);
            if piece == 0 && taken < input.len() {
                return Err(FramingError::new(Problem::TooLong, limit));
            }
            self.work.buffer.extend_from_slice(&input[taken..taken + piece]);
            taken += piece;
            let Partial { buffer, progress } = &mut *self.work;
            match scan(progress, context, buffer)? {
                Found::More if taken == input.len() => {
                    self.put_aside(partial);
                    return Ok((input.len(), None));
                }
                Found::More => {}
                Found::Header(header, end) => return Ok((end - before, Some(Frame::StreamOpen(header)))),
                Found::End(end) => return Ok((end - before, Some(Frame::StreamClose))),
                Found::Stanza(end) => {
                    let work = &self.work;
                    let stanza = Stanza::new(&work.buffer[..end], &work.progress.scan, context.inherited);
                    return Ok((end - before, Some(Frame::Stanza(stanza))));
                }
            }
        }
    }

    /// Gives `work` to the session.
    fn put_aside(&mut self, partial: &mut Option<Box<Partial>>) {
        let mut next = self.spare.take().unwrap_or_default();
        next.buffer.clear();
        next.buffer.shrink_to(BUFFER_KEPT_MAX);
        next.progress.scan.shrink(SCAN_KEPT_MAX);
        let mut unfinished = std::mem::replace(&mut self.work, next);
        // Scratch memory that earlier frames needed does not go to a session for a few bytes.
        let needed = unfinished.buffer.len().max(PARTIAL_BYTES_MIN);
        if unfinished.buffer.capacity() > 2 * needed {
            unfinished.buffer.shrink_to(needed);
        }
        unfinished.progress.scan.shrink(0);
        *partial = Some(unfinished);
    }
}

/// Reads on in `frame`, which begins with `<`.
fn scan(work: &mut Progress, context: &Context<'_>, frame: &[u8]) -> Result<Found, FramingError> {
    if !context.in_stream {
        return header::scan(&mut work.scan, &mut work.prolog, context, frame)
            .map(|found| found.map_or(Found::More, |(header, end)| Found::Header(header, end)));
    }
    if frame.get(1) == Some(&b'/') {
        return Ok(work.scan.stream_end(frame)?.map_or(Found::More, Found::End));
    }
    let Some(end) = work.scan.element(frame, context, &mut Validate)? else { return Ok(Found::More) };
    if let Some(root) = work.scan.root {
        let namespace = work.scan.sources(frame, context.inherited).bytes(root.namespace);
        header::check_first_level(root.name, frame, namespace)?;
    }
    Ok(Found::Stanza(end))
}
