//! Resumption of a stream (XEP-0198 §5): a client comes back, on whichever connection, and goes on with its session.
//!
//! ```text
//! <resume/> ─┬─► resumed
//!            ├─► waits until its last messages are durable, what rooms have said to it is out of their archives, and its count is no
//!            │   longer in the directory ─► resumed
//!            └─► failed, with what was handled, where that is known
//! ```

use std::collections::HashSet;

use crate::proto::errors::{StanzaCondition, StreamCondition};
use crate::proto::sm::StreamId;
use crate::proto::sm::element;
use crate::runtime::driver::{CloseHow, ConnId};
use crate::runtime::outbox::Action;
use crate::session::{Session, SessionPhase};
use crate::user::counts::{self, Row};
use crate::user::flow;
use crate::user::inactive;
use crate::user::offline;
use crate::user::presence::{again, asleep};
use crate::user::push;
use crate::user::recall::{self, Progress};
use crate::user::spool;
use crate::user::tables::{Flags, ResourceKey};
use crate::worker::core::{Core, Timer};
use crate::worker::sm::acknowledged;

/// A client that wants to resume a stream and has to wait for the disk, or for archives.
pub(super) struct Resumption {
    conn: ConnId,
    key: ResourceKey,
    id: StreamId,
    /// All that it refers to in the log is there: that was looked at once.
    is_whole: bool,
    /// The removal of its count from the directory was begun for it.
    is_forgetting: bool,
}

/// Whether a stream can be resumed now.
enum Readiness {
    Ready,
    Waits,
    /// Its count is in the directory and cannot be removed.
    Refused,
    /// The session has ended meanwhile.
    Gone,
}

