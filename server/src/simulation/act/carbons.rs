//! Carbons (XEP-0280).

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 15, run: World::turn_carbons }];

impl World {
    fn turn_carbons(&mut self, index: usize) {
        let on = self.random.permille(600);
        let what = if on { "enable" } else { "disable" };
        if let Some(live) = &self.clients[index].live {
            // From the request on nobody can say whether it is on.
            self.oracle.sessions[live.id].carbons = None;
        }
        let query = format!("<{what} xmlns='urn:xmpp:carbons:2'/>");
        self.ask(index, "set", None, &query, Wanted::Carbons(on));
    }
}
