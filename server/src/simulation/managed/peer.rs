//! A client with stream management: what it counts, and what it does.

use std::collections::{BTreeMap, VecDeque};

use super::Managed;
use crate::runtime::driver::sim::LinkId;
use crate::simulation::client::{Heard, NS_SASL, Stage};
use crate::simulation::come::HEADER;
use crate::simulation::ledger;
use crate::simulation::world::{bare, local, user_of};
use crate::xml::{Element, STREAMS, writer};

const SM: &str = "urn:xmpp:sm:3";
const CLIENT: &str = "jabber:client";

/// The most a peer reads at once, in bytes.
const READ_BYTES_MAX: usize = 4096;

/// Stanzas that may be unacknowledged before a peer writes nothing new.
const UNACKED_MAX: usize = 200;

/// A stanza that the server has not acknowledged.
#[derive(Clone, Debug)]
struct Sent {
    /// Its number in its stream.
    number: u32,
    what: What,
    text: String,
}

/// What a stanza is to bring about.
#[derive(Copy, Clone, Debug)]
enum What {
    /// The arrival of a message.
    Message(u32),
    /// A contact with this number in the sender's roster.
    Contact(u32),
    /// A request that waits for another user.
    Request(usize),
    /// Nothing that lasts.
    Nothing,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The name of its stream, once there is one.
    stream: Option<String>,
    /// Management is on, on the present connection.
    is_on: bool,
    sent: u32,
    /// The last `h` of the server.
    told: u32,
    unacked: VecDeque<Sent>,
    /// Stanzas received on the stream.
    handled: u32,
    /// The server has asked and was not answered.
    owes: bool,
    asked: bool,
    /// Messages that have arrived, with their number on the stream, of which the server may not know.
    unsure: VecDeque<(u32, u32)>,
    /// Messages of which it does, with the step since when.
    sure: Vec<(u64, u32)>,
    /// How often each message has arrived in this session.
    arrivals: BTreeMap<u32, u32>,
}

impl Peer {
    /// Stanzas unacknowledged, messages it has and may have to say so.
    pub(super) fn left(&self) -> (bool, usize, usize) {
        (self.is_on, self.unacked.len(), self.unsure.len())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_on && self.unacked.is_empty()
    }

    /// Messages of which the server came to know after a step; nobody knows now whether it still does.
    pub(super) fn forget_settled_after(&mut self, step: u64) -> Vec<u32> {
        let late = self.sure.iter().filter(|(since, _)| *since > step).map(|(_, n)| *n).collect();
        self.sure.retain(|(since, _)| *since <= step);
        late
    }
}

impl Managed {
    /// The connection of a peer is gone.
    pub(super) fn cut_off(&mut self, index: usize) {
        let pause = if self.world.random.permille(50) { 40_000 } else { 100 };
        let pause = if self.calm { 10 } else { self.world.random.below(pause) as u64 };
        self.peers[index].is_on = false;
        self.world.clients[index].away(self.world.now.after(pause));
    }

    /// A peer does something of its own accord.
    pub(super) fn act(&mut self, index: usize) {
        let world = &mut self.world;
        let client = &mut world.clients[index];
        match client.stage {
            Stage::Away if client.back_at <= world.now => {
                let (number, peer) = (client.number, client.peer);
                if let Some(link) = world.network.connect(number, peer) {
                    client.connected(link);
                    client.say(HEADER);
                }
            }
            Stage::Online if self.peers[index].is_on => self.act_online(index),
            Stage::Online | Stage::Greeted | Stage::Authenticating | Stage::Restarted | Stage::Binding
                if world.random.permille(10) =>
            {
                self.reset(index);
            }
            _ => {}
        }
        self.world.flush(index);
    }

