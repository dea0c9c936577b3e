//! Rooms: entering, leaving, speaking, and turning others out.

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::rooms::{ROOMS, nick, room, text};
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 12, run: World::enter_room },
    Action { weight: 4, run: World::leave_room },
    Action { weight: 60, run: World::say_to_room },
    Action { weight: 2, run: World::kick_from_room },
];

impl World {
    fn enter_room(&mut self, index: usize) {
        let to = room(self.random.below(ROOMS));
        let client = &mut self.clients[index];
        let Some(live) = &client.live else { return };
        self.rooms.asks(live.id, &to);
        let nick = nick(client.user, &client.resource);
        // What it hears is what is said from now on.
        let x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
        client.say(&format!("<presence to='{to}/{nick}'>{x}</presence>"));
    }

    /// A room in which the client is.
    fn a_room(&mut self, index: usize) -> Option<String> {
        let session = self.clients[index].live.as_ref()?.id;
        let rooms = self.rooms.of(session);
        self.random.pick(&rooms).cloned()
    }

    fn leave_room(&mut self, index: usize) {
        let Some(to) = self.a_room(index) else { return };
        let client = &mut self.clients[index];
        if let Some(live) = &client.live {
            self.rooms.leaves(live.id, &to);
        }
        let nick = nick(client.user, &client.resource);
        client.say(&format!("<presence to='{to}/{nick}' type='unavailable'/>"));
    }

    fn say_to_room(&mut self, index: usize) {
        let Some(to) = self.a_room(index) else { return };
        let n = self.rooms.says(&to, self.step);
        let body = text(n);
        self.clients[index]
            .say(&format!("<message type='groupchat' id='g{n}' to='{to}'><body>{body}</body></message>"));
    }

    /// Only those who have made a room may.
    fn kick_from_room(&mut self, index: usize) {
        let Some(to) = self.a_room(index) else { return };
        let neighbour = self.neighbour(index);
        let nick = nick(neighbour, &format!("r{}", self.random.below(3)));
        let item = format!("<item nick='{nick}' role='none'/>");
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        self.ask(index, "set", Some(&to), &query, Wanted::Anything);
    }
}
