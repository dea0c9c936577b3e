//! The second hand: idle clients, and what else can wait for some seconds, are found by sweeping a part of the table each second, so that an idle session
//! needs no timer of its own.

use crate::proto::errors::StreamCondition;
use crate::runtime::driver::ConnId;
use crate::service::ping;
use crate::session::SessionPhase;
use crate::user::flow;
use crate::user::presence::again;
use crate::user::tables::Flags;
use crate::worker::core::Core;

/// The sweep visits every session once in so many seconds.
const ROUND_SECONDS: usize = 16;

/// Seconds from the accept after which a client that has neither sent presence nor enabled stream management is taken for
/// one that will do neither.
const SM_DECIDED_SECONDS: u32 = 60;

/// Sessions that one sweep visits at least.
const PART_MIN: usize = 256;

impl Core {
    /// Looks for rows of streams that nobody can ask for any more. They are those of all workers, so one of them looks.
    pub(super) fn sweep_counts(&mut self) {
        if self.env.worker == 0 {
            let now = self.seconds();
            self.count_sweep.look(&mut self.actors, &self.env, &mut self.fx, now);
        }
    }

    /// Looks at a part of the sessions: silent ones are pinged, those that did not answer are ended.
    pub(super) fn sweep(&mut self) {
        let now = self.seconds();
        let idle = self.env.config.limits.idle_seconds;
        let answer = self.env.config.limits.idle_answer_seconds;
        let part = self.sessions.slots().div_ceil(ROUND_SECONDS).max(PART_MIN);
        let (mut silent, mut dead): (Vec<(ConnId, _)>, Vec<ConnId>) = (Vec::new(), Vec::new());
        let (mut not_durable, mut uninformed) = (Vec::new(), Vec::new());
        let (visited, at_end) = self.sessions.range(self.sweep_position, part);
        for session in visited {
            let quiet = now.saturating_sub(session.heard);
            if let SessionPhase::Bound(key) = session.phase {
                let flags = self.actors.users.resource(key).flags;
                if !flags.has(Flags::SM_DECIDED) && now.saturating_sub(session.connected) > SM_DECIDED_SECONDS
                {
                    not_durable.push(key);
                }
                let is_uninformed = flags.has(Flags::PRESENCE_LOST) || flags.has(Flags::SHOWN_AGAIN);
                if is_uninformed && self.fx.out.waiting(session.conn) == 0 {
                    uninformed.push(key);
                }
            }
            match session.phase {
                SessionPhase::Bound(_) if session.marks.pinged && quiet > idle.saturating_add(answer) => {
                    dead.push(session.conn);
                }
                SessionPhase::Bound(key) if !session.marks.pinged && quiet > idle => {
                    silent.push((session.conn, key));
                }
                _ => {}
            }
        }
        self.sweep_position = if at_end { 0 } else { self.sweep_position + part };
        for key in not_durable {
            flow::decide_sm(&mut self.actors, &self.env, &mut self.fx, key);
        }
        for key in uninformed {
            again::refresh(&mut self.actors, &self.env, &mut self.fx, key);
        }
        for (conn, key) in silent {
            if let Some(session) = self.sessions.get_mut(conn) {
                session.marks.pinged = true;
            }
            ping::send(&mut self.actors, &self.env, &mut self.fx, key);
        }
        for conn in dead {
            self.env.metrics().refused_idle.add(1);
            self.end_stream(conn, StreamCondition::ConnectionTimeout, Some("no answer to a ping"));
        }
    }
}
