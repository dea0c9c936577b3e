//! A real server in this process, and clients that speak XMPP to it over sockets.
//!
//! ```ignore
//! on_each_driver(|server| {
//!     server.accounts(&["juliet", "romeo"]);
//!     let mut juliet = server.login("juliet", "balcony");
//!     let mut romeo = server.login("romeo", "orchard");
//!     romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>hi</body></message>");
//!     juliet.send("<presence/>");
//!     …
//!     let message = juliet.stanza();            // the next stanza; fails after PATIENCE
//!     romeo.fence(&mut juliet);                  // everything romeo caused so far has reached juliet
//!     assert!(juliet.quiet().is_empty());        // what has come and was not looked at
//! });
//! ```
//! No test waits for time to pass: that something does *not* come is shown by a fence, a stanza that takes the
//! same way and does come.

pub(crate) mod answers;
pub(crate) mod api;
pub(crate) mod bosh;
mod client;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod disk;
pub(crate) mod doubles;
pub(crate) mod managed;
pub(crate) mod program;
pub(crate) mod provider;
pub(crate) mod pushes;
pub(crate) mod roster;
pub(crate) mod scram;
mod server;
pub(crate) mod tls;
pub(crate) mod websocket;

pub(crate) use client::{Client, Said};
pub(crate) use server::password as server_password;
pub(crate) use server::{TestServer, drivers, on_each_driver, on_each_driver_with, with_http};

use std::time::Duration;

/// How long a client waits for what must come before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Thousands of requests that somebody who asks for too much sends: five, past every limit there is, or as `WHIMBREL_FLOOD` says.
pub(crate) fn flood_thousands() -> usize {
    std::env::var("WHIMBREL_FLOOD").map_or(5, |requests| requests.parse::<usize>().unwrap().div_ceil(1000))
}
