//! Nodes of the publish-subscribe service.

use whimbrel_server::config::NodeMakers;

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::nodes::{make, publish, subscribe};

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[Step {
    what: "juliet makes a node and publishes, and romeo subscribes and hears of it; and then there is no room",
    configure: |config| {
        config.pubsub.create = NodeMakers::Everyone;
        config.pubsub.nodes_max = 1;
        config.pubsub.item_bytes = 100;
    },
    act: publish_and_hear,
    moves: &[
        "pubsub.published",
        "pubsub.notified",
        "pubsub.last_items",
        "pubsub.nodes",
        "pubsub.items",
        "pubsub.bytes",
        "pubsub.members",
        "refused.pubsub_limits",
        "refused.pubsub_item_bytes",
    ],
    ..PLAIN
}];

fn publish_and_hear(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.login("juliet", "balcony");
    let mut romeo = server.online("romeo", "orchard");
    assert_eq!(make(&mut juliet, "news", &[]), "result");
    assert_eq!(publish(&mut juliet, "news", "i", "x"), "result");
    assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
    stage.until("pubsub.last_items");
    assert_eq!(publish(&mut juliet, "news", "j", "x"), "result");
    stage.until("pubsub.notified");
    assert_ne!(make(&mut juliet, "more", &[]), "result");
    assert_ne!(publish(&mut juliet, "news", "k", &"x".repeat(100)), "result");
}
