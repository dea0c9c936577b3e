//! How clients come in: connections, TLS, the login, and what they do first.

use std::collections::BTreeMap;

use super::act::RUBBISH;
use super::client::{Live, NS_SASL, NS_TLS, Stage, Wanted};
use super::tls::Door;
use super::world::{PASSWORD, World, local};
use crate::worker::newcomers::Newcomer;

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' to='sim.example' version='1.0'>";

impl World {
    /// A client connects, with TLS or without. `false`: there is no room for it.
    pub(super) fn dial(&mut self, index: usize) -> bool {
        let (number, peer) = (self.clients[index].number, self.clients[index].peer);
        let door = self.doors.choose(&mut self.random);
        let Some(link) = self.network.connect_to(number, peer, door.listener()) else { return false };
        let client = &mut self.clients[index];
        client.connected(link);
        client.door = door;
        if door == Door::Direct {
            self.begin_tls(index);
        }
        true
    }

    /// As [`World::dial`], by WebSocket, whose handshake is over: what a server of HTTP does is not simulated.
    pub(super) fn dial_web(&mut self, index: usize) -> bool {
        let (number, peer) = (self.clients[index].number, self.clients[index].peer);
        let worker = self.random.below(self.commands.len());
        let Some((link, socket)) = self.network.connect_past(number, peer) else { return false };
        let newcomer =
            Newcomer { socket, tls: None, came: Vec::new(), unsent: Vec::new(), peer, secured: true };
        // One that finds no room is reset.
        let _ = self.commands[worker].hand_over(Box::new(newcomer));
        let client = &mut self.clients[index];
        client.connected(link);
        client.frames = Some(Box::default());
        true
    }

    fn begin_tls(&mut self, index: usize) {
        match self.doors.begin(&mut self.random) {
            Ok(tls) => self.clients[index].tls = Some(Box::new(tls)),
            Err(error) => self.fail(format!("client {index} cannot begin TLS: {error}")),
        }
    }

    /// The server has shown what it offers before the login.
    pub(super) fn greeted(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.door != Door::StartTls || client.tls.is_some() {
            return self.authenticate(index);
        }
        // Some clients end all they send with a line feed.
        let behind = if self.random.permille(300) { "\n" } else { "" };
        client.say(&format!("<starttls xmlns='{NS_TLS}'/>{behind}"));
    }

    /// TLS begins on a connection that was in the clear.
    pub(super) fn proceed(&mut self, index: usize) {
        self.begin_tls(index);
        self.clients[index].say(HEADER);
    }

    pub(super) fn connect(&mut self, index: usize) {
        if !self.dial(index) {
            self.clients[index].back_at = self.now.after(100);
            return;
        }
        let client = &mut self.clients[index];
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
            // What is behind `<starttls/>` in the clear would end the stream.
            5..25 => client.eager = client.door != Door::StartTls,
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
        let id = self.oracle.request(self.step, client.user, &client.resource, link);
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
            events: BTreeMap::new(),
            reading: None,
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
}
