//! What the tokenizer remembers of an element: places in the frame, nothing copied.

use crate::namespace::Uri;

/// A qualified name by its place in the frame.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct QName {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Where the local part begins; equals `start` without a prefix.
    pub(crate) local: u32,
}

impl QName {
    pub(crate) fn bytes(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..self.end as usize]
    }

    pub(crate) fn local(self, frame: &[u8]) -> &[u8] {
        &frame[self.local as usize..self.end as usize]
    }

    pub(crate) fn has_prefix(self) -> bool {
        self.local != self.start
    }

    pub(crate) fn prefix(self, frame: &[u8]) -> &[u8] {
        &frame[self.start as usize..(self.local as usize).saturating_sub(1).max(self.start as usize)]
    }
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum AttributeKind {
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
pub(crate) struct Attribute {
    pub(crate) name: QName,
    pub(crate) value_start: u32,
    pub(crate) value_end: u32,
    pub(crate) kind: AttributeKind,
    /// The value needs no decoding.
    pub(crate) literal: bool,
}

impl Attribute {
    pub(crate) fn value(self, frame: &[u8]) -> &[u8] {
        &frame[self.value_start as usize..self.value_end as usize]
    }

    pub(crate) fn quote(self, frame: &[u8]) -> u8 {
        frame[self.value_end as usize]
    }
}

/// An element whose end tag has not come yet.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Open {
    pub(crate) name: QName,
    pub(crate) namespace: Uri,
    /// The default namespace inside it.
    pub(crate) default: Uri,
    /// Bindings that were in force outside it.
    pub(super) bindings: u32,
}

/// A direct child of the stanza.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ChildRange {
    pub(crate) name: QName,
    pub(crate) namespace: Uri,
    pub(crate) start: u32,
    pub(crate) end: u32,
}
