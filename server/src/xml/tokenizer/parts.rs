//! What the tokenizer remembers of an element: places in the frame, nothing copied.

use crate::xml::namespace::Uri;

/// A qualified name by its place in the frame.
#[derive(Copy, Clone, Debug, Default)]
pub(in crate::xml) struct QName {
    pub(in crate::xml) start: u32,
    pub(in crate::xml) end: u32,
    /// Where the local part begins; equals `start` without a prefix.
    pub(in crate::xml) local: u32,
}

impl QName {
    pub(in crate::xml) fn bytes(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..self.end as usize]
    }

    pub(in crate::xml) fn local(self, frame: &[u8]) -> &[u8] {
        &frame[self.local as usize..self.end as usize]
    }

    pub(in crate::xml) fn has_prefix(self) -> bool {
        self.local != self.start
    }

    pub(in crate::xml) fn prefix(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..(self.local as usize).saturating_sub(1).max(self.start as usize)]
    }
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(in crate::xml) enum AttributeKind {
    Plain,
    /// `prefix:name`
    Prefixed,
    /// `xmlns`
    Default,
    /// `xmlns:prefix`
    Declaration,
}

/// An attribute by its place in the frame.
#[derive(Copy, Clone, Debug)]
pub(in crate::xml) struct Attribute {
    pub(in crate::xml) name: QName,
    pub(in crate::xml) value_start: u32,
    pub(in crate::xml) value_end: u32,
    pub(in crate::xml) kind: AttributeKind,
    /// The value needs no decoding.
    pub(in crate::xml) literal: bool,
}

impl Attribute {
    pub(in crate::xml) fn value(self, frame: &[u8]) -> &[u8] {
        &frame[self.value_start as usize..self.value_end as usize]
    }

    pub(in crate::xml) fn quote(self, frame: &[u8]) -> u8 {
        frame[self.value_end as usize]
    }
}

/// An element whose end tag has not come yet.
#[derive(Copy, Clone, Debug)]
pub(in crate::xml) struct Open {
    pub(in crate::xml) name: QName,
    pub(in crate::xml) namespace: Uri,
    /// The default namespace inside it.
    pub(in crate::xml) default: Uri,
    /// Bindings that were in force outside it.
    pub(super) bindings: u32,
}

/// A direct child of the stanza.
#[derive(Copy, Clone, Debug)]
pub(in crate::xml) struct ChildRange {
    pub(in crate::xml) name: QName,
    pub(in crate::xml) namespace: Uri,
    pub(in crate::xml) start: u32,
    pub(in crate::xml) end: u32,
}
