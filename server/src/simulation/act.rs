//! What clients do of their own accord: all of it allowed by the protocol or by the nature of networks, or neither.

use std::collections::BTreeMap;

use whimbrel_storage::directory::Subscription;

use super::client::{Live, NS_SASL, Shelf, Stage, Wanted};
use super::ledger;
use super::world::{DOMAIN, PASSWORD, World, bare, full, local};
use crate::xml::writer;

/// A client with more than this to send does nothing new, in bytes.
const OUT_BYTES_MAX: usize = 20_000;

/// Users a client deals with: those whose numbers are at most this far from its own. Few enough that subscriptions
/// come about.
const NEIGHBOURS: usize = 3;

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' to='sim.example' version='1.0'>";

/// Input for which a server ends the stream.
const RUBBISH: [&str; 12] = [
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

    fn connect(&mut self, index: usize) {
        let (number, peer) = (self.clients[index].number, self.clients[index].peer);
        let Some(link) = self.network.connect(number, peer) else {
            self.clients[index].back_at = self.now.after(100);
            return;
        };
        let client = &mut self.clients[index];
        client.connected(link);
        match self.random.below(100) {
            0..3 => {
                client.stage = Stage::Silent;
                return;
            }
            3 => {
                client.stage = Stage::Leaving;
                client.say(self.random.pick(&RUBBISH).expect("there is some"));
                return;
            }
            4 => client.wrong_password = true,
            5..25 => client.eager = true,
            _ => {}
        }
        client.say(HEADER);
        if client.eager {
            // Everything at once, without waiting for any answer.
            self.authenticate(index);
            self.clients[index].say(HEADER);
            self.bind(index);
            self.clients[index].stage = Stage::Authenticating;
        }
    }

    pub(super) fn authenticate(&mut self, index: usize) {
        use base64::Engine as _;
        let client = &mut self.clients[index];
        let password = if client.wrong_password { "wrong" } else { PASSWORD };
        let plain = format!("\0{}\0{password}", local(client.user));
        let text = base64::engine::general_purpose::STANDARD.encode(plain);
        client.say(&format!("<auth xmlns='{NS_SASL}' mechanism='PLAIN'>{text}</auth>"));
        client.stage = Stage::Authenticating;
    }

    pub(super) fn bind(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(link) = client.link else { return };
        client.say(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{}</resource></bind></iq>",
            client.resource
        ));
        client.stage = Stage::Binding;
        let id = self.ledger.request(self.step, client.user, &client.resource, link);
        client.session = Some(id);
        client.live = Some(Live {
            id,
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            roster: None,
            wanted: BTreeMap::new(),
            presence: None,
            initial: None,
            inactive: false,
            put: BTreeMap::new(),
            handled: None,
        });
    }

    /// The client has just learned that it is bound.
    pub(super) fn settle_in(&mut self, index: usize) {
        if self.random.permille(850) {
            self.fetch_roster(index);
        }
        if self.random.permille(300) {
            self.ask(index, "set", None, "<enable xmlns='urn:xmpp:carbons:2'/>", Wanted::Carbons(true));
        }
        if self.random.permille(900) {
            self.become_available(index);
        }
    }

    pub(super) fn fetch_roster(&mut self, index: usize) {
        self.ask(index, "get", None, "<query xmlns='jabber:iq:roster'/>", Wanted::Roster);
    }

    fn act_online(&mut self, index: usize) {
        if self.clients[index].out.len() > OUT_BYTES_MAX {
            return;
        }
        let neighbour = self.neighbour(index);
        match self.random.below(1000) {
            0..500 => self.message(index),
            500..580 => self.become_available(index),
            580..595 => self.become_unavailable(index),
            595..690 => {
                let types =
                    ["subscribe", "subscribe", "subscribed", "subscribed", "unsubscribe", "unsubscribed"];
                let typ = self.random.pick(&types).copied().expect("there are some");
                self.subscription(index, neighbour, typ);
            }
            690..720 => {
                let item = if self.random.permille(200) {
                    self.ledger.withdraws(self.clients[index].user, neighbour);
                    format!("<item jid='{}' subscription='remove'/>", bare(neighbour))
                } else {
                    format!("<item jid='{}' name='n{}'><group>g</group></item>", bare(neighbour), self.step)
                };
                let query = format!("<query xmlns='jabber:iq:roster'>{item}</query>");
                self.ask(index, "set", None, &query, Wanted::Anything);
            }
            720..730 => self.fetch_roster(index),
            730..735 => self.put_and_get(index),
            735..750 => self.block(index, neighbour),
            750..765 => {
                let on = self.random.permille(600);
                let what = if on { "enable" } else { "disable" };
                if let Some(live) = &self.clients[index].live {
                    // From the request on nobody can say whether it is on.
                    self.ledger.sessions[live.id].carbons = None;
                }
                let query = format!("<{what} xmlns='urn:xmpp:carbons:2'/>");
                self.ask(index, "set", None, &query, Wanted::Carbons(on));
            }
            765..790 => {
                let client = &mut self.clients[index];
                let Some(live) = &mut client.live else { return };
                live.inactive = self.random.permille(500);
                let what = if live.inactive { "inactive" } else { "active" };
                client.say(&format!("<{what} xmlns='urn:xmpp:csi:0'/>"));
            }
            790..830 => {
                self.ask(index, "get", Some(DOMAIN), "<ping xmlns='urn:xmpp:ping'/>", Wanted::Anything);
            }
            830..870 => {
                let to = full(neighbour, &format!("r{}", self.random.below(3)));
                self.ask(index, "get", Some(&to), "<ping xmlns='urn:xmpp:ping'/>", Wanted::Peer(neighbour));
            }
            870..890 => {
                let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
                let to = if self.random.permille(500) { DOMAIN.to_owned() } else { bare(neighbour) };
                self.ask(index, "get", Some(&to), query, Wanted::Anything);
            }
            890..905 => self.ask(index, "get", None, "<nothing xmlns='urn:example'/>", Wanted::Anything),
            905..925 => {
                let oddity = self.random.pick(&ODDITIES).copied().expect("there are some");
                self.clients[index].say(oddity);
            }
            925..940 => {
                // To strangers only, and marked: for a contact it would be the newest presence there is.
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
                let what = format!("<presence to='{to}'><directed xmlns='urn:example'/></presence>");
                self.clients[index].say(&what);
            }
            940..948 => {
                let client = &mut self.clients[index];
                client.deaf = true;
                client.was_deaf = true;
            }
            948..975 => {
                let client = &mut self.clients[index];
                if std::mem::take(&mut client.deaf)
                    && let Some(link) = client.link
                {
                    self.network.remind(client.number, link);
                }
            }
            975..980 => {
                let rubbish = self.random.pick(&RUBBISH).copied().expect("there is some");
                self.clients[index].say(rubbish);
                self.part(index, false);
            }
            _ => {
                if self.random.permille(500) {
                    self.leave_somehow(index);
                }
            }
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
            self.ledger.asks(user, to, fresh);
        }
        if typ == "unsubscribe" {
            self.ledger.withdraws(user, to);
        }
        let Some(live) = &self.clients[index].live else { return };
        // What the client has sent before, for the order at the other end.
        let id = format!("o{}-{}-{}", live.id, self.ledger.messages_len(), self.counter);
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
        let n = self.ledger.sent(self.step, live.id, to_user, resource.as_deref());
        let to = resource.map_or_else(|| bare(to_user), |resource| full(to_user, &resource));
        let mut text = Vec::new();
        writer::escape_text(&ledger::body(n), &mut text);
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
            self.ledger.sessions[live.id].available = None;
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
        self.ledger.sessions[live.id].available = None;
        if std::mem::take(&mut live.inactive) {
            client.say("<active xmlns='urn:xmpp:csi:0'/>");
        }
        client.say("<presence type='unavailable'/>");
    }

    fn block(&mut self, index: usize, other: usize) {
        let user = self.clients[index].user;
        if !(user + other).is_multiple_of(7) || user == other {
            return;
        }
        self.ledger.block(user, other);
        let (what, wanted) = if self.random.permille(500) {
            ("block", Wanted::Block(other, !self.ledger.is_unblocking(user, other)))
        } else {
            self.ledger.unblock_asked(self.step, user, other);
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

    /// The client's session is over; it stays connected until the server has closed.
    pub(super) fn part(&mut self, index: usize, cut: bool) {
        let client = &mut self.clients[index];
        client.stage = Stage::Leaving;
        if let Some(live) = client.live.take() {
            self.ledger.end(self.step, live.id, cut);
        }
    }

    /// The client goes, politely or not.
    pub(super) fn leave_somehow(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if matches!(client.stage, Stage::Away | Stage::Ghost) {
            return;
        }
        let Some(link) = client.link else { return };
        client.deaf = false;
        self.network.remind(client.number, link);
        let pause = self.random.below(3000) as u64;
        match self.random.below(10) {
            0..5 => {
                if client.stage != Stage::Leaving {
                    client.say("</stream:stream>");
                }
                self.part(index, false);
            }
            5 | 6 => {
                client.end_after = true;
                self.part(index, false);
            }
            7 | 8 => {
                self.part(index, true);
                self.network.client_close(link, true);
                self.clients[index].away(self.now.after(pause));
            }
            _ => {
                self.part(index, true);
                self.clients[index].stage = Stage::Ghost;
            }
        }
        self.flush(index);
    }

    /// Everybody listens and is active, so that what is owed to them can reach them.
    pub(super) fn calm_clients(&mut self) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let Some(link) = client.link else { continue };
            if std::mem::take(&mut client.deaf) {
                self.network.remind(client.number, link);
            }
            if client.stage == Stage::Online
                && let Some(live) = &mut client.live
                && std::mem::take(&mut live.inactive)
            {
                client.say("<active xmlns='urn:xmpp:csi:0'/>");
            }
            self.flush(index);
        }
    }
}
