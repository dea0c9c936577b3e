//! Rooms: entering, leaving, speaking, and turning others out.

use crate::simulation::actions::Action;
use crate::simulation::client::Wanted;
use crate::simulation::rooms::{ROOMS, destruction, nick, other_nick, room, text};
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[
    Action { weight: 12, run: World::enter_room },
    Action { weight: 4, run: World::leave_room },
    Action { weight: 60, run: World::say_to_room },
    Action { weight: 2, run: World::kick_from_room },
    Action { weight: 1, run: World::destroy_room },
    Action { weight: 4, run: World::change_nick },
    Action { weight: 6, run: World::take_back_from_room },
    Action { weight: 2, run: World::moderate_room },
    Action { weight: 6, run: World::ping_occupant },
];

impl World {
    fn enter_room(&mut self, index: usize) {
        let to = room(self.random.below(ROOMS));
        let client = &self.clients[index];
        let Some(live) = &client.live else { return };
        self.rooms.asks(live.id, &to, (self.step, false));
        let nick = nick(client.user, &client.resource);
        // Some want to hear what was said before.
        let history = self.random.below(4);
        let x = format!("<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='{history}'/></x>");
        self.clients[index].say(&format!("<presence to='{to}/{nick}'>{x}</presence>"));
    }

    /// A room in which the client is.
    fn a_room(&mut self, index: usize) -> Option<(usize, String)> {
        let session = self.clients[index].live.as_ref()?.id;
        let rooms = self.rooms.of(session);
        let found = self.random.pick(&rooms)?.clone();
        Some((session, found))
    }

    fn leave_room(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        let client = &mut self.clients[index];
        if let Some(live) = &client.live {
            self.rooms.asks_to_leave(live.id, &to);
        }
        let known = client.session.and_then(|session| self.rooms.nick_of(session, &to));
        let nick = known.unwrap_or_else(|| nick(client.user, &client.resource));
        client.say(&format!("<presence to='{to}/{nick}' type='unavailable'/>"));
    }

    fn say_to_room(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        let n = self.rooms.says(self.clients[index].user, &to, self.step);
        let body = text(n);
        self.clients[index]
            .say(&format!("<message type='groupchat' id='g{n}' to='{to}'><body>{body}</body></message>"));
    }

    /// Something that a client has heard in a room, of one user or of anybody; the room's id of it.
    fn something_said(&mut self, session: usize, to: &str, of: Option<usize>) -> Option<(u32, String)> {
        let known = self.rooms.known(session, to, of);
        let (n, id) = *self.random.pick(&known)?;
        let id = self.shared.archive_ids.seal(id);
        Some((n, String::from_utf8_lossy(&id).into_owned()))
    }

    fn take_back_from_room(&mut self, index: usize) {
        let Some((session, to)) = self.a_room(index) else { return };
        let user = self.clients[index].user;
        // What others have said is theirs.
        let of = self.random.permille(800).then_some(user);
        let Some((n, id)) = self.something_said(session, &to, of) else { return };
        self.rooms.takes_back(n, Some(user));
        let retract = format!("<retract xmlns='urn:xmpp:message-retract:1' id='{id}'/>");
        self.clients[index]
            .say(&format!("<message type='groupchat' id='r{n}' to='{to}'>{retract}</message>"));
    }

    fn moderate_room(&mut self, index: usize) {
        let Some((session, to)) = self.a_room(index) else { return };
        let Some((n, id)) = self.something_said(session, &to, None) else { return };
        self.rooms.takes_back(n, None);
        let retract = "<retract xmlns='urn:xmpp:message-retract:1'/>";
        let query = format!("<moderate xmlns='urn:xmpp:message-moderate:1' id='{id}'>{retract}</moderate>");
        self.ask(index, "set", Some(&to), &query, Wanted::Anything);
    }

    fn ping_occupant(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        let neighbour = self.neighbour(index);
        let nick = nick(neighbour, &format!("r{}", self.random.below(3)));
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        self.ask(index, "get", Some(&format!("{to}/{nick}")), ping, Wanted::Perhaps);
    }

    /// Takes another nick, with all seats of the user that have the same.
    fn change_nick(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        let client = &self.clients[index];
        let nick = other_nick(client.user, &client.resource, self.random.below(3));
        self.clients[index].say(&format!("<presence to='{to}/{nick}'/>"));
    }

    /// Only those who have made a room may.
    fn destroy_room(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        self.ask(index, "set", Some(&to), &destruction(), Wanted::Anything);
    }

    /// Only those who have made a room may.
    fn kick_from_room(&mut self, index: usize) {
        let Some((_, to)) = self.a_room(index) else { return };
        let neighbour = self.neighbour(index);
        let nick = nick(neighbour, &format!("r{}", self.random.below(3)));
        let item = format!("<item nick='{nick}' role='none'/>");
        let query = format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>");
        self.ask(index, "set", Some(&to), &query, Wanted::Anything);
    }
}
