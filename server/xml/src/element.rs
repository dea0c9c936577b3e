//! The owned tree of an element: what services read requests from and build answers with.

use std::borrow::Cow;

use super::error::FramingError;
use super::framer::Limits;
use super::namespace::{self, CLIENT, STREAMS, Sources, StreamNamespaces, TREE_PREFIXES_MAX, XML, text};
use super::tokenizer::{AttributeKind, Context, Handler, Scan};
use super::writer::{escape_attribute, escape_text};

type Name = Cow<'static, str>;

/// Most elements and attributes of a stanza of which a tree is made ([`super::Stanza::fits_tree`]). Each costs some hundred bytes and
/// nanoseconds, and four bytes are enough for one, so that without this limit a stanza would keep a worker for tens of milliseconds.
pub const STANZA_NODES_MAX: usize = 8192;

/// Most elements and attributes of a tree that is read ([`Element::parse`]). What was a stanza, or a part of one, and was written anew may
/// declare a namespace for each of them, and has been stamped: all of it can be read again.
pub const TREE_NODES_MAX: usize = 2 * STANZA_NODES_MAX + 512;

/// An element with everything in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Element {
    name: Name,
    namespace: Name,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// An attribute; declarations of namespaces are not attributes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// Local name.
    pub name: Cow<'static, str>,
    /// Name of its namespace; empty without a prefix.
    pub namespace: Cow<'static, str>,
    /// Value, decoded.
    pub value: String,
}

/// What an element contains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, decoded; never empty in a parsed tree, and never followed by text.
    Text(String),
}

impl Element {
    /// An empty element. The name must be an XML name without a prefix; names come from code or from parsed trees.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, namespace: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        debug_assert!(super::chars::is_ncname(&name), "not a name: {name:?}");
        Self { name, namespace: namespace.into(), attributes: Vec::new(), nodes: Vec::new() }
    }

    /// Parses one element with nothing around it but white space, as if it stood in a `jabber:client` stream.
    ///
    /// # Errors
    /// It is not what [`super::Framer`] would accept inside a stream, with a depth up to 1000, or has more than [`TREE_NODES_MAX`]
    /// elements and attributes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FramingError> {
        Self::parse_within(bytes, None)
    }

    /// As [`Element::parse`], with prefixes that are declared outside.
    ///
    /// # Errors
    /// As [`Element::parse`].
    pub fn parse_within(bytes: &[u8], namespaces: Option<&StreamNamespaces>) -> Result<Self, FramingError> {
        use super::chars::{SPACE, skip};
        use super::error::Problem;
        let start = skip(bytes, 0, SPACE);
        let frame = &bytes[start..];
        let problem = |problem, at: usize| FramingError::new(problem, start + at);
        if frame.first() != Some(&b'<') {
            return Err(problem(
                frame.first().map_or(Problem::Truncated, |&b| Problem::UnexpectedByte(b)),
                0,
            ));
        }
        if frame.len() > Limits::FRAME_BYTES_CEILING {
            return Err(problem(Problem::TooLong, 0));
        }
        let context = Context {
            inherited: namespaces,
            in_stream: true,
            depth_max: usize::MAX,
            attributes_max: usize::from(u16::MAX),
            prefixes_max: TREE_PREFIXES_MAX,
            nodes_max: TREE_NODES_MAX,
        };
        let mut builder = TreeBuilder::default();
        let end = Scan::default()
            .element(frame, &context, &mut builder)
            .map_err(|error| FramingError::new(error.problem, start + error.offset))?
            .ok_or_else(|| problem(Problem::Truncated, frame.len()))?;
        let after = skip(frame, end, SPACE);
        if let Some(&b) = frame.get(after) {
            return Err(problem(Problem::UnexpectedByte(b), after));
        }
        builder.finish().ok_or_else(|| problem(Problem::Truncated, frame.len()))
    }

    /// Adds or replaces an attribute without a namespace.
    #[must_use]
    pub fn attr(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.set_attribute(name, value);
        self
    }

    /// Adds or replaces an attribute if there is a value.
    #[must_use]
    pub fn attr_opt(self, name: impl Into<Cow<'static, str>>, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds or replaces `xml:lang`.
    #[must_use]
    pub fn with_lang(mut self, language: impl Into<String>) -> Self {
        self.set("lang".into(), XML.into(), language.into());
        self
    }

    /// Appends a child element.
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// Appends child elements.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.nodes.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Appends text.
    #[must_use]
    pub fn text(mut self, text: impl AsRef<str>) -> Self {
        self.push_text(text.as_ref());
        self
    }

    /// Local name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its namespace, empty without one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it has this local name and namespace.
    #[must_use]
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// The value of an attribute without a namespace.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attribute_ns(name, "")
    }

    /// The value of an attribute in a namespace.
    #[must_use]
    pub fn attribute_ns(&self, name: &str, namespace: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|a| a.name == name && a.namespace == namespace);
        found.map(|a| a.value.as_str())
    }

    /// The value of `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<&str> {
        self.attribute_ns("lang", XML)
    }

    /// All attributes, in order.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Everything in it, in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The child elements, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The first child element with this local name and namespace.
    #[must_use]
    pub fn find(&self, name: &str, namespace: &str) -> Option<&Element> {
        self.elements().find(|child| child.is(name, namespace))
    }

    /// The text directly in it, child elements left out.
    #[must_use]
    pub fn content(&self) -> Cow<'_, str> {
        let mut texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        let first = texts.next().unwrap_or("");
        match texts.next() {
            None => Cow::Borrowed(first),
            Some(second) => {
                let mut all = String::from(first);
                all.push_str(second);
                all.extend(texts);
                Cow::Owned(all)
            }
        }
    }

    /// Adds or replaces an attribute without a namespace.
    pub fn set_attribute(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.set(name.into(), Cow::Borrowed(""), value.into());
    }

    /// Removes an attribute without a namespace; its value, if it was there.
    pub fn remove_attribute(&mut self, name: &str) -> Option<String> {
        let at = self.attributes.iter().position(|a| a.name == name && a.namespace.is_empty())?;
        Some(self.attributes.remove(at).value)
    }

    fn set(&mut self, name: Name, namespace: Name, value: String) {
        debug_assert!(super::chars::is_ncname(&name), "not a name: {name:?}");
        match self.attributes.iter_mut().find(|a| a.name == name && a.namespace == namespace) {
            Some(attribute) => attribute.value = value,
            None => self.attributes.push(Attribute { name, namespace, value }),
        }
    }

    /// Appends a child element.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Appends text.
    pub fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Node::Text(last)) => last.push_str(text),
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// Keeps the nodes for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&Node) -> bool) {
        self.nodes.retain(keep);
    }

    /// The nodes, moved out.
    #[must_use]
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// Appends the element as XML, to stand where `parent_namespace` is the default namespace. Only the prefixes
    /// `xml` and, for the namespace of streams, `stream` are used without being declared on the spot.
    pub fn write(&self, parent_namespace: &str, out: &mut Vec<u8>) {
        let prefix = match &*self.namespace {
            STREAMS => "stream:",
            // It may not be declared as a default namespace (Namespaces in XML §3).
            XML => "xml:",
            _ => "",
        };
        let tag = |out: &mut Vec<u8>| {
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(self.name.as_bytes());
        };
        out.push(b'<');
        tag(out);
        let inside = if !prefix.is_empty() || self.namespace == parent_namespace {
            parent_namespace
        } else {
            write_attribute("", "xmlns", &self.namespace, out);
            &self.namespace
        };
        self.write_attributes(out);
        if self.nodes.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(inside, out),
                Node::Text(text) => escape_text(text, out),
            }
        }
        out.extend_from_slice(b"</");
        tag(out);
        out.push(b'>');
    }

    /// Each namespace of an attribute is declared once, under a prefix made up for this element.
    fn write_attributes(&self, out: &mut Vec<u8>) {
        let mut declared = smallvec::SmallVec::<[&str; 8]>::new();
        for attribute in &self.attributes {
            match &*attribute.namespace {
                "" => write_attribute("", &attribute.name, &attribute.value, out),
                XML => write_attribute("xml:", &attribute.name, &attribute.value, out),
                namespace => {
                    let known = declared.iter().position(|other| *other == namespace);
                    let number = known.unwrap_or(declared.len());
                    if known.is_none() {
                        write_attribute("xmlns:", &format!("a{number}"), namespace, out);
                        declared.push(namespace);
                    }
                    write_attribute(&format!("a{number}:"), &attribute.name, &attribute.value, out);
                }
            }
        }
    }

    /// The element as XML for a `jabber:client` stream.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(CLIENT, &mut out);
        out
    }
}

