//! The Whimbrel server as a library: everything `whimbreld` does, testable without the process.
#![warn(missing_docs)]
