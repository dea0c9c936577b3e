//! How a journal lies on the disk, byte by byte: docs/log-format.md.

pub(crate) mod checkpoint;
pub(crate) mod layout;
pub(crate) mod message;
pub(crate) mod record;
pub(crate) mod segment;
