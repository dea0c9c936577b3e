//! Stanzas of clients whose effects are on their way to the directory.
//!
//! Two promises rest on them. One stream's stanzas take effect in the order in which they came (RFC 6120 §10.1): what a
//! client sends behind such a stanza waits at its connection until the write has come back. And what XEP-0198 calls
//! handled is durable: the stanza's [`PendingAck`] stays out until everything that it causes is on the disk.
//!
//! ```text
//! stanza ─► begin ─► writer ─► comes back, takes effect ─► the connection's next stanza
//!             │                          └─► (contact's half) ─► settled: `<a/>` may count it
//!             └─ until then only writes of the same area go the same way
//! ```

use std::collections::BTreeMap;

use crate::env::Env;
use crate::runtime::driver::ConnId;
use crate::stanza::PendingAck;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::tables::{ResourceKey, Users};

/// A part of the directory that requests may change one right behind the other, because all that such a request does
/// before its write is to submit it, and the directory's one writer keeps the order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Area {
    /// None of the others: nothing follows before it is done.
    Alone,
    /// Whom a user blocks (XEP-0191).
    BlockList,
    /// Private XML (XEP-0049).
    Private,
    /// Nodes and their items (XEP-0060).
    Pubsub,
    /// Contacts and subscriptions (RFC 6121 §2, §3).
    Roster,
    /// The vCard (XEP-0054).
    VCard,
}

/// How a stanza stands to the writes under way that its sender has begun.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It does nothing that could be too early.
    Anywhere,
    /// It is itself a write.
    In(Area),
    /// It waits for all of them.
    Behind,
}

/// A stanza of a client that is written to the directory.
#[derive(Copy, Clone, Debug)]
pub struct Write {
    conn: ConnId,
    /// Its number, when the sender's stream is managed.
    pub pending_ack: Option<PendingAck>,
}

impl Write {
    /// The stanza that a resource of this worker has just sent.
    pub fn of(users: &Users, sender: ResourceKey, pending_ack: Option<PendingAck>) -> Write {
        Write { conn: users.resource(sender).conn, pending_ack }
    }
}

/// Writes of one connection that may be under way. They share commits; with more of them, its next stanza waits until half
/// of them are back, so that nobody fills the directory's queue for the others.
const UNDER_WAY_MAX: u32 = 64;

/// Bytes of stanzas that one connection may have under way as writes; a stanza that is longer goes alone. The connections
/// of an account (`limits.resources_per_user`) stay within its share of memory with that.
const UNDER_WAY_BYTES: usize = 128 * 1024;

/// Writes of one connection, all of one area.
#[derive(Debug)]
struct WritesOfConn {
    area: Area,
    count: u32,
    /// Of the stanzas that have begun them, since nothing was under way.
    bytes: usize,
}

/// The writes under way that clients of one worker have begun. There are no more of them than jobs
/// (`limits.directory_queue`, `limits.crypto_queue`).
#[derive(Debug, Default)]
pub struct Writes {
    by_conn: BTreeMap<ConnId, WritesOfConn>,
    /// Connections whose last write, or enough to begin others, has come back since somebody has looked.
    free: Vec<ConnId>,
    /// Work that writes have made when they came back, since somebody has looked.
    costs: Vec<(ConnId, u64)>,
}

impl Writes {
    /// Whether no write is under way.
    pub fn is_empty(&self) -> bool {
        self.by_conn.is_empty()
    }

    /// Whether the next stanza of a connection, of so many bytes, must wait; `place` is asked only if a write of it is under
    /// way.
    pub fn hold(&self, conn: ConnId, bytes: usize, place: impl FnOnce() -> Place) -> bool {
        let Some(under_way) = self.by_conn.get(&conn) else { return false };
        match place() {
            Place::Anywhere => false,
            Place::In(area) => {
                area == Area::Alone
                    || area != under_way.area
                    || under_way.count >= UNDER_WAY_MAX
                    || under_way.bytes + bytes > UNDER_WAY_BYTES
            }
            Place::Behind => true,
        }
    }

    /// A stanza of a connection, of so many bytes, was handled. They count if the connection has a write under way, which it
    /// may have begun.
    #[inline]
    pub fn add_bytes(&mut self, conn: ConnId, bytes: usize) {
        if !self.by_conn.is_empty()
            && let Some(under_way) = self.by_conn.get_mut(&conn)
        {
            under_way.bytes += bytes;
        }
    }

    /// Bytes of the stanzas that a connection has under way as writes, at most.
    pub fn bytes_of(&self, conn: ConnId) -> usize {
        self.by_conn.get(&conn).map_or(0, |under_way| under_way.bytes)
    }

