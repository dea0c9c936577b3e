//! How a client with stream management loses its connection and goes on with its stream, and what it believes then.

use super::peer::{Peer, SM, What};
use super::{Managed, RESOURCE, has_device};
use crate::metrics;
use crate::runtime::timer::Millis;
use crate::simulation::client::Stage;
use crate::simulation::world::local;
use crate::xml::Element;

/// What the server owes a peer whose stream was not closed: until then it can be resumed (XEP-0198 §5).
#[derive(Copy, Clone, Debug)]
pub(super) struct Promise {
    until: Millis,
    /// Streams that had been given up for a limit by then.
    pub(super) given_up: u64,
    /// The peer has ended TLS.
    after_tls: bool,
}

impl Managed {
    /// The stream of a peer loses its connection, not its right to go on.
    pub(super) fn interrupt(&mut self, index: usize, after_tls: bool) {
        if std::mem::take(&mut self.peers[index].is_on) {
            // One whose device is told sleeps then.
            let seconds = match has_device(index) {
                true => self.world.config.push.resume_seconds(),
                false => self.world.config.limits.sm_resume_seconds,
            };
            let until = self.world.now.after(u64::from(seconds) * 1000);
            let promise = Promise { until, given_up: self.given_up(), after_tls };
            self.peers[index].promise = self.is_resumable(index).then_some(promise);
        }
    }

    /// Whether the server has not given the peer's stream up already: more was unacknowledged than may be.
    fn is_resumable(&mut self, index: usize) -> bool {
        self.world.workers.iter_mut().any(|worker| {
            let users = &mut worker.core_mut().actors_mut().users;
            let keys = users.resources_of(&local(index));
            keys.into_iter().any(|key| users.sm_mut(key).is_some_and(|sm| sm.resume_seconds() > 0))
        })
    }

    /// Streams that can no longer be resumed because of a limit.
    pub(super) fn given_up(&self) -> u64 {
        let limits = [
            "refused.sm_unacked",
            "refused.sm_detached_sessions",
            "refused.sm_asleep",
            "sm.counts_unwritten",
        ];
        let totals = metrics::totals(&self.world.shared.metrics).into_iter();
        totals.filter(|(metric, _)| limits.contains(&metric.name)).map(|(_, value)| value).sum()
    }

    /// The peer ends TLS without a closed stream, in order or not, behind some messages in the same packet.
    fn break_tls(&mut self, index: usize) {
        if self.peers[index].is_on {
            for _ in 0..self.world.random.below(4) {
                self.send_message(index);
            }
        }
        self.world.end_tls(index);
        self.interrupt(index, true);
        let client = &mut self.world.clients[index];
        client.stage = Stage::Leaving;
        client.deaf = false;
        client.end_after |= self.world.random.permille(400);
        self.world.flush(index);
        if self.world.random.permille(200) {
            // It does not wait for what the server says to that.
            self.reset(index);
        }
    }

    /// The peer ends its WebSocket without a closed stream.
    fn break_frames(&mut self, index: usize) {
        if !self.world.clients[index].close_frames() {
            return self.reset(index);
        }
        self.interrupt(index, false);
        let client = &mut self.world.clients[index];
        client.stage = Stage::Leaving;
        client.deaf = false;
        self.world.flush(index);
    }

    /// The connection of a peer breaks in one way or another.
    pub(super) fn break_off(&mut self, index: usize) {
        if self.world.clients[index].tls.is_some() && self.world.random.permille(800) {
            return self.break_tls(index);
        }
        if self.world.clients[index].frames.is_some() && self.world.random.permille(400) {
            return self.break_frames(index);
        }
        self.reset(index);
    }

    /// The connection of a peer is gone.
    pub(super) fn cut_off(&mut self, index: usize) {
        let pause = if self.world.random.permille(50) { 40_000 } else { 100 };
        let pause = if self.calm { 10 } else { self.world.random.below(pause) as u64 };
        self.interrupt(index, false);
        self.world.clients[index].away(self.world.now.after(pause));
    }

    pub(super) fn listen(&mut self, index: usize) {
        let client = &mut self.world.clients[index];
        if std::mem::take(&mut client.deaf)
            && let Some(link) = client.link
        {
            self.world.network.remind(client.number, link);
        }
    }

    /// The network takes its connection away.
    pub(super) fn reset(&mut self, index: usize) {
        if let Some(link) = self.world.clients[index].link {
            self.world.network.client_close(link, true);
            self.cut_off(index);
        }
    }

