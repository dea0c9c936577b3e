//! Nodes of accounts, and what clients announce that they want to hear of.

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::pep::{answer_disco, caps, come, disco_info, interested, note, publish};

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "juliet publishes, and romeo hears of it, and comes once more",
        act: publish_and_hear,
        moves: &[
            "pep.published",
            "pep.notified",
            "pep.last_items",
            "pep.nodes",
            "pep.items",
            "caps.hashes",
            "caps.queries",
        ],
        ..PLAIN
    },
    Step {
        what: "an item is too long, a client lies, and there is room for one hash",
        configure: |config| {
            config.workers = 1;
            config.limits.pep_item_bytes = 100;
            config.limits.caps_hashes = 1;
        },
        act: |_, server| {
            let mut juliet = server.login("juliet", "balcony");
            assert_ne!(publish(&mut juliet, "n", "i", &note(&"x".repeat(100))), "result");
            juliet.send(&format!("<presence>{}</presence>", caps(&disco_info(&["n"]))));
            juliet.settle();
            answer_disco(&mut juliet, &disco_info(&["another"]));
            let mut romeo = server.login("romeo", "orchard");
            let mut second = server.login("romeo", "second");
            come(&mut romeo, &["a"]);
            come(&mut second, &["b"]);
        },
        moves: &["refused.pep_item_bytes", "caps.refused_answers", "refused.caps_hashes"],
        ..PLAIN
    },
];

fn publish_and_hear(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.login("juliet", "balcony");
    let mut romeo = interested(server, "romeo", "orchard", &["n"]);
    assert_eq!(publish(&mut juliet, "n", "i", &note("x")), "result");
    stage.until("pep.notified");
    come(&mut romeo, &["m", "n"]);
    stage.until("pep.last_items");
}
