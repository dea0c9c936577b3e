//! What a client with stream management does about what it hears.

use super::Managed;
use super::peer::{CLIENT, SM, What};
use super::rooms::of_room;
use crate::proto::ns;
use crate::runtime::driver::sim::LinkId;
use crate::simulation::archive::FLEETING;
use crate::simulation::client::{Heard, NS_SASL, NS_TLS, Stage};
use crate::simulation::come::HEADER;
use crate::simulation::oracle;
use crate::simulation::world::{bare, user_of};
use crate::xml::{Element, STREAMS};

/// The most a peer reads at once, in bytes.
const READ_BYTES_MAX: usize = 4096;

impl Managed {
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
                    self.world.clients[index].give_up(&self.world.network);
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
        self.interrupt(index, false);
    }

    fn element(&mut self, index: usize, element: &Element) {
        let stage = self.world.clients[index].stage;
        if stage == Stage::Leaving {
            return;
        }
        let counts = matches!(element.name(), "message" | "presence" | "iq") && self.peers[index].is_on;
        self.peers[index].handled += u32::from(counts);
        match (element.name(), element.namespace()) {
            ("features", STREAMS) if stage == Stage::Greeted => self.world.greeted(index),
            ("features", STREAMS) => self.resume_or_bind(index),
            ("proceed", NS_TLS) => self.world.proceed(index),
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
            ("presence", CLIENT) => {
                if let Some(room) = of_room(element) {
                    self.room_presence(index, room, element);
                }
            }
            ("iq", CLIENT) => self.iq(index, element),
            // The server has lost patience with a client that did not read, or did not bind.
            ("error", STREAMS) if stage != Stage::Online || self.world.clients[index].was_deaf => {}
            _ => self.world.fail(format!("peer {index}, {stage:?}, gets {element:?}")),
        }
    }

    fn message(&mut self, index: usize, element: &Element) {
        if self.is_page(index, element) {
            return;
        }
        if let Some(room) = of_room(element) {
            return self.room_message(index, room, element);
        }
        // It may arrive or not, and be answered with an error; what matters is that nothing keeps it.
        if element.attribute("id").is_some_and(|id| id.starts_with(FLEETING)) {
            return;
        }
        let body = element.find("body", CLIENT).map(|body| body.content().into_owned());
        let number = body.as_deref().and_then(oracle::number_of);
        let from = element.attribute("from").and_then(|from| user_of(from.split('/').next()?));
        let (Some(n), Some(from), None) = (number, from, element.attribute("type").filter(|t| *t == "error"))
        else {
            return self.world.fail(format!("peer {index} gets what nobody has sent: {element:?}"));
        };
        let peer = &mut self.peers[index];
        peer.unsure.push_back((peer.handled, n));
        let arrivals = peer.arrivals.entry(n).or_default();
        *arrivals += 1;
        let session = (*arrivals, peer.begun);
        let was_paged = peer.paged.contains(&n);
        peer.reader.comes(n);
        let own = bare(index);
        let ids = element.elements().filter(|child| child.is("stanza-id", ns::STANZA_ID));
        let id = ids.filter(|id| id.attribute("by") == Some(&own)).find_map(|id| id.attribute("id"));
        let id = id.and_then(|id| self.world.shared.archive_ids.open(id));
        let step = self.world.step;
        let outcome = self
            .oracle
            .arrive(n, (from, index), session)
            .and_then(|()| self.oracle.named(n, (index, id), &self.wishes, step))
            .and_then(|()| self.oracle.comes_once(n, was_paged));
        self.note(outcome);
    }

    fn iq(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        match (element.attribute("type"), id.strip_prefix("sure-")) {
            (Some("result"), Some(h)) => {
                let h = h.parse().unwrap_or(0);
                self.settle_up_to(index, h);
            }
            (Some(typ @ ("result" | "error")), None) if id.starts_with("room-") => {
                let error = element.find("error", CLIENT);
                let waits = error.is_some_and(|error| error.attribute("type") == Some("wait"));
                // The answer was forgotten, or the room has no time: the change may have been made or not.
                if !waits {
                    self.room_answers(id.trim_start_matches("room-"), typ == "result");
                }
            }
            (Some("result"), None) if id.starts_with("prefs-") => {
                self.preferred(index, id.trim_start_matches("prefs-"));
            }
            // The answer was forgotten, or the server has no time: the change may have been made or not.
            (Some("error"), None) if id.starts_with("prefs-") => {}
            (Some("result" | "error"), None) if id.starts_with("mam-") => {
                self.page_ends(index, id.trim_start_matches("mam-"), element);
            }
            (Some("result"), None) if id.starts_with("kept-") => {
                let n = id.trim_start_matches("kept-").parse().unwrap_or(0);
                self.is_kept(index, What::Contact(n));
            }
            (Some("result"), None) if id.starts_with("item-") => {
                let n = id.trim_start_matches("item-").parse().unwrap_or(0);
                self.is_kept(index, What::Item(n));
            }
            // It was too much to remember when the connection was lost; that the server has read what came before the
            // request is not known then.
            (Some("error"), Some(_)) => {}
            (Some("error"), None) if id.starts_with("kept-") || id.starts_with("item-") => {}
            (Some("get"), _) => self.stanza(index, What::Nothing, format!("<iq type='result' id='{id}'/>")),
            _ => self.world.fail(format!("peer {index} gets {element:?}")),
        }
    }
}
