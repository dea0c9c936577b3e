//! What a client makes of answers and roster pushes.

use super::{NS_DISCO, NS_ROSTER};
use crate::simulation::client::{Shelf, Wanted};
use crate::simulation::world::{DOMAIN, World, bare};
use crate::xml::Element;

impl World {
    pub(super) fn iq_heard(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        match element.attribute("type") {
            Some("result" | "error") => self.answer_heard(index, element, &id),
            Some("set") => {
                if let Some(query) = element.find("query", NS_ROSTER) {
                    self.roster_push(index, element, query);
                }
                self.clients[index].say(&format!("<iq type='result' id='{id}'/>"));
            }
            _ if element.find("query", NS_DISCO).is_some() => self.asked_what_it_is(index, &id),
            _ => {
                let to = element.attribute("from").unwrap_or(DOMAIN);
                let answer = format!("<iq type='result' id='{id}' to='{to}'/>");
                self.clients[index].say(&answer);
            }
        }
    }

    pub(super) fn answer_heard(&mut self, index: usize, element: &Element, id: &str) {
        let step = self.step;
        let result = element.attribute("type") == Some("result");
        let client_user = self.clients[index].user;
        let Some(live) = &mut self.clients[index].live else { return };
        if id.is_empty() && !result {
            return;
        }
        let Some((wanted, asked)) = live.wanted.remove(id) else {
            // It may be the answer to the session that had this resource before.
            let number = id.strip_prefix('q').and_then(|n| n.parse::<u32>().ok());
            if number.is_none_or(|n| n > self.counter) {
                self.fail(format!("client {index} gets an answer to {id:?}, which nobody has asked"));
            }
            return;
        };
        match wanted {
            Wanted::Roster if result => {
                let query = element.find("query", NS_ROSTER);
                let items = query.into_iter().flat_map(Element::elements).filter_map(item).collect();
                live.roster = Some(items);
            }
            Wanted::Page => self.page_ends(index, element),
            Wanted::Published(n) if result => self.nodes.confirmed(n),
            Wanted::Enabled if result => {
                let device = (client_user, self.clients[index].number);
                self.pushes.confirmed(device, step, asked);
            }
            Wanted::Put(shelf, number) if result => {
                live.put.insert(shelf, number);
            }
            Wanted::Kept(shelf, number) if result => {
                if shelf == Shelf::Roster {
                    let query = element.find("query", NS_ROSTER);
                    let items = query.into_iter().flat_map(Element::elements).filter_map(item).collect();
                    live.roster = Some(items);
                }
                if live.wanted.values().any(|(wanted, _)| *wanted == Wanted::Put(shelf, number)) {
                    return self.fail(format!("client {index}: a get is answered before the set before it"));
                }
                let (session, put) = (live.id, live.put.get(&shelf).copied());
                self.kept(index, shelf, element, session, put);
            }
            Wanted::Block(other, true) if result => {
                self.oracle.block_confirmed(client_user, other, step, asked);
            }
            Wanted::Unblock(other) => self.oracle.unblock_answered(client_user, other),
            Wanted::Carbons(on) if result => {
                self.oracle.sessions[live.id].carbons = on.then_some(step);
            }
            _ => {}
        }
    }

    /// What is kept is what was put there last in the same stream.
    pub(super) fn kept(
        &mut self,
        index: usize,
        shelf: Shelf,
        answer: &Element,
        session: usize,
        put: Option<u32>,
    ) {
        let number = self.clients[index].number;
        let query = answer.elements().next();
        let text = match shelf {
            Shelf::Private => query
                .and_then(|query| query.find(&format!("s{number}"), "urn:sim"))
                .map(|kept| kept.content().into_owned()),
            Shelf::Node => query
                .and_then(|query| query.elements().next()?.elements().next()?.elements().next())
                .map(|kept| kept.content().into_owned()),
            Shelf::Roster => {
                let jid = format!("s{number}@elsewhere.example");
                let mut items = query.into_iter().flat_map(Element::elements);
                let item = items.find(|item| item.attribute("jid") == Some(&jid));
                item.and_then(|item| item.attribute("name")).map(str::to_owned)
            }
        };
        let own = text.as_deref().and_then(|text| text.strip_prefix(&format!("{session}-")));
        let seen: Option<u32> = own.and_then(|kept| kept.parse().ok());
        let foreign = text.as_deref().is_some_and(|text| !text.is_empty()) && own.is_none();
        if seen != put && !foreign {
            self.fail(format!("client {index} has put {put:?} on the shelf {shelf:?} and gets {text:?}"));
        }
    }

    pub(super) fn roster_push(&mut self, index: usize, element: &Element, query: &Element) {
        let client = &mut self.clients[index];
        let own = bare(client.user);
        if element.attribute("from").is_some_and(|from| from != own) {
            return self.fail(format!("client {index} gets a roster push from another entity"));
        }
        let Some(live) = &mut client.live else { return };
        let Some(pushed) = query.elements().next() else { return };
        let Some((contact, (subscription, ask))) = item(pushed) else { return };
        // A push can come before the roster that was asked for (RFC 6121 §2.2 rules out neither).
        if let Some(roster) = &mut live.roster {
            if subscription == "remove" {
                roster.remove(&contact);
            } else {
                roster.insert(contact, (subscription, ask));
            }
        }
    }
}

/// Contact, subscription, and whether a request of ours is pending.
fn item(element: &Element) -> Option<(String, (String, bool))> {
    let contact = element.attribute("jid")?.to_owned();
    let subscription = element.attribute("subscription").unwrap_or("none").to_owned();
    Some((contact, (subscription, element.attribute("ask").is_some())))
}
