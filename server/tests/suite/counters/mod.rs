//! A walk over every metric: each is made to move by a small step, so that none is blind.
//!
//! ```text
//! tables of the code ──► every name ──┬─► moved by a step   (steps.rs, registration.rs, worlds.rs)
//!                                     └─► EXCUSED           (below; short, each with its reason)
//! ```
//! A metric that is neither fails `every_metric_is_walked`, whose message says what to add. A step that claims a
//! metric and does not move it fails by name, on every driver.

mod registration;
mod stage;
mod steps;
mod worlds;

use std::collections::BTreeMap;

use whimbrel_server::metrics::WorkerMetrics;
use whimbrel_server::registration::metrics::RegistrationMetrics;
use whimbrel_server::stats::{QueueMetrics, ServerMetrics};
use whimbrel_stats::{Block, Description};

/// All tables of metrics.
const TABLES: [&[Description]; 4] = [
    WorkerMetrics::DESCRIPTIONS,
    QueueMetrics::DESCRIPTIONS,
    ServerMetrics::DESCRIPTIONS,
    RegistrationMetrics::DESCRIPTIONS,
];

/// Metrics that no step moves, and why. Something that a client can cause does not belong here.
const EXCUSED: &[(&str, &str)] = &[
    ("server.faults.major", "the disk is the system's business"),
    (
        "server.allocator.in_use",
        "only whimbreld has the allocator that counts, not a test in whose process it runs",
    ),
    ("server.allocator.allocations", "as server.allocator.in_use"),
    ("upgrade.count", "an upgrade replaces the process: tools/tests/programs/upgrade.rs"),
    ("upgrade.failed", "as upgrade.count"),
    ("upgrade.pause", "as upgrade.count"),
    ("upgrade.sessions", "as upgrade.count"),
    ("upgrade.closed", "as upgrade.count"),
    ("log.damaged", "a record is damaged behind the server's back: the tests of the log"),
    ("log.orphans", "accounts vanish from the directory while the server is down: the tests of boot"),
    ("log.reopened", "a disk fails: server/tests/crash"),
    ("refused.log_failed", "a disk fails: server/tests/crash"),
    ("log.expired", "takes a day at least: the tests of user::offline"),
    ("registration.failed", "a fault of the server itself"),
    ("log.compacted", "takes a log of nothing but holes: the tests of the log"),
    ("log.pauses", "takes a disk that is slower than a client that writes"),
    ("refused.answers", "a request is handled only while its answer has room: the tests of user::flow::room"),
    ("login.driven_out", "takes a million addresses: the tests of the throttle"),
    ("refused.memory", "as server.allocator.in_use, which is what presses: the tests of worker::pressure"),
    ("memory.pressure", "as refused.memory"),
    ("mailbox.bytes", "gone within an iteration; mailbox.stalls is walked"),
    ("queue.commit.length", "gone within a commit; its high-water mark is walked"),
    ("queue.held.length", "gone within a commit; its high-water mark is walked"),
    ("queue.completions.length", "gone within an iteration; its high-water mark is walked"),
    ("queue.commands.length", "gone within an iteration; its high-water mark is walked"),
    ("queue.mailbox.length", "gone within an iteration; its high-water mark is walked"),
    ("queue.mailbox.fullest", "gone within an iteration; its high-water mark is walked"),
    ("queue.directory.length", "gone within a commit; its high-water mark is walked"),
    ("queue.crypto.length", "gone within milliseconds; its high-water mark is walked"),
];

/// Excuses at most: a longer list is not a walk.
const EXCUSED_MAX: usize = 30;

/// Every name that a step claims, and which.
fn walked() -> BTreeMap<&'static str, &'static str> {
    let steps = steps::STEPS.iter().map(|step| (step.what, step.moves));
    let offices = registration::STEPS.iter().map(|step| (step.what, step.moves));
    let worlds = std::iter::once((worlds::WHAT, worlds::MOVES));
    steps
        .chain(offices)
        .chain(worlds)
        .flat_map(|(what, moves)| moves.iter().map(move |name| (*name, what)))
        .collect()
}

#[test]
fn every_metric_is_walked() {
    let walked = walked();
    let known: Vec<&str> = TABLES.iter().flat_map(|table| table.iter()).map(|metric| metric.name).collect();
    let excused = |name: &str| EXCUSED.iter().any(|(excused, _)| *excused == name);
    let missing: Vec<&str> =
        known.iter().copied().filter(|name| !walked.contains_key(name) && !excused(name)).collect();
    assert!(
        missing.is_empty(),
        "nothing shows that these metrics ever move: {missing:?}\nadd each to `moves` of a step in \
         server/tests/suite/counters/steps.rs (registration.rs for the API of registration, worlds.rs for what only a \
         busy server shows) that causes it, or write a small step that does; only what no test can cause may be \
         excused, in counters/mod.rs, with the reason"
    );
    for name in walked.keys().chain(EXCUSED.iter().map(|(name, _)| name)) {
        assert!(
            known.contains(name),
            "there is no metric {name} any more: take it out of server/tests/suite/counters"
        );
    }
    for (name, reason) in EXCUSED {
        assert!(!walked.contains_key(name), "{name} is excused ({reason}), and walked by `{}`", walked[name]);
        assert!(!reason.is_empty());
    }
    assert!(EXCUSED.len() <= EXCUSED_MAX, "{} metrics are excused; write steps", EXCUSED.len());
}
