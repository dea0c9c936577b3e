//! A client with stream management: what it counts, and what it does. What it does in rooms is in [`super::rooms`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Managed;
use super::oracle::Hint;
use super::reading::Reader;
use super::resume::Promise;
use crate::proto::ns;
use crate::simulation::actions::{self, Action};
use crate::simulation::client::Stage;
use crate::simulation::come::HEADER;
use crate::simulation::nodes::{self, NODES};
use crate::simulation::oracle;
use crate::simulation::world::{bare, local};
use crate::xml::writer;

pub(super) const SM: &str = "urn:xmpp:sm:3";
pub(super) const CLIENT: &str = "jabber:client";

/// Stanzas that may be unacknowledged before a peer writes nothing new.
pub(super) const UNACKED_MAX: usize = 200;

/// A stanza that the server has not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Its number in its stream.
    pub(super) number: u32,
    pub(super) what: What,
    pub(super) text: String,
}

/// What a stanza is to bring about.
#[derive(Copy, Clone, Debug)]
pub(super) enum What {
    /// The arrival of a message.
    Message(u32),
    /// A contact with this number in the sender's roster.
    Contact(u32),
    /// An item with this number in a node of the publish-subscribe service.
    Item(u32),
    /// A request that waits for another user.
    Request(usize),
    /// The presence of this message in a room's archive.
    Said(u32),
    /// Nothing that lasts.
    Nothing,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its session in rooms.
    pub(super) session: usize,
    /// The name of its stream, once there is one.
    pub(super) stream: Option<String>,
    /// The step in which that stream began.
    pub(super) begun: u64,
    /// Management is on, on the present connection.
    pub(super) is_on: bool,
    pub(super) sent: u32,
    /// The last `h` of the server.
    pub(super) told: u32,
    pub(super) unacked: VecDeque<Sent>,
    /// Stanzas received on the stream.
    pub(super) handled: u32,
    /// The server has asked and was not answered.
    pub(super) owes: bool,
    pub(super) asked: bool,
    /// Messages that have arrived, with their number on the stream, of which the server may not know.
    pub(super) unsure: VecDeque<(u32, u32)>,
    /// Messages of which it does, with the step since when.
    pub(super) sure: Vec<(u64, u32)>,
    /// The stream was last on a WebSocket.
    pub(super) was_web: bool,
    /// That it can go on with its stream.
    pub(super) promise: Option<Promise>,
    /// What it is to hear of its stream when it comes back: its session slept when the server crashed.
    pub(super) count: Option<u32>,
    /// How often each message has arrived in this session.
    pub(super) arrivals: BTreeMap<u32, u32>,
    /// Messages that pages have had in this session.
    pub(super) paged: BTreeSet<u32>,
    /// It has made a shed.
    pub(super) owns_shed: bool,
    /// What it reads of archives.
    pub(super) reader: Reader,
}

impl Peer {
    /// Stanzas unacknowledged, messages it has and may have to say so.
    pub(super) fn left(&self) -> (bool, usize, usize) {
        (self.is_on, self.unacked.len(), self.unsure.len())
    }

    pub(super) fn is_quiescent(&self) -> bool {
        self.is_on && self.unacked.is_empty()
    }

    /// Messages of which the server came to know in a step or after it; nobody knows now whether it still does. In the same step it may
    /// have been before a commit or behind it.
    pub(super) fn forget_settled_after(&mut self, step: u64) -> Vec<u32> {
        let late = self.sure.iter().filter(|(since, _)| *since >= step).map(|(_, n)| *n).collect();
        self.sure.retain(|(since, _)| *since < step);
        late
    }
}

/// The node in which an item belongs.
fn node_of(item: u32) -> usize {
    item as usize % NODES
}

/// What a peer whose stream is managed does.
const ACTIONS: &[Action<Managed>] = &[
    Action { weight: 40, run: Managed::write_to_directory },
    Action { weight: 25, run: Managed::publish },
    Action { weight: 470, run: Managed::write_to_somebody },
    Action { weight: 40, run: Managed::retract },
    Action { weight: 12, run: Managed::send_in_passing },
    Action { weight: 8, run: Managed::prefer },
    Action { weight: 50, run: Managed::read_archive },
    Action { weight: 200, run: Managed::ask },
    Action { weight: 150, run: Managed::acknowledge },
    Action { weight: 50, run: Managed::break_off_now_and_then },
    Action { weight: 5, run: Managed::close },
    Action { weight: 15, run: Managed::stop_reading },
    Action { weight: 8, run: Managed::flood },
    Action { weight: 22, run: Managed::listen },
];

