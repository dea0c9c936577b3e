//! What clients see, over real sockets, on every driver.
//!
//! Each file is a chapter of the protocol; each test names the behaviour it shows. [`support`] starts a real
//! server in this process and speaks to it as a client would.

// All of it is tests, helpers included: what fails says so by a panic.
#![allow(clippy::unwrap_used)]

/// As the program has it: what it counts is compared with the memory budget.
#[global_allocator]
static ALLOCATOR: whimbrel_server::allocator::Counted = whimbrel_server::allocator::Counted;

mod support;

mod account_memory;
mod archive;
mod bad_input;
mod binding;
mod blocking;
mod bosh;
mod busiest;
mod carbons;
mod counters;
mod csi;
mod descriptors;
mod disco;
mod guesses;
mod http;
mod iq;
mod limits;
mod login;
mod messages;
mod nodes;
mod offline;
mod order;
mod output;
mod pep;
mod presence;
mod push;
mod register;
mod registration;
mod retractions;
mod rooms;
mod roster;
mod services;
mod sm;
mod strangers;
mod subscription;
mod tls;
mod turn;
mod upload;
mod web;
mod websocket;
