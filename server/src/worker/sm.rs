//! Stream management on a worker (XEP-0198): what a client's elements do, and sessions without a connection.

use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StreamCondition};
use crate::proto::sm::element::{self, Said};
use crate::proto::sm::{NOT_DURABLE_MAX, Rest, StreamManagement, TooHigh, Unacked};
use crate::runtime::driver::ConnId;
use crate::session::{Holds, SessionPhase};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::counts;
use crate::user::flow;
use crate::user::lifecycle::{self, Detached};
use crate::user::offline;
use crate::user::presence::{self, asleep};
use crate::user::push;
use crate::user::room;
use crate::user::spool;
use crate::user::tables::{Flags, ResourceKey};
use crate::worker::core::{Core, Timer};
use crate::worker::ends::Ending;
use crate::xml::Stanza;

/// Room for so many resources to be spoken to is kept for the next iteration; what more of them needed is given back.
const DUE_SM_KEPT_MAX: usize = 1024;

/// What an element of stream management leads to.
pub(super) enum SmOutcome {
    /// Nothing more.
    Done,
    /// The stream is to be ended.
    TooHigh(TooHigh),
    /// It is no element that makes sense.
    Unsupported,
}

/// Handles an element of stream management from a bound resource.
pub(super) fn handle(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    element: &Stanza<'_>,
) -> SmOutcome {
    let Some(said) = Said::read(element) else { return SmOutcome::Unsupported };
    let conn = actors.users.resource(key).conn;
    let Some(sm) = actors.users.sm_mut(key) else {
        match said {
            Said::Enable { resume, seconds_max } => enable(actors, env, fx, key, resume, seconds_max),
            // §3, §4: before it is enabled these mean nothing.
            _ => fail(fx, conn),
        }
        return SmOutcome::Done;
    };
    match said {
        Said::Request => {
            sm.request();
            fx.due_sm.push(key);
            SmOutcome::Done
        }
        Said::Answer(h) => match acknowledged(actors, env, fx, key, h) {
            Ok(()) => SmOutcome::Done,
            Err(too_high) => SmOutcome::TooHigh(too_high),
        },
        Said::Enable { .. } | Said::Resume(..) => {
            fail(fx, conn);
            SmOutcome::Done
        }
    }
}

fn fail(fx: &mut Effects, conn: ConnId) {
    let mut out = fx.out.stream(conn);
    out.element(|out| element::write_failed(StanzaCondition::UnexpectedRequest, None, out));
}

/// §3
fn enable(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    resume: bool,
    seconds_max: Option<u32>,
) {
    let id = env.shared.stream_id();
    let most = match env.config.limits.sm_resume_seconds {
        0 => 0,
        usual if push::has_device(actors, env, fx, key) => usual.max(env.config.push.resume_seconds()),
        usual => usual,
    };
    let seconds = if resume { seconds_max.map_or(most, |max| max.min(most)) } else { 0 };
    actors.users.flow_mut(key).sm = Some(StreamManagement::new(id, seconds));
    env.metrics().sm_enabled.add(1);
    let mut out = fx.out.stream(actors.users.resource(key).conn);
    out.element(|out| element::write_enabled((seconds > 0).then_some((id, seconds)), out));
    // What waits in the log can be acknowledged from here on.
    flow::decide_sm(actors, env, fx, key);
}

/// The client has handled so many stanzas (§4): messages among them leave the log, and there may be room for more.
pub(super) fn acknowledged(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    h: u32,
) -> Result<(), TooHigh> {
    let (account, user) = (actors.users.account_of(key), actors.users.resource(key).user);
    let Some(sm) = actors.users.sm_mut(key) else { return Ok(()) };
    let mut records: smallvec::SmallVec<[Sequence; 16]> = smallvec::SmallVec::new();
    let mut spooled = Vec::new();
    sm.acknowledged(h, |stanza| match stanza {
        Unacked::Record { sequence, .. } => records.push(sequence),
        Unacked::Spooled { sequence, .. } => spooled.push(sequence),
        _ => {}
    })?;
    if let Some(micros) = fx.out.times.acknowledged(sm.id().0, h) {
        env.metrics().ack_latency.record(micros);
    }
    fx.work.add_acknowledged(records.len());
    for sequence in records {
        actors.commits.trim(env, account, sequence);
    }
    spool::release(actors, env, fx, (account, Some(user)), &spooled);
    fx.due_sm.push(key);
    actors.waiting_for_room.note(fx, key);
    if actors.users.flow_mut(key).after.is_some() && room::for_many(&actors.users, env, key) {
        fx.due_cursors.note(key);
    }
    if actors.users.flow_mut(key).unsent.is_some() {
        // Written before management was enabled, and so before anything that is acknowledged.
        flow::delivered(actors, env, key);
    }
    Ok(())
}

