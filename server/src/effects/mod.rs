//! What handling an event leads to: appended while it is handled, carried out afterwards.
//!
//! ```text
//! event ─► handled ─┬─► output, actions, jobs           at the end of the iteration
//!                   ├─► envelopes for other workers     at the end of the iteration
//!                   ├─► envelopes for this worker ─┐
//!                   └─► streams to end ────────────┴─► after the event, until nothing is left
//! ```
//! So nothing that handles a stanza is entered again from below itself, and a stanza to a user of this worker takes the
//! same way as one to a user of another: an envelope that is read by itself. Only the stanza that a client has just sent
//! is delivered without an envelope, because nothing stands in front of it.

pub mod answer;
pub mod buffers;
pub mod crypto;
pub mod due;
pub mod jobs;
pub mod work;

use crate::effects::buffers::Buffers;
use crate::effects::due::Due;
use crate::effects::jobs::Jobs;
use crate::effects::work::Work;
use crate::env::Env;
use crate::exchange::envelope::Batch;
use crate::exchange::fanout::{Broadcast, Cast, Targets};
use crate::exchange::links::Links;
use crate::exchange::spreading::Spreading;
use crate::keys::ResourceKey;
use crate::proto::errors::StreamCondition;
use crate::runtime::deliveries::Reception;
use crate::runtime::driver::ConnId;
use crate::runtime::mailbox::Road;
use crate::runtime::outbox::Outbox;
use crate::stanza::{Delivery, Kind, Traits, Type};

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

/// What the events of one iteration lead to. `S` is the state that goes on with jobs that come back; nothing here looks into
/// it, so that what is below the actors can append effects and touch no actor.
pub struct Effects<S> {
    /// The work done since the start.
    pub work: Work,
    /// Output of this iteration.
    pub out: Outbox,
    /// Envelopes for other workers.
    pub links: Links,
    /// Directory writes and password work under way.
    pub jobs: Jobs<S>,
    /// Streams to end after the current event.
    pub stream_ends: Vec<End>,
    /// Connections to reset after the current event: more waits for them than their account may make the server hold. Their
    /// sessions can be resumed.
    pub cut: Vec<ConnId>,
    /// Sessions without a connection that are to be ended after the current event.
    pub ended: Vec<ResourceKey>,
    /// Resources with stream management to which something may have to be said at the end of the iteration.
    pub due_sm: Vec<ResourceKey>,
    /// Resources that are behind and may have room for messages.
    pub due_cursors: Due,
    /// Resources that may have room for what waits for it.
    pub due_room: Due,
    /// Resources whose clients have read what they had, and for which something was held back meanwhile.
    pub due_held: Due,
    /// Buffers for what is read and written within an event.
    pub buffers: Buffers,
    /// Presence that is on its way to many users of this worker.
    pub spreading: Spreading,
    /// Envelopes of the current event for users of this worker.
    local: Batch,
    /// An emptied batch, kept for its memory.
    spare: Batch,
    /// Some event had more of them than a batch takes. The others went to this worker's own mailbox, and until that is
    /// empty everything goes the same way, so that nothing is overtaken.
    spilled: bool,
}

