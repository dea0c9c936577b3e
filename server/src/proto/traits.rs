//! How a message may be treated, read once from its direct children.
//!
//! What is archived is the table [`ARCHIVED`]: what a person has said or done in a conversation, and what another device has
//! to know to show the same. Chat states are not in it, nor is anything that the sender asks not to store (XEP-0334).

use crate::proto::ns;
use crate::stanza::Traits;

/// Children that make a message one for the archive; an empty name stands for every element of the namespace. And whether a
/// device that is asleep is told of them.
const ARCHIVED: &[(&str, &str, bool)] = &[
    ("body", ns::CLIENT, true),
    ("encrypted", ns::OMEMO, true),
    ("encrypted", ns::OMEMO_LEGACY, true),
    ("openpgp", ns::OPENPGP, true),
    ("encryption", ns::ENCRYPTION, true),
    ("received", ns::RECEIPTS, false),
    ("displayed", ns::CHAT_MARKERS, false),
    ("reactions", ns::REACTIONS, true),
    ("replace", ns::CORRECTION, false),
    ("retract", ns::RETRACTION, false),
    ("propose", ns::CALLS, true),
    ("", ns::CALLS, false),
    ("x", ns::CONFERENCE, true),
    ("x", ns::MUC_USER, true),
    ("store", ns::HINTS, false),
];

/// Reads the traits of a message from its direct children (local name, namespace).
pub fn of<'a>(children: impl Iterator<Item = (&'a str, &'a str)>) -> Traits {
    let mut traits = Traits::default();
    let (mut states, mut others) = (0, 0);
    let (mut is_archived, mut may_be_archived) = (false, true);
    for (name, namespace) in children {
        if let Some(wakes) = is_for_archive(name, namespace) {
            is_archived = true;
            if wakes {
                traits.set(Traits::WAKES);
            }
        }
        if is_of_conversation(namespace) {
            traits.set(Traits::CONVERSATION);
        }
        match (name, namespace) {
            ("body", ns::CLIENT) => traits.set(Traits::BODY),
            ("subject", ns::CLIENT) => {
                traits.set(Traits::SUBJECT);
                others += 1;
            }
            ("private", ns::CARBONS) | ("no-copy", ns::HINTS) => traits.set(Traits::NO_COPY),
            ("sent" | "received", ns::CARBONS) => traits.set(Traits::CARBON),
            ("no-store", ns::HINTS) => {
                traits.set(Traits::NO_STORE);
                may_be_archived = false;
            }
            ("no-permanent-store", ns::HINTS) => may_be_archived = false,
            ("store", ns::HINTS) => traits.set(Traits::CONTENT),
            ("retract", ns::RETRACTION) => {
                traits.set(Traits::RETRACTS);
                others += 1;
            }
            // How far a person has read is not to get lost: their other devices show the same.
            ("displayed", ns::CHAT_MARKERS) => others += 1,
            (_, ns::CHAT_STATES | ns::CHAT_MARKERS) => states += 1,
            // None of these is worth anything alone.
            ("thread", ns::CLIENT) | (_, ns::HINTS | ns::STANZA_ID) => {}
            _ => others += 1,
        }
    }
    if others > 0 || traits.has(Traits::BODY) {
        traits.set(Traits::CONTENT);
    } else if states > 0 && !traits.has(Traits::CONTENT) {
        traits.set(Traits::STATE_ONLY);
    }
    if is_archived && may_be_archived {
        traits.set(Traits::ARCHIVED);
    }
    traits
}

/// Whether an element is for the archive: then, whether it wakes.
#[inline]
fn is_for_archive(name: &str, namespace: &str) -> Option<bool> {
    // Nearly every message has a body, and that comes first.
    let found = ARCHIVED.iter().find(|(of, space, _)| (of.is_empty() || *of == name) && *space == namespace);
    found.map(|(_, _, wakes)| *wakes)
}

