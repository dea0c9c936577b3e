//! What a client keeps with the server, asked for in the same packet.

use crate::simulation::actions::Action;
use crate::simulation::client::{Shelf, Wanted};
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 5, run: World::put_and_get }];

impl World {
    /// Keeps a number with the server and asks for it in the same packet, perhaps several times.
    fn put_and_get(&mut self, index: usize) {
        let shelf = if self.random.permille(500) { Shelf::Private } else { Shelf::Roster };
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
            };
            let query = |inside: &str| format!("<query xmlns='{namespace}'>{inside}</query>");
            self.ask(index, "set", None, &query(&put), Wanted::Put(shelf, kept));
            self.ask(index, "get", None, &query(&get), Wanted::Kept(shelf, kept));
        }
    }
}