impl<S: 'static> Effects<S> {
    /// Nothing to do yet.
    pub fn new(links: Links, jobs: Jobs<S>) -> Effects<S> {
        Effects {
            work: Work::default(),
            out: Outbox::default(),
            links,
            jobs,
            stream_ends: Vec::new(),
            cut: Vec::new(),
            ended: Vec::new(),
            due_sm: Vec::new(),
            due_cursors: Due::default(),
            due_room: Due::default(),
            due_held: Due::default(),
            buffers: Buffers::default(),
            spreading: Spreading::default(),
            local: Batch::default(),
            spare: Batch::default(),
            spilled: false,
        }
    }

    /// Whether something is to be carried out before the next event.
    #[inline]
    pub fn is_pending(&self) -> bool {
        !(self.local.is_empty()
            && self.stream_ends.is_empty()
            && self.ended.is_empty()
            && self.cut.is_empty())
    }

    /// Ends a stream after the current event.
    pub fn end(&mut self, conn: ConnId, condition: StreamCondition, text: Option<&'static str>) {
        self.stream_ends.push(End { conn, condition, text });
    }

    /// Whether a stanza is for a user of this worker, and nothing is on its way here that it would overtake.
    #[inline]
    pub fn is_next(&self, env: &Env, d: &Delivery<'_>) -> bool {
        env.home_of(d.to_local) == env.worker && !self.spilled && !self.follows_presence(d)
    }

    fn follows_presence(&self, d: &Delivery<'_>) -> bool {
        d.kind == Kind::Presence && self.spreading.concerns(d.from)
    }

    /// Takes a stanza to its recipient's home: here after the event, elsewhere with the next batch.
    pub fn route(&mut self, env: &Env, d: &Delivery<'_>) {
        let home = env.home_of(d.to_local);
        let received = self.out.times.received();
        let batch = match home == env.worker && !self.follows_presence(d) {
            true => self.here(env, d.bytes.len(), Road::Deliveries),
            false => self.links.to(home),
        };
        batch.stanza(&Delivery { traits: noted(d.traits, received), ..*d });
        batch.note_received(received);
    }

    /// Takes a stanza to a room's home: here after the event, elsewhere with the next batch.
    pub fn route_to_room(&mut self, env: &Env, d: &Delivery<'_>) {
        let home = env.home_of_room(d.to_local);
        let received = self.out.times.received();
        let batch = match home == env.worker {
            true => self.here(env, d.bytes.len(), Road::Requests),
            false => self.links.ask(home),
        };
        batch.visit(&Delivery { traits: noted(d.traits, received), ..*d });
        batch.note_received(received);
    }

    /// Takes a stanza to the home of a node of the publish-subscribe service: here after the event, elsewhere with the next
    /// batch.
    pub fn route_to_node(&mut self, env: &Env, d: &Delivery<'_>) {
        let home = env.home_of_node(d.to_local);
        let received = self.out.times.received();
        let batch = match home == env.worker {
            true => self.here(env, d.bytes.len(), Road::Requests),
            false => self.links.ask(home),
        };
        batch.ask_node(&Delivery { traits: noted(d.traits, received), ..*d });
        batch.note_received(received);
    }

    /// Takes one stanza of a room to seats, listed by the home workers of their accounts: one envelope for each worker and
    /// each `broadcast_max` of them. It goes through the mailboxes, this worker's own too, so that others have their turn in
    /// between, and everything that a room says comes in its order.
    pub fn cast(&mut self, env: &Env, cast: &Cast<'_>, lists: &[Targets]) {
        for (worker, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            self.cast_to_worker(env, &cast.to(list), worker);
        }
    }

    /// As [`Effects::cast`], to seats of one worker. Whoever causes it pays for all of them.
    pub fn cast_to_worker(&mut self, env: &Env, cast: &Cast<'_>, worker: usize) {
        for part in cast.parts(env.broadcast_max) {
            self.work.add(work::LETTER + part.recipients() as u64 * work::WRITE);
            self.work.add_bytes(part.tail.len());
            self.links.to(worker).cast(&part);
        }
    }

    /// The batch for this worker that takes the next envelope, of so many bytes. One that goes through the mailbox is paid for
    /// now: when it is read, nobody knows whose event led to it.
    fn here(&mut self, env: &Env, bytes: usize, road: Road) -> &mut Batch {
        if self.spilled || self.local.is_full() {
            if !self.spilled {
                self.spilled = true;
                env.metrics().effects_spilled.add(1);
            }
            self.work.add(work::LETTER + work::WRITE);
            self.work.add_bytes(bytes);
            return self.links.on(road, env.worker);
        }
        &mut self.local
    }

    /// Takes one presence to many users, listed by their home workers: one envelope for each worker and each
    /// `broadcast_max` of them, so that a turn has few of them. To a few users of this worker it goes after the event,
    /// unless it is a probe, of which each reads an item of a roster: what a client sends after one may overtake it, and
    /// nobody sees it. Returns whether it spreads over several turns (see [`spreading`](crate::exchange::spreading)):
    /// then [`Effects::begin_spreading`] must follow.
    pub fn broadcast(&mut self, env: &Env, broadcast: &Broadcast<'_>, lists: Vec<Targets>) -> bool {
        let mut spreads = false;
        for (worker, list) in lists.iter().enumerate() {
            if list.is_empty() {
                continue;
            }
            let broadcast = broadcast.to(list);
            let here = worker == env.worker && broadcast.typ != Type::Probe;
            if here && list.count() <= env.broadcast_max && !self.spreading.concerns(broadcast.from) {
                self.here(env, broadcast.payload.len(), Road::Deliveries).broadcast(&broadcast);
                continue;
            }
            for part in broadcast.parts(env.broadcast_max) {
                self.links.to(worker).broadcast(&part);
            }
            spreads |= here;
        }
        self.links.put_lists(lists);
        spreads
    }

    /// The envelopes to this worker that were written last are all parts of one presence, sent on `conn`.
    pub fn begin_spreading(&mut self, env: &Env, from: &str, conn: ConnId) {
        self.spreading.begin(from);
        self.links.to(env.worker).spread(from, conn);
    }

    /// Envelopes for this worker that have been written since the last call; `None`: there are none.
    pub fn take_local(&mut self, env: &Env) -> Option<Batch> {
        if self.local.is_empty() {
            return None;
        }
        let metrics = env.metrics();
        metrics.effects.add(self.local.len() as u64);
        metrics.effects_high.raise(self.local.len() as u64);
        Some(std::mem::replace(&mut self.local, std::mem::take(&mut self.spare)))
    }

    /// Gives a batch back that has been read.
    pub fn put_local(&mut self, batch: Batch) {
        self.spare = batch;
    }

    /// Between two iterations: what has spilled has been read when nothing is left in this worker's own mailbox.
    pub fn look_after_spill(&mut self, env: &Env) {
        if self.spilled && self.links.is_clear(env.worker) {
            self.spilled = false;
        }
    }
}

/// What is known of a stanza at its recipient's home, with whether it has waited on the way there.
fn noted(mut traits: Traits, received: Reception) -> Traits {
    if received.has_waited {
        traits.set(Traits::WAITED);
    }
    traits
}
