//! What HTTP upload (XEP-0363) reads and says, text in, text out: no sockets, no files, no clock.
//!
//! ```text
//! slot:  https://upload.example.org/upload/ID/cat%20picture.jpg?until=1795889516&key=…    PUT, once
//!                                          └── the file's own URL ──┘                      GET, HEAD
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`url`] | URLs of slots and files: written, signed, read |
//! | [`range`] | which part of a file is wanted (RFC 9110 §14) |
//! | [`condition`] | whether it is wanted at all (RFC 9110 §13) |
//! | [`media`] | media types, and what a browser may do with a file |
#![forbid(unsafe_code)]

pub mod condition;
pub mod media;
pub mod range;
pub mod url;
