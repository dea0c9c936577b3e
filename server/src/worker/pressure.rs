//! Once a second: what sessions hold is sampled, and given up as the memory budget is used (see [`crate::memory`]).

use crate::memory::{Pressure, SHORT_BYTES};
use crate::runtime::driver::{CloseHow, ConnId};
use crate::runtime::outbox::Action;
use crate::user::share::{self, Use};
use crate::user::tables::ResourceKey;
use crate::user::{inactive, offline};
use crate::worker::core::Core;

/// All resources are visited once in so many seconds; under pressure four times as fast.
const ROUND_SECONDS: usize = 16;

/// Resources that one visit sees at least.
const PART_MIN: usize = 256;

/// Output of one connection that is left to it when memory is out.
const OUTPUT_LEFT_BYTES: usize = 64 * 1024;

/// What a round of visits has found so far.
#[derive(Debug)]
pub(super) struct Sample {
    position: usize,
    found: Use,
    detached: usize,
    /// References into archives of rooms.
    references: usize,
    /// Most bytes that wait for one client, and most stanzas of one that wait for a commit.
    output_most: usize,
    commit_most: usize,
}

impl Sample {
    /// A round that has not begun.
    pub(super) const NEW: Sample =
        Sample { position: 0, found: Use::NONE, detached: 0, references: 0, output_most: 0, commit_most: 0 };
}

impl Core {
    /// Visits a part of the resources.
    pub(super) fn sample_memory(&mut self) {
        let pressure = self.env.shared.memory.pressure();
        let rounds = if pressure > Pressure::None { ROUND_SECONDS / 4 } else { ROUND_SECONDS };
        let part = self.actors.users.places().div_ceil(rounds).max(PART_MIN);
        let start = self.sample.position;
        let (mut detached, mut clogged) = (Vec::new(), Vec::new());
        for (key, resource) in self.actors.users.range(start, part) {
            let of_one = share::of_resource((&self.actors.inputs, &self.actors.writes), &self.fx, resource);
            self.sample.found.add(of_one);
            self.sample.output_most = self.sample.output_most.max(of_one.output);
            if of_one.output > 0
                && let Some(session) = self.sessions.get(resource.conn)
            {
                let (backlog, waits) = (&mut self.traffic.backlog, of_one.output as u64);
                backlog.add_address(session.peer, waits);
                let account = self.actors.users.account_of(key);
                backlog
                    .accounts
                    .add(account.raw(), waits, |name| self.actors.users.write_bare(&self.env, key, name));
            }
            let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
            self.sample.commit_most = self.sample.commit_most.max(sm.map_or(0, |sm| sm.not_durable()));
            let queue = sm.and_then(|sm| sm.unacked_queue());
            self.sample.references += queue.map_or(0, |queue| queue.archived_count() + queue.spooled_count());
            match resource.conn {
                ConnId::NONE => {
                    self.sample.detached += of_one.unacked + of_one.held;
                    detached.push(key);
                }
                conn if of_one.output > OUTPUT_LEFT_BYTES || of_one.unfinished > SHORT_BYTES => {
                    clogged.push(conn);
                }
                _ => {}
            }
        }
        self.sample.position = start + part;
        if self.sample.position >= self.actors.users.places() {
            self.publish_sample();
        }
        self.give_up(pressure, detached, clogged);
    }

    fn publish_sample(&mut self) {
        let sample = std::mem::replace(&mut self.sample, Sample::NEW);
        let metrics = self.env.metrics();
        metrics.memory_unacked.set(sample.found.unacked as u64);
        metrics.memory_held.set(sample.found.held as u64);
        metrics.memory_presence.set(sample.found.presence as u64);
        metrics.memory_unfinished.set(sample.found.unfinished as u64);
        metrics.memory_detached.set(sample.detached as u64);
        metrics.references.set(sample.references as u64);
        // Peaks raise these at once; a round that has seen less takes them down again.
        metrics.backlog_fullest.set(sample.output_most as u64);
        metrics.log_waiting_fullest.set(sample.commit_most as u64);
        self.env.shared.busiest.publish_backlog(self.env.worker, &mut self.traffic);
    }

    fn give_up(&mut self, pressure: Pressure, detached: Vec<ResourceKey>, clogged: Vec<ConnId>) {
        if pressure >= Pressure::Out {
            for conn in clogged {
                self.env.metrics().refused_memory.add(1);
                self.lost(conn);
                self.fx.out.act(conn, Action::Close(CloseHow::Reset));
            }
        }
        for key in detached {
            if pressure >= Pressure::Out {
                self.env.metrics().refused_memory.add(1);
                self.forget_detached(key);
            } else if pressure >= Pressure::Tight {
                inactive::forget(&mut self.actors.users, key);
                if !offline::shed(&mut self.actors.users, &self.env, &mut self.fx, key) {
                    self.actors.users.forbid_resumption(&self.env, &mut self.fx, key);
                }
            }
            self.end_if_too_much_waits(key);
        }
        self.carry_out();
    }
}
