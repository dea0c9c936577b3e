//! What a client's stream is told of the stanzas it has sent, and the end of streams that cannot be told the truth.
//!
//! A stanza of which something has to be kept has a [`Ticket`]. It travels with the stanza, and comes back when the stanza
//! is safe; the stream acknowledges up to the first that is still out (XEP-0198 §4).

use crate::env::Env;
use crate::proto::errors::StreamCondition;
use crate::runtime::driver::ConnId;
use crate::stanza::Ticket;
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
            ConnId::NONE => fx.over.push(key),
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
            fx.over.push(key);
        }
    }

    /// Counts a stanza of a client whose stream is managed; `None` for any other.
    pub fn count_received(&mut self, env: &Env, sender: ResourceKey) -> Option<Ticket> {
        let worker = u16::try_from(env.worker).expect("at most 1024 workers");
        let sm = self.sm_mut(sender)?;
        let safe = sm.handled();
        Some(Ticket { stream: sm.id(), resource: sender, number: sm.count_received(), safe, worker })
    }

    /// A stanza is safe, or nothing had to be kept of it: tells its sender's worker.
    pub fn settle(&mut self, env: &Env, fx: &mut Effects, ticket: Ticket) {
        env.metrics().settled.add(1);
        self.say(env, fx, ticket, true);
    }

    /// Whether a stanza is safe reaches its sender's stream.
    pub fn say(&mut self, env: &Env, fx: &mut Effects, ticket: Ticket, safe: bool) {
        match usize::from(ticket.worker) {
            worker if worker == env.worker => self.hear(fx, ticket, safe),
            worker => fx.links.to(worker).settled(ticket, safe),
        }
    }

    /// A stanza of a client of this worker is safe; or it will never be, and then the stream must end without an
    /// acknowledgement of it. A stream that is gone does not matter.
    pub fn hear(&mut self, fx: &mut Effects, ticket: Ticket, safe: bool) {
        let key = ticket.resource;
        let Some(sm) = self.sm_mut(key).filter(|sm| sm.id() == ticket.stream) else { return };
        if safe {
            sm.settle(ticket.number);
            fx.touched.push(key);
        } else {
            let text = "a stanza could not be written to the disk";
            self.end_for_good(fx, key, StreamCondition::InternalServerError, Some(text));
        }
    }

    /// The stanza of a ticket, the last one counted, is not safe yet.
    pub fn leave_unsettled(&mut self, fx: &mut Effects, ticket: Ticket) {
        let Some(sm) = self.sm_mut(ticket.resource).filter(|sm| sm.id() == ticket.stream) else {
            return;
        };
        if sm.leave_unsettled(ticket.number) {
            // While a disk stands still, nothing else would have the stream looked at, and reading would go on.
            fx.touched.push(ticket.resource);
        }
    }
}