    pub(super) fn resume_or_bind(&mut self, index: usize) {
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
        // The new session takes the place of the old one.
        self.peers[index].promise = None;
        self.world.clients[index].say(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{RESOURCE}</resource></bind></iq>"
        ));
    }

    /// A new stream: everything that was not acknowledged on the old one is sent again.
    pub(super) fn enabled(&mut self, index: usize, element: &Element) {
        let peer = &mut self.peers[index];
        let again = std::mem::take(&mut peer.unacked);
        let sure = std::mem::take(&mut peer.sure);
        let mut reader = std::mem::take(&mut peer.reader);
        reader.begin_anew();
        // Its seats were those of the session before.
        self.world.rooms.over(peer.session);
        self.sessions += 1;
        *peer = Peer {
            session: self.sessions,
            stream: element.attribute("id").map(str::to_owned),
            begun: self.world.step,
            is_on: true,
            was_web: self.world.clients[index].frames.is_some(),
            sure,
            owns_shed: peer.owns_shed,
            reader,
            ..Peer::default()
        };
        for sent in again {
            match sent.what {
                What::Message(n) => {
                    self.oracle.send_again(n);
                    self.write(index, n);
                }
                What::Contact(_) | What::Item(_) | What::Request(_) => self.keep(index, sent.what),
                // It is in no room now: whether to say it again is its user's decision.
                What::Said(_) | What::Nothing => {}
            }
        }
        self.stanza(index, What::Nothing, "<presence/>".into());
        for _ in 0..self.world.random.below(3) {
            self.enter_room(index);
        }
    }

    pub(super) fn resumed(&mut self, index: usize, element: &Element) {
        if element.attribute("previd") != self.peers[index].stream.as_deref() {
            return self.world.fail(format!("peer {index} resumes another stream: {element:?}"));
        }
        self.world.clients[index].stage = Stage::Online;
        let is_web = self.world.clients[index].frames.is_some();
        let was_web = std::mem::replace(&mut self.peers[index].was_web, is_web);
        self.tally.changed_transport += u64::from(is_web != was_web);
        self.told(index, element);
        if let Some(promise) = self.peers[index].promise.take() {
            self.tally.kept_promises += 1;
            self.tally.resumed_after_tls += u64::from(promise.after_tls);
        }
        let peer = &mut self.peers[index];
        (peer.is_on, peer.asked, peer.owes) = (true, false, false);
        peer.reader.resume();
        // They keep their numbers.
        for sent in &peer.unacked {
            self.world.clients[index].say(&sent.text);
        }
        // The server knew what it was told when it resumed.
        self.settle_up_to(index, u32::MAX);
    }

    pub(super) fn failed(&mut self, index: usize, element: &Element) {
        if self.world.clients[index].stage != Stage::Binding {
            return self.world.fail(format!("peer {index} is refused stream management: {element:?}"));
        }
        if let Some(promise) = self.peers[index].promise
            && self.world.now < promise.until
            && self.given_up() == promise.given_up
        {
            return self.world.fail(format!("peer {index} cannot resume: {promise:?}, {element:?}"));
        }
        let outcome = self.check_count(index, element.attribute("h"));
        self.note(outcome);
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
    pub(super) fn told(&mut self, index: usize, element: &Element) {
        let peer = &mut self.peers[index];
        let h: Option<u32> = element.attribute("h").and_then(|h| h.parse().ok());
        // After a crash the server knows of the last message only what was durable when it was sent.
        let least = if element.name() == "failed" { 0 } else { peer.told };
        let Some(h) = h.filter(|h| (least..=peer.sent).contains(h)) else {
            let (told, sent) = (peer.told, peer.sent);
            return self.world.fail(format!("peer {index}, told {told}, sent {sent}, hears {element:?}"));
        };
        peer.told = peer.told.max(h);
        let mut acknowledged = Vec::new();
        while peer.unacked.front().is_some_and(|sent| sent.number <= h) {
            match peer.unacked.pop_front().map(|sent| sent.what) {
                Some(What::Message(n)) => self.oracle.acknowledge(n, self.world.step),
                Some(what) => acknowledged.push(what),
                None => {}
            }
        }
        for what in acknowledged {
            match what {
                What::Said(n) => self.said_is_told(n, element),
                what => self.is_kept(index, what),
            }
        }
    }

    /// The server knows of what has arrived up to a number.
    pub(super) fn settle_up_to(&mut self, index: usize, h: u32) {
        let peer = &mut self.peers[index];
        while let Some(&(number, n)) = peer.unsure.front()
            && number <= h
        {
            peer.unsure.pop_front();
            peer.sure.push((self.world.step, n));
            self.oracle.settle(n);
        }
    }
}
