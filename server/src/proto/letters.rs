//! How much of addresses with letters beyond ASCII one stanza may bring. Such an address is brought into its normal form letter by
//! letter, each looked for in many tables, at some 0.1 µs a byte, and a stanza may be full of them.

use std::cell::Cell;

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::xml::{Element, Node};

/// Bytes of such addresses in a list that a client sends.
const LIST_BYTES_MAX: usize = 4 * 1024;

/// Bytes of those that say who has given an id, or delayed a message.
const BY_BYTES_MAX: usize = 2 * 1024;

/// What is left of it.
#[derive(Clone, Debug)]
pub struct Letters(Cell<usize>);

impl Letters {
    /// For a list of addresses.
    pub fn of_list() -> Letters {
        Letters(Cell::new(LIST_BYTES_MAX))
    }

    /// For those by which a message says who has added something to it.
    pub fn of_marks() -> Letters {
        Letters(Cell::new(BY_BYTES_MAX))
    }

    /// Whether an address may still be looked at.
    pub fn has(&self, address: &str) -> bool {
        if address.is_ascii() {
            return true;
        }
        let left = self.0.get().checked_sub(address.len());
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// As [`Letters::has`].
    ///
    /// # Errors
    /// `policy-violation` where it may not.
    pub fn check(&self, address: &str) -> Result<(), StanzaError> {
        if self.has(address) {
            return Ok(());
        }
        let text = "there are too many addresses with letters beyond ASCII; send them in parts";
        Err(StanzaError::from(StanzaCondition::PolicyViolation).with_text(text))
    }
}

/// Bytes with letters beyond ASCII in a request, as many as it may bring in addresses.
pub fn weight(request: &Element) -> usize {
    let texts = request.nodes().iter().map(|node| match node {
        Node::Element(inside) => weight(inside),
        Node::Text(text) => of(text),
    });
    let attributes = request.attributes().iter().map(|attribute| of(&attribute.value));
    texts.chain(attributes).sum::<usize>().min(LIST_BYTES_MAX)
}

fn of(text: &str) -> usize {
    if text.is_ascii() { 0 } else { text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_ascii_cost_nothing_and_others_have_an_end() {
        let letters = Letters::of_marks();
        let (plain, long) = ("a".repeat(1000), "\u{e9}".repeat(500));
        for _ in 0..100 {
            assert!(letters.has(&plain));
        }
        assert!(letters.has(&long) && letters.has(&long));
        assert!(!letters.has(&long) && letters.check(&long).is_err());
        assert!(letters.check(&plain).is_ok());
    }
}
