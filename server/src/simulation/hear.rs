//! What clients do about what they hear, and the rules that can be checked on the spot.

use std::collections::BTreeMap;

use super::client::{Client, Heard, NS_SASL, NS_TLS, Shelf, Stage, Wanted};
use super::come::HEADER;
use super::oracle::Arrival;
use super::world::{DOMAIN, World, bare, full, user_of};
use crate::runtime::driver::sim::LinkId;
use crate::xml::{Element, STREAMS};

const NS_ROSTER: &str = "jabber:iq:roster";
const NS_CARBONS: &str = "urn:xmpp:carbons:2";
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
        let Some(body) = element.find("body", CLIENT) else { return };
        let delayed = element.find("delay", "urn:xmpp:delay").is_some();
        let workers = &mut self.workers;
        let serves = |link| workers.iter_mut().any(|worker| worker.driver_mut().serves(link));
        let outcome =
            self.oracle.delivered(id, &Arrival { from, text: &body.content(), delayed }, serves, full);
        self.note(outcome);
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.fail(what);
        }
    }

    /// The newest presence of everybody who is available.
    fn newest_presences(&self) -> BTreeMap<String, u32> {
        let of = |client: &Client| {
            let (number, _) = client.live.as_ref()?.presence?;
            Some((full(client.user, &client.resource), number))
        };
        self.clients.iter().filter_map(of).collect()
    }

    fn presence_heard(&mut self, index: usize, element: &Element) {
        let from = element.attribute("from").unwrap_or_default().to_owned();
        let Some(live) = &mut self.clients[index].live else { return };
        match element.attribute("type") {
            None => self.available_heard(index, element, from),
            Some("unavailable") => {
                if from.contains('/') {
                    live.seen.remove(&from);
                } else {
                    live.seen.retain(|jid, _| jid.split('/').next() != Some(&from));
                }
            }
            Some("subscribe") if !self.calm => self.subscription_asked(index, &from),
            Some("subscribed" | "unsubscribe" | "unsubscribed") => {
                let id = live.id;
                let order = element.attribute("id").and_then(|id| id.strip_prefix('o'));
                let numbers: Vec<u32> =
                    order.into_iter().flat_map(|o| o.split('-')).flat_map(str::parse).collect();
                let &[sender, messages, presences] = numbers.as_slice() else { return };
                let sender = sender as usize;
                let outcome = self.oracle.not_overtaken(id, sender, messages, presences, &live.told);
                self.note(outcome);
            }
            _ => {}
        }
    }

    /// Somebody asks to see presence, and is answered, now and then with the same question.
    fn subscription_asked(&mut self, index: usize, from: &str) {
        let Some(asker) = user_of(from) else { return };
        let answer = match self.random.below(10) {
            0..6 => "subscribed",
            6 | 7 => "unsubscribed",
            _ => return,
        };
        let back = self.random.permille(500);
        self.subscription(index, asker, answer);
        if back && answer == "subscribed" {
            self.subscription(index, asker, "subscribe");
        }
    }

    fn available_heard(&mut self, index: usize, element: &Element, from: String) {
        let own = full(self.clients[index].user, &self.clients[index].resource);
        let newest = if from == own { self.newest_presences() } else { BTreeMap::new() };
        let user = self.clients[index].user;
        let Some(live) = &mut self.clients[index].live else { return };
        let number = element.find("status", CLIENT).and_then(|s| s.content().strip_prefix('p')?.parse().ok());
        if element.find("directed", "urn:example").is_some() {
            // While it was held back it has taken the place of the sender's older one.
            if let Some((latest, _)) = live.presence.filter(|_| from == own) {
                live.seen.insert(from, latest);
            }
            return;
        }
        let Some(number) = number else {
            return self.fail(format!("client {index} gets a presence of {from} that nobody has sent"));
        };
        let sent = self.presence_steps.get(&number).copied().unwrap_or(0);
        let sender = from.split('/').next().and_then(user_of);
        if let Some(sender) = sender.filter(|sender| self.oracle.ever_blocked(user, *sender)) {
            self.report.blocks_checked += 1;
            if self.oracle.is_blocked_since(user, sender, sent) {
                return self.fail(format!(
                    "client {index} gets the presence p{number} of {from}, sent in step {sent}, past a block"
                ));
            }
        }
        if from == own {
            // A newer one may have taken its place on the way.
            if live.initial.is_some_and(|initial| initial <= number) {
                // What came before this was meant for an earlier time of being available, or is still so.
                live.initial = None;
                live.seen.retain(|jid, number| newest.get(jid) == Some(number));
            }
            if let Some((latest, priority)) = live.presence
                && latest == number
                && priority >= 0
            {
                self.oracle.sessions[live.id].available.get_or_insert(self.step);
            }
        }
        if element.attribute("to").is_some_and(|to| !to.contains('/')) {
            live.told.insert(from.clone(), number);
        }
        live.seen.insert(from, number);
    }

    fn iq_heard(&mut self, index: usize, element: &Element) {
        let id = element.attribute("id").unwrap_or_default().to_owned();
        match element.attribute("type") {
            Some("result" | "error") => self.answer_heard(index, element, &id),
            Some("set") => {
                if let Some(query) = element.find("query", NS_ROSTER) {
                    self.roster_push(index, element, query);
                }
                self.clients[index].say(&format!("<iq type='result' id='{id}'/>"));
            }
            _ => {
                let to = element.attribute("from").unwrap_or(DOMAIN);
                let answer = format!("<iq type='result' id='{id}' to='{to}'/>");
                self.clients[index].say(&answer);
            }
        }
    }

    fn answer_heard(&mut self, index: usize, element: &Element, id: &str) {
        let step = self.step;
        let result = element.attribute("type") == Some("result");
        let client_user = self.clients[index].user;
        let Some(live) = &mut self.clients[index].live else { return };
        if id.is_empty() && !result {
            return;
        }
        let Some((wanted, asked)) = live.wanted.remove(id) else {
            // It may be the answer to the session that had this resource before.
            let number = id.strip_prefix('q').and_then(|n| n.parse::<u32>().ok());
            if number.is_none_or(|n| n > self.counter) {
                self.fail(format!("client {index} gets an answer to {id:?}, which nobody has asked"));
            }
            return;
        };
        match wanted {
            Wanted::Roster if result => {
                let query = element.find("query", NS_ROSTER);
                let items = query.into_iter().flat_map(Element::elements).filter_map(item).collect();
                live.roster = Some(items);
            }
            Wanted::Put(shelf, number) if result => {
                live.put.insert(shelf, number);
            }
            Wanted::Kept(shelf, number) if result => {
                if shelf == Shelf::Roster {
                    let query = element.find("query", NS_ROSTER);
                    let items = query.into_iter().flat_map(Element::elements).filter_map(item).collect();
                    live.roster = Some(items);
                }
                if live.wanted.values().any(|(wanted, _)| *wanted == Wanted::Put(shelf, number)) {
                    return self.fail(format!("client {index}: a get is answered before the set before it"));
                }
                let (session, put) = (live.id, live.put.get(&shelf).copied());
                self.kept(index, shelf, element, session, put);
            }
            Wanted::Block(other, true) if result => {
                self.oracle.block_confirmed(client_user, other, step, asked);
            }
            Wanted::Unblock(other) => self.oracle.unblock_answered(client_user, other),
            Wanted::Carbons(on) if result => {
                self.oracle.sessions[live.id].carbons = on.then_some(step);
            }
            _ => {}
        }
    }

    /// What is kept is what was put there last in the same stream.
    fn kept(&mut self, index: usize, shelf: Shelf, answer: &Element, session: usize, put: Option<u32>) {
        let number = self.clients[index].number;
        let query = answer.elements().next();
        let text = match shelf {
            Shelf::Private => query
                .and_then(|query| query.find(&format!("s{number}"), "urn:sim"))
                .map(|kept| kept.content().into_owned()),
            Shelf::Roster => {
                let jid = format!("s{number}@elsewhere.example");
                let mut items = query.into_iter().flat_map(Element::elements);
                let item = items.find(|item| item.attribute("jid") == Some(&jid));
                item.and_then(|item| item.attribute("name")).map(str::to_owned)
            }
        };
        let own = text.as_deref().and_then(|text| text.strip_prefix(&format!("{session}-")));
        let seen: Option<u32> = own.and_then(|kept| kept.parse().ok());
        let foreign = text.as_deref().is_some_and(|text| !text.is_empty()) && own.is_none();
        if seen != put && !foreign {
            self.fail(format!("client {index} has put {put:?} on the shelf {shelf:?} and gets {text:?}"));
        }
    }

    fn roster_push(&mut self, index: usize, element: &Element, query: &Element) {
        let client = &mut self.clients[index];
        let own = bare(client.user);
        if element.attribute("from").is_some_and(|from| from != own) {
            return self.fail(format!("client {index} gets a roster push from another entity"));
        }
        let Some(live) = &mut client.live else { return };
        let Some(pushed) = query.elements().next() else { return };
        let Some((contact, (subscription, ask))) = item(pushed) else { return };
        // A push can come before the roster that was asked for (RFC 6121 §2.2 rules out neither).
        if let Some(roster) = &mut live.roster {
            if subscription == "remove" {
                roster.remove(&contact);
            } else {
                roster.insert(contact, (subscription, ask));
            }
        }
    }
}

/// Contact, subscription, and whether a request of ours is pending.
fn item(element: &Element) -> Option<(String, (String, bool))> {
    let contact = element.attribute("jid")?.to_owned();
    let subscription = element.attribute("subscription").unwrap_or("none").to_owned();
    Some((contact, (subscription, element.attribute("ask").is_some())))
}
