//! Presence, to contacts and to strangers.

use crate::simulation::act::NEIGHBOURS;
use crate::simulation::actions::Action;
use crate::simulation::hear::CAPS;
use crate::simulation::world::{World, bare, full};

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 80, run: World::become_available },
    Action { weight: 15, run: World::become_unavailable },
    Action { weight: 15, run: World::direct_presence },
];

impl World {
    pub(in crate::simulation) fn become_available(&mut self, index: usize) {
        self.counter += 1;
        let (number, priority) =
            (self.counter, *self.random.pick(&[0, 0, 0, 5, -1]).expect("there are some"));
        self.presence_steps.insert(number, self.step);
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        // What is held for an inactive client would come after it has become available anew, and confuse it.
        let wake = live.presence.is_none() && std::mem::take(&mut live.inactive);
        if live.presence.is_none() {
            live.initial = Some(number);
        }
        live.presence = Some((number, priority));
        if priority < 0 {
            self.oracle.sessions[live.id].available = None;
        }
        if wake {
            client.say("<active xmlns='urn:xmpp:csi:0'/>");
        }
        // Half of the clients want to hear of nodes.
        let caps = if index.is_multiple_of(2) && !self.calm { CAPS } else { "" };
        client.say(&format!(
            "<presence><status>p{number}</status><priority>{priority}</priority>{caps}</presence>"
        ));
    }

    fn become_unavailable(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.presence = None;
        live.initial = None;
        live.seen.clear();
        let session = live.id;
        self.oracle.sessions[session].available = None;
        if std::mem::take(&mut live.inactive) {
            client.say("<active xmlns='urn:xmpp:csi:0'/>");
        }
        client.say("<presence type='unavailable'/>");
        // That leaves all rooms (XEP-0045 §7.14).
        for room in self.rooms.of(session) {
            self.rooms.asks_to_leave(session, &room);
        }
    }

    /// To strangers only, and marked: for a contact it would be the newest presence there is.
    fn direct_presence(&mut self, index: usize) {
        let neighbour = self.neighbour(index);
        let stranger = (neighbour + self.settings.users / 2) % self.settings.users;
        let apart = stranger.abs_diff(self.clients[index].user);
        let client = &self.clients[index];
        let to = if self.random.permille(200) && client.live.as_ref().is_some_and(|l| !l.inactive) {
            full(client.user, &client.resource)
        } else if apart.min(self.settings.users - apart) <= NEIGHBOURS {
            return;
        } else if self.random.permille(500) {
            bare(stranger)
        } else {
            full(stranger, "r0")
        };
        self.clients[index].say(&format!("<presence to='{to}'><directed xmlns='urn:example'/></presence>"));
    }
}
