//! XML as XMPP uses it (RFC 6120 §11): framing of the stream, owned trees, serialisation.
//!
//! ```text
//!  received bytes ──► Framer ──► Frame::StreamOpen(StreamHeader)
//!        │              ▲        Frame::Stanza(Stanza) ──► write_forwarded ──► bytes for another client
//!        └─ unfinished ─┘                     │
//!           (Partial)                         └──► to_element ──► Element ──► write ──► bytes
//! ```
//!
//! | module | purpose |
//! |---|---|
//! | `framer` | cuts the stream into header, stanzas and end; keeps what is unfinished |
//! | `header` | the prolog and what the stream header says |
//! | `tokenizer` | walks one element and checks all that XML and its namespaces demand |
//! | `namespace` | prefixes, and the values that names of namespaces and attributes stand for |
//! | `chars` | which bytes and characters may stand where |
//! | `lanes` | the same for sixteen bytes at once |
//! | `start_tag` | what an element says of itself, without a look at what is in it |
//! | `stanza` | the borrowed view of one stanza, and forwarding |
//! | `element` | the owned tree that services read and build |
//! | `writer` | escaping |
//! | `error` | what was wrong, and the stream error that answers it |
//!
//! Accepted is a subset of XML 1.0 in UTF-8 with namespaces: no document type, comments, processing instructions, or
//! entities beyond the five predefined ones. CDATA sections are accepted. Everything accepted is well-formed and
//! namespace-well-formed, so a stanza may be passed on without another look.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod chars;
mod element;
mod error;
mod framer;
mod header;
#[expect(unsafe_code, reason = "instructions of the processor")]
mod lanes;
mod namespace;
mod stanza;
mod start_tag;
mod tokenizer;
pub mod writer;

pub use element::{Attribute, Element, Node, STANZA_NODES_MAX, TREE_NODES_MAX};
pub use error::{Condition, FramingError, Problem};
pub use framer::{Frame, Framer, Limits, Partial, Phase};
pub use header::StreamHeader;
pub use namespace::{
    CLIENT, NAMESPACE_BYTES_MAX, PREFIXES_MAX, STREAM_DECLARATIONS_MAX, STREAMS, StreamNamespaces, XML,
};
pub use stanza::{Child, CommonAttributes, Stamp, Stanza};
pub use start_tag::StartTag;

#[cfg(test)]
mod tests;
