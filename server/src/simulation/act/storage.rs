//! What a client keeps with the server, asked for in the same packet.

use crate::simulation::actions::Action;
use crate::simulation::client::{Shelf, Wanted};
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 5, run: World::put_and_get }];

impl World {
    /// Keeps a number with the server and asks for it in the same packet, perhaps several times.
    fn put_and_get(&mut self, index: usize) {
        let shelves = [Shelf::Private, Shelf::Roster, Shelf::Node, Shelf::Node];
        let shelf = *self.random.pick(&shelves).expect("there are some");
        let number = self.clients[index].number;
        for _ in 0..self.random.between(1, 4) {
            let Some(session) = self.clients[index].live.as_ref().map(|live| live.id) else { return };
            let kept = self.counter;
            // An earlier session of this client may still be heard when this one is.
            let value = format!("{session}-{kept}");
            let (namespace, put, get) = match shelf {
                Shelf::Private => (
                    "jabber:iq:private",
                    format!("<s{number} xmlns='urn:sim'>{value}</s{number}>"),
                    format!("<s{number} xmlns='urn:sim'/>"),
                ),
                Shelf::Roster => (
                    "jabber:iq:roster",
                    format!("<item jid='s{number}@elsewhere.example' name='{value}'/>"),
                    String::new(),
                ),
                Shelf::Node => (
                    "http://jabber.org/protocol/pubsub",
                    format!(
                        "<publish node='s{number}'><item id='i'><v xmlns='urn:sim'>{value}</v></item></publish>"
                    ),
                    format!("<items node='s{number}'/>"),
                ),
            };
            let name = if shelf == Shelf::Node { "pubsub" } else { "query" };
            let query = |inside: &str| format!("<{name} xmlns='{namespace}'>{inside}</{name}>");
            self.ask(index, "set", None, &query(&put), Wanted::Put(shelf, kept));
            self.ask(index, "get", None, &query(&get), Wanted::Kept(shelf, kept));
        }
    }
}
