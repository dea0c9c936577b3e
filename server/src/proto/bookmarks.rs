//! Bookmarks in both their forms: an item for each room (XEP-0402), and all in one element (XEP-0048), which clients keep in
//! private XML (XEP-0049) or in one item.
//!
//! An item of the first form is the truth. What the second form has beside rooms (`<url/>` …) is kept apart, and what only
//! the first form has (`<extensions/>`) survives a change that comes in the second.

use whimbrel_storage::jid::Jid;

use crate::proto::ns;
use crate::xml::{Element, Node};

/// The name of the element that has all bookmarks.
pub const STORAGE: &str = "storage";

/// The id of the one item that has all bookmarks.
pub const CURRENT: &str = "current";

const CONFERENCE: &str = "conference";
const ATTRIBUTES: [&str; 2] = ["name", "autojoin"];
const CHILDREN: [&str; 2] = ["nick", "password"];
const EXTENSIONS: &str = "extensions";

/// All bookmarks in one element: the rooms, by their addresses, and what else was kept there.
pub fn storage<'a>(rooms: impl Iterator<Item = (&'a str, Element)>, rest: Option<Element>) -> Element {
    let mut storage = rest.unwrap_or_else(|| Element::new(STORAGE, ns::BOOKMARKS_STORAGE));
    for (room, item) in rooms {
        let conference = Element::new(CONFERENCE, ns::BOOKMARKS_STORAGE).attr("jid", room);
        storage.push(copied(&item, ns::BOOKMARKS, conference, ns::BOOKMARKS_STORAGE));
    }
    storage
}

/// Copies what both forms have.
fn copied(from: &Element, its: &'static str, mut to: Element, namespace: &'static str) -> Element {
    for name in ATTRIBUTES {
        to = to.attr_opt(name, from.attribute(name));
    }
    for name in CHILDREN {
        if let Some(child) = from.find(name, its) {
            to.push(Element::new(name, namespace).text(child.content()));
        }
    }
    to
}

/// The rooms of an element that has all bookmarks, each once, as items; and what else is in it.
pub fn rooms(storage: &Element) -> (Vec<(String, Element)>, Element) {
    let mut rooms: Vec<(String, Element)> = Vec::new();
    let is_room = |child: &Element| child.is(CONFERENCE, ns::BOOKMARKS_STORAGE);
    for child in storage.elements().filter(|child| is_room(child)) {
        // A bookmark of something that is no address leads nowhere.
        let Some(Ok(jid)) = child.attribute("jid").map(Jid::parse) else { continue };
        let item = Element::new(CONFERENCE, ns::BOOKMARKS);
        let item = copied(child, ns::BOOKMARKS_STORAGE, item, ns::BOOKMARKS);
        let room = jid.bare_str().to_owned();
        rooms.retain(|(known, _)| *known != room);
        rooms.push((room, item));
    }
    let mut rest = storage.clone();
    rest.retain(|node| !matches!(node, Node::Element(child) if is_room(child)));
    (rooms, rest)
}

/// An item as it is after it was changed in the second form; `None`: it is as it was.
pub fn merged(old: &Element, mut new: Element) -> Option<Element> {
    let as_before = copied(old, ns::BOOKMARKS, Element::new(CONFERENCE, ns::BOOKMARKS), ns::BOOKMARKS);
    if as_before == new {
        return None;
    }
    if let Some(extensions) = old.find(EXTENSIONS, ns::BOOKMARKS) {
        new.push(extensions.clone());
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text.as_bytes()).unwrap()
    }

    const ITEM: &str = "<conference xmlns='urn:xmpp:bookmarks:1' name='Play &amp; all' autojoin='true'>\
        <nick>JC</nick><password>p</password><extensions><x xmlns='urn:x'/></extensions></conference>";
    const STORED: &str = "<storage xmlns='storage:bookmarks'><url name='u' url='http://u'/>\
        <conference jid='theplay@muc.x' name='Play &amp; all' autojoin='true'><nick>JC</nick><password>p</password></conference></storage>";

    #[test]
    fn both_forms_say_the_same() {
        let rest = element("<storage xmlns='storage:bookmarks'><url name='u' url='http://u'/></storage>");
        let all = storage([("theplay@muc.x", element(ITEM))].into_iter(), Some(rest.clone()));
        assert_eq!(all, element(STORED));
        let (found, others) = rooms(&all);
        assert_eq!(others, rest);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "theplay@muc.x");
        assert_eq!(merged(&element(ITEM), found[0].1.clone()), None, "nothing was changed");
    }

    #[test]
    fn a_change_keeps_what_only_an_item_has() {
        let (mut found, _) = rooms(&element(&STORED.replace("JC", "Juliet")));
        let new = merged(&element(ITEM), found.remove(0).1).expect("the nick is another");
        assert_eq!(new, element(&ITEM.replace("JC", "Juliet")));
    }

    #[test]
    fn a_room_counts_once_by_its_normalised_address_and_nonsense_does_not() {
        let stored = "<storage xmlns='storage:bookmarks'><conference jid='A@muc.x/nick' name='1'/><conference/>\
            <conference jid='@'/><conference jid='a@muc.x' name='2'/><conference xmlns='urn:x' jid='b@muc.x'/></storage>";
        let (found, rest) = rooms(&element(stored));
        let found: Vec<_> =
            found.iter().map(|(room, item)| (room.as_str(), item.attribute("name"))).collect();
        assert_eq!(found, [("a@muc.x", Some("2"))]);
        assert_eq!(rest.elements().count(), 1, "what is no room is kept");
    }
}