/// What it does in rooms.
const IN_ROOMS: &[Action<Managed>] = &[
    Action { weight: 40, run: Managed::enter_room },
    Action { weight: 8, run: Managed::leave_room },
    Action { weight: 250, run: Managed::say_to_room },
    Action { weight: 10, run: Managed::kick_from_room },
    Action { weight: 25, run: Managed::change_members },
    Action { weight: 10, run: Managed::ban },
    Action { weight: 6, run: Managed::configure_hall },
    Action { weight: 6, run: Managed::destroy_shed },
    Action { weight: 12, run: Managed::change_nick },
];

impl Managed {
    /// A peer does something of its own accord.
    pub(super) fn act(&mut self, index: usize) {
        let world = &mut self.world;
        let client = &mut world.clients[index];
        match client.stage {
            Stage::Away if client.back_at <= world.now => {
                self.come_back(index);
            }
            Stage::Online if self.peers[index].is_on => self.act_online(index),
            Stage::Online | Stage::Greeted | Stage::Authenticating | Stage::Restarted | Stage::Binding
                if world.random.permille(10) =>
            {
                self.break_off(index);
            }
            _ => {}
        }
        self.world.flush(index);
    }

    fn come_back(&mut self, index: usize) {
        let is_web = self.world.random.permille(350);
        let is_there = if is_web { self.world.dial_web(index) } else { self.world.dial(index) };
        if is_there {
            self.tally.websockets += u64::from(is_web);
            self.world.clients[index].say(HEADER);
        }
    }

    fn act_online(&mut self, index: usize) {
        let action = actions::draw(&[ACTIONS, IN_ROOMS], &mut self.world.random);
        (action.run)(self, index);
    }

    /// Sends something that is to be in the directory.
    fn write_to_directory(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX {
            return self.write_to_somebody(index);
        }
        let to = self.world.random.below(self.accounts);
        self.world.counter += 1;
        let contact = What::Contact(self.world.counter);
        let what = if to == index || self.world.random.permille(600) { contact } else { What::Request(to) };
        if let What::Request(to) = what {
            self.wishes.befriends(index, to);
        }
        self.keep(index, what);
    }

    /// Publishes to a node of the service, of which nobody hears.
    fn publish(&mut self, index: usize) {
        if self.peers[index].unacked.len() < UNACKED_MAX {
            self.world.counter += 1;
            self.keep(index, What::Item(self.world.counter));
        }
    }

    fn write_to_somebody(&mut self, index: usize) {
        if self.peers[index].unacked.len() < UNACKED_MAX && !self.world.clients[index].deaf {
            self.send_message(index);
        }
    }

    /// Takes back one of its newest messages.
    fn retract(&mut self, index: usize) {
        if self.peers[index].unacked.len() < UNACKED_MAX && !self.world.clients[index].deaf {
            let back = self.world.random.below(4);
            if let Some(n) = self.oracle.retract(index, back, self.world.step) {
                self.write(index, n);
            }
        }
    }

    fn break_off_now_and_then(&mut self, index: usize) {
        if self.world.random.permille(300) {
            self.break_off(index);
        }
    }

    fn close(&mut self, index: usize) {
        self.world.clients[index].say("</stream:stream>");
        self.world.clients[index].end_after = true;
        self.world.clients[index].stage = Stage::Leaving;
        self.peers[index].is_on = false;
        self.peers[index].promise = None;
    }

    fn stop_reading(&mut self, index: usize) {
        let client = &mut self.world.clients[index];
        (client.deaf, client.was_deaf) = (true, true);
    }

    /// Writes presence to somebody who may be slow to read or to acknowledge it. It harms nobody.
    fn flood(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX {
            return;
        }
        let to = bare(self.world.random.below(self.accounts));
        let status = "x".repeat(self.world.random.between(1, 2000));
        for _ in 0..self.world.random.between(1, 40) {
            self.stanza(
                index,
                What::Nothing,
                format!("<presence to='{to}'><status>{status}</status></presence>"),
            );
        }
    }

