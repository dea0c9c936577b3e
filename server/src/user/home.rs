//! A worker as the home of its users: their tables, and everything that acting on them needs.
//!
//! Everything of one user happens on one worker, so nothing here is locked. Functions on [`Home`] take a
//! stanza or an outcome and append to the outbox, the parcels for other workers, and the directory's queue.

use std::sync::Arc;

use whimbrel_storage::directory::UserId;
use whimbrel_storage::log::Sequence;

use crate::clock::unix_milliseconds;
use crate::metrics::WorkerMetrics;
use crate::runtime::driver::ConnId;
use crate::runtime::jobs::Jobs;
use crate::runtime::letter::{Broadcast, Targets};
use crate::runtime::outbox::Outbox;
use crate::runtime::postroom::PostRoom;
use crate::runtime::timer::Millis;
use crate::runtime::work::Work;
use crate::shared::Shared;
use crate::stanza::{Delivery, Kind, Ticket, Type};
use crate::stream::errors::StreamCondition;
use crate::user::inputs::Inputs;
use crate::user::ledger::Ledger;
use crate::user::presence::contacts::Contacts;
use crate::user::presence::spreading::Spreading;
use crate::user::subscription::under_way::UnderWay;
use crate::user::tables::{ResourceKey, Users};
use crate::user::writes::Writes;
use crate::{config::Config, user};

/// Recipients of one letter at most, in a server that is not simulated.
pub const BROADCAST_MAX: usize = 64;

/// A stream that is to be ended by the server.
#[derive(Clone, Debug)]
pub struct End {
    /// The connection.
    pub conn: ConnId,
    /// Why.
    pub condition: StreamCondition,
    /// Text for a person, when there is something to add.
    pub text: Option<&'static str>,
}

/// One worker's users and their surroundings.
pub struct Home {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The configuration as of the last reload.
    pub config: Arc<Config>,
    /// Which worker this is.
    pub worker: usize,
    /// The time of this iteration.
    pub now: Millis,
    /// Milliseconds since 1970 at [`Millis`] 0, where time is made up; `None`: the system's clock is asked.
    pub time_at_start: Option<u64>,
    /// The work done since the start.
    pub work: Work,
    /// Recipients of one letter at most; [`BROADCAST_MAX`] but for the simulation, whose rosters are small.
    pub broadcast_max: usize,
    /// Presence that is on its way to many users of this worker.
    pub spreading: Spreading,
    /// The users.
    pub users: Users,
    /// Contacts of users who send presence.
    pub contacts: Contacts,
    /// Output of this iteration.
    pub out: Outbox,
    /// Letters to other workers.
    pub post: PostRoom,
    /// Directory writes and password work under way.
    pub jobs: Jobs,
    /// Subscriptions under way to the directory, and what waits behind them.
    pub under_way: UnderWay,
    /// What clients of this worker have under way to the directory.
    pub writes: Writes,
    /// What has been read of connections and not been handled.
    pub inputs: Inputs,
    /// Streams to end after the current event.
    pub ends: Vec<End>,
    /// Connections to reset after the current event: more waits for them than their account may make the server hold. Their
    /// sessions can be resumed.
    pub cut: Vec<ConnId>,
    /// A buffer for the stanza being forwarded, kept between stanzas.
    pub scratch: Vec<u8>,
    /// A buffer for the full JID of a stanza's sender, kept between stanzas.
    pub sender: String,
    /// A buffer for what goes into the log or comes out of it, kept between messages.
    pub payload: Vec<u8>,
    /// The log and who waits for it.
    pub ledger: Ledger,
    /// Resources with stream management to which something may have to be said at the end of the iteration.
    pub touched: Vec<ResourceKey>,
    /// Resources that are behind and may have room for messages.
    pub pumps: Vec<ResourceKey>,
    /// Sessions without a connection that are to be ended after the current event.
    pub over: Vec<ResourceKey>,
}

