//! What clients do about what they hear, and the rules that can be checked on the spot.

mod answers;
mod events;
mod pages;
mod presence;

pub(super) use events::CAPS;

use super::client::{Heard, NS_SASL, NS_TLS, Stage};
use super::come::HEADER;
use super::nodes;
use super::oracle::Arrival;
use super::rooms::room_of;
use super::world::{World, bare, full};
use crate::proto::ns;
use crate::runtime::driver::sim::LinkId;
use crate::xml::{Element, STREAMS};

const NS_ROSTER: &str = "jabber:iq:roster";
const NS_DISCO: &str = "http://jabber.org/protocol/disco#info";
const NS_CARBONS: &str = "urn:xmpp:carbons:2";
const NS_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
const NS_SM: &str = "urn:xmpp:sm:3";
const CLIENT: &str = "jabber:client";

/// The most a client reads at once, in bytes.
const READ_BYTES_MAX: usize = 4096;

impl World {
    /// Some of those for whom something has arrived look at it.
    pub(super) fn hear_some(&mut self) {
        for (number, link) in self.network.take_clients() {
            if self.random.permille(600) {
                self.hear(number as usize, link);
            } else {
                self.network.remind(number, link);
            }
        }
    }

    /// All of them do.
    pub(super) fn hear_all(&mut self) {
        for index in 0..self.clients.len() {
            self.flush(index);
        }
        for (number, link) in self.network.take_clients() {
            self.hear(number as usize, link);
        }
    }

    fn hear(&mut self, index: usize, link: LinkId) {
        let client = &self.clients[index];
        if client.link != Some(link) || client.deaf {
            return;
        }
        let max = if self.random.permille(200) { self.random.between(1, 64) } else { READ_BYTES_MAX };
        let mut bytes = Vec::new();
        let client = &mut self.clients[index];
        if client.stage == Stage::Ghost {
            // It reads nothing. Only a reset shows through.
            if self.network.client_read(link, 0, &mut bytes) == crate::runtime::driver::sim::Read::Reset {
                self.gone(index, link);
            }
            return;
        }
        let heard = client.read(&self.network, &mut self.framer, &self.xml_limits, max, &mut bytes);
        self.trace(index as u32, &bytes);
        self.watch(index, "<-", &bytes);
        for heard in heard {
            if self.clients[index].link != Some(link) {
                break;
            }
            match heard {
                Heard::Open => {}
                Heard::Element(element) => self.element(index, &element),
                Heard::Close => self.closed(index),
                Heard::Ended => self.ended(index, link),
                Heard::Reset => {
                    self.trace(index as u32, b"reset");
                    self.watch(index, "<-", b"(reset)");
                    self.was_reset(index);
                    self.gone(index, link);
                }
                Heard::Broken(what) => {
                    self.fail(format!("client {index} receives what is no stream: {what}"));
                }
            }
        }
        self.flush(index);
    }

    /// The server has closed its stream: the client closes its own, then its side of the connection.
    fn closed(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.stage == Stage::Online {
            self.fail(format!("client {index}: the server closes the stream without a reason"));
            return;
        }
        if !client.end_after {
            client.out.clear();
            client.say("</stream:stream>");
            client.end_after = true;
        }
        self.part(index, true);
    }

    fn ended(&mut self, index: usize, link: LinkId) {
        let client = &mut self.clients[index];
        if client.stage == Stage::Online && !client.was_deaf {
            self.fail(format!("client {index}: the connection ends without a closed stream"));
        }
        self.clients[index].give_up(&self.network);
        self.network.client_close(link, false);
        self.gone(index, link);
    }

    /// The server has stopped listening at some time: what was sent last may be lost.
    pub(super) fn was_cut(&mut self, index: usize) {
        if let Some(id) = self.clients[index].session {
            self.oracle.end(self.step, id, true);
        }
    }

    fn was_reset(&mut self, index: usize) {
        self.was_cut(index);
        let client = &self.clients[index];
        // A rival may have taken its resource; the error that says so can be later than the flush deadline.
        let replaced = client.session.is_some_and(|id| self.oracle.has_rival(id));
        if client.stage == Stage::Online && !client.was_deaf && !replaced {
            self.unexplained_resets += 1;
        }
    }

