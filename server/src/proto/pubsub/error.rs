//! Errors of publish-subscribe: a condition of stanza errors, and one of XEP-0060 beside it (§6 to §8, §16.3).

use crate::proto::errors::{ErrorKind, StanzaCondition, StanzaError};
use crate::proto::ns;

/// An error with a condition of publish-subscribe.
pub fn with(condition: StanzaCondition, name: &'static str) -> StanzaError {
    StanzaError::from(condition).with_application(name, ns::PUBSUB_ERRORS)
}

/// Something that the service does not have, by the name of its feature.
pub fn unsupported(feature: &'static str) -> StanzaError {
    with(StanzaCondition::FeatureNotImplemented, "unsupported").with_feature(feature)
}

/// There is no such node, or no such item, as far as the requester may know.
pub fn not_found() -> StanzaError {
    StanzaCondition::ItemNotFound.into()
}

/// The node is not named (§6.1.3.5 and others).
pub fn node_required() -> StanzaError {
    with(StanzaCondition::BadRequest, "nodeid-required")
}

/// An option of the publication does not agree with the node's configuration (§7.1.5).
pub fn precondition_not_met() -> StanzaError {
    with(StanzaCondition::Conflict, "precondition-not-met")
}

/// Only those who see the owner's presence may do this (§6.1.3.2).
pub fn presence_required() -> StanzaError {
    with(StanzaCondition::NotAuthorized, "presence-subscription-required")
}

/// Only contacts in certain groups of the owner's roster may do this (§6.1.3.3).
pub fn not_in_roster_group() -> StanzaError {
    with(StanzaCondition::NotAuthorized, "not-in-roster-group")
}

/// Only those whom the owner has listed may do this (§6.1.3.4).
pub fn closed_node() -> StanzaError {
    with(StanzaCondition::NotAllowed, "closed-node")
}

/// The payload is longer than one may be (§7.1.3.4).
pub fn payload_too_big(bytes_max: usize) -> StanzaError {
    with(StanzaCondition::NotAcceptable, "payload-too-big")
        .with_text(format!("an item may have at most {bytes_max} bytes"))
}

/// There are as many nodes as there may be (§8.1.3).
pub fn too_many_nodes(nodes_max: u64) -> StanzaError {
    with(StanzaCondition::ResourceConstraint, "max-nodes-exceeded")
        .with_text(format!("there may be at most {nodes_max} nodes"))
}

/// The requester owns as many nodes as it may (§8.1.3).
pub fn too_many_owned(nodes_max: u64) -> StanzaError {
    with(StanzaCondition::ResourceConstraint, "max-nodes-exceeded")
        .with_text(format!("an account may own at most {nodes_max} nodes"))
}

/// There is no room for more.
pub fn no_room() -> StanzaError {
    let text = "there is no room for more in these nodes; retract items or delete nodes";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}

/// An account belongs to as many nodes as it may (§6.1.3.7).
pub fn too_many_of_account() -> StanzaError {
    let text = "the account is subscribed to or affiliated with as many nodes as it may be";
    too_many_members().with_text(text)
}

/// An access model that means nothing where nodes belong to no account (§8.1.3).
pub fn unsupported_access_model() -> StanzaError {
    let text = "nodes of this service have no owner's presence or roster; use open, authorize or whitelist";
    with(StanzaCondition::NotAcceptable, "unsupported-access-model").with_text(text)
}

/// Only accounts of this server can be something to a node of the service.
pub fn no_account(jid: &str) -> StanzaError {
    StanzaError::from(StanzaCondition::NotAcceptable).with_text(format!("there is no account {jid} here"))
}

/// The last owner of a node cannot stop being one (§8.9.2).
pub fn last_owner() -> StanzaError {
    let text = "a node has at least one owner";
    StanzaError::from(StanzaCondition::NotAcceptable).with_text(text)
}

/// A node has as many subscribers and affiliated entities as it may have (§6.1.3.7).
pub fn too_many_members() -> StanzaError {
    with(StanzaCondition::ResourceConstraint, "too-many-subscriptions")
}

/// The requester is not subscribed (§6.2.3.2).
pub fn not_subscribed() -> StanzaError {
    with(StanzaCondition::UnexpectedRequest, "not-subscribed").with_kind(ErrorKind::Cancel)
}

/// The requester's subscription waits for the owner (§6.1.3.6).
pub fn pending_subscription() -> StanzaError {
    with(StanzaCondition::NotAuthorized, "pending-subscription")
}

/// The request breaks a rule of its form.
pub fn bad(text: &'static str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_condition_and_the_feature_that_is_missing() {
        let mut out = Vec::new();
        unsupported("collections").write(&mut out);
        let expected = "<error type='cancel'>\
            <feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
            <unsupported xmlns='http://jabber.org/protocol/pubsub#errors' feature='collections'/></error>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