fn is_of_conversation(namespace: &str) -> bool {
    matches!(namespace, ns::CHAT_STATES | ns::CHAT_MARKERS | ns::RECEIPTS | ns::CORRECTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: (&str, &str) = ("composing", "http://jabber.org/protocol/chatstates");

    #[test]
    fn a_lone_chat_state_can_wait_and_a_body_cannot() {
        assert!(of([STATE].into_iter()).has(Traits::STATE_ONLY));
        let both = of([STATE, ("body", "jabber:client")].into_iter());
        assert!(both.has(Traits::BODY) && !both.has(Traits::STATE_ONLY));
        let receipt = of([STATE, ("received", "urn:xmpp:receipts")].into_iter());
        assert!(!receipt.has(Traits::STATE_ONLY));
        let with_id = of([STATE, ("origin-id", "urn:xmpp:sid:0")].into_iter());
        assert!(with_id.has(Traits::STATE_ONLY), "an id is no content");
    }

    #[test]
    fn traits_follow_the_direct_children() {
        let woken = Traits::CONTENT.and(Traits::ARCHIVED).and(Traits::WAKES);
        let table: &[(&str, &str, Traits)] = &[
            ("body", "jabber:client", Traits::BODY.and(woken)),
            ("private", "urn:xmpp:carbons:2", Traits::NO_COPY),
            ("no-copy", "urn:xmpp:hints", Traits::NO_COPY),
            ("no-store", "urn:xmpp:hints", Traits::NO_STORE),
            ("store", "urn:xmpp:hints", Traits::CONTENT.and(Traits::ARCHIVED)),
            ("no-permanent-store", "urn:xmpp:hints", Traits::default()),
            ("stanza-id", "urn:xmpp:sid:0", Traits::default()),
            ("sent", "urn:xmpp:carbons:2", Traits::CARBON),
            ("received", "urn:xmpp:carbons:2", Traits::CARBON),
            (
                "received",
                "urn:xmpp:receipts",
                Traits::CONVERSATION.and(Traits::CONTENT).and(Traits::ARCHIVED),
            ),
            ("request", "urn:xmpp:receipts", Traits::CONVERSATION.and(Traits::CONTENT)),
            (
                "replace",
                "urn:xmpp:message-correct:0",
                Traits::CONVERSATION.and(Traits::CONTENT).and(Traits::ARCHIVED),
            ),
            (
                "displayed",
                "urn:xmpp:chat-markers:0",
                Traits::CONVERSATION.and(Traits::CONTENT).and(Traits::ARCHIVED),
            ),
            ("markable", "urn:xmpp:chat-markers:0", Traits::CONVERSATION.and(Traits::STATE_ONLY)),
            ("encrypted", "eu.siacs.conversations.axolotl", woken),
            ("reactions", "urn:xmpp:reactions:0", woken),
            (
                "retract",
                "urn:xmpp:message-retract:1",
                Traits::CONTENT.and(Traits::ARCHIVED).and(Traits::RETRACTS),
            ),
            ("subject", "jabber:client", Traits::CONTENT.and(Traits::SUBJECT)),
            ("propose", "urn:xmpp:jingle-message:0", woken),
            ("finish", "urn:xmpp:jingle-message:0", Traits::CONTENT.and(Traits::ARCHIVED)),
            ("x", "jabber:x:conference", woken),
            ("body", "urn:example:other", Traits::CONTENT),
        ];
        for &(name, namespace, expected) in table {
            assert_eq!(of([(name, namespace)].into_iter()), expected, "{name} {namespace}");
        }
    }

    #[test]
    fn hints_decide_what_is_archived() {
        let (body, hint) = (("body", "jabber:client"), "urn:xmpp:hints");
        for (with, expected) in
            [("store", true), ("no-copy", true), ("no-store", false), ("no-permanent-store", false)]
        {
            assert_eq!(of([body, (with, hint)].into_iter()).has(Traits::ARCHIVED), expected, "{with}");
            assert_eq!(of([(with, hint), body].into_iter()).has(Traits::ARCHIVED), expected, "{with}");
        }
        assert!(of([STATE, ("store", hint)].into_iter()).has(Traits::ARCHIVED));
        assert!(!of([STATE].into_iter()).has(Traits::ARCHIVED));
    }
}
