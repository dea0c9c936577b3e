//! Room for connections that have not logged in, when it is short (`limits.sessions_unauthenticated`), and for accepting
//! them (`limits.accepts_per_second`).
//!
//! No address has a fixed share: while there is room, one may have all of it. When there is none, a newcomer from an
//! address, or network, that has fewer places takes that of the largest taker's oldest connection (see
//! [`Admission`](crate::admission::Admission), which knows who that is). That connection is looked for on this worker
//! first, then on the others one after another.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use whimbrel_address::Block;

use crate::admission::{AdmissionRefusal, Admitted};
use crate::limits::Limits;
use crate::runtime::driver::{CloseHow, ConnId};
use crate::runtime::outbox::Action;
use crate::session::{SessionPhase, Sessions};
use crate::worker::core::Core;

/// Addresses whose accepts are told apart in a second; further ones count as one.
const ADDRESSES_MAX: usize = 16_384;

/// Connections without a resource, by address, oldest first. Some of them may have gone since.
#[derive(Default)]
pub(super) struct Places(HashMap<Block, VecDeque<ConnId>, RandomState>);

impl Places {
    pub(super) fn enter(&mut self, peer: IpAddr, conn: ConnId) {
        self.0.entry(Block::of(peer)).or_default().push_back(conn);
    }

    /// A connection from there has gone, or has bound a resource: forgets those at the head that have. The rest
    /// behind them is not older than `limits.preauth_seconds`.
    pub(super) fn tidy(&mut self, peer: IpAddr, sessions: &Sessions) {
        let address = Block::of(peer);
        let Some(queue) = self.0.get_mut(&address) else { return };
        while queue.front().is_some_and(|conn| !is_negotiating(sessions, *conn)) {
            queue.pop_front();
        }
        if queue.is_empty() {
            self.0.remove(&address);
        }
    }

    /// The oldest connection from there that has no resource.
    fn oldest(&mut self, address: Block, sessions: &Sessions) -> Option<ConnId> {
        let queue = self.0.get_mut(&address)?;
        while let Some(conn) = queue.pop_front() {
            if is_negotiating(sessions, conn) {
                return Some(conn);
            }
        }
        self.0.remove(&address);
        None
    }
}

fn is_negotiating(sessions: &Sessions, conn: ConnId) -> bool {
    sessions.get(conn).is_some_and(|session| matches!(session.phase, SessionPhase::Negotiating(_)))
}

/// What happens to a connection that was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// It stays.
    Admitted,
    /// Its address has had more than its share of this second.
    TurnedAway,
}

/// Accepts of one worker in the current second.
///
/// While the budget lasts, everybody is admitted, up to `limits.accepts_per_second_per_address`. When it is used up,
/// accepting rests until the next second, unless several addresses have come: then, from a second budget, those that have
/// had less than twice their fair share are admitted and the others turned away, so that one address cannot make the
/// others wait behind it.
pub(super) struct Accepts {
    budget: u32,
    per_address: u32,
    left: u32,
    spare: u32,
    taken: HashMap<Block, u32, RandomState>,
    addresses_before: usize,
}

impl Accepts {
    /// The accepts of a second that has begun.
    pub(super) fn new(limits: &Limits, workers: u32) -> Accepts {
        let mut accepts = Accepts {
            budget: 0,
            per_address: 0,
            left: 0,
            spare: 0,
            taken: HashMap::default(),
            addresses_before: 0,
        };
        accepts.refill(limits, workers);
        accepts
    }

    pub(super) fn refill(&mut self, limits: &Limits, workers: u32) {
        self.budget = (limits.accepts_per_second / workers).max(1);
        self.per_address = (limits.accepts_per_second_per_address / workers).max(1);
        (self.left, self.spare) = (self.budget, self.budget.saturating_mul(4));
        self.addresses_before = self.taken.len();
        // What a crowd has needed is given back.
        match self.taken.capacity() > 1024 {
            true => self.taken = HashMap::default(),
            false => self.taken.clear(),
        }
    }

    /// Counts a connection.
    pub(super) fn take(&mut self, peer: IpAddr) -> Taken {
        let address = Block::of(peer);
        let known = self.taken.len() < ADDRESSES_MAX || self.taken.contains_key(&address);
        let had = known.then(|| {
            let had = self.taken.entry(address).or_insert(0);
            *had += 1;
            *had
        });
        let in_budget = self.left > 0;
        match in_budget {
            true => self.left -= 1,
            false => self.spare = self.spare.saturating_sub(1),
        }
        let had = had.unwrap_or(0);
        let capped = self.per_address < self.budget && had > self.per_address;
        // The share is not asked for while there is enough for everybody.
        let greedy = !in_budget && self.is_contended() && had >= self.share().saturating_mul(2);
        match capped || greedy {
            true => Taken::TurnedAway,
            false => Taken::Admitted,
        }
    }

