//! Runs a stream through the framer in pieces and asks two independent parsers for their opinion.
//!
//! Also the fuzz targets use this file; it names only what is public.

use std::collections::BTreeMap;

use rxml::{Event, Parse as _, Parser, WithOptions as _, parser::Options};

use super::{Element, Frame, Framer, FramingError, Limits, Node, Phase, Stamp, Stanza, StreamHeader, writer};

/// An element without what no reader may depend on: prefixes, the order of attributes, how text was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Tree {
    /// Namespace and local name.
    name: (String, String),
    attributes: BTreeMap<(String, String), String>,
    nodes: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Element(Tree),
    Text(String),
}

impl Tree {
    fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.nodes.push(Part::Text(text.to_owned())),
        }
    }

    fn set(&mut self, namespace: &str, name: &str, value: &str) {
        self.attributes.insert((namespace.to_owned(), name.to_owned()), value.to_owned());
    }
}

impl From<&Element> for Tree {
    fn from(element: &Element) -> Self {
        let mut tree = Tree { name: (element.namespace().into(), element.name().into()), ..Tree::default() };
        for a in element.attributes() {
            tree.set(&a.namespace, &a.name, &a.value);
        }
        for node in element.nodes() {
            match node {
                Node::Element(child) => tree.nodes.push(Part::Element(child.into())),
                Node::Text(text) => tree.push_text(text),
            }
        }
        tree
    }
}

/// The document with the ends of its lines made `\n`, as XML 1.0 §2.11 wants it done before parsing. Both parsers do
/// it in part only: rxml refuses a lone carriage return in a value, roxmltree keeps one before a reference.
fn lines(document: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(document).map_err(|error| error.to_string())?;
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// What the prefix means that stands in for `xml` in the names of elements.
const ELEMENT_PREFIX_MEANS: &str = "urn:what xml means";

/// The root of the document as roxmltree sees it.
fn roxmltree(document: &[u8]) -> Result<Tree, String> {
    let text = lines(document)?;
    if !text.contains("<xml:") {
        let document = roxmltree::Document::parse(&text).map_err(|error| error.to_string())?;
        return Ok(tree_of(document.root_element(), None));
    }
    // It does not know the prefix `xml` in the name of an element, so it gets another one in its place.
    let mut prefix = String::from("XML");
    while text.contains(&prefix) {
        prefix.push('_');
    }
    let start = format!("<{prefix}:");
    let mut told = text.replace("<xml:", &start).replace("</xml:", &format!("</{prefix}:"));
    let root = told.find("<stream:stream").map(|at| at + 14).or_else(|| told.find("<w").map(|at| at + 2));
    told.insert_str(root.ok_or("no root")?, &format!(" xmlns:{prefix}='{ELEMENT_PREFIX_MEANS}'"));
    let document = roxmltree::Document::parse(&told).map_err(|error| error.to_string())?;
    Ok(tree_of(document.root_element(), Some(&prefix)))
}

/// `xml` is what stands for that prefix, also in CDATA sections, where it means nothing.
fn tree_of(node: roxmltree::Node<'_, '_>, xml: Option<&str>) -> Tree {
    let name = node.tag_name();
    let namespace = match name.namespace() {
        Some(ELEMENT_PREFIX_MEANS) => super::XML,
        other => other.unwrap_or(""),
    };
    let mut tree = Tree { name: (namespace.into(), name.name().into()), ..Tree::default() };
    for a in node.attributes() {
        tree.set(a.namespace().unwrap_or(""), a.name(), a.value());
    }
    for child in node.children() {
        if child.is_element() {
            tree.nodes.push(Part::Element(tree_of(child, xml)));
        } else if let Some(text) = child.text() {
            match xml {
                Some(prefix) => tree.push_text(&text.replace(prefix, "xml")),
                None => tree.push_text(text),
            }
        }
    }
    tree
}

/// The root of the document as rxml sees it.
fn rxml(document: &[u8]) -> Result<Tree, String> {
    let mut lines = lines(document)?;
    // It has no standalone declaration, which changes nothing without a document type.
    if lines.starts_with("<?xml")
        && let Some(end) = lines.find("?>")
        && let Some(start) = lines[..end].find("standalone")
    {
        lines.replace_range(start..end, "");
    }
    let mut document = lines.as_bytes();
    let options = Options { max_token_length: document.len() + 1, ..Options::default() };
    let mut parser = Parser::with_options(options);
    let mut open = vec![Tree::default()];
    loop {
        match parser.parse(&mut document, true).map_err(|error| format!("{error:?}"))? {
            None => break,
            Some(Event::XmlDeclaration(..)) => {}
            Some(Event::StartElement(_, (namespace, name), attributes)) => {
                let mut tree = Tree { name: (namespace.to_string(), name.to_string()), ..Tree::default() };
                for ((namespace, name), value) in &attributes {
                    tree.set(namespace, name, value);
                }
                open.push(tree);
            }
            Some(Event::EndElement(_)) => {
                let closed = open.pop().ok_or("an end without a start")?;
                open.last_mut().ok_or("an end without a start")?.nodes.push(Part::Element(closed));
            }
            Some(Event::Text(_, text)) => open.last_mut().ok_or("text outside")?.push_text(&text),
        }
    }
    match open.pop().and_then(|mut outside| outside.nodes.pop()) {
        Some(Part::Element(root)) if open.is_empty() => Ok(root),
        other => Err(format!("no root element: {other:?}")),
    }
}

/// How the parsers read the document; one that is known to be wrong about something in it is not asked.
fn readings(document: &[u8]) -> impl Iterator<Item = (&'static str, Result<Tree, String>)> {
    // roxmltree takes `prefix:xmlns`, an attribute like any other, for the declaration of a default namespace.
    let attribute_xmlns = memchr::memmem::find(document, b":xmlns").is_some();
    // In names rxml refuses characters between U+FDF0 and U+FFFD, which XML 1.0 §2.3 allows.
    let presentation_forms = document.contains(&0xEF);
    let first = (!attribute_xmlns).then(|| ("roxmltree", roxmltree(document)));
    let second = (!presentation_forms).then(|| ("rxml", rxml(document)));
    first.into_iter().chain(second)
}

/// What a stream came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) header: Option<StreamHeader>,
    pub(super) stanzas: Vec<Element>,
    /// Each stanza's bytes, and as it is forwarded.
    pub(super) bytes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) closed: bool,
    pub(super) error: Option<FramingError>,
    /// Bytes up to the end of the last complete frame.
    pub(super) accepted: usize,
}

