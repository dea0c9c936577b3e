//! Reading answers, and accounts that know each other.

use whimbrel_server::xml::{Element, Node};
use whimbrel_storage::directory::{Item, Subscription, run_inline};

use super::TestServer;

const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// `result`, or the condition of a stanza error.
pub(crate) fn outcome(answer: &Element) -> String {
    match answer.attribute("type") {
        Some("error") => {
            let error = answer.find("error", "jabber:client").expect("an error has an error child");
            let condition = error
                .elements()
                .find(|child| child.namespace() == STANZA_ERRORS && child.name() != "text")
                .expect("an error has a condition");
            condition.name().to_owned()
        }
        other => other.unwrap_or_default().to_owned(),
    }
}

/// The one child of a result.
pub(crate) fn payload(answer: &Element) -> &Element {
    assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
    answer.elements().next().expect("the result has a child")
}

/// The text of a child in the same namespace as its parent.
pub(crate) fn text_of(parent: &Element, child: &str) -> String {
    parent
        .find(child, parent.namespace())
        .unwrap_or_else(|| panic!("no {child} in {parent:?}"))
        .content()
        .into_owned()
}

/// Gives an account a contact with this subscription, as it is in the directory.
pub(crate) fn contact(server: &TestServer, account: &str, contact: &str, subscription: Subscription) {
    let account = account.to_owned();
    let item =
        Item { contact: format!("{contact}@localhost"), subscription, listed: true, ..Item::default() };
    let job = Box::new(move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
        transaction.put_roster_item(&account, &item)
    });
    run_inline(&server.server.shared.directory, job).expect("the account exists");
}

/// Makes two accounts contacts who see each other's presence.
pub(crate) fn befriend(server: &TestServer, one: &str, other: &str) {
    contact(server, one, other, Subscription::Both);
    contact(server, other, one, Subscription::Both);
}

/// A message without the ids that the archive of `by` has given to it (XEP-0359).
pub(crate) fn without_ids(message: &Element, by: &str) -> Element {
    without(message, |id| {
        id.attribute("by") == Some(by) && id.attribute("id").is_some_and(|id| id.len() == 13)
    })
}

/// A message without the ids of any archive.
pub(crate) fn without_any_id(message: &Element) -> Element {
    without(message, |_| true)
}

fn without(message: &Element, goes: impl Fn(&Element) -> bool) -> Element {
    let mut message = message.clone();
    message.retain(|node| match node {
        Node::Element(child) => !(child.is("stanza-id", "urn:xmpp:sid:0") && goes(child)),
        Node::Text(_) => true,
    });
    message
}
