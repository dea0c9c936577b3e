//! How a message may be treated, read once from its direct children.

use crate::proto::ns;
use crate::stanza::Traits;

/// Reads the traits of a message from its direct children (local name, namespace).
pub fn of<'a>(children: impl Iterator<Item = (&'a str, &'a str)>) -> Traits {
    let mut traits = Traits::default();
    let (mut states, mut others) = (0, 0);
    for (name, namespace) in children {
        if is_of_conversation(namespace) {
            traits.set(Traits::CONVERSATION);
        }
        match (name, namespace) {
            ("body", ns::CLIENT) => traits.set(Traits::BODY),
            ("private", ns::CARBONS) | ("no-copy", ns::HINTS) => traits.set(Traits::NO_COPY),
            ("sent" | "received", ns::CARBONS) => traits.set(Traits::CARBON),
            ("no-store", ns::HINTS) => traits.set(Traits::NO_STORE),
            ("store", ns::HINTS) => traits.set(Traits::CONTENT),
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
    traits
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
        let table: &[(&str, &str, Traits)] = &[
            ("body", "jabber:client", Traits::BODY.and(Traits::CONTENT)),
            ("private", "urn:xmpp:carbons:2", Traits::NO_COPY),
            ("no-copy", "urn:xmpp:hints", Traits::NO_COPY),
            ("no-store", "urn:xmpp:hints", Traits::NO_STORE),
            ("store", "urn:xmpp:hints", Traits::CONTENT),
            ("no-permanent-store", "urn:xmpp:hints", Traits::default()),
            ("stanza-id", "urn:xmpp:sid:0", Traits::default()),
            ("sent", "urn:xmpp:carbons:2", Traits::CARBON),
            ("received", "urn:xmpp:carbons:2", Traits::CARBON),
            ("received", "urn:xmpp:receipts", Traits::CONVERSATION.and(Traits::CONTENT)),
            ("replace", "urn:xmpp:message-correct:0", Traits::CONVERSATION.and(Traits::CONTENT)),
            ("body", "urn:example:other", Traits::CONTENT),
        ];
        for &(name, namespace, expected) in table {
            assert_eq!(of([(name, namespace)].into_iter()), expected, "{name} {namespace}");
        }
    }
}
