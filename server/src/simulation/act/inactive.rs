//! Client state (XEP-0352).

use crate::simulation::actions::Action;
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 25, run: World::turn_inactive }];

impl World {
    fn turn_inactive(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.inactive = self.random.permille(500);
        let what = if live.inactive { "inactive" } else { "active" };
        client.say(&format!("<{what} xmlns='urn:xmpp:csi:0'/>"));
    }
}
