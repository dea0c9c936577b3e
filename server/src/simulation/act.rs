//! What clients do of their own accord: all of it allowed by the protocol or by the nature of networks, or neither.

use whimbrel_storage::directory::Subscription;

use super::client::{Shelf, Stage, Wanted};
use super::come::HEADER;
use super::oracle;
use super::world::{DOMAIN, World, bare, full, local};
use crate::xml::writer;

/// A client with more than this to send does nothing new, in bytes.
const OUT_BYTES_MAX: usize = 20_000;

/// Users a client deals with: those whose numbers are at most this far from its own. Few enough that subscriptions
/// come about.
const NEIGHBOURS: usize = 3;

/// Input for which a server ends the stream.
pub(super) const RUBBISH: [&str; 12] = [
    "<message><unclosed></message>",
    "<!-- a comment -->",
    "<!DOCTYPE x>",
    "<message to='&nbsp;'/>",
    "no markup",
    "<x:y/>",
    "<message from='u0@sim.example/elsewhere'/>",
    "<unheard-of xmlns='urn:example'/>",
    "<iq xmlns='urn:example' type='get' id='1'/>",
    "</stream:message>",
    "<message a='1' a='2'/>",
    "\u{1}",
];

/// Input that is answered with an error, or with nothing, and changes nothing.
const ODDITIES: [&str; 10] = [
    "<message to='@@@' id='odd'/>",
    "<message to='romeo@elsewhere.example' id='odd' type='chat'><body>x</body></message>",
    "<message to='sim.example' id='odd'/>",
    "<message to='nobody@sim.example' id='odd' type='chat'><body>x</body></message>",
    "<presence to='nobody@sim.example' type='subscribe'/>",
    "<presence type='strange'/>",
    "<presence><priority>1000</priority></presence>",
    "<iq type='get'/>",
    "<message to='u0@sim.example' type='headline'><subject>x</subject></message>",
    "   \n ",
];

/// Something that a client does.
type Deed = fn(&mut World, usize);

/// What a client that is bound does, and how often, of [`DEEDS_TOTAL`] times.
const DEEDS: [(usize, Deed); 19] = [
    (500, World::message),
    (80, World::become_available),
    (15, World::become_unavailable),
    (95, World::ask_for_subscription),
    (30, World::set_roster),
    (10, World::fetch_roster),
    (5, World::put_and_get),
    (15, World::block),
    (15, World::turn_carbons),
    (25, World::turn_inactive),
    (40, World::ping_server),
    (40, World::ping_client),
    (20, World::discover),
    (15, World::ask_the_unknown),
    (20, World::say_something_odd),
    (15, World::direct_presence),
    (8, World::stop_listening),
    (27, World::listen_again),
    (25, World::grow_tired),
];

/// The sum of the weights.
const DEEDS_TOTAL: usize = {
    let (mut sum, mut at) = (0, 0);
    while at < DEEDS.len() {
        sum += DEEDS[at].0;
        at += 1;
    }
    sum
};

impl World {
    /// A client does something.
    pub(super) fn act(&mut self, index: usize) {
        let client = &self.clients[index];
        match client.stage {
            Stage::Away => {
                if client.back_at <= self.now {
                    self.connect(index);
                }
            }
            Stage::Online => self.act_online(index),
            Stage::Silent => match self.random.below(30) {
                0 => self.leave_somehow(index),
                1 => self.clients[index].say(HEADER),
                _ => {}
            },
            Stage::Greeted | Stage::Authenticating | Stage::Restarted | Stage::Binding => {
                // Impatience.
                if self.random.permille(3) {
                    self.leave_somehow(index);
                }
            }
            Stage::Leaving | Stage::Ghost => {}
        }
        self.flush(index);
    }

    pub(super) fn fetch_roster(&mut self, index: usize) {
        self.ask(index, "get", None, "<query xmlns='jabber:iq:roster'/>", Wanted::Roster);
    }

    fn act_online(&mut self, index: usize) {
        if self.clients[index].unsent() > OUT_BYTES_MAX {
            return;
        }
        let mut draw = self.random.below(DEEDS_TOTAL);
        for (weight, deed) in DEEDS {
            if draw < weight {
                return deed(self, index);
            }
            draw -= weight;
        }
    }

    fn ask_for_subscription(&mut self, index: usize) {
        let types = ["subscribe", "subscribe", "subscribed", "subscribed", "unsubscribe", "unsubscribed"];
        let to = self.neighbour(index);
        let typ = self.random.pick(&types).copied().expect("there are some");
        self.subscription(index, to, typ);
    }

