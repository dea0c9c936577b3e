//! The real `whimbrel-perf`, against a server that misbehaves as it is told, against the bare router, and against real servers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounting;
mod archive;
mod bad_input;
mod baseline;
mod brokers;
mod floor;
mod generators;
mod stand_in;
mod stand_in_archive;
mod support;
mod whimbreld;
