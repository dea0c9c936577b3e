//! A worker as the home of its users: their tables, and everything that acting on them needs.
//!
//! Everything of one user happens on one worker, so nothing here is locked. Functions on [`Home`] take a
//! stanza or an outcome and append to the outbox, the parcels for other workers, and the directory's queue.

use std::sync::Arc;

use crate::metrics::WorkerMetrics;
use crate::runtime::driver::ConnId;
use crate::runtime::jobs::Jobs;
use crate::runtime::letter::{Broadcast, Targets};
use crate::runtime::outbox::Outbox;
use crate::runtime::postroom::PostRoom;
use crate::runtime::timer::Millis;
use crate::shared::Shared;
use crate::stanza::{Delivery, Type};
use crate::stream::errors::StreamCondition;
use crate::user::tables::{ResourceKey, Users};
use crate::{config::Config, user};

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
    /// The users.
    pub users: Users,
    /// Output of this iteration.
    pub out: Outbox,
    /// Letters to other workers.
    pub post: PostRoom,
    /// Directory writes and password work under way.
    pub jobs: Jobs,
    /// Streams to end after the current event.
    pub ends: Vec<End>,
    /// A buffer for the stanza being forwarded, kept between stanzas.
    pub scratch: Vec<u8>,
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

    /// Ends a stream after the current event.
    pub fn end(&mut self, conn: ConnId, condition: StreamCondition, text: Option<&'static str>) {
        self.ends.push(End { conn, condition, text });
    }

    /// Takes a stanza to its recipient's home: here at once, elsewhere with the next parcel.
    pub fn route(&mut self, delivery: &Delivery<'_>) {
        let home = self.home_of(delivery.to_local);
        if home == self.worker {
            user::routing::deliver(self, delivery);
        } else {
            self.post.to(home).stanza(delivery);
        }
    }

    /// Takes one presence to many users, listed by their home workers: one letter for each worker.
    pub fn broadcast(&mut self, typ: Type, from: &str, tail: &[u8], lists: Vec<Targets>) {
        for (worker, list) in lists.iter().enumerate() {
            if list.is_empty() {
                continue;
            }
            let broadcast = Broadcast::new(typ, from, tail, list);
            if worker == self.worker {
                user::presence::receive_broadcast(self, &broadcast);
            } else {
                self.post.to(worker).broadcast(&broadcast);
            }
        }
        self.post.put_lists(lists);
    }
}
