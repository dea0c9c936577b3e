//! What everything on a worker may look at, and nothing changes: the surroundings of one iteration.

use std::sync::Arc;

use whimbrel_storage::jid::JidRef;

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::WorkerMetrics;
use crate::proto::address::{Destination, Services};
use crate::runtime::timer::Millis;
use crate::shared::Shared;

/// The surroundings of a worker in one iteration. Only the worker's loop changes it, between two iterations; counters
/// can be added to by anybody.
pub struct Env {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The configuration as of the last reload.
    pub config: Arc<Config>,
    /// Which worker this is.
    pub worker: usize,
    /// The time of this iteration.
    pub now: Millis,
    /// Where the time comes from.
    pub clock: Clock,
    /// Recipients of one envelope at most; [`BROADCAST_MAX`] but for the simulation, whose rosters are small.
    pub broadcast_max: usize,
}

/// Recipients of one envelope at most, in a server that is not simulated.
pub const BROADCAST_MAX: usize = 64;

impl Env {
    /// This worker's metrics.
    #[inline]
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.shared.metrics[self.worker]
    }

    /// `local@domain`.
    pub fn bare_jid(&self, local: &str) -> String {
        format!("{local}@{}", self.shared.domain)
    }

    /// Who owns nodes, by a localpart: an account, or by the empty one the publish-subscribe service.
    pub fn owner_jid(&self, local: &str) -> String {
        match local.is_empty() {
            true => self.shared.nodes_domain.to_string(),
            false => self.bare_jid(local),
        }
    }

    /// `name@rooms' domain`.
    pub fn room_jid(&self, name: &str) -> String {
        format!("{name}@{}", self.shared.rooms_domain)
    }

    /// A room, or the occupant of it with this nick.
    pub fn occupant_jid(&self, name: &str, nick: Option<&str>) -> String {
        match nick {
            Some(nick) => format!("{name}@{}/{nick}", self.shared.rooms_domain),
            None => self.room_jid(name),
        }
    }

    /// Where a stanza for the address `to` goes that the account `own` sends.
    #[inline]
    pub fn destination<'a>(&self, to: Option<&'a JidRef<'a>>, own: &str) -> Destination<'a> {
        Destination::of(to, &self.shared.domain, own, || self.services())
    }

    /// The domains beside that of the users.
    pub fn services(&self) -> Services<'_> {
        let rooms = self.config.rooms.enabled.then_some(&*self.shared.rooms_domain);
        let nodes = self.config.pubsub.enabled.then_some(&*self.shared.nodes_domain);
        let push = self.config.push.is_on().then_some(&*self.shared.push_domain);
        let uploads = self.shared.uploads.get().map(|_| &*self.shared.upload_domain);
        Services { rooms, nodes, push, uploads }
    }

    /// The worker that is the home of a room.
    #[inline]
    pub fn home_of_room(&self, name: &str) -> usize {
        self.shared.home_of_room(name)
    }

    /// The worker that is the home of a node of the publish-subscribe service.
    #[inline]
    pub fn home_of_node(&self, name: &str) -> usize {
        self.shared.home_of_node(name)
    }

    /// The worker that is the home of a user of this server.
    #[inline]
    pub fn home_of(&self, local: &str) -> usize {
        self.shared.home_of(local)
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_ms() / 1000
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }
}