fn write_attribute(prefix: &str, name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    escape_attribute(value, out);
    out.push(b'"');
}

/// Builds a tree from what the tokenizer finds.
#[derive(Default)]
pub(super) struct TreeBuilder {
    open: Vec<Element>,
    root: Option<Element>,
}

impl TreeBuilder {
    pub(super) fn finish(self) -> Option<Element> {
        self.root
    }

    fn push_text(&mut self, text: &str) {
        if let Some(element) = self.open.last_mut() {
            element.push_text(text);
        }
    }
}

impl Handler for TreeBuilder {
    fn open(&mut self, scan: &Scan, sources: Sources<'_>) {
        let Some(open) = scan.open.last() else { return };
        let name = text(open.name.local(sources.frame)).to_owned();
        let mut element = Element {
            name: name.into(),
            namespace: known(sources.str(open.namespace)),
            attributes: Vec::new(),
            nodes: Vec::new(),
        };
        for attribute in scan.tag_attributes() {
            let namespace = match attribute.kind {
                AttributeKind::Plain => Cow::Borrowed(""),
                AttributeKind::Prefixed => {
                    known(sources.str(scan.attribute_namespace(attribute.name, sources)))
                }
                AttributeKind::Default | AttributeKind::Declaration => continue,
            };
            let name = text(attribute.name.local(sources.frame)).to_owned().into();
            let value = namespace::attribute_value(text(attribute.value(sources.frame))).into_owned();
            element.attributes.push(Attribute { name, namespace, value });
        }
        self.open.push(element);
    }

    fn text(&mut self, raw: &[u8]) {
        self.push_text(&namespace::text_value(text(raw)));
    }

    fn cdata(&mut self, raw: &[u8]) {
        self.push_text(&namespace::cdata_value(text(raw)));
    }

    fn close(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => parent.push(element),
            None => self.root = Some(element),
        }
    }
}

/// Namespaces that are everywhere need no allocation.
fn known(namespace: &str) -> Name {
    match namespace {
        "" => Cow::Borrowed(""),
        CLIENT => Cow::Borrowed(CLIENT),
        XML => Cow::Borrowed(XML),
        STREAMS => Cow::Borrowed(STREAMS),
        other => Cow::Owned(other.to_owned()),
    }
}
