//! Namespaces of a start tag: declarations, prefixes, and that no attribute is given twice.

use super::{Attribute, AttributeKind, Context, QName, STREAM_PREFIX_USED, Scan, at32, fail};
use crate::error::{FramingError, Problem};
use crate::namespace::{self, Sources, Uri};

/// Up to this many attributes are compared pairwise for uniqueness, more are sorted.
const PAIRWISE_MAX: usize = 16;

impl Scan {
    /// Takes in the `xmlns` and `xmlns:…` of the current tag; returns its default namespace.
    pub(super) fn declare(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        mut default: Uri,
    ) -> Result<Uri, FramingError> {
        for index in self.tag_attributes..self.attributes.len() {
            let attribute = self.attributes[index];
            let at = attribute.name.start as usize;
            if !matches!(attribute.kind, AttributeKind::Default | AttributeKind::Declaration) {
                continue;
            }
            let raw = attribute.value(frame);
            let uri = if raw.is_empty() {
                Uri::None
            } else if !attribute.literal {
                let start = at32(self.decoded.len());
                let value = namespace::attribute_value(namespace::text(raw));
                self.decoded.extend_from_slice(value.as_bytes());
                Uri::Decoded { start, end: at32(self.decoded.len()) }
            } else {
                Uri::Frame { start: attribute.value_start, end: attribute.value_end }
            };
            let bytes = self.sources(frame, None).bytes(uri);
            // Decoded it counts, so that a name that was accepted is accepted however it is written next.
            if bytes.len() > namespace::NAMESPACE_BYTES_MAX {
                return fail(Problem::NamespaceTooLong, at);
            }
            let is_xml = bytes == namespace::XML.as_bytes();
            let is_xmlns = bytes == namespace::XMLNS.as_bytes();
            if attribute.kind == AttributeKind::Default {
                if is_xml || is_xmlns {
                    return fail(Problem::BadDeclaration, at);
                }
                default = uri;
                continue;
            }
            match attribute.name.local(frame) {
                b"xmlns" => return fail(Problem::BadDeclaration, at),
                b"xml" if is_xml => {}
                b"xml" => return fail(Problem::BadDeclaration, at),
                _ if is_xml || is_xmlns || uri == Uri::None => return fail(Problem::BadDeclaration, at),
                _ => {}
            }
            let prefix = (attribute.name.local, attribute.name.end);
            if self.bindings.push(frame, prefix, uri) > context.prefixes_max {
                return fail(Problem::TooManyPrefixes, at);
            }
        }
        Ok(default)
    }

    /// What the prefix of `name` stands for.
    pub(super) fn resolve(
        &mut self,
        frame: &[u8],
        context: &Context<'_>,
        name: QName,
    ) -> Result<Uri, FramingError> {
        let prefix = name.prefix(frame);
        if let Some(uri) = self.bindings.find(frame, prefix) {
            return Ok(uri);
        }
        match prefix {
            b"xml" => return Ok(Uri::Xml),
            b"stream" if context.in_stream => {
                self.inherited_used |= STREAM_PREFIX_USED;
                return Ok(Uri::Streams);
            }
            _ => {}
        }
        if let Some(index) = context.inherited.and_then(|inherited| inherited.find(prefix)) {
            self.inherited_used |= 1 << (index & 63);
            return Ok(Uri::Inherited(index));
        }
        fail(Problem::UndeclaredPrefix, name.start as usize)
    }

    pub(super) fn check_unique(&mut self, frame: &[u8]) -> Result<(), FramingError> {
        let attributes = &self.attributes[self.tag_attributes..];
        let duplicate = |a: &Attribute| fail(Problem::DuplicateAttribute, a.name.start as usize);
        if attributes.len() <= PAIRWISE_MAX {
            for (index, one) in attributes.iter().enumerate() {
                let name = one.name.bytes(frame);
                if attributes[..index].iter().any(|other| other.name.bytes(frame) == name) {
                    return duplicate(one);
                }
            }
            return Ok(());
        }
        self.order.clear();
        self.order.extend(0..u16::try_from(attributes.len()).unwrap_or(u16::MAX));
        let name = |index: u16| attributes[usize::from(index)].name.bytes(frame);
        self.order.sort_unstable_by(|&a, &b| name(a).cmp(name(b)).then(a.cmp(&b)));
        match self.order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            Some(pair) => duplicate(&attributes[usize::from(pair[1])]),
            None => Ok(()),
        }
    }

    /// Prefixes of attributes are declared, and their expanded names differ (Namespaces in XML §6.3).
    pub(super) fn check_prefixed(&mut self, frame: &[u8], context: &Context<'_>) -> Result<(), FramingError> {
        if self.prefixed == 1 {
            let of_tag = &self.attributes[self.tag_attributes..];
            if let Some(one) = of_tag.iter().find(|a| a.kind == AttributeKind::Prefixed).copied() {
                self.resolve(frame, context, one.name)?;
            }
            return Ok(());
        }
        let mut expanded = smallvec::SmallVec::<[(Uri, QName); 8]>::new();
        for index in self.tag_attributes..self.attributes.len() {
            let attribute = self.attributes[index];
            if attribute.kind == AttributeKind::Prefixed {
                let uri = self.resolve(frame, context, attribute.name)?;
                expanded.push((uri, attribute.name));
            }
        }
        let sources = self.sources(frame, context.inherited);
        let key = |&(uri, name): &(Uri, QName)| (name.local(frame), sources.bytes(uri));
        expanded.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        match expanded.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            Some(pair) => fail(Problem::DuplicateAttribute, pair[1].1.start as usize),
            None => Ok(()),
        }
    }

    /// What the prefix of an attribute of the current start tag stands for, for handlers.
    pub(crate) fn attribute_namespace(&self, name: QName, sources: Sources<'_>) -> Uri {
        let prefix = name.prefix(sources.frame);
        if let Some(uri) = self.bindings.find(sources.frame, prefix) {
            return uri;
        }
        match prefix {
            b"xml" => Uri::Xml,
            b"stream" => Uri::Streams,
            _ => {
                sources.inherited.and_then(|declared| declared.find(prefix)).map_or(Uri::None, Uri::Inherited)
            }
        }
    }
}
