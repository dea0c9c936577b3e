//! One stanza where it lies in the receive buffer, and how it is passed on.

use std::borrow::Cow;

use super::element::{Element, STANZA_NODES_MAX, TreeBuilder};
use super::namespace::{self, CLIENT, STREAMS, Sources, StreamNamespaces, TREE_PREFIXES_MAX, Uri, text};
use super::start_tag::StartTag;
use super::tokenizer::{self, Attribute, AttributeKind, ChildRange, Context, QName, Scan};
use super::writer::{append_attribute, escape_attribute};

/// A complete, validated first-level element of a stream, borrowed from where it was received.
#[derive(Copy, Clone, Debug)]
pub struct Stanza<'a> {
    frame: &'a [u8],
    scan: &'a Scan,
    namespaces: Option<&'a StreamNamespaces>,
    name: QName,
    namespace: Uri,
    /// The default namespace inside it.
    default: Uri,
}

/// The common attributes of stanzas (RFC 6120 §8.1) but `xml:lang`, references decoded.
#[derive(Clone, Debug, Default)]
pub struct CommonAttributes<'a> {
    /// `to`
    pub to: Option<Cow<'a, str>>,
    /// `from`
    pub from: Option<Cow<'a, str>>,
    /// `id`
    pub id: Option<Cow<'a, str>>,
    /// `type`
    pub typ: Option<Cow<'a, str>>,
}

/// What the server writes on a stanza that it passes on.
#[derive(Copy, Clone, Debug, Default)]
pub struct Stamp<'s> {
    /// The sender's address, in place of whatever the client claimed (RFC 6120 §8.1.2.1).
    pub from: &'s str,
    /// Another recipient than the stanza names.
    pub to: Option<&'s str>,
    /// The default language of the sender's stream, for a stanza that has no `xml:lang` (RFC 6120 §8.1.5).
    pub language: Option<&'s str>,
    /// Ranges of children that are left out, in order, as [`Child::range`] gives them.
    pub without: &'s [std::ops::Range<usize>],
}

/// A direct child element of a stanza.
#[derive(Copy, Clone, Debug)]
pub struct Child<'a> {
    sources: Sources<'a>,
    range: &'a ChildRange,
}

impl<'a> Child<'a> {
    /// Local name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        text(self.range.name.local(self.sources.frame))
    }

    /// Name of its namespace, empty without one.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        self.sources.str(self.range.namespace)
    }

    /// Whether it has this local name and namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.range.name.local(self.sources.frame) == name.as_bytes()
            && self.sources.bytes(self.range.namespace) == namespace.as_bytes()
    }

    /// The whole element as received. Prefixes and the default namespace may come from outside it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        &self.sources.frame[self.range()]
    }

    /// The value of an attribute without a prefix, references decoded. Walks along the start tag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        debug_assert!(!name.contains(':') && name != "xmlns", "only names without a prefix");
        let rest = &self.sources.frame[self.range.name.end as usize..self.range.end as usize];
        StartTag { rest }.attribute(name)
    }

    /// Where it lies in [`Stanza::bytes`].
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.range.start as usize..self.range.end as usize
    }
}

impl<'a> Stanza<'a> {
    pub(super) fn new(frame: &'a [u8], scan: &'a Scan, namespaces: Option<&'a StreamNamespaces>) -> Self {
        let root = scan.root.expect("a complete element has a root");
        Self { frame, scan, namespaces, name: root.name, namespace: root.namespace, default: root.default }
    }

