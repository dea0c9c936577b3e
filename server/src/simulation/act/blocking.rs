//! Block lists (XEP-0191).

use crate::simulation::act::NEIGHBOURS;
use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::world::{World, bare};

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 15, run: World::block }];

impl World {
    /// Blocks one of the few whom a user may ever block, or lifts that. The rules for messages and presence leave out those
    /// who have ever done so, hence few pairs; and hence those are looked for, or chance would hardly ever meet them.
    fn block(&mut self, index: usize) {
        let (user, users) = (self.clients[index].user, self.settings.users);
        let neighbours =
            (0..=2 * NEIGHBOURS).map(|offset| (user + users + offset - NEIGHBOURS.min(users)) % users);
        let enemies: Vec<usize> =
            neighbours.filter(|&other| (user + other).is_multiple_of(7) && other != user).collect();
        let Some(other) = self.random.pick(&enemies).copied() else { return };
        self.oracle.block(user, other);
        let (what, wanted) = if self.random.permille(500) {
            ("block", Wanted::Block(other, !self.oracle.is_unblocking(user, other)))
        } else {
            self.oracle.unblock_asked(self.step, user, other);
            ("unblock", Wanted::Unblock(other))
        };
        let query = format!("<{what} xmlns='urn:xmpp:blocking'><item jid='{}'/></{what}>", bare(other));
        self.ask(index, "set", None, &query, wanted);
        let query = "<blocklist xmlns='urn:xmpp:blocking'/>";
        self.ask(index, "get", None, query, Wanted::Anything);
    }
}
