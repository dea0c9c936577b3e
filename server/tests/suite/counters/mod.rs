//! A walk over every metric: each is made to move by a small step, so that none is blind.
//!
//! ```text
//! tables of the code ──► every name ──┬─► moved by a step   (steps/, registration.rs, push.rs, program.rs, worlds.rs)
//!                                     └─► FLEETING          (below: its high-water mark is moved)
//! ```
//! A metric that is neither fails `every_metric_is_walked`, whose message says what to add. A step that claims a
//! metric and does not move it fails by name, on every driver.

#![allow(clippy::needless_update, reason = "all steps are written alike")]

mod program;
mod push;
mod registration;
mod stage;
mod steps;
mod worlds;

use std::collections::BTreeMap;

use whimbrel_server::http::metrics::{UploadMetrics, WebMetrics};
use whimbrel_server::metrics::WorkerMetrics;
use whimbrel_server::phone::metrics::RegistrationMetrics;
use whimbrel_server::push::metrics::PushMetrics;
use whimbrel_server::stats::{QueueMetrics, ServerMetrics};
use whimbrel_stats::{Block, Description, Kind};

/// All tables of metrics.
const TABLES: [&[Description]; 7] = [
    WorkerMetrics::DESCRIPTIONS,
    QueueMetrics::DESCRIPTIONS,
    ServerMetrics::DESCRIPTIONS,
    RegistrationMetrics::DESCRIPTIONS,
    WebMetrics::DESCRIPTIONS,
    PushMetrics::DESCRIPTIONS,
    UploadMetrics::DESCRIPTIONS,
];

/// Metrics that no step moves: why, and the test that moves each instead, as `path: name`. What a test can cause does not belong
/// here.
const EXCUSED: &[(&str, &str, &str)] = &[(
    "archive.gather_no_room",
    "the disk of whoever runs the tests is not to be filled",
    "storage/src/archive/tests/gathering/room.rs: nothing_is_gathered_while_the_disk_has_no_room",
)];

/// Lengths that are gone within a moment, and the high-water mark that is walked in their stead.
const FLEETING: &[(&str, &str)] = &[
    ("mailbox.bytes", "mailbox.bytes_high_water"),
    ("queue.commit.length", "queue.commit.high_water"),
    ("queue.commit.fullest", "queue.commit.high_water"),
    ("queue.output.fullest", "queue.output.high_water"),
    ("queue.held.length", "queue.held.high_water"),
    ("queue.completions.length", "queue.completions.high_water"),
    ("queue.commands.length", "queue.commands.high_water"),
    ("queue.newcomers.length", "queue.newcomers.high_water"),
    ("queue.mailbox.length", "queue.mailbox.high_water"),
    ("queue.mailbox_bytes.length", "queue.mailbox_bytes.high_water"),
    ("queue.mailbox.fullest", "queue.mailbox.high_water"),
    ("queue.mailbox_bytes.fullest", "queue.mailbox_bytes.high_water"),
    ("queue.mailbox_recipients.length", "queue.mailbox_recipients.high_water"),
    ("queue.mailbox_recipients.fullest", "queue.mailbox_recipients.high_water"),
    ("queue.directory.length", "queue.directory.high_water"),
    ("queue.crypto.length", "queue.crypto.high_water"),
    ("queue.archive.length", "queue.archive.high_water"),
    ("queue.upkeep.length", "queue.upkeep.high_water"),
];

/// Every name that a step claims, and which.
fn walked() -> BTreeMap<&'static str, &'static str> {
    let steps = steps::all().map(|step| (step.what, step.moves));
    let offices = registration::STEPS.iter().map(|step| (step.what, step.moves));
    let pushes = push::STEPS.iter().map(|step| (step.what, step.moves));
    let others = [(worlds::WHAT, worlds::MOVES), (program::WHAT, program::MOVES)];
    steps
        .chain(offices)
        .chain(pushes)
        .chain(others)
        .flat_map(|(what, moves)| moves.iter().map(move |name| (*name, what)))
        .collect()
}

#[test]
fn every_metric_is_walked() {
    let walked = walked();
    let known: Vec<&str> = TABLES.iter().flat_map(|table| table.iter()).map(|metric| metric.name).collect();
    let excused = |name: &str| {
        EXCUSED.iter().any(|(excused, ..)| *excused == name)
            || FLEETING.iter().any(|(length, _)| *length == name)
    };
    let missing: Vec<&str> =
        known.iter().copied().filter(|name| !walked.contains_key(name) && !excused(name)).collect();
    assert!(
        missing.is_empty(),
        "nothing shows that these metrics ever move: {missing:?}\nadd each to `moves` of a step in \
         server/tests/suite/counters/steps (registration.rs for the API of registration, push.rs for push, program.rs for what happens to \
         a process, worlds.rs for what only a busy server shows) that causes it, or write a small step that does; only what no test can cause may be \
         excused, in counters/mod.rs, with the reason"
    );
    let others = EXCUSED.iter().map(|(name, ..)| name).chain(FLEETING.iter().map(|(length, _)| length));
    for name in walked.keys().chain(others) {
        assert!(
            known.contains(name),
            "there is no metric {name} any more: take it out of server/tests/suite/counters"
        );
    }
    for (length, mark) in FLEETING {
        assert!(!walked.contains_key(length) && walked.contains_key(mark), "{length}, {mark}");
        let mut all = TABLES.iter().flat_map(|table| table.iter());
        let kind = all.find(|metric| metric.name == *mark).map(|metric| metric.kind);
        assert_eq!(
            kind,
            Some(Kind::HighWater),
            "{mark} stands in for {length}, so it must keep what it has seen"
        );
    }
}

#[test]
fn excuses_are_few_and_name_tests_that_are_there() {
    let (walked, root) = (walked(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (name, reason, test) in EXCUSED {
        assert!(!walked.contains_key(name), "{name} is excused ({reason}), and walked by `{}`", walked[name]);
        let (path, test) = test.split_once(": ").unwrap_or_else(|| panic!("{name}: no test is named"));
        let source =
            std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "{name}: there is no test {test} in {path}");
    }
}
