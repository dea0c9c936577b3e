//! What attackers do: a table of requests, with how often each is chosen.

use super::Siege;
use crate::runtime::driver::sim::{LinkId, Random};
use crate::simulation::world::{DOMAIN, bare, full};

/// Bytes that an attacker keeps ready for the network.
const BURST_BYTES: usize = 32_000;

/// Bytes of a stanza that is begun and not ended; a little less than a stanza may have.
const DANGLING_BYTES: usize = 15_000;

/// Who an attacker is, and who there is to attack.
struct Place {
    own: usize,
    talker: usize,
    mate: usize,
    number: u64,
}

/// A request: how often it is chosen, relative to the others, and what it writes.
type Request = (u32, fn(&Place) -> String);

/// The dearest requests; the weights are those of what they cost, roughly.
const REQUESTS: [Request; 16] = [
    (10, |_| "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>".into()),
    (10, |place| format!("<presence{}/>", if place.number % 2 == 0 { " type='unavailable'" } else { "" })),
    (6, |place| format!("<presence><status>{}</status></presence>", place.number)),
    (3, |_| {
        format!(
            "<iq type='get' id='d' to='{DOMAIN}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
    }),
    (3, |_| format!("<iq type='get' id='p' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")),
    (4, |place| chat(&bare(place.own), place.number)),
    (4, |place| chat(&bare(place.mate), place.number)),
    (3, |place| chat(&bare(place.talker), place.number)),
    (3, |place| {
        format!("<presence to='{}'><status>{}</status></presence>", full(place.talker, "r"), place.number)
    }),
    (3, |place| {
        format!(
            "<iq type='get' id='v' to='{}'><query xmlns='jabber:iq:version'/></iq>",
            full(place.talker, "r")
        )
    }),
    (3, |place| {
        let contact = bare(place.number as usize % 100);
        format!(
            "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='{contact}' name='{}'/></query></iq>",
            place.number
        )
    }),
    (3, |place| {
        let text = "x".repeat(4_000);
        format!(
            "<iq type='set' id='q'><query xmlns='jabber:iq:private'><a xmlns='urn:a'>{}{text}</a></query></iq>",
            place.number
        )
    }),
    (3, |_| "<iq type='get' id='q'><query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query></iq>".into()),
    (3, |place| {
        let items: String = (0..20).map(|n| format!("<item jid='{}'/>", bare(1000 + n))).collect();
        match place.number % 2 {
            0 => format!("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'>{items}</block></iq>"),
            _ => "<iq type='set' id='b'><unblock xmlns='urn:xmpp:blocking'/></iq>".into(),
        }
    }),
    (3, |place| {
        let kind = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"][(place.number % 4) as usize];
        format!("<presence type='{kind}' to='{}'/>", bare(place.mate))
    }),
    (2, |_| "<message/>".repeat(20)),
];

fn chat(to: &str, number: u64) -> String {
    format!("<message to='{to}' type='chat' id='a{number}'><body>noise {number}</body></message>")
}

/// An attacker's manners.
#[derive(Debug)]
pub(super) struct Attacker {
    /// Keeps to one request; otherwise all of them.
    only: Option<usize>,
    /// Of a thousand rounds, how many it does not read in.
    deaf_permille: u32,
    deaf: bool,
    /// Enables stream management, and acknowledges nothing.
    pub(super) is_managed: bool,
    /// Of a thousand rounds, in how many its connection breaks.
    breaks_permille: u32,
    /// Of a thousand rounds, in how many it begins a stanza that it does not end.
    dangles_permille: u32,
    /// It has begun one on this connection.
    dangles: Option<LinkId>,
}

impl Attacker {
    pub(super) fn draw(random: &mut Random) -> Attacker {
        let only = random.permille(600).then(|| random.below(REQUESTS.len()));
        let deaf_permille = if random.permille(400) { 1000 } else { random.between(0, 500) as u32 };
        let is_managed = random.permille(500);
        let breaks_permille = if is_managed { random.between(0, 60) as u32 } else { 0 };
        let dangles_permille = if random.permille(500) { random.between(0, 60) as u32 } else { 0 };
        Attacker {
            only,
            deaf_permille,
            deaf: false,
            is_managed,
            breaks_permille,
            dangles_permille,
            dangles: None,
        }
    }
}

impl Siege {
    /// Whether an attacker does not read in this round.
    pub(super) fn is_deaf(&self, index: usize) -> bool {
        self.attackers[index - self.talkers.len()].deaf
    }

    /// An attacker writes as much as the network takes.
    pub(super) fn attack(&mut self, index: usize) {
        let which = index - self.talkers.len();
        let permille = self.attackers[which].deaf_permille;
        self.attackers[which].deaf = self.world.random.permille(permille);
        let Some(link) = self.world.clients[index].link else { return };
        let breaks = self.attackers[which].breaks_permille;
        if !self.calm && self.world.random.permille(breaks) {
            return self.leave(index, link, true);
        }
        if self.attackers[which].dangles == Some(link) {
            return;
        }
        let dangles = self.attackers[which].dangles_permille;
        if !self.calm && self.world.random.permille(dangles) {
            self.attackers[which].dangles = Some(link);
            let text = "x".repeat(DANGLING_BYTES);
            return self.world.clients[index].say(&format!("<message><body>{text}"));
        }
        while !self.calm && self.world.clients[index].out.len() < BURST_BYTES {
            let number = self.attackers[which].only.unwrap_or_else(|| choose(&mut self.world.random));
            let place = Place {
                own: self.world.clients[index].user,
                talker: self.world.random.below(self.talkers.len()),
                mate: self.world.clients[self.talkers.len() + self.world.random.below(self.attackers.len())]
                    .user,
                number: self.tally.requests,
            };
            let text = REQUESTS[number].1(&place);
            self.world.clients[index].say(&text);
            self.tally.requests += 1;
        }
        if self.calm {
            // What it still had to say is not waited for.
            self.world.clients[index].out.clear();
        }
    }
}

fn choose(random: &mut Random) -> usize {
    let total: u32 = REQUESTS.iter().map(|(weight, _)| weight).sum();
    let mut at = random.below(total as usize) as u32;
    for (number, (weight, _)) in REQUESTS.iter().enumerate() {
        if at < *weight {
            return number;
        }
        at -= weight;
    }
    0
}