    fn sources(&self) -> Sources<'a> {
        self.scan.sources(self.frame, self.namespaces)
    }

    /// Local name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        text(self.name.local(self.frame))
    }

    /// Name of its namespace, empty without one.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        self.sources().str(self.namespace)
    }

    /// Whether it has this local name and namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name.local(self.frame) == name.as_bytes()
            && self.sources().bytes(self.namespace) == namespace.as_bytes()
    }

    /// The value of an attribute without a prefix, references decoded.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        debug_assert!(!name.contains(':') && name != "xmlns", "only names without a prefix");
        self.value_of(name)
    }

    /// The value of `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'a, str>> {
        self.value_of("xml:lang")
    }

    fn value_of(&self, qualified: &str) -> Option<Cow<'a, str>> {
        let attributes = &self.scan.attributes[..self.scan.root_attributes];
        let found = attributes.iter().find(|a| a.name.bytes(self.frame) == qualified.as_bytes())?;
        Some(self.decoded(found))
    }

    fn decoded(&self, attribute: &Attribute) -> Cow<'a, str> {
        let raw = text(attribute.value(self.frame));
        if attribute.literal { Cow::Borrowed(raw) } else { namespace::attribute_value(raw) }
    }

    /// The attributes that every stanza has to do with, in one walk.
    #[must_use]
    pub fn common_attributes(&self) -> CommonAttributes<'a> {
        let mut common = CommonAttributes::default();
        for attribute in &self.scan.attributes[..self.scan.root_attributes] {
            let place = match attribute.name.bytes(self.frame) {
                b"to" => &mut common.to,
                b"id" => &mut common.id,
                b"type" => &mut common.typ,
                b"from" => &mut common.from,
                _ => continue,
            };
            *place = Some(self.decoded(attribute));
        }
        common
    }

    /// All attributes of the start tag, declarations included: qualified name, raw value (still escaped), quote.
    pub fn raw_attributes(&self) -> impl Iterator<Item = (&'a str, &'a str, char)> + use<'a> {
        let frame = self.frame;
        self.scan.attributes[..self.scan.root_attributes]
            .iter()
            .map(move |a| (text(a.name.bytes(frame)), text(a.value(frame)), char::from(a.quote(frame))))
    }

    /// The whole element as received.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.frame
    }

    /// What is between start tag and end tag; empty for `<name/>`.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.frame[self.scan.content_start..self.scan.content_end]
    }

    /// The direct child elements, in order.
    pub fn children(&self) -> impl ExactSizeIterator<Item = Child<'a>> + use<'a> {
        let sources = self.sources();
        self.scan.children.iter().map(move |range| Child { sources, range })
    }

    /// The first direct child with this local name and namespace.
    #[must_use]
    pub fn child(&self, name: &str, namespace: &str) -> Option<Child<'a>> {
        self.children().find(|child| child.is(name, namespace))
    }

    /// Elements and attributes in it, itself included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.scan.nodes
    }

    /// Whether it has no more elements and attributes than a stanza of which a tree is made ([`STANZA_NODES_MAX`]).
    #[must_use]
    pub fn fits_tree(&self) -> bool {
        self.scan.nodes <= STANZA_NODES_MAX
    }

    /// The stanza as an owned tree. Of one that came from a client, [`Stanza::fits_tree`] is to be asked before.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut builder = TreeBuilder::default();
        let mut scan = Scan::default();
        let context = Context {
            inherited: self.namespaces,
            in_stream: true,
            depth_max: tokenizer::DEPTH_CEILING,
            attributes_max: usize::from(u16::MAX),
            prefixes_max: TREE_PREFIXES_MAX,
            nodes_max: usize::MAX,
        };
        let end = scan.element(self.frame, &context, &mut builder);
        debug_assert_eq!(end, Ok(Some(self.frame.len())), "what was accepted once is accepted again");
        builder.finish().expect("a complete element makes a tree")
    }

    /// Appends the stanza as another client is to receive it, inside a stream whose default namespace is
    /// `jabber:client`: `from` replaces whatever the sender claimed, `to` the recipient if given. Everything else is
    /// verbatim, and prefixes that the sender declared on the stream header are declared on the stanza.
    pub fn write_forwarded(&self, from: &str, to: Option<&str>, out: &mut Vec<u8>) {
        self.write_stamped(&Stamp { from, to, ..Stamp::default() }, out);
    }

    /// As [`Stanza::write_forwarded`], with everything that can be stamped.
    pub fn write_stamped(&self, stamp: &Stamp<'_>, out: &mut Vec<u8>) {
        let sources = self.sources();
        let name = self.name.bytes(self.frame);
        out.reserve(self.frame.len() + stamp.from.len() + stamp.to.map_or(0, str::len) + 64);
        out.push(b'<');
        out.extend_from_slice(name);
        // Also an element with a prefix has a default namespace, for its children.
        if sources.bytes(self.default) != CLIENT.as_bytes() {
            append_attribute("xmlns", sources.str(self.default), out);
        }
        self.write_inherited(out);
        append_attribute("from", stamp.from, out);
        if let Some(to) = stamp.to {
            append_attribute("to", to, out);
        }
        let attributes = &self.scan.attributes[..self.scan.root_attributes];
        if let Some(language) = stamp.language
            && !attributes.iter().any(|a| a.name.bytes(self.frame) == b"xml:lang")
        {
            append_attribute("xml:lang", language, out);
        }
        // The rest is copied in as few pieces as can be: all from the name to the end, without what was written above.
        let mut run = self.name.end as usize;
        for attribute in attributes {
            let replaced = match attribute.kind {
                AttributeKind::Default => true,
                AttributeKind::Plain => match attribute.name.bytes(self.frame) {
                    b"from" => true,
                    b"to" => stamp.to.is_some(),
                    _ => false,
                },
                AttributeKind::Prefixed | AttributeKind::Declaration => false,
            };
            if replaced {
                // With the white space before it, of which there is at least a byte.
                out.extend_from_slice(&self.frame[run..attribute.name.start as usize - 1]);
                run = attribute.value_end as usize + 1;
            }
        }
        for child in stamp.without {
            out.extend_from_slice(&self.frame[run..child.start]);
            run = child.end;
            run += join_texts(&self.frame[run..], out);
        }
        out.extend_from_slice(&self.frame[run..]);
    }

    /// Appends the element as it stands alone in a stream whose default namespace is `jabber:client`: verbatim, with the
    /// prefixes declared on it that it uses and that were declared outside.
    pub fn write_alone(&self, out: &mut Vec<u8>) {
        let (name, rest) = self.frame.split_at(self.name.end as usize);
        out.extend_from_slice(name);
        self.write_inherited(out);
        out.extend_from_slice(rest);
    }

    /// Declares the prefixes that the stanza uses and the sender's stream header declared.
    fn write_inherited(&self, out: &mut Vec<u8>) {
        let used = self.scan.inherited_used;
        if used == 0 {
            return;
        }
        let declared_here = |prefix: &str| {
            self.scan.attributes[..self.scan.root_attributes].iter().any(|a| {
                a.kind == AttributeKind::Declaration && a.name.local(self.frame) == prefix.as_bytes()
            })
        };
        let mut declare = |prefix: &str, uri: &str| {
            if !declared_here(prefix) {
                out.extend_from_slice(b" xmlns:");
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(b"=\"");
                escape_attribute(uri, out);
                out.push(b'"');
            }
        };
        if used & tokenizer::STREAM_PREFIX_USED != 0 {
            declare("stream", STREAMS);
        }
        for (index, (prefix, uri)) in self.namespaces.iter().flat_map(|n| n.iter()).enumerate() {
            if used & (1 << (index & 63)) != 0 {
                declare(prefix, uri);
            }
        }
    }
}

/// Where what stood between two texts is left out, they become one: writes what must not follow the first as it is, and
/// returns how many bytes of `rest` that were. `]]>` must not stand in a text (XML 1.0 §2.4), and a carriage return and a
/// line feed side by side are one end of a line (§2.11).
fn join_texts(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let (read, written): (usize, &[u8]) = match rest {
        [b'>', ..] => (1, b"&gt;"),
        [b']', b'>', ..] => (2, b"]&gt;"),
        [b'\n', ..] if out.ends_with(b"\r") => (1, b"&#xA;"),
        _ => (0, b""),
    };
    out.extend_from_slice(written);
    read
}
