//! A walk over every metric: each is made to move by a small step, so that none is blind.
//!
//! ```text
//! tables of the code ──► every name ──┬─► moved by a step   (steps.rs, registration.rs, worlds.rs)
//!                                     └─► EXCUSED, FLEETING (below; short, each with its reason)
//! ```
//! A metric that is neither fails `every_metric_is_walked`, whose message says what to add. A step that claims a
//! metric and does not move it fails by name, on every driver.

#![allow(clippy::needless_update, reason = "all steps are written alike")]

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

/// Metrics that no step moves: why, and the test that covers each instead, as `path: name`. Something that a client can
/// cause does not belong here.
const EXCUSED: &[(&str, &str, &str)] = &[
    ("server.faults.major", "the disk is the system's business", ""),
    ("upgrade.count", "an upgrade replaces the process", UPGRADE),
    ("upgrade.failed", "as upgrade.count", UPGRADE),
    ("upgrade.pause", "as upgrade.count", UPGRADE),
    ("upgrade.sessions", "as upgrade.count", UPGRADE),
    (
        "upgrade.closed",
        "as upgrade.count",
        "tools/tests/programs/upgrade.rs: what_an_upgrade_closes_is_counted_once",
    ),
    (
        "log.damaged",
        "a record is damaged behind the server's back",
        "storage/src/log/tests/files.rs: a_flipped_byte_costs_one_message_and_is_reported_and_kept_aside",
    ),
    (
        "log.orphans",
        "accounts vanish from the directory while the server is down",
        "tools/tests/programs/log.rs: messages_for_accounts_that_an_older_directory_does_not_have_are_dropped_and_counted",
    ),
    ("log.reopened", "a disk fails", FAILING_DISK),
    ("refused.log_failed", "a disk fails", FAILING_DISK),
    (
        "log.expired",
        "takes a day at least",
        "storage/src/log/tests/files.rs: what_is_old_expires_once_and_the_rest_stays",
    ),
    ("registration.failed", "a fault of the server itself", ""),
    ("log.compacted", "takes a log of nothing but holes", ""),
    ("log.pauses", "takes a disk that is slower than a client that writes", ""),
    (
        "refused.answers",
        "a request is handled only while its answer has room; nothing is known to reach it",
        "",
    ),
    (
        "login.driven_out",
        "takes a million addresses",
        "server/src/stream/sasl/throttle/tests.rs: a_flood_of_names_drives_out_neither_guesses_nor_known_addresses",
    ),
];

const UPGRADE: &str = "tools/tests/programs/upgrade.rs: connections_live_through_upgrades_to_other_drivers_and_numbers_of_workers";
const FAILING_DISK: &str = "server/tests/crash/disks.rs: when_a_disk_fails_for_a_while_nothing_is_acknowledged_and_the_log_is_opened_again";

/// Excuses at most, and those without a test elsewhere: a longer list is not a walk.
const EXCUSED_MAX: usize = 16;
const UNCOVERED_MAX: usize = 5;

/// Lengths that are gone within a moment, and the high-water mark that is walked in their stead.
const FLEETING: &[(&str, &str)] = &[
    ("mailbox.bytes", "mailbox.stalls"),
    ("queue.commit.length", "queue.commit.high_water"),
    ("queue.commit.fullest", "queue.commit.high_water"),
    ("queue.output.fullest", "queue.output.high_water"),
    ("queue.held.length", "queue.held.high_water"),
    ("queue.completions.length", "queue.completions.high_water"),
    ("queue.commands.length", "queue.commands.high_water"),
    ("queue.mailbox.length", "queue.mailbox.high_water"),
    ("queue.mailbox.fullest", "queue.mailbox.high_water"),
    ("queue.directory.length", "queue.directory.high_water"),
    ("queue.crypto.length", "queue.crypto.high_water"),
];

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
    let excused = |name: &str| {
        EXCUSED.iter().any(|(excused, ..)| *excused == name)
            || FLEETING.iter().any(|(length, _)| *length == name)
    };
    let missing: Vec<&str> =
        known.iter().copied().filter(|name| !walked.contains_key(name) && !excused(name)).collect();
    assert!(
        missing.is_empty(),
        "nothing shows that these metrics ever move: {missing:?}\nadd each to `moves` of a step in \
         server/tests/suite/counters/steps.rs (registration.rs for the API of registration, worlds.rs for what only a \
         busy server shows) that causes it, or write a small step that does; only what no test can cause may be \
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
    }
}

#[test]
fn excuses_are_few_and_name_tests_that_are_there() {
    let (walked, root) = (walked(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (name, reason, test) in EXCUSED {
        assert!(!walked.contains_key(name), "{name} is excused ({reason}), and walked by `{}`", walked[name]);
        let Some((path, test)) = test.split_once(": ") else { continue };
        let source =
            std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "{name}: there is no test {test} in {path}");
    }
    let uncovered = EXCUSED.iter().filter(|(.., test)| test.is_empty()).count();
    assert!(uncovered <= UNCOVERED_MAX, "{uncovered} excuses name no test");
    assert!(EXCUSED.len() <= EXCUSED_MAX, "{} metrics are excused; write steps", EXCUSED.len());
}
