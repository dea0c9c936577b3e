//! The Whimbrel server as a library: everything `whimbreld` does, testable without the process.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod admission;
#[expect(unsafe_code, reason = "the allocator")]
pub mod allocator;
pub mod boot;
pub mod busiest;
pub mod chance;
pub mod clock;
pub mod config;
pub mod control;
pub mod drain;
pub mod effects;
pub mod env;
pub mod exchange;
pub mod http;
pub mod keys;
pub mod leaving;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod notifier;
pub mod notify;
pub mod occupancy;
pub mod operations;
pub mod outbound;
pub mod phone;
pub mod proto;
pub mod push;
pub mod quota;
pub mod registration;
pub mod rooms;
pub mod router;
pub mod running;
pub mod runtime;
pub mod saved;
pub mod service;
pub mod session;
pub mod shared;
pub mod simulation;
pub mod stanza;
pub mod stats;
pub mod stream;
pub mod takeover;
pub mod transport;
pub mod upgrade;
pub mod upload;
pub mod user;
pub mod watch;
pub mod web;
pub mod worker;

pub use whimbrel_tls as tls;
pub use whimbrel_xml as xml;
