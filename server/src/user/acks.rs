//! What a client's stream is told of the stanzas it has sent, and the end of streams that cannot be told the truth.
//!
//! A stanza of which something has to be kept has a [`PendingAck`]. It travels with the stanza, and comes back when the stanza
//! is durable; the stream acknowledges up to the first that is still out (XEP-0198 §4).

use crate::env::Env;
use crate::proto::errors::StreamCondition;
use crate::runtime::driver::ConnId;
use crate::stanza::PendingAck;
use crate::user::actors::Effects;
use crate::user::tables::{ResourceKey, Users};

impl Users {
    /// Ends the session of a resource after the current event, and for good: it cannot be resumed.
    pub fn end_for_good(
        &mut self,
        fx: &mut Effects,
        key: ResourceKey,
        condition: StreamCondition,
        text: Option<&'static str>,
    ) {
        if let Some(sm) = self.sm_mut(key) {
            sm.forbid_resumption();
        }
        match self.resource(key).conn {
            ConnId::NONE => fx.ended.push(key),
            conn => fx.end(conn, condition, text),
        }
    }

    /// A stream can no longer be resumed, because it cannot remember what its client would have to get again. A client
    /// that is there notices nothing; a session without a connection is over.
    pub fn forbid_resumption(&mut self, env: &Env, fx: &mut Effects, key: ResourceKey) {
        if let Some(sm) = self.sm_mut(key)
            && sm.resume_seconds() > 0
        {
            sm.forbid_resumption();
            env.metrics().refused_unacked.add(1);
        }
        if self.resource(key).conn == ConnId::NONE {
            fx.ended.push(key);
        }
    }

    /// Counts a stanza of a client whose stream is managed; `None` for any other.
    pub fn count_received(&mut self, env: &Env, sender: ResourceKey) -> Option<PendingAck> {
        let worker = u16::try_from(env.worker).expect("at most 1024 workers");
        let sm = self.sm_mut(sender)?;
        let durable_up_to = sm.handled();
        Some(PendingAck {
            stream: sm.id(),
            resource: sender,
            number: sm.count_received(),
            durable_up_to,
            worker,
        })
    }

    /// A stanza is durable, or nothing had to be kept of it: tells its sender's worker.
    pub fn notify_durable(&mut self, env: &Env, fx: &mut Effects, pending_ack: PendingAck) {
        env.metrics().settled.add(1);
        self.report(env, fx, pending_ack, true);
    }

    /// Whether a stanza is durable reaches its sender's stream.
    pub fn report(&mut self, env: &Env, fx: &mut Effects, pending_ack: PendingAck, is_durable: bool) {
        match usize::from(pending_ack.worker) {
            worker if worker == env.worker => self.on_report(fx, pending_ack, is_durable),
            worker => fx.links.to(worker).durable(pending_ack, is_durable),
        }
    }

    /// A stanza of a client of this worker is durable; or it will never be, and then the stream must end without an
    /// acknowledgement of it. A stream that is gone does not matter.
    pub fn on_report(&mut self, fx: &mut Effects, pending_ack: PendingAck, is_durable: bool) {
        if let Some(join) = pending_ack.join() {
            return self.joins.on_report(join, is_durable);
        }
        let key = pending_ack.resource;
        let Some(sm) = self.sm_mut(key).filter(|sm| sm.id() == pending_ack.stream) else { return };
        if is_durable {
            sm.on_durable(pending_ack.number);
            fx.due_sm.push(key);
        } else {
            let text = "a stanza could not be written to the disk";
            self.end_for_good(fx, key, StreamCondition::InternalServerError, Some(text));
        }
    }

    /// The stanza of a pending ack, the last one counted, is not durable before so many copies of it are.
    pub fn wait_for_copies(&mut self, fx: &mut Effects, pending_ack: PendingAck, copies: u32) {
        let Some(sm) = self.sm_mut(pending_ack.resource).filter(|sm| sm.id() == pending_ack.stream) else {
            return;
        };
        if sm.wait_for_copies(pending_ack.number, copies) {
            // While a disk stands still, nothing else would have the stream looked at, and reading would go on.
            fx.due_sm.push(pending_ack.resource);
        }
    }
}