impl Core {
    /// Ends a stream whose client acknowledges what it was never sent (§4).
    pub(super) fn too_high(&mut self, conn: ConnId, TooHigh { handled, sent }: TooHigh) {
        self.end_stream_with(conn, false, |out| {
            let condition = |out: &mut Vec<u8>| element::write_too_high(handled, sent, out);
            out.error_with(StreamCondition::UndefinedCondition, condition);
        });
    }

    /// Says what is to be said to clients with stream management at the end of an iteration: once each, however
    /// much has happened.
    pub(super) fn flush_acks(&mut self) {
        let mut next = 0;
        while let Some(&key) = self.fx.due_sm.get(next) {
            next += 1;
            let Some(resource) = self.actors.users.get(key) else { continue };
            let conn = resource.conn;
            let Some(sm) = self.actors.users.sm_mut(key) else { continue };
            let Some(session) = self.sessions.get(conn) else { continue };
            let holds = session.marks.holds;
            if sm.watch() {
                self.watched.push(key);
            }
            let not_durable = sm.not_durable();
            self.env.shared.metrics[self.env.worker].log_waiting_fullest.raise(not_durable as u64);
            if let Some(h) = sm.answer() {
                self.fx.out.stream(conn).element(|out| element::write_answer(h, out));
            }
            if sm.ask() {
                self.fx.out.stream(conn).element(element::write_request);
            }
            if !holds.has(Holds::LOG) && not_durable > NOT_DURABLE_MAX {
                self.hold(conn, Holds::LOG);
                self.env.metrics().log_pauses.add(1);
            } else if holds.has(Holds::LOG) && not_durable <= NOT_DURABLE_MAX / 2 {
                self.lift(conn, Holds::LOG);
            }
        }
        self.fx.due_sm.clear();
        self.fx.due_sm.shrink_to(DUE_SM_KEPT_MAX);
    }

    /// Once a second: what managed streams hold that have been quiet since the last time is asked back, and their
    /// buffers are given up. So an idle session keeps nothing of what it was sent, and no message in a conversation
    /// has to allocate.
    pub(super) fn rest_streams(&mut self) {
        let (actors, _, fx) = (&mut self.actors, &self.env, &mut self.fx);
        self.watched.retain(|&key| {
            let Some(resource) = actors.users.get(key) else { return false };
            let conn = resource.conn;
            let Some(sm) = actors.users.sm_mut(key) else { return false };
            match sm.rest(conn != ConnId::NONE) {
                Rest::Busy => return true,
                Rest::Ask => fx.out.stream(conn).element(element::write_request),
                Rest::Quiet => {}
            }
            false
        });
        // What a crowd has needed is given back.
        if self.watched.capacity() > 64 && self.watched.len() < self.watched.capacity() / 4 {
            self.watched.shrink_to(self.watched.len() * 2);
        }
    }

