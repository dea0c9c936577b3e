//! What goes out to a resource, and what is to be known of it until it has arrived.
//!
//! Every stanza for a bound client passes [`write`]. A stream with stream management queues it until the client
//! acknowledges it, connected or not; a message of the log that goes to a client without is remembered until its
//! bytes are with the kernel.

use whimbrel_storage::log::Sequence;

use crate::runtime::driver::ConnId;
use crate::runtime::timer::TimerId;
use crate::stanza::Kind;
use crate::stream::errors::StreamCondition;
use crate::stream::sm::{StreamManagement, Unacked};
use crate::user::home::Home;
use crate::user::tables::{Flags, ResourceKey, UserKey};

/// What only some resources have: stream management, messages on their way, a place in the log.
#[derive(Debug, Default)]
pub struct Flow {
    /// Stream management, once the client has enabled it.
    pub sm: Option<StreamManagement>,
    /// Messages of the log that were written to a client without stream management and wait in the driver.
    pub unsent: Option<Box<Vec<Sequence>>>,
    /// When a session without a connection is over.
    pub expiry: Option<TimerId>,
    /// The resource is behind: messages for it are only in the log, and it gets those after this one as there is
    /// room (see [`crate::user::offline`]). `None`: it is live, and gets messages as they come.
    pub after: Option<Sequence>,
}

// The memory budget of an idle session rests on this (docs/performance.md).
const _: () = assert!(size_of::<Flow>() <= 80);

impl Flow {
    /// Messages of the log that are on their way to the client.
    fn under_way(&self) -> impl Iterator<Item = Sequence> {
        self.unsent
            .iter()
            .flat_map(|unsent| unsent.iter().copied())
            .chain(self.sm.iter().flat_map(|sm| sm.records()))
    }
}

/// Writes a stanza to a resource. `record` is its number when it is a message of the log.
pub fn write(home: &mut Home, key: ResourceKey, kind: Kind, bytes: &[u8], record: Option<Sequence>) {
    let conn = home.users.resource(key).conn;
    match (home.users.sm_mut(key), record) {
        (Some(sm), _) => {
            sm.sent(match record {
                Some(sequence) => Unacked::Record {
                    sequence,
                    length: u32::try_from(bytes.len()).expect("a stanza is bounded by limits.stanza_bytes"),
                },
                None => Unacked::Stanza { kind, bytes: bytes.into() },
            });
            let (count, size) = sm.unacked_size();
            home.touched.push(key);
            let limits = &home.config.limits;
            if count > limits.sm_unacked_stanzas as usize || size > limits.unacked_bytes() {
                home.metrics().refused_unacked.add(1);
                let text = "too many stanzas are not acknowledged";
                home.end_for_good(key, StreamCondition::ResourceConstraint, Some(text));
            }
        }
        (None, Some(sequence)) => {
            let user = home.users.account_of(key);
            home.ledger.handed.push(crate::user::ledger::Handed { resource: key, user, sequence });
        }
        (None, None) => {}
    }
    home.work.add_bytes(bytes.len());
    if conn != ConnId::NONE {
        home.out.plain(conn).extend_from_slice(bytes);
    }
}

/// Whether there is room for another message to a resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Now,
    /// Perhaps in the next iteration, when this one's output is with the driver.
    Soon,
    /// After the client has read, or acknowledged, something.
    Later,
}

/// Whether there is room for another message. There is none past the half of what may wait for acknowledgement, and
/// while a quarter of what may wait in the output waits there: so messages alone never end a stream.
pub fn room(home: &Home, key: ResourceKey) -> Room {
    let resource = home.users.resource(key);
    let limits = &home.config.limits;
    if resource.flags.has(Flags::BACKED_UP) {
        return Room::Later;
    }
    if let Some(sm) = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref()) {
        let (count, bytes) = sm.unacked_size();
        if count >= limits.sm_unacked_stanzas as usize / 2 || bytes >= limits.unacked_bytes() / 2 {
            return Room::Later;
        }
    }
    match home.out.plain_len(resource.conn) < limits.output_backlog_bytes as usize / 4 {
        true => Room::Now,
        false => Room::Soon,
    }
}

/// Whether so much waits for a client that nothing more is to be handled of what it asks: half of what may wait, in
/// this iteration's output and in the driver (`backlog`).
pub fn is_choked(home: &Home, conn: ConnId, backlog: u32) -> bool {
    let limit = home.config.limits.output_backlog_bytes as usize;
    home.out.plain_len(conn) + backlog as usize > limit / 2
}

/// Whether the resource gets its messages from the log.
pub fn is_behind(home: &Home, key: ResourceKey) -> bool {
    home.users.resource(key).flow.as_ref().is_some_and(|flow| flow.after.is_some())
}

/// Whether the resource gets a message that is being appended at once. If not, it is behind from here on.
pub fn is_live(home: &mut Home, key: ResourceKey, sequence: Sequence) -> bool {
    if is_behind(home, key) {
        return false;
    }
    if room(home, key) == Room::Now {
        return true;
    }
    home.pumps.push(key);
    home.metrics().fell_behind.add(1);
    home.users.flow_mut(key).after = Some(Sequence(sequence.0 - 1));
    false
}

/// Messages of the log that are on their way to any resource of a user, in order.
pub fn under_way(home: &Home, user: UserKey) -> Vec<Sequence> {
    let user = home.users.user(user);
    let flows = user.resources.iter().filter_map(|key| home.users.resource(*key).flow.as_ref());
    let handed = home.ledger.handed.iter().filter(|handed| handed.user == user.id);
    let mut all: Vec<_> =
        flows.flat_map(|flow| flow.under_way()).chain(handed.map(|handed| handed.sequence)).collect();
    all.sort_unstable();
    all
}

/// A resource without stream management has read everything that waited in the driver.
pub fn drained(home: &mut Home, key: ResourceKey) {
    let resource = home.users.resource_mut(key);
    resource.flags.put(Flags::BACKED_UP, false);
    let Some(flow) = &mut resource.flow else { return };
    let unsent = flow.unsent.take();
    let behind = flow.after.is_some();
    let user = home.users.account_of(key);
    for sequence in unsent.into_iter().flat_map(|unsent| *unsent) {
        home.trim(user, sequence);
    }
    if behind {
        home.pumps.push(key);
    }
    home.users.tidy_flow(key);
}