    fn gone(&mut self, index: usize, link: LinkId) {
        self.network.client_close(link, false);
        self.part(index, true);
        let pause = self.random.below(2000) as u64;
        self.clients[index].away(self.now.after(pause));
    }

    fn element(&mut self, index: usize, element: &Element) {
        match (element.name(), element.namespace()) {
            ("features", STREAMS) => self.features(index),
            ("error", STREAMS) => self.stream_error(index, element),
            ("proceed", NS_TLS) => self.proceed(index),
            ("success", NS_SASL) => self.success(index),
            ("failure", NS_SASL) => self.failure(index, element),
            ("iq", CLIENT) if element.attribute("id") == Some("bind") => self.bound(index, element),
            ("message" | "presence" | "iq", CLIENT) => {
                if !matches!(self.clients[index].stage, Stage::Online) {
                    // On its way out it no longer cares; before it is bound it must not get anything.
                    if self.clients[index].stage != Stage::Leaving {
                        self.fail(format!("client {index} gets a stanza and is not bound"));
                    }
                    return;
                }
                self.stanza(index, element);
            }
            ("enabled" | "r", NS_SM) => {}
            ("a", NS_SM) => {
                let h = element.attribute("h").and_then(|h| h.parse().ok());
                if let Some(live) = &mut self.clients[index].live {
                    live.handled = h;
                }
            }
            (name, namespace) => {
                self.fail(format!(
                    "client {index} gets <{name} xmlns='{namespace}'/>, which it does not know"
                ));
            }
        }
    }

    fn features(&mut self, index: usize) {
        let client = &self.clients[index];
        match client.stage {
            _ if client.eager => {}
            Stage::Greeted => self.greeted(index),
            Stage::Restarted => self.bind(index),
            _ => {}
        }
    }

    fn success(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.wrong_password {
            return self.fail(format!("client {index} gets in with a wrong password"));
        }
        if client.stage != Stage::Authenticating {
            return;
        }
        if client.eager {
            client.stage = Stage::Binding;
        } else {
            client.say(HEADER);
            client.stage = Stage::Restarted;
        }
    }

    fn failure(&mut self, index: usize, element: &Element) {
        let client = &self.clients[index];
        let busy = element.elements().any(|child| child.name() == "temporary-auth-failure");
        if client.stage != Stage::Leaving && !client.wrong_password && !busy {
            return self.fail(format!("client {index} does not get in with the right password"));
        }
        self.give_up(index);
    }

    fn give_up(&mut self, index: usize) {
        if self.clients[index].stage != Stage::Leaving {
            self.clients[index].say("</stream:stream>");
            self.part(index, true);
        }
    }

    fn stream_error(&mut self, index: usize, element: &Element) {
        let condition = element.elements().find(|child| child.namespace() == NS_STREAM_ERRORS);
        let condition = condition.map_or("none", |child| child.name()).to_owned();
        let client = &self.clients[index];
        let (stage, was_deaf) = (client.stage, client.was_deaf);
        let fine = match (stage, condition.as_str()) {
            (Stage::Leaving | Stage::Silent, _) => true,
            (_, "system-shutdown") => self.stopping,
            // What an eager client sends behind a failed login is out of place.
            (Stage::Authenticating, _) if client.eager => true,
            (Stage::Online, "conflict") => {
                client.live.as_ref().is_some_and(|live| self.oracle.has_rival(live.id))
            }
            (Stage::Online, "connection-timeout") => was_deaf,
            (Stage::Online, _) => false,
            (_, "resource-constraint" | "connection-timeout") => true,
            // Bound, but the client does not know it yet.
            (Stage::Binding, "conflict") => {
                client.live.as_ref().is_some_and(|live| self.oracle.has_rival(live.id))
            }
            _ => false,
        };
        if !fine {
            return self.fail(format!("client {index}, {stage:?}, gets the stream error {condition}"));
        }
        self.was_cut(index);
        self.part(index, true);
    }