impl Home {
    /// This worker's metrics.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.shared.metrics[self.worker]
    }

    /// Appends `local@domain` of a resource's user.
    pub fn write_bare(&self, key: ResourceKey, out: &mut String) {
        out.push_str(self.users.local_of(key));
        out.push('@');
        out.push_str(&self.shared.domain);
    }

    /// Appends `local@domain/resource`.
    pub fn write_full(&self, key: ResourceKey, out: &mut String) {
        self.write_bare(key, out);
        out.push('/');
        out.push_str(&self.users.resource(key).name);
    }

    /// `local@domain/resource`.
    pub fn full_jid(&self, key: ResourceKey) -> String {
        let mut jid = String::new();
        self.write_full(key, &mut jid);
        jid
    }

    /// `local@domain`.
    pub fn bare_jid(&self, local: &str) -> String {
        format!("{local}@{}", self.shared.domain)
    }

    /// The worker that is the home of a user of this server.
    pub fn home_of(&self, local: &str) -> usize {
        self.shared.home_of(local)
    }

    /// Whether streams or sessions are to be ended after the current event.
    pub fn has_condemned(&self) -> bool {
        !(self.ends.is_empty() && self.over.is_empty() && self.cut.is_empty())
    }

    /// Ends a stream after the current event.
    pub fn end(&mut self, conn: ConnId, condition: StreamCondition, text: Option<&'static str>) {
        self.ends.push(End { conn, condition, text });
    }

    /// Ends the session of a resource after the current event, and for good: it cannot be resumed.
    pub fn end_for_good(&mut self, key: ResourceKey, condition: StreamCondition, text: Option<&'static str>) {
        if let Some(sm) = self.users.sm_mut(key) {
            sm.forbid_resumption();
        }
        match self.users.resource(key).conn {
            ConnId::NONE => self.over.push(key),
            conn => self.end(conn, condition, text),
        }
    }

    /// A stream can no longer be resumed, because it cannot remember what its client would have to get again. A client
    /// that is there notices nothing; a session without a connection is over.
    pub fn forbid_resumption(&mut self, key: ResourceKey) {
        if let Some(sm) = self.users.sm_mut(key)
            && sm.resume_seconds() > 0
        {
            sm.forbid_resumption();
            self.metrics().refused_unacked.add(1);
        }
        if self.users.resource(key).conn == ConnId::NONE {
            self.over.push(key);
        }
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.time_at_start.map_or_else(unix_milliseconds, |start| start + self.now.0)
    }

    /// A client has a message of the log for good.
    pub fn trim(&mut self, user: UserId, sequence: Sequence) {
        self.ledger.trim(&self.config.limits, user, sequence, &self.shared.metrics[self.worker]);
    }

    /// An account is gone, and with it everything that waits for it.
    pub fn purge(&mut self, user: UserId) {
        self.ledger.purge(user, &self.shared.metrics[self.worker]);
    }

    /// Counts a stanza of a client whose stream is managed; `None` for any other.
    pub fn count_received(&mut self, sender: ResourceKey) -> Option<Ticket> {
        let worker = u16::try_from(self.worker).expect("at most 1024 workers");
        let sm = self.users.sm_mut(sender)?;
        let safe = sm.handled();
        Some(Ticket { stream: sm.id(), resource: sender, number: sm.count_received(), safe, worker })
    }

    /// A stanza is safe, or nothing had to be kept of it: tells its sender's worker.
    pub fn settle(&mut self, ticket: Ticket) {
        self.metrics().settled.add(1);
        self.say(ticket, true);
    }

    /// Whether a stanza is safe reaches its sender's stream.
    pub fn say(&mut self, ticket: Ticket, safe: bool) {
        match usize::from(ticket.worker) {
            worker if worker == self.worker => self.hear(ticket, safe),
            worker => self.post.to(worker).settled(ticket, safe),
        }
    }

    /// A stanza of a client of this worker is safe; or it will never be, and then the stream must end without an
    /// acknowledgement of it. A stream that is gone does not matter.
    pub fn hear(&mut self, ticket: Ticket, safe: bool) {
        let key = ticket.resource;
        let Some(sm) = self.users.sm_mut(key).filter(|sm| sm.id() == ticket.stream) else { return };
        if safe {
            sm.settle(ticket.number);
            self.touched.push(key);
        } else {
            let text = "a stanza could not be written to the disk";
            self.end_for_good(key, StreamCondition::InternalServerError, Some(text));
        }
    }

    /// Takes a stanza to its recipient's home: here at once, elsewhere with the next parcel.
    pub fn route(&mut self, delivery: &Delivery<'_>) {
        let home = self.home_of(delivery.to_local);
        let follows = delivery.kind == Kind::Presence && self.spreading.concerns(delivery.from);
        if home == self.worker && !follows {
            user::routing::deliver(self, delivery);
        } else {
            let parcel = self.post.to(home);
            parcel.stanza(delivery);
            parcel.note_received(self.out.times.received());
        }
    }

    /// As [`route`](Home::route), behind the subscriptions that its sender has under way with the recipient.
    pub fn route_in_order(&mut self, delivery: &Delivery<'_>) {
        if !self.under_way.hold_outbound(delivery) {
            self.route(delivery);
        }
    }

    /// Takes one presence to many users, listed by their home workers: one letter for each worker and each
    /// `broadcast_max` of them, so that a turn has few of them. To a few users of this worker it goes at once, unless it
    /// is a probe, of which each reads an item of a roster: what a client sends after one may overtake it, and nobody sees
    /// it. See [`spreading`](crate::user::presence::spreading) for the others.
    pub fn broadcast(&mut self, typ: Type, from: &str, tail: &[u8], lists: Vec<Targets>) {
        let chooses_resources = typ != Type::Probe && user::blocking::chooses_resources(self, from);
        for (worker, list) in lists.iter().enumerate() {
            if list.is_empty() {
                continue;
            }
            let mut broadcast = Broadcast::new(typ, from, tail, list);
            broadcast.chooses_resources = chooses_resources;
            let here = worker == self.worker && typ != Type::Probe;
            if here && list.count() <= self.broadcast_max && !self.spreading.concerns(from) {
                user::presence::receive_broadcast(self, &broadcast);
                continue;
            }
            for part in broadcast.parts(self.broadcast_max) {
                self.post.to(worker).broadcast(&part);
            }
            if here {
                self.begin_spreading(from);
            }
        }
        self.post.put_lists(lists);
    }

    /// The letters to this worker that were written last are all parts of one presence.
    fn begin_spreading(&mut self, from: &str) {
        let resource = from.split_once('@').and_then(|(local, rest)| {
            let user = self.users.find(local)?;
            self.users.find_resource(user, rest.split_once('/')?.1)
        });
        let conn = resource.map_or(ConnId::NONE, |key| self.users.resource(key).conn);
        self.spreading.begin(from);
        self.writes.begin_spreading(conn);
        self.post.to(self.worker).spread(from, conn);
    }

    /// The last part of a presence has reached its recipients on this worker.
    pub fn has_spread(&mut self, from: &str, conn: ConnId) {
        self.spreading.end(from);
        self.writes.end(conn);
    }
}
