//! Requests to the server and to other clients.

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::world::{DOMAIN, World, bare, full};

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 40, run: World::ping_server },
    Action { weight: 40, run: World::ping_client },
    Action { weight: 20, run: World::discover },
    Action { weight: 15, run: World::ask_the_unknown },
];

impl World {
    fn ping_server(&mut self, index: usize) {
        self.ask(index, "get", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>", Wanted::Anything);
    }

    fn ping_client(&mut self, index: usize) {
        let neighbour = self.neighbour(index);
        let to = full(neighbour, &format!("r{}", self.random.below(3)));
        self.ask(index, "get", Some(&to), "<ping xmlns='urn:xmpp:ping'/>", Wanted::Peer(neighbour));
    }

    fn discover(&mut self, index: usize) {
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let neighbour = self.neighbour(index);
        let to = if self.random.permille(500) { DOMAIN.to_owned() } else { bare(neighbour) };
        self.ask(index, "get", Some(&to), query, Wanted::Anything);
    }

    fn ask_the_unknown(&mut self, index: usize) {
        self.ask(index, "get", None, "<nothing xmlns='urn:example'/>", Wanted::Anything);
    }
}