    fn bound(&mut self, index: usize, element: &Element) {
        let client = &mut self.clients[index];
        if client.stage != Stage::Binding {
            return;
        }
        if element.attribute("type") != Some("result") {
            // limits.resources_per_user.
            return self.give_up(index);
        }
        let jid = element.find("bind", "urn:ietf:params:xml:ns:xmpp-bind");
        let jid = jid.and_then(|bind| bind.elements().next()).map(|jid| jid.content().into_owned());
        let expected = full(client.user, &client.resource);
        if jid.as_deref() != Some(&expected) {
            return self.fail(format!("client {index} is bound to {jid:?}, not {expected}"));
        }
        client.stage = Stage::Online;
        if let Some(live) = &client.live {
            self.oracle.sessions[live.id].bound = Some(self.step);
        }
        self.report.sessions += 1;
        let online = self.clients.iter().filter(|client| client.stage == Stage::Online).count() as u64;
        self.report.sessions_at_once = self.report.sessions_at_once.max(online);
        self.settle_in(index);
    }

    fn stanza(&mut self, index: usize, element: &Element) {
        let user = self.clients[index].user;
        if let Some(to) = element.attribute("to") {
            let bare_to = to.split('/').next().unwrap_or(to);
            if bare_to != bare(user) {
                return self.fail(format!("client {index} of user {user} gets what is addressed to {to}"));
            }
        }
        match element.name() {
            "message" => self.message_heard(index, element),
            "presence" => self.presence_heard(index, element),
            _ => self.iq_heard(index, element),
        }
    }

    fn message_heard(&mut self, index: usize, element: &Element) {
        let client = &self.clients[index];
        let Some(id) = client.live.as_ref().map(|live| live.id) else { return };
        let from = element.attribute("from").unwrap_or_default();
        if let Some(room) = room_of(from) {
            return self.room_message_heard((id, index), room, element);
        }
        if let Some(result) = element.find("result", ns::ARCHIVE) {
            return self.page_heard(index, element, result);
        }
        if element.attribute("type") == Some("error") {
            let number = element.attribute("id").and_then(|id| id.strip_prefix('m')?.parse().ok());
            let outcome = number.map_or(Ok(()), |n| self.oracle.refused(id, n));
            return self.note(outcome);
        }
        let direction =
            ["received", "sent"].into_iter().find(|name| element.find(name, NS_CARBONS).is_some());
        if let Some(direction) = direction {
            if from != bare(client.user) {
                return self.fail(format!("client {index} gets a carbon copy from {from}"));
            }
            let inner = element
                .find(direction, NS_CARBONS)
                .and_then(|carbon| carbon.find("forwarded", "urn:xmpp:forward:0"))
                .and_then(|forwarded| forwarded.find("message", CLIENT));
            let body = inner.and_then(|message| message.find("body", CLIENT)).map(|body| body.content());
            let (Some(inner), Some(body)) = (inner, body) else {
                return self.fail(format!("client {index} gets a carbon copy of nothing"));
            };
            let from = inner.attribute("from").unwrap_or_default();
            if from.starts_with("nobody") || !body.starts_with("n:") {
                return;
            }
            let outcome = self.oracle.copied(id, direction == "received", from, &body, full);
            return self.note(outcome);
        }
        if let Some(event) = element.find("event", NS_EVENT) {
            let is_last = element.find("delay", "urn:xmpp:delay").is_some();
            if from == nodes::service() {
                return self.node_heard(index, event, is_last);
            }
            return self.event_heard(index, from, event, is_last);
        }
        let Some(body) = element.find("body", CLIENT) else { return };
        let delayed = element.find("delay", "urn:xmpp:delay").is_some();
        let workers = &mut self.workers;
        let serves = |link| workers.iter_mut().any(|worker| worker.driver_mut().serves(link));
        let outcome = self.oracle.delivered(
            id,
            &Arrival { step: self.step, from, text: &body.content(), delayed },
            serves,
            full,
        );
        self.note(outcome);
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.fail(what);
        }
    }
}