/// What the forwarded copies are stamped with.
pub(super) const STAMP: Stamp<'static> =
    Stamp { from: "a'&<b@c/d\"", to: Some("e@f/g&h"), language: Some("eo"), without: &[] };

/// Frames `stream` in pieces as long as `piece` says; it is told how much is left.
pub(super) fn run(stream: &[u8], limits: &Limits, mut piece: impl FnMut(usize) -> usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut framer = Framer::new();
    let mut partial = None;
    let mut namespaces = None;
    let mut at = 0;
    while at < stream.len() {
        let end = at + piece(stream.len() - at).clamp(1, stream.len() - at);
        while at < end {
            let phase = if outcome.header.is_none() { Phase::BeforeHeader } else { Phase::InStream };
            let input = &stream[at..end];
            match framer.next(phase, namespaces.as_deref(), &mut partial, input, limits) {
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
                Ok((used, frame)) => {
                    assert!(used <= input.len() && (used > 0 || frame.is_some()), "no progress: {used}");
                    assert_eq!(frame.is_none(), used == input.len() && frame.is_none(), "input left: {used}");
                    at += used;
                    match frame {
                        None => continue,
                        Some(Frame::StreamOpen(header)) => {
                            namespaces = header.namespaces.clone();
                            outcome.header = Some(header);
                        }
                        Some(Frame::Stanza(stanza)) => {
                            let mut forwarded = Vec::new();
                            stanza.write_stamped(&STAMP, &mut forwarded);
                            outcome.bytes.push((stanza.bytes().to_vec(), forwarded));
                            let tree = stanza.to_element();
                            check_children(&stanza, &tree);
                            outcome.stanzas.push(tree);
                        }
                        Some(Frame::StreamClose) => outcome.closed = true,
                    }
                    outcome.accepted = at;
                    if outcome.closed {
                        return outcome;
                    }
                }
            }
        }
    }
    outcome
}