    fn act_online(&mut self, index: usize) {
        match self.world.random.below(1000) {
            0..40 if self.peers[index].unacked.len() < UNACKED_MAX => {
                let to = self.world.random.below(self.peers.len());
                self.world.counter += 1;
                let contact = What::Contact(self.world.counter);
                let what =
                    if to == index || self.world.random.permille(600) { contact } else { What::Request(to) };
                self.keep(index, what);
            }
            0..550 => {
                if self.peers[index].unacked.len() < UNACKED_MAX && !self.world.clients[index].deaf {
                    let to = self.world.random.below(self.peers.len());
                    let n = self.books.send(index, to);
                    self.write(index, n);
                }
            }
            550..750 => self.ask(index),
            750..900 => self.acknowledge(index),
            900..950 => {
                if self.world.random.permille(300) {
                    self.reset(index);
                }
            }
            950..955 => {
                self.world.clients[index].say("</stream:stream>");
                self.world.clients[index].end_after = true;
                self.world.clients[index].stage = Stage::Leaving;
                self.peers[index].is_on = false;
            }
            955..970 => {
                let client = &mut self.world.clients[index];
                (client.deaf, client.was_deaf) = (true, true);
            }
            970..978 => self.flood(index),
            _ => self.listen(index),
        }
    }