    fn set_roster(&mut self, index: usize) {
        let neighbour = self.neighbour(index);
        let item = if self.random.permille(200) {
            self.oracle.withdraws(self.clients[index].user, neighbour);
            format!("<item jid='{}' subscription='remove'/>", bare(neighbour))
        } else {
            format!("<item jid='{}' name='n{}'><group>g</group></item>", bare(neighbour), self.step)
        };
        let query = format!("<query xmlns='jabber:iq:roster'>{item}</query>");
        self.ask(index, "set", None, &query, Wanted::Anything);
    }

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

    fn turn_inactive(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.inactive = self.random.permille(500);
        let what = if live.inactive { "inactive" } else { "active" };
        client.say(&format!("<{what} xmlns='urn:xmpp:csi:0'/>"));
    }

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

    fn say_something_odd(&mut self, index: usize) {
        let oddity = self.random.pick(&ODDITIES).copied().expect("there are some");
        self.clients[index].say(oddity);
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

    fn stop_listening(&mut self, index: usize) {
        let client = &mut self.clients[index];
        (client.deaf, client.was_deaf) = (true, true);
    }

    fn listen_again(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if std::mem::take(&mut client.deaf)
            && let Some(link) = client.link
        {
            self.network.remind(client.number, link);
        }
    }

    fn say_rubbish(&mut self, index: usize) {
        let rubbish = self.random.pick(&RUBBISH).copied().expect("there is some");
        self.clients[index].say(rubbish);
        self.part(index, false);
    }

    /// Leaves, or makes the server end the stream.
    fn grow_tired(&mut self, index: usize) {
        match self.random.below(10) {
            0 | 1 => self.say_rubbish(index),
            2..6 => self.leave_somehow(index),
            _ => {}
        }
    }

    /// Sends a subscription stanza.
    pub(super) fn subscription(&mut self, index: usize, to: usize, typ: &str) {
        let user = self.clients[index].user;
        if typ == "subscribe" {
            // Asking again for what one has, or has asked for, is where RFC 6121 lets the two sides part: the
            // request may cross the contact's `unsubscribed`.
            let item = self.shared.directory.roster_item(&local(user), &bare(to));
            let fresh = matches!(item, Ok(None))
                || matches!(item, Ok(Some(item)) if !item.ask && matches!(item.subscription, Subscription::None | Subscription::From));
            self.oracle.asks(user, to, fresh);
        }
        if typ == "unsubscribe" {
            self.oracle.withdraws(user, to);
        }
        let Some(live) = &self.clients[index].live else { return };
        // What the client has sent before, for the order at the other end.
        let id = format!("o{}-{}-{}", live.id, self.oracle.messages_len(), self.counter);
        self.clients[index].say(&format!("<presence type='{typ}' to='{}' id='{id}'/>", bare(to)));
    }

    fn neighbour(&mut self, index: usize) -> usize {
        let users = self.settings.users;
        let offset = self.random.below(2 * NEIGHBOURS + 1);
        (self.clients[index].user + users + offset - NEIGHBOURS.min(users)) % users
    }

    pub(super) fn message(&mut self, index: usize) {
        let to_user = if self.random.permille(850) {
            self.neighbour(index)
        } else {
            self.random.below(self.settings.users)
        };
        let resource = self.random.permille(400).then(|| format!("r{}", self.random.below(3)));
        let client = &mut self.clients[index];
        let Some(live) = &client.live else { return };
        let n = self.oracle.sent(self.step, live.id, to_user, resource.as_deref());
        let to = resource.map_or_else(|| bare(to_user), |resource| full(to_user, &resource));
        let mut text = Vec::new();
        writer::escape_text(&oracle::body(n), &mut text);
        let text = String::from_utf8(text).expect("escaping keeps UTF-8");
        // The id comes back in an error, and in nothing else.
        client.say(&format!("<message type='chat' id='m{n}' to='{to}'><body>{text}</body></message>"));
    }

    pub(super) fn become_available(&mut self, index: usize) {
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
        client
            .say(&format!("<presence><status>p{number}</status><priority>{priority}</priority></presence>"));
    }

    fn become_unavailable(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.presence = None;
        live.initial = None;
        live.seen.clear();
        self.oracle.sessions[live.id].available = None;
        if std::mem::take(&mut live.inactive) {
            client.say("<active xmlns='urn:xmpp:csi:0'/>");
        }
        client.say("<presence type='unavailable'/>");
    }

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

    /// Sends a request and remembers that an answer is owed.
    pub(super) fn ask(&mut self, index: usize, typ: &str, to: Option<&str>, query: &str, wanted: Wanted) {
        self.counter += 1;
        let id = format!("q{}", self.counter);
        let client = &mut self.clients[index];
        let Some(live) = &mut client.live else { return };
        live.wanted.insert(id.clone(), (wanted, self.step));
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        client.say(&format!("<iq type='{typ}' id='{id}'{to}>{query}</iq>"));
    }
}
