//! Nodes of the service: subscribing, publishing, looking.

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::nodes::{NODES, node, pubsub, service};
use crate::simulation::world::{World, bare};

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 4, run: World::subscribe_to_node },
    Action { weight: 2, run: World::unsubscribe_from_node },
    Action { weight: 14, run: World::publish_to_node },
    Action { weight: 2, run: World::look_at_nodes },
];

impl World {
    fn subscribe_to_node(&mut self, index: usize) {
        let (user, number) = (self.clients[index].user, self.random.below(NODES));
        self.nodes.subscribes(user, number);
        let inside = format!("<subscribe node='{}' jid='{}'/>", node(number), bare(user));
        self.ask(index, "set", Some(&service()), &pubsub(&inside), Wanted::Anything);
    }

    fn unsubscribe_from_node(&mut self, index: usize) {
        let (user, number) = (self.clients[index].user, self.random.below(NODES));
        let inside = format!("<unsubscribe node='{}' jid='{}'/>", node(number), bare(user));
        self.ask(index, "set", Some(&service()), &pubsub(&inside), Wanted::Anything);
    }

    /// Perhaps several items in the same packet, to one node or to several.
    fn publish_to_node(&mut self, index: usize) {
        for _ in 0..self.random.between(1, 3) {
            let number = self.random.below(NODES);
            let n = self.nodes.publishes(number);
            let item = format!("<item id='{n}'><v xmlns='urn:sim'>{n}</v></item>");
            let inside = format!("<publish node='{}'>{item}</publish>", node(number));
            self.ask(index, "set", Some(&service()), &pubsub(&inside), Wanted::Published(n));
        }
    }

    fn look_at_nodes(&mut self, index: usize) {
        let asked = match self.random.below(3) {
            0 => pubsub("<subscriptions/>"),
            1 => pubsub(&format!("<items node='{}' max_items='3'/>", node(self.random.below(NODES)))),
            _ => "<query xmlns='http://jabber.org/protocol/disco#items'/>".to_owned(),
        };
        self.ask(index, "get", Some(&service()), &asked, Wanted::Anything);
    }
}