    /// Whether accepting rests until the next second.
    pub(super) fn is_used_up(&self) -> bool {
        self.left == 0 && (self.spare == 0 || !self.is_contended())
    }

    fn is_contended(&self) -> bool {
        self.taken.len().max(self.addresses_before) > 1
    }

    fn share(&self) -> u32 {
        let addresses = self.taken.len().max(self.addresses_before).max(1);
        (self.budget / u32::try_from(addresses).unwrap_or(u32::MAX)).max(1)
    }
}

impl Core {
    /// Asks for a place. `false`: there is none; it was counted why.
    pub(super) fn find_place(&mut self, peer: IpAddr) -> bool {
        let metrics = self.env.metrics();
        match self.env.shared.admission.admit(peer, &self.env.config.limits) {
            Ok(Admitted::Free) => return true,
            Ok(Admitted::InPlaceOf(address)) => {
                if !self.make_room(address) {
                    self.ask_others_for_room(address, self.env.shared.metrics.len() - 1);
                }
                return true;
            }
            Err(AdmissionRefusal::Sessions) => metrics.refused_sessions.add(1),
            Err(AdmissionRefusal::Unauthenticated) => metrics.refused_unauthenticated.add(1),
            Err(AdmissionRefusal::PerAddress) => metrics.refused_address.add(1),
        }
        false
    }

    /// Ends the oldest connection from an address that has no resource. At once, without a word: what is ended because
    /// others need its place must not hold it until its client has listened. `false`: this worker has none.
    pub(super) fn make_room(&mut self, address: Block) -> bool {
        let Some(conn) = self.places.oldest(address, &self.sessions) else { return false };
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        if let SessionPhase::Negotiating(negotiation) = &session.phase
            && let Some(deadline) = negotiation.deadline
        {
            self.timers.cancel(deadline);
        }
        session.phase = SessionPhase::Closing;
        session.partial = None;
        self.env.metrics().displaced.add(1);
        self.fx.out.act(conn, Action::Close(CloseHow::Reset));
        true
    }

    /// Has the next worker make room, and if it cannot, so many less one after it.
    pub(super) fn ask_others_for_room(&mut self, address: Block, workers: usize) {
        if workers > 0 {
            let next = (self.env.worker + 1) % self.env.shared.metrics.len();
            self.fx.links.to(next).make_room(address, workers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total: u32, per_address: u32) -> Limits {
        Limits { accepts_per_second: total, accepts_per_second_per_address: per_address, ..Limits::default() }
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// Takes until accepting rests, at most `most` times; how many were admitted.
    fn take(accepts: &mut Accepts, n: u8, most: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..most {
            if accepts.is_used_up() {
                break;
            }
            admitted += u32::from(accepts.take(ip(n)) == Taken::Admitted);
        }
        admitted
    }

    #[test]
    fn one_address_has_the_whole_budget_and_then_waits() {
        let mut accepts = Accepts::new(&limits(100, 100), 1);
        assert_eq!(take(&mut accepts, 1, 1000), 100);
        assert!(accepts.is_used_up());
        accepts.refill(&limits(100, 100), 1);
        assert_eq!(take(&mut accepts, 1, 1000), 100);
    }

    #[test]
    fn a_flood_is_turned_away_where_others_come_too() {
        let mut accepts = Accepts::new(&limits(100, 100), 1);
        assert_eq!(take(&mut accepts, 2, 1), 1);
        assert_eq!(take(&mut accepts, 1, 300), 99, "the rest of the budget");
        assert!(!accepts.is_used_up());
        assert_eq!(take(&mut accepts, 2, 5), 5, "one that has had little gets in");
        assert_eq!(take(&mut accepts, 1, 1000), 0);
        assert!(accepts.is_used_up(), "turning away is work as well");
    }

    #[test]
    fn an_address_has_its_own_limit() {
        let mut accepts = Accepts::new(&limits(100, 10), 2);
        assert_eq!(take(&mut accepts, 1, 20), 5);
        assert_eq!(take(&mut accepts, 2, 20), 5);
    }
}
