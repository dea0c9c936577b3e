//! What a client makes of presence.

use std::collections::BTreeMap;

use super::CLIENT;
use crate::simulation::client::Client;
use crate::simulation::rooms::room_of;
use crate::simulation::world::{World, full, user_of};
use crate::xml::Element;

impl World {
    /// The newest presence of everybody who is available.
    pub(super) fn newest_presences(&self) -> BTreeMap<String, u32> {
        let of = |client: &Client| {
            let (number, _) = client.live.as_ref()?.presence?;
            Some((full(client.user, &client.resource), number))
        };
        self.clients.iter().filter_map(of).collect()
    }

    pub(super) fn presence_heard(&mut self, index: usize, element: &Element) {
        let from = element.attribute("from").unwrap_or_default().to_owned();
        if let Some(room) = room_of(&from) {
            let session = self.clients[index].live.as_ref().map(|live| live.id);
            let user = self.clients[index].user;
            if session.is_some_and(|session| self.room_presence_heard((session, user), room, element)) {
                self.open_room(index, room);
            }
            return;
        }
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
    pub(super) fn subscription_asked(&mut self, index: usize, from: &str) {
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

    pub(super) fn available_heard(&mut self, index: usize, element: &Element, from: String) {
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
}