/// The attributes of children are the same without a tree, and what is left out of a copy is what was meant.
fn check_children(stanza: &Stanza<'_>, tree: &Element) {
    assert_eq!(stanza.children().len(), tree.elements().count());
    for (child, element) in stanza.children().zip(tree.elements()) {
        for attribute in element.attributes().iter().filter(|attribute| attribute.namespace.is_empty()) {
            assert_eq!(child.attribute(&attribute.name).as_deref(), Some(&*attribute.value));
        }
        if element.attribute("from").is_none() {
            assert_eq!(child.attribute("from"), None);
        }
    }
    // Every second one, from the first on.
    let without: Vec<_> = stanza.children().step_by(2).map(|child| child.range()).collect();
    let mut copy = Vec::new();
    stanza.write_stamped(&Stamp { without: &without, ..STAMP }, &mut copy);
    let mut left = Element::parse(&copy).expect("what is left is well-formed");
    let mut expected = tree.clone();
    for name in ["from", "to"] {
        expected.remove_attribute(name);
        left.remove_attribute(name);
    }
    if expected.lang().is_none() {
        expected = expected.with_lang(STAMP.language.unwrap_or_default());
    }
    let mut children = 0;
    expected.retain(|node| match node {
        Node::Element(_) => {
            children += 1;
            children % 2 == 0
        }
        Node::Text(_) => true,
    });
    assert_eq!(Tree::from(&left), Tree::from(&expected));
}

/// Whatever was accepted is well-formed for others and means the same to them, also when it is forwarded.
pub(super) fn check(stream: &[u8], outcome: &Outcome) {
    if outcome.header.is_none() {
        return;
    }
    let mut document = stream[..outcome.accepted].trim_ascii_start().to_vec();
    if !outcome.closed {
        document.extend_from_slice(b"</stream:stream>");
    }
    let ours: Vec<Tree> = outcome.stanzas.iter().map(Tree::from).collect();
    for (oracle, theirs) in readings(&document) {
        let shown = String::from_utf8_lossy(&document);
        let theirs = theirs.unwrap_or_else(|error| panic!("{oracle} refuses: {error}\n{shown}"));
        let theirs: Vec<Tree> = theirs.nodes.into_iter().filter_map(Part::element).collect();
        assert_eq!(ours, theirs, "{oracle} sees another tree in\n{shown}");
    }
    for (stanza, (_, forwarded)) in outcome.stanzas.iter().zip(&outcome.bytes) {
        let mut expected = Tree::from(stanza);
        expected.set("", "from", STAMP.from);
        expected.set("", "to", STAMP.to.unwrap_or_default());
        if stanza.lang().is_none() {
            expected.set(super::XML, "lang", STAMP.language.unwrap_or_default());
        }
        let shown = String::from_utf8_lossy(forwarded);
        // Nothing but the default namespace may come from outside.
        let alone = [b"<w xmlns='jabber:client'>", &forwarded[..], b"</w>"].concat();
        let expected = vec![Part::Element(expected)];
        for (oracle, seen) in readings(&alone) {
            let seen = seen.unwrap_or_else(|error| panic!("forwarded, but {oracle}: {error}\n{shown}"));
            assert_eq!(expected, seen.nodes, "{oracle} sees another tree in the forwarded\n{shown}");
        }
        round_trip(stanza);
    }
}

/// An element that was parsed is written such that everybody reads the same.
pub(super) fn round_trip(element: &Element) {
    for outside in ["jabber:client", "jabber:server", ""] {
        let mut document = format!("<w xmlns:stream='{}' xmlns='{outside}'>", super::STREAMS).into_bytes();
        element.write(outside, &mut document);
        document.extend_from_slice(b"</w>");
        let shown = String::from_utf8_lossy(&document);
        for (oracle, seen) in readings(&document) {
            let seen = seen.unwrap_or_else(|error| panic!("written, but {oracle}: {error}\n{shown}"));
            let expected = vec![Part::Element(element.into())];
            assert_eq!(expected, seen.nodes, "{oracle} sees another tree in the written\n{shown}");
        }
    }
    let mut longer = Vec::new();
    writer::append_child(&element.to_bytes(), &mut longer, |out| {
        out.extend_from_slice(b"<last xmlns='urn:last'/>");
    });
    let expected = element.clone().child(Element::new("last", "urn:last"));
    assert_eq!(Element::parse(&longer).as_ref(), Ok(&expected), "{}", String::from_utf8_lossy(&longer));
    let again = Element::parse(&element.to_bytes());
    assert_eq!(again.as_ref(), Ok(element), "{}", String::from_utf8_lossy(&element.to_bytes()));
}

impl Part {
    fn element(self) -> Option<Tree> {
        match self {
            Part::Element(tree) => Some(tree),
            Part::Text(_) => None,
        }
    }
}
