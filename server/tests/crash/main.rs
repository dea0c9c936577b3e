//! The real program on real disks, in trouble: nothing that it has acknowledged is lost.
//!
//! ```text
//! cargo test -p whimbrel-server --test crash -- --nocapture                  some kills, and the disks below
//! cargo test -p whimbrel-server --test crash groups -- --nocapture           kills beside rooms alone
//! WHIMBREL_CRASH_CYCLES=200 cargo test -p whimbrel-server --test crash …     more of them
//! WHIMBREL_REQUIRE_MOUNTS=1 cargo test -p whimbrel-server --test crash …     fails where a disk cannot be mounted
//! ```
#![allow(clippy::unwrap_used)]

mod archives;
mod client;
#[cfg(target_os = "linux")]
mod disks;
mod groups;
mod keeper;
mod server;
mod sigkill;

use std::time::{Duration, Instant};

/// How long something that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const SM: &str = "urn:xmpp:sm:3";

#[track_caller]
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
