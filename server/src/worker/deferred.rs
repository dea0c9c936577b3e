//! What waits for subscriptions on their way to the directory: going on with it, and its limit.

use whimbrel_storage::jid::JidRef;

use crate::env::Env;
use crate::proto::address::Destination;
use crate::runtime::driver::ConnId;
use crate::session::Holds;
use crate::stanza::Kind;
use crate::user::actors::Actors;
use crate::user::subscription;
use crate::user::tables::ResourceKey;
use crate::worker::core::Core;
use crate::xml::{CLIENT, Frame};

/// A connection whose next stanza would be held, while its account has as much held as it may.
pub(super) struct Parked {
    conn: ConnId,
    sender: ResourceKey,
    /// Who gets the stanza; `None`: all contacts.
    contact: Option<Box<str>>,
    bytes: usize,
}

impl Parked {
    /// `None`: the stanza need not wait.
    pub(super) fn of(
        actors: &Actors,
        env: &Env,
        (conn, sender): (ConnId, ResourceKey),
        frame: &Frame<'_>,
    ) -> Option<Parked> {
        let Frame::Stanza(stanza) = frame else { return None };
        let kind = Kind::from_name(stanza.name()).filter(|_| stanza.namespace() == CLIENT)?;
        let to = stanza.common_attributes().to;
        let contact = match to.as_deref().map(JidRef::parse) {
            None if kind == Kind::Presence => None,
            Some(Ok(to)) => match env.destination(Some(&to), actors.users.local_of(sender)) {
                Destination::User { local, .. } => Some(local.into()),
                _ => return None,
            },
            _ => return None,
        };
        let parked = Parked { conn, sender, contact, bytes: stanza.bytes().len() };
        parked.waits(actors, env).then_some(parked)
    }

    fn waits(&self, actors: &Actors, env: &Env) -> bool {
        if actors.users.get(self.sender).is_none() {
            return false;
        }
        let (local, limit) = (actors.users.local_of(self.sender), env.config.limits.held_bytes as usize);
        actors.under_way.is_to_wait(local, self.contact.as_deref(), self.bytes, limit)
    }
}

impl Core {
    /// Whether as much waits for the directory as may (`limits.held_bytes`): nothing more is read until it is less.
    pub fn holds_too_much(&self) -> bool {
        self.actors.under_way.bytes() > self.env.config.limits.held_bytes as usize
    }

    /// The next stanza of a connection waits there. Once for each, however often it is looked at.
    pub(super) fn park(&mut self, parked: Parked) {
        self.env.metrics().held_waits.add(1);
        self.parked.retain(|other| other.conn != parked.conn);
        self.parked.push(parked);
    }

    /// Goes on with connections whose next stanza need not wait any more.
    pub(super) fn lift_parked(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        let (waiting, ready): (Vec<_>, Vec<_>) =
            self.parked.drain(..).partition(|parked| parked.waits(&self.actors, &self.env));
        self.parked = waiting;
        for parked in ready {
            self.lift(parked.conn, Holds::WRITE);
        }
    }

    /// Goes on with what waits for room in the directory's queue.
    pub fn retry_writes(&mut self) {
        subscription::retry(&mut self.actors, &self.env, &mut self.fx);
        let held = self.actors.under_way.bytes() as u64;
        self.env.metrics().held_bytes.set(held);
        self.env.metrics().held_high.raise(held);
    }
}