    /// What a peer does so that everything comes to an end.
    pub(super) fn act_calmly(&mut self, index: usize) {
        self.listen(index);
        match self.world.clients[index].stage {
            Stage::Online if self.peers[index].is_on => {
                if !self.peers[index].unacked.is_empty() {
                    self.ask(index);
                }
                if self.peers[index].owes {
                    self.acknowledge(index);
                }
                self.read_all(index);
            }
            Stage::Away => self.act(index),
            _ => {}
        }
    }

    /// Sends a stanza, which counts.
    pub(super) fn stanza(&mut self, index: usize, what: What, text: String) {
        let peer = &mut self.peers[index];
        peer.sent += 1;
        self.world.clients[index].say(&text);
        peer.unacked.push_back(Sent { number: peer.sent, what, text });
    }

    /// Writes a new message to somebody.
    pub(super) fn send_message(&mut self, index: usize) {
        let to = self.world.random.below(self.accounts);
        let n = self.oracle.send(index, to, self.world.step);
        if self.world.random.permille(200) {
            let hint = *self.world.random.pick(&Hint::ALL).expect("there are some");
            self.oracle.hints(n, hint);
        }
        self.write(index, n);
    }

    pub(super) fn write(&mut self, index: usize, n: u32) {
        let to = bare(self.oracle.recipient(n));
        let mut body = Vec::new();
        writer::escape_text(&oracle::body(n), &mut body);
        let body = String::from_utf8(body).expect("escaping keeps UTF-8");
        let retract = self
            .oracle
            .retracted_by(n)
            .map_or(String::new(), |target| format!("<retract xmlns='{}' id='m{target}'/>", ns::RETRACTION));
        let hint = self.oracle.hint(n).element();
        self.stanza(
            index,
            What::Message(n),
            format!("<message type='chat' to='{to}' id='m{n}'>{retract}<body>{body}</body>{hint}</message>"),
        );
    }

    /// Sends what is to be in the directory once it is acknowledged.
    pub(super) fn keep(&mut self, index: usize, what: What) {
        let text = match what {
            What::Contact(n) => {
                let query =
                    format!("<query xmlns='jabber:iq:roster'><item jid='c{n}@elsewhere.example'/></query>");
                format!("<iq type='set' id='kept-{n}'>{query}</iq>")
            }
            What::Item(n) => nodes::publication(node_of(n), n, &format!("item-{n}")),
            What::Request(to) => format!("<presence type='subscribe' to='{}'/>", bare(to)),
            What::Message(_) | What::Said(_) | What::Nothing => return,
        };
        self.stanza(index, what, text);
    }

    /// What was acknowledged, or answered, is in the directory.
    pub(super) fn is_kept(&mut self, index: usize, what: What) {
        let item = |user, contact: &str| {
            self.world.shared.directory.roster_item(&local(user), contact).map_err(|error| error.to_string())
        };
        let found = match what {
            What::Contact(n) => item(index, &format!("c{n}@elsewhere.example")).map(|item| item.is_some()),
            What::Item(n) => self.world.has_item(node_of(n), n),
            What::Request(to) => {
                item(to, &bare(index)).map(|item| item.is_some_and(|i| i.pending_in.is_some()))
            }
            What::Message(_) | What::Said(_) | What::Nothing => return,
        };
        match found {
            Ok(true) => self.tally.kept += 1,
            Ok(false) => {
                self.world.fail(format!("{what:?} of peer {index} was acknowledged and is not there"));
            }
            Err(error) => self.world.fail(error),
        }
    }

    fn ask(&mut self, index: usize) {
        if !std::mem::replace(&mut self.peers[index].asked, true) {
            self.world.clients[index].say(&format!("<r xmlns='{SM}'/>"));
        }
    }

    /// Says what it has, and sends a request whose answer will tell that the server has read that.
    pub(super) fn acknowledge(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.owes = false;
        let h = peer.handled;
        self.world.clients[index].say(&format!("<a xmlns='{SM}' h='{h}'/>"));
        if peer.unsure.front().is_some_and(|(number, _)| *number <= h) {
            let ping = format!("<iq type='get' id='sure-{h}'><ping xmlns='urn:xmpp:ping'/></iq>");
            self.stanza(index, What::Nothing, ping);
        }
    }
}