    /// Writes presence to somebody who may be slow to read or to acknowledge it. It harms nobody.
    fn flood(&mut self, index: usize) {
        if self.peers[index].unacked.len() >= UNACKED_MAX {
            return;
        }
        let to = bare(self.world.random.below(self.peers.len()));
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
            }
            Stage::Away => self.act(index),
            _ => {}
        }
    }

    fn listen(&mut self, index: usize) {
        let client = &mut self.world.clients[index];
        if std::mem::take(&mut client.deaf)
            && let Some(link) = client.link
        {
            self.world.network.remind(client.number, link);
        }
    }

    /// The network takes its connection away.
    fn reset(&mut self, index: usize) {
        if let Some(link) = self.world.clients[index].link {
            self.world.network.client_close(link, true);
            self.cut_off(index);
        }
    }

    /// Sends a stanza, which counts.
    fn stanza(&mut self, index: usize, what: What, text: String) {
        let peer = &mut self.peers[index];
        peer.sent += 1;
        self.world.clients[index].say(&text);
        peer.unacked.push_back(Sent { number: peer.sent, what, text });
    }

    fn write(&mut self, index: usize, n: u32) {
        let to = bare(self.books.recipient(n));
        let mut body = Vec::new();
        writer::escape_text(&ledger::body(n), &mut body);
        let body = String::from_utf8(body).expect("escaping keeps UTF-8");
        self.stanza(
            index,
            What::Message(n),
            format!("<message type='chat' to='{to}'><body>{body}</body></message>"),
        );
    }

    /// Sends what is to be in the directory once it is acknowledged.
    fn keep(&mut self, index: usize, what: What) {
        let text = match what {
            What::Contact(n) => {
                let query =
                    format!("<query xmlns='jabber:iq:roster'><item jid='c{n}@elsewhere.example'/></query>");
                format!("<iq type='set' id='kept-{n}'>{query}</iq>")
            }
            What::Request(to) => format!("<presence type='subscribe' to='{}'/>", bare(to)),
            What::Message(_) | What::Nothing => return,
        };
        self.stanza(index, what, text);
    }

    /// What was acknowledged, or answered, is in the directory.
    fn is_kept(&mut self, index: usize, what: What) {
        let item = |user, contact: &str| {
            self.world.shared.directory.roster_item(&local(user), contact).map_err(|error| error.to_string())
        };
        let found = match what {
            What::Contact(n) => item(index, &format!("c{n}@elsewhere.example")).map(|item| item.is_some()),
            What::Request(to) => {
                item(to, &bare(index)).map(|item| item.is_some_and(|i| i.pending_in.is_some()))
            }
            What::Message(_) | What::Nothing => return,
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
    fn acknowledge(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.owes = false;
        let h = peer.handled;
        self.world.clients[index].say(&format!("<a xmlns='{SM}' h='{h}'/>"));
        if peer.unsure.front().is_some_and(|(number, _)| *number <= h) {
            let ping = format!("<iq type='get' id='sure-{h}'><ping xmlns='urn:xmpp:ping'/></iq>");
            self.stanza(index, What::Nothing, ping);
        }
    }

    pub(super) fn hear(&mut self, index: usize, link: LinkId) {
        let world = &mut self.world;
        let client = &mut world.clients[index];
        if client.link != Some(link) || client.deaf {
            return;
        }
        let max = if world.random.permille(200) { world.random.between(1, 64) } else { READ_BYTES_MAX };
        let mut bytes = Vec::new();
        let heard = client.read(&world.network, &mut world.framer, &world.xml_limits, max, &mut bytes);
        world.trace(index as u32, &bytes);
        world.watch(index, "<-", &bytes);
        for heard in heard {
            if self.world.clients[index].link != Some(link) {
                break;
            }
            match heard {
                Heard::Open => {}
                Heard::Element(element) => self.element(index, &element),
                Heard::Close => self.closed(index),
                Heard::Ended | Heard::Reset => {
                    let client = &self.world.clients[index];
                    if client.stage == Stage::Online && !client.was_deaf {
                        self.world.fail(format!("peer {index} loses its connection without a reason"));
                    }
                    self.world.network.client_close(link, matches!(heard, Heard::Reset));
                    self.cut_off(index);
                }
                Heard::Broken(what) => self.world.fail(format!("peer {index} gets no XML: {what}")),
            }
        }
        self.world.flush(index);
    }

    fn closed(&mut self, index: usize) {
        let client = &mut self.world.clients[index];
        if client.stage == Stage::Online && !client.was_deaf {
            return self.world.fail(format!("peer {index}: the server closes the stream without a reason"));
        }
        if !client.end_after {
            client.say("</stream:stream>");
            client.end_after = true;
        }
        client.stage = Stage::Leaving;
        self.peers[index].is_on = false;
    }

    fn element(&mut self, index: usize, element: &Element) {
        let stage = self.world.clients[index].stage;
        if stage == Stage::Leaving {
            return;
        }
        let counts = matches!(element.name(), "message" | "presence" | "iq") && self.peers[index].is_on;
        self.peers[index].handled += u32::from(counts);
        match (element.name(), element.namespace()) {
            ("features", STREAMS) if stage == Stage::Greeted => self.world.authenticate(index),
            ("features", STREAMS) => self.resume_or_bind(index),
            ("success", NS_SASL) => {
                self.world.clients[index].say(HEADER);
                self.world.clients[index].stage = Stage::Restarted;
            }
            ("iq", CLIENT) if element.attribute("id") == Some("bind") => {
                self.world.clients[index].stage = Stage::Online;
                self.world.clients[index].say(&format!("<enable xmlns='{SM}' resume='true'/>"));
            }
            ("enabled", SM) => self.enabled(index, element),
            ("resumed", SM) => self.resumed(index, element),
            ("failed", SM) => self.failed(index, element),
            ("r", SM) => {
                self.peers[index].owes = true;
                if self.calm || self.world.random.permille(700) {
                    self.acknowledge(index);
                }
            }
            ("a", SM) => {
                self.peers[index].asked = false;
                self.told(index, element);
            }
            ("message", CLIENT) => self.message(index, element),
            ("presence", CLIENT) => {}
            ("iq", CLIENT) => self.iq(index, element),
            // The server has lost patience with a client that did not read, or did not bind.
            ("error", STREAMS) if stage != Stage::Online || self.world.clients[index].was_deaf => {}
            _ => self.world.fail(format!("peer {index}, {stage:?}, gets {element:?}")),
        }
    }

    fn resume_or_bind(&mut self, index: usize) {
        let world = &mut self.world;
        let client = &mut world.clients[index];
        client.stage = Stage::Binding;
        let peer = &self.peers[index];
        match &peer.stream {
            Some(stream) if world.random.permille(850) => {
                client.say(&format!("<resume xmlns='{SM}' previd='{stream}' h='{}'/>", peer.handled));
            }
            _ => self.bind(index),
        }
    }

    fn bind(&mut self, index: usize) {
        self.world.clients[index].say(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>r</resource></bind></iq>",
        );
    }

    /// A new stream: everything that was not acknowledged on the old one is sent again.
    fn enabled(&mut self, index: usize, element: &Element) {
        let peer = &mut self.peers[index];
        let again = std::mem::take(&mut peer.unacked);
        let sure = std::mem::take(&mut peer.sure);
        *peer =
            Peer { stream: element.attribute("id").map(str::to_owned), is_on: true, sure, ..Peer::default() };
        for sent in again {
            match sent.what {
                What::Message(n) => {
                    self.books.send_again(n);
                    self.write(index, n);
                }
                What::Contact(_) | What::Request(_) => self.keep(index, sent.what),
                What::Nothing => {}
            }
        }
        self.stanza(index, What::Nothing, "<presence/>".into());
    }

    fn resumed(&mut self, index: usize, element: &Element) {
        if element.attribute("previd") != self.peers[index].stream.as_deref() {
            return self.world.fail(format!("peer {index} resumes another stream: {element:?}"));
        }
        self.world.clients[index].stage = Stage::Online;
        self.told(index, element);
        let peer = &mut self.peers[index];
        (peer.is_on, peer.asked, peer.owes) = (true, false, false);
        // They keep their numbers.
        for sent in &peer.unacked {
            self.world.clients[index].say(&sent.text);
        }
        // The server knew what it was told when it resumed.
        self.settle_up_to(index, u32::MAX);
    }

    fn failed(&mut self, index: usize, element: &Element) {
        if self.world.clients[index].stage != Stage::Binding {
            return self.world.fail(format!("peer {index} is refused stream management: {element:?}"));
        }
        if element.attribute("h").is_some() {
            self.tally.refused_with_h += 1;
            self.told(index, element);
        } else {
            self.tally.refused += 1;
        }
        self.peers[index].stream = None;
        self.bind(index);
    }

    /// The server says that it has handled `h` stanzas.
    fn told(&mut self, index: usize, element: &Element) {
        let peer = &mut self.peers[index];
        let h: Option<u32> = element.attribute("h").and_then(|h| h.parse().ok());
        // After a crash the server knows of the last message only what was safe when it was sent.
        let least = if element.name() == "failed" { 0 } else { peer.told };
        let Some(h) = h.filter(|h| (least..=peer.sent).contains(h)) else {
            let (told, sent) = (peer.told, peer.sent);
            return self.world.fail(format!("peer {index}, told {told}, sent {sent}, hears {element:?}"));
        };
        peer.told = peer.told.max(h);
        let mut acknowledged = Vec::new();
        while peer.unacked.front().is_some_and(|sent| sent.number <= h) {
            match peer.unacked.pop_front().map(|sent| sent.what) {
                Some(What::Message(n)) => self.books.acknowledge(n),
                Some(what) => acknowledged.push(what),
                None => {}
            }
        }
        for what in acknowledged {
            self.is_kept(index, what);
        }
    }

    /// The server knows of what has arrived up to a number.
    fn settle_up_to(&mut self, index: usize, h: u32) {
        let peer = &mut self.peers[index];
        while let Some(&(number, n)) = peer.unsure.front()
            && number <= h
        {
            peer.unsure.pop_front();
            peer.sure.push((self.world.step, n));
            self.books.settle(n);
        }
    }

    fn message(&mut self, index: usize, element: &Element) {
        let body = element.find("body", CLIENT).map(|body| body.content().into_owned());
        let number = body.as_deref().and_then(ledger::number_of);
        let from = element.attribute("from").and_then(|from| user_of(from.split('/').next()?));
        let (Some(n), Some(from), None) = (number, from, element.attribute("type").filter(|t| *t == "error"))
        else {
            return self.world.fail(format!("peer {index} gets what nobody has sent: {element:?}"));
        };
        let peer = &mut self.peers[index];
        peer.unsure.push_back((peer.handled, n));
        let arrivals = peer.arrivals.entry(n).or_default();
        *arrivals += 1;
        let outcome = self.books.arrive(n, from, index, *arrivals);
        self.note(outcome);
    }

    fn iq(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        match (element.attribute("type"), id.strip_prefix("sure-")) {
            (Some("result"), Some(h)) => {
                let h = h.parse().unwrap_or(0);
                self.settle_up_to(index, h);
            }
            (Some("result"), None) if id.starts_with("kept-") => {
                let n = id.trim_start_matches("kept-").parse().unwrap_or(0);
                self.is_kept(index, What::Contact(n));
            }
            // It was too much to remember when the connection was lost; that the server has read what came before the
            // request is not known then.
            (Some("error"), Some(_)) => {}
            (Some("error"), None) if id.starts_with("kept-") => {}
            (Some("get"), _) => self.stanza(index, What::Nothing, format!("<iq type='result' id='{id}'/>")),
            _ => self.world.fail(format!("peer {index} gets {element:?}")),
        }
    }
}
