//! What only a busy server shows: full mailboxes, full queues, slow readers. Simulated worlds have all of it, and the
//! same seed always has the same.

use std::collections::BTreeSet;

use whimbrel_server::simulation::{Settings, World};

pub(super) const WHAT: &str = "simulated worlds";

/// What moves in one world or another.
pub(super) const MOVES: &[&str] = &[
    "accept.descriptor_pauses",
    "carbons.skipped",
    "logins.failed.unavailable",
    "mailbox.bytes_high_water",
    "mailbox.chokes",
    "mailbox.stalls",
    "queue.held.high_water",
    "reading.pauses",
    "refused.directory_queue",
    "refused.crypto_queue",
    "refused.idle",
];

/// Worlds at most.
const WORLDS_MAX: u64 = 40;

#[test]
fn simulated_worlds_move_what_only_a_busy_server_shows() {
    let mut left: BTreeSet<&str> = MOVES.iter().copied().collect();
    let mut failed = Vec::new();
    for seed in 0..WORLDS_MAX {
        if left.is_empty() {
            break;
        }
        let data = tempfile::tempdir().unwrap();
        let report = match World::new(Settings::small(seed), data.path()).unwrap().run() {
            Ok(report) => report,
            Err(failure) => {
                failed.push(format!("world {seed}, step {}: {}", failure.step, failure.what));
                continue;
            }
        };
        for (name, _) in &report.metrics {
            left.remove(name);
        }
    }
    assert!(
        left.is_empty(),
        "{WORLDS_MAX} worlds do not move {left:?}: these metrics are blind, or no world has their cause"
    );
    assert!(failed.is_empty(), "rules of the simulation do not hold: {failed:#?}");
}