impl Core {
    /// §5: an authenticated client wants to go on with an earlier stream, in place of binding a resource.
    pub(super) fn resume(&mut self, conn: ConnId, id: Option<StreamId>, h: u32) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &mut session.phase else { return };
        let Some(local) = &negotiation.user else { return };
        let found = id.and_then(|id| {
            self.actors.users.resources_of(local).into_iter().find(|&key| {
                self.actors.users.sm_mut(key).is_some_and(|sm| sm.id() == id && sm.resume_seconds() > 0)
            })
        });
        let (Some(key), Some(id)) = (found, id) else {
            return self.cannot_resume(conn, id);
        };
        if self.actors.users.sm_mut(key).is_some_and(|sm| sm.is_old(h)) {
            // The client does not have what it has acknowledged: its state is that of another time.
            return self.cannot_resume(conn, Some(id));
        }
        if let Err(too_high) = acknowledged(&mut self.actors, &self.env, &mut self.fx, key, h) {
            return self.too_high(conn, too_high);
        }
        self.replace_connection(key);
        let mut resumption = Resumption { conn, key, id, is_whole: false, is_forgetting: false };
        match self.readiness(&mut resumption) {
            Readiness::Ready => self.resumed(&resumption),
            Readiness::Refused | Readiness::Gone => self.cannot_resume(conn, Some(id)),
            Readiness::Waits => {
                if let Some(Session { phase: SessionPhase::Negotiating(negotiation), .. }) =
                    self.sessions.get_mut(conn)
                {
                    negotiation.waiting = true;
                    self.resumptions.push(resumption);
                }
            }
        }
    }

    /// Whether a stream can be resumed now. Its client would repeat what is only a moment away from being durable; and while
    /// the directory has its count, that must stay true. The count goes last, so that a session that still has to wait has one.
    fn readiness(&mut self, resumption: &mut Resumption) -> Readiness {
        let &mut Resumption { key, id, .. } = resumption;
        let Some(sm) = self.actors.users.sm_mut(key).filter(|sm| sm.id() == id) else {
            return Readiness::Gone;
        };
        if sm.not_durable() > 0 {
            return Readiness::Waits;
        }
        match self.has_texts(resumption) {
            Readiness::Ready => {}
            other => return other,
        }
        if !std::mem::replace(&mut resumption.is_forgetting, true) {
            counts::begin_to_forget(&mut self.actors, &self.env, &mut self.fx, key);
        }
        match counts::row(&self.actors.users, key) {
            Row::Going => Readiness::Waits,
            Row::Kept => Readiness::Refused,
            Row::None => Readiness::Ready,
        }
    }

    /// Whether a session has the texts of what it refers to in archives of rooms and in the log; without them it is over.
    fn has_texts(&mut self, resumption: &mut Resumption) -> Readiness {
        let key = resumption.key;
        resumption.is_whole = resumption.is_whole || spool::is_whole(&self.actors, &self.fx, key);
        let progress = match resumption.is_whole {
            true => recall::progress(&mut self.actors, &self.env, &mut self.fx, key),
            false => Progress::Lost,
        };
        match progress {
            Progress::Ready => Readiness::Ready,
            Progress::UnderWay => Readiness::Waits,
            Progress::Lost => {
                self.actors.users.forbid_resumption(&self.env, &mut self.fx, key);
                Readiness::Refused
            }
        }
    }

    /// The stream has ended in the meantime, or there has never been one: the client binds anew. What was handled of it is known
    /// after a crash, from the directory or from the log.
    fn cannot_resume(&mut self, conn: ConnId, id: Option<StreamId>) {
        self.env.metrics().resume_failed.add(1);
        let Some(session) = self.sessions.get(conn) else { return };
        let SessionPhase::Negotiating(negotiation) = &session.phase else { return };
        let known = id.zip(negotiation.user.as_deref());
        let h = known.and_then(|(id, local)| counts::handled_before(&self.env, &self.fx, local, id));
        let mut out = self.fx.out.stream(conn);
        out.element(|out| element::write_failed(StanzaCondition::ItemNotFound, h, out));
    }

    /// A session that is about to be resumed gives up the connection that it still has.
    fn replace_connection(&mut self, key: ResourceKey) {
        let older = self.actors.users.resource(key).conn;
        if let Some(session) = self.sessions.get_mut(older) {
            self.env.metrics().stream_errors.add(1);
            let mut out = self.fx.out.stream(older);
            out.error(StreamCondition::Conflict, Some("resumed on another connection"));
            out.end();
            session.phase = SessionPhase::Closing;
            session.partial = None;
            // What was read and not handled is not counted, so the client sends it again (§5).
            self.forget_input(older);
            self.fx.out.act(older, Action::Close(CloseHow::Flush));
            if let Some(sm) = self.actors.users.sm_mut(key) {
                sm.disconnected();
            }
            let seconds = self.actors.users.sm_mut(key).map_or(0, |sm| sm.resume_seconds());
            let expiry = self.set_timer(self.until_sleep_ms(seconds), Timer::Detached(key));
            self.detached += 1;
            self.actors.users.resource_mut(key).conn = ConnId::NONE;
            self.actors.users.flow_mut(key).expiry = expiry;
        }
    }

    /// Resumptions that have waited for the disk.
    pub(super) fn resume_waiting(&mut self) {
        if self.resumptions.is_empty() {
            return;
        }
        let mut tried = Vec::new();
        for mut resumption in std::mem::take(&mut self.resumptions) {
            let Resumption { conn, id, .. } = resumption;
            match self.readiness(&mut resumption) {
                Readiness::Ready => {
                    self.with_input_held(conn, |core| {
                        // Another connection of the client may have waited for the same.
                        core.replace_connection(resumption.key);
                        core.resumed(&resumption);
                    });
                    tried.push(resumption);
                }
                Readiness::Waits if self.sessions.get(conn).is_some() || self.is_going(&resumption) => {
                    self.resumptions.push(resumption);
                }
                Readiness::Waits => tried.push(resumption),
                Readiness::Refused | Readiness::Gone => {
                    self.with_input_held(conn, |core| core.cannot_resume(conn, Some(id)));
                }
            }
        }
        if !self.actors.recalls.is_empty() {
            let wanted: HashSet<_> = self.resumptions.iter().map(|resumption| resumption.key).collect();
            self.actors.recalls.retain(|key| wanted.contains(&key));
        }
        // Behind all: of two connections of a client the first may be gone, and the second one goes on.
        for resumption in tried {
            self.keep_again(&resumption);
        }
        self.carry_out();
    }

    /// Whether the count of a session is being removed: afterwards it has to be seen to, whether its client is there or not.
    fn is_going(&self, resumption: &Resumption) -> bool {
        counts::row(&self.actors.users, resumption.key) == Row::Going
    }

    /// The client that wanted to go on has gone before it heard that it may: the session still sleeps.
    fn keep_again(&mut self, resumption: &Resumption) {
        let &Resumption { key, id, .. } = resumption;
        let is_same = self.actors.users.sm_mut(key).is_some_and(|sm| sm.id() == id);
        let is_wanted = self.resumptions.iter().any(|other| (other.key, other.id) == (key, id));
        if !is_same
            || is_wanted
            || counts::row(&self.actors.users, key) != Row::None
            || !self.actors.users.resource(key).flags.has(Flags::ASLEEP)
        {
            return;
        }
        let expiry = self.actors.users.flow_mut(key).expiry;
        let deadline = expiry.and_then(|timer| self.timers.deadline(timer));
        let left_ms = deadline.map_or(0, |deadline| deadline.since(self.env.now));
        counts::keep(&mut self.actors, &self.env, &mut self.fx, key, left_ms);
    }

    /// A connection takes a session over.
    fn resumed(&mut self, resumption: &Resumption) {
        let &Resumption { conn, key, id, .. } = resumption;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Negotiating(negotiation) =
            std::mem::replace(&mut session.phase, SessionPhase::Bound(key))
        else {
            return;
        };
        session.marks.established = true;
        let peer = session.peer;
        self.env.shared.admission.established(peer);
        self.places.tidy(peer, &self.sessions);
        if let Some(deadline) = negotiation.deadline {
            self.timers.cancel(deadline);
        }
        self.reattach(key);
        let resource = self.actors.users.resource_mut(key);
        resource.conn = conn;
        self.env.metrics().resumed.add(1);
        if let Some(sm) = self.actors.users.sm_mut(key) {
            self.fx.out.stream(conn).element(|out| element::write_resumed(id, sm.handled(), out));
        }
        if asleep::wake(&mut self.actors, &self.env, &mut self.fx, key) {
            self.env.metrics().woken.add(1);
        }
        recall::restore(&mut self.actors, &self.env, &self.fx, key);
        offline::send_again(&mut self.actors, &self.env, &mut self.fx, key);
        inactive::set(&mut self.actors, &self.env, &mut self.fx, key, false);
        push::returned(&mut self.actors, key);
        again::refresh(&mut self.actors, &self.env, &mut self.fx, key);
        if flow::is_behind(&self.actors.users, key) {
            self.fx.due_cursors.note(key);
        }
    }
}