    /// The connections that nothing holds any more, or room for more writes, since the last call.
    pub fn take_free(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.free)
    }

    /// What connections owe for the effects of their writes since the last call, in work units.
    pub fn take_costs(&mut self) -> Vec<(ConnId, u64)> {
        std::mem::take(&mut self.costs)
    }

    /// A connection of this worker owes for something that it has caused elsewhere.
    pub fn owe(&mut self, conn: ConnId, work: u64) {
        if conn != ConnId::NONE {
            self.costs.push((conn, work));
        }
    }

    fn begin(&mut self, conn: ConnId, area: Area) {
        let under_way = self.by_conn.entry(conn).or_insert(WritesOfConn { area, count: 0, bytes: 0 });
        under_way.count += 1;
        if area == Area::Alone {
            under_way.area = area;
        }
    }

    /// A presence of a connection is on its way to others (see [`spreading`](crate::exchange::spreading)): nothing
    /// follows before it has reached them.
    pub fn begin_spreading(&mut self, conn: ConnId) {
        if conn != ConnId::NONE {
            self.begin(conn, Area::Alone);
        }
    }

    /// Something that a connection has begun is over.
    pub fn end(&mut self, conn: ConnId) {
        let Some(under_way) = self.by_conn.get_mut(&conn) else { return };
        under_way.count -= 1;
        let left = under_way.count;
        if left == 0 {
            self.by_conn.remove(&conn);
        }
        if left == 0 || left == UNDER_WAY_MAX / 2 {
            self.free.push(conn);
        }
    }
}

impl Actors {
    /// The write of a stanza has been submitted. It must be the stanza that was counted last.
    pub fn begin_write(&mut self, fx: &mut Effects, write: Write, area: Area) {
        self.writes.begin(write.conn, area);
        if let Some(pending_ack) = write.pending_ack {
            self.users.wait_for_copies(fx, pending_ack, 1);
        }
    }

    /// A write has come back, and its effects on this worker have happened: what the client sent behind it may follow.
    /// Its pending ack is still out.
    pub fn took_effect(&mut self, fx: &mut Effects, write: Write) {
        self.writes.end(write.conn);
        let cost = fx.work.charge_completion();
        if cost > 0 {
            self.writes.costs.push((write.conn, cost));
        }
    }

    /// As [`took_effect`](Actors::took_effect), when nothing else has to be written because of the stanza.
    pub fn end_write(&mut self, env: &Env, fx: &mut Effects, write: Write) {
        self.took_effect(fx, write);
        if let Some(pending_ack) = write.pending_ack {
            self.users.notify_durable(env, fx, pending_ack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { index: 1, generation: 1 };

    #[test]
    fn a_stanza_waits_until_the_last_write_before_it_is_back() {
        let mut writes = Writes::default();
        assert!(!writes.hold(CONN, 0, || unreachable!("nothing is under way")));
        writes.begin(CONN, Area::Roster);
        writes.begin(CONN, Area::Roster);
        assert!(!writes.hold(ConnId { index: 2, generation: 1 }, 0, || unreachable!("it is another's")));
        for ends in 0..2 {
            assert!(writes.hold(CONN, 0, || Place::Behind), "{ends} of two are back");
            writes.end(CONN);
        }
        assert!(!writes.hold(CONN, 0, || Place::Behind));
        assert_eq!(writes.take_free(), [CONN]);
        assert_eq!(writes.take_free(), []);
    }

    #[test]
    fn a_connection_has_so_many_writes_under_way_and_no_more() {
        let mut writes = Writes::default();
        for _ in 0..UNDER_WAY_MAX {
            assert!(!writes.hold(CONN, 0, || Place::In(Area::Roster)));
            writes.begin(CONN, Area::Roster);
        }
        assert!(writes.hold(CONN, 0, || Place::In(Area::Roster)));
        for _ in 0..UNDER_WAY_MAX / 2 {
            assert_eq!(writes.take_free(), []);
            writes.end(CONN);
        }
        assert_eq!(writes.take_free(), [CONN], "it goes on when half of them are back");
        assert!(!writes.hold(CONN, 0, || Place::In(Area::Roster)));
    }

    #[test]
    fn long_stanzas_go_by_their_bytes() {
        let mut writes = Writes::default();
        let long = UNDER_WAY_BYTES + 1;
        assert!(!writes.hold(CONN, long, || unreachable!("nothing is under way")));
        writes.begin(CONN, Area::Private);
        writes.add_bytes(CONN, long);
        assert!(writes.hold(CONN, 1, || Place::In(Area::Private)));
        assert!(!writes.hold(CONN, 1, || Place::Anywhere));
        writes.end(CONN);
        writes.begin(CONN, Area::Private);
        writes.add_bytes(CONN, UNDER_WAY_BYTES - 1);
        assert!(!writes.hold(CONN, 1, || Place::In(Area::Private)));
        assert!(writes.hold(CONN, 2, || Place::In(Area::Private)));
    }

    #[test]
    fn writes_of_one_area_follow_each_other_at_once() {
        let mut writes = Writes::default();
        writes.begin(CONN, Area::Roster);
        assert!(!writes.hold(CONN, 0, || Place::In(Area::Roster)));
        assert!(writes.hold(CONN, 0, || Place::In(Area::BlockList)));
        assert!(!writes.hold(CONN, 0, || Place::Anywhere));
        writes.end(CONN);
        writes.begin(CONN, Area::Alone);
        assert!(writes.hold(CONN, 0, || Place::In(Area::Alone)));
        assert!(writes.hold(CONN, 0, || Place::In(Area::Roster)));
    }
}