    /// The connection of a session is gone without a word. A session that can be resumed waits; any other is over.
    pub(super) fn lost(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let SessionPhase::Bound(key) = session.phase else { return };
        if self.ending == Ending::Kept || !self.begin_to_wait(key) {
            return self.forget_resource(conn);
        }
        self.forget_input(conn);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.phase = SessionPhase::Closing;
            session.context = None;
        }
    }

    /// A resource has no connection any more and waits to be resumed. `false`: it may not.
    pub(super) fn begin_to_wait(&mut self, key: ResourceKey) -> bool {
        let seconds = self.actors.users.sm_mut(key).map_or(0, |sm| sm.resume_seconds());
        let room = self.detached < self.env.config.limits.sm_detached_sessions as usize;
        let expiry = match seconds > 0
            && room
            && offline::shed(&mut self.actors.users, &self.env, &mut self.fx, key)
        {
            true => self.set_timer(self.until_sleep_ms(seconds), Timer::Detached(key)),
            false => None,
        };
        if expiry.is_none() {
            if seconds > 0 {
                self.env.metrics().refused_detached.add(1);
            }
            return false;
        }
        self.detached += 1;
        self.env.metrics().detached.set(self.detached as u64);
        let resource = self.actors.users.resource_mut(key);
        resource.conn = ConnId::NONE;
        resource.flags.put(Flags::BACKED_UP, false);
        self.actors.users.flow_mut(key).expiry = expiry;
        if let Some(sm) = self.actors.users.sm_mut(key) {
            sm.disconnected();
        }
        flow::take_back_unsent(&mut self.actors.users, key);
        lifecycle::detached(&mut self.actors, &self.env, &mut self.fx, &Detached { key });
        // What is in the log and still fits can as well wait in its queue; then others see it is taken.
        self.fx.due_cursors.note(key);
        true
    }

    /// Milliseconds for which a session without a connection waits before it sleeps, or ends.
    pub(super) fn until_sleep_ms(&self, resume_seconds: u32) -> u64 {
        u64::from(resume_seconds.min(self.env.config.limits.sm_resume_seconds)) * 1000
    }

    /// Takes a resource out of those that wait to be resumed.
    pub(super) fn reattach(&mut self, key: ResourceKey) {
        if let Some(timer) = self.actors.users.flow_mut(key).expiry.take() {
            self.timers.cancel(timer);
        }
        self.detached = self.detached.saturating_sub(1);
        self.env.metrics().detached.set(self.detached as u64);
        if self.actors.users.resource(key).flags.has(Flags::ASLEEP) {
            self.asleep = self.asleep.saturating_sub(1);
            self.env.metrics().asleep.set(self.asleep as u64);
        }
    }

    /// Ends a session that has no connection.
    pub(super) fn forget_detached(&mut self, key: ResourceKey) {
        if self.is_detached(key) {
            self.reattach(key);
            presence::session_ended(&mut self.actors, &self.env, &mut self.fx, key);
            self.count_users();
        }
    }

    /// Whether a resource is there and has no connection.
    fn is_detached(&self, key: ResourceKey) -> bool {
        self.actors.users.get(key).is_some_and(|resource| resource.conn == ConnId::NONE)
    }

    /// A session is over, and the next iteration is to see to it. `false`: there is no place for another timer.
    pub(super) fn expire_later(&mut self, key: ResourceKey) -> bool {
        if !self.is_detached(key) {
            return true;
        }
        let timer = self.set_timer(1, Timer::Detached(key));
        if timer.is_some() {
            self.actors.users.flow_mut(key).expiry = timer;
        }
        timer.is_some()
    }

    /// Nobody has resumed a session in time. One whose device is told by push sleeps from now on.
    pub(super) fn detached_expired(&mut self, key: ResourceKey) {
        // What was due before it in the same moment may have ended it.
        if !self.is_detached(key) || self.fall_asleep(key) {
            return;
        }
        self.env.metrics().resume_expired.add(1);
        self.forget_detached(key);
    }

    /// Puts a session to sleep, if it may be resumed for longer than others. `false`: it may not, or has slept for as long.
    fn fall_asleep(&mut self, key: ResourceKey) -> bool {
        let usual = self.env.config.limits.sm_resume_seconds;
        let is_asleep = self.actors.users.resource(key).flags.has(Flags::ASLEEP);
        // A client that has asked for less than usual gets no more. Of what it was told the session may have had all.
        let told = self.actors.users.sm_mut(key).map_or(0, |sm| sm.resume_seconds());
        let all = if told > usual { told } else { self.env.config.push.resume_seconds() };
        // Those that sleep leave half of the places to those that come back soon.
        let is_crowded = self.asleep >= self.env.config.limits.sm_detached_sessions as usize / 2;
        if is_asleep
            || is_crowded
            || told < usual
            || all <= usual
            || !push::has_device(&mut self.actors, &self.env, &self.fx, key)
        {
            return false;
        }
        let left_ms = u64::from(all - usual) * 1000;
        let timer = self.set_timer(left_ms, Timer::Detached(key));
        if timer.is_none() {
            return false;
        }
        self.actors.users.flow_mut(key).expiry = timer;
        asleep::fall_asleep(&mut self.actors, &self.env, &mut self.fx, key);
        counts::keep(&mut self.actors, &self.env, &mut self.fx, key, left_ms);
        self.asleep += 1;
        self.env.metrics().asleep.set(self.asleep as u64);
        self.env.metrics().fallen_asleep.add(1);
        true
    }

    /// Ends a session that sleeps when more waits for it than may: its client reads the archives.
    pub(super) fn end_if_too_much_waits(&mut self, key: ResourceKey) {
        let sleeps = self.actors.users.get(key).is_some_and(|resource| resource.flags.has(Flags::ASLEEP));
        if sleeps && asleep::has_too_much(&self.actors, &self.env, key) {
            self.env.metrics().refused_asleep.add(1);
            self.forget_detached(key);
        }
    }
}
