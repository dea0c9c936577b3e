//! A worker's sessions out of the state file.
//!
//! Until the whole server is there, nothing is read, written or closed: if anything is amiss, the old program must
//! find every socket as it left it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use whimbrel_storage::actor::ActorId;
use whimbrel_websocket::Decoder;

use super::sessions::{SessionRecord, Sessions, Standing};
use crate::effects::work;
use crate::occupancy::saved::Occupancy;
use crate::proto::errors::StreamCondition;
use crate::rooms;
use crate::runtime::driver::{ConnId, Driver, Event};
use crate::runtime::platform;
use crate::runtime::timer::Millis;
use crate::saved::Owner;
use crate::saved::counts::Counts;
use crate::saved::error::StateError;
use crate::saved::state::State;
use crate::session::saved::{ConnectionRecord, TlsRecord};
use crate::session::{Holds, Session, SessionPhase};
use crate::stream::machine::Negotiation;
use crate::stream::machine::saved::NegotiationRecord;
use crate::takeover::guard;
use crate::takeover::inherited::InheritedDescriptors;
use crate::takeover::kept::{Ended, EndedAt};
use crate::takeover::mapped::Mapped;
use crate::transport::Transport;
use crate::user::archive;
use crate::user::blocking;
use crate::user::capabilities;
use crate::user::commits::Logs;
use crate::user::interests::saved::Capabilities;
use crate::user::presence;
use crate::user::push::saved::ToldDevices;
use crate::user::saved::{ResourceRecord, Waiting};
use crate::user::tables::{Flags, ResourceKey};
use crate::worker::Worker;
use crate::worker::connections::metrics_connection_opened;
use crate::worker::core::{Core, Timer};
use crate::worker::run_queue::InputEnd;
use crate::xml::{self, Element};

/// What a worker needs to take over its part.
pub struct Restoring {
    /// The state.
    pub state: Arc<State<Mapped>>,
    /// The descriptors that came along.
    pub inherited: Arc<InheritedDescriptors>,
    /// Gets what came of it.
    pub reply: SyncSender<Result<Restored, String>>,
    /// The word that the whole server is there. When its other end is gone, it will never be.
    pub go: Receiver<()>,
}

/// What a worker has taken over.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The worker.
    pub worker: usize,
    /// What it is now home of.
    pub carried: Counts,
}

/// Where a state comes from, as seen by this worker.
struct Origin {
    /// Workers of this server.
    workers: usize,
    /// As many as wrote it: then each is the home of the users that it was the home of.
    same_workers: bool,
    /// This worker's log is the one that it had: its numbers of messages are good.
    same_log: bool,
    /// That server had ended: its clock is another one, and none of its clients has a connection.
    ended: Option<EndedAt>,
}

/// What is to be done once the whole server is there.
#[derive(Default)]
struct Afterwards {
    /// Connections whose output had reached the kernel while the old program let go of them.
    sent: Vec<ConnId>,
    /// Resources whose connection broke then.
    broken: Vec<ResourceKey>,
    /// Streams of which something is not as this program allows.
    refused: Vec<ConnId>,
    /// Sockets, to be closed with the next exec again.
    descriptors: Vec<i32>,
}

impl<D: Driver> Worker<D> {
    /// Takes over this worker's part of a state, and waits until all have. `false`: the server will never be there.
    pub fn restore(&mut self, restoring: Restoring) -> bool {
        let Restoring { state, inherited, reply, go } = restoring;
        let mut afterwards = Afterwards::default();
        let restored = self.restore_all(&state, &inherited, &mut afterwards);
        let worker = self.core.env.worker;
        let restored = restored
            .map(|carried| Restored { worker, carried })
            .map_err(|text| format!("worker {worker}: {text}"));
        let complete = restored.is_ok();
        drop(state);
        if let Err(text) = &restored {
            // Before anything that was taken over is closed.
            guard::fall_back_if_armed(text);
        }
        if reply.send(restored).is_err() || !complete || go.recv().is_err() {
            guard::fall_back_if_armed("the server could not be completed");
            return false;
        }
        for descriptor in afterwards.descriptors.drain(..) {
            // It would be inherited by a child at the worst.
            let _ = platform::keep_open(descriptor, false);
        }
        self.core.go_on(afterwards);
        true
    }

    /// Takes over the part of each owner that has something on a worker.
    fn restore_all(
        &mut self,
        state: &State<Mapped>,
        inherited: &InheritedDescriptors,
        afterwards: &mut Afterwards,
    ) -> Result<Counts, String> {
        let origin = self.core.origin(state).map_err(|error| error.to_string())?;
        let mut carried = Counts::default();
        self.core.restore_hashes(state).map_err(|error| error.to_string())?;
        self.core.restore_pushes(state, &origin).map_err(|error| error.to_string())?;
        self.core.restore_rooms(state, &origin).map_err(|error| error.to_string())?;
        let mut failed = None;
        for block in state.blocks().filter(|block| block.kind == Sessions::KIND.name) {
            let writer = usize::from(block.worker) % origin.workers;
            if origin.same_workers && writer != self.core.env.worker {
                continue;
            }
            let read = block.each::<Sessions>(|session| {
                if self.core.is_at_home(&session, writer) && self.core.is_of_use(&session, &origin) {
                    carried.add(Sessions::KIND.name, 1);
                    Sessions::count(&session, &mut carried);
                    if let Err(text) = self.restore_session(session, inherited, &origin, afterwards) {
                        failed = Some(text);
                        return Err(StateError::Damaged("a session cannot be taken over"));
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                return Err(failed.unwrap_or_else(|| error.to_string()));
            }
        }
        #[cfg(debug_assertions)]
        fault();
        self.core.count_users();
        let waiting = self.core.detached as u64;
        self.core.env.metrics().detached.set(waiting);
        self.core.env.metrics().asleep.set(self.core.asleep as u64);
        Ok(carried)
    }

    fn restore_session(
        &mut self,
        session: SessionRecord<'_>,
        inherited: &InheritedDescriptors,
        origin: &Origin,
        afterwards: &mut Afterwards,
    ) -> Result<(), String> {
        let conn = match &session.connection {
            Some(connection) => self.restore_connection(connection, inherited, afterwards)?,
            None => ConnId::NONE,
        };
        match &session.standing {
            Standing::Negotiating(negotiation) => {
                if let Some(connection) = &session.connection {
                    self.core.restore_negotiation(conn, connection, negotiation);
                }
            }
            Standing::Bound(resource) => {
                let key = self.core.restore_resource(conn, resource, origin);
                if conn != ConnId::NONE {
                    if let Some(connection) = &session.connection {
                        self.core.restore_bound(conn, key, connection);
                    }
                } else if session.connection.is_some() || resource.expiry_ms.is_none() {
                    afterwards.broken.push(key);
                }
            }
        }
        if let Some(connection) = session.connection.as_ref().filter(|_| conn != ConnId::NONE) {
            if !self.core.restore_partial(conn, connection.partial) {
                afterwards.refused.push(conn);
            }
            if self.core.restore_input(conn, connection) {
                self.driver.pause_reading(conn);
            }
        }
        Ok(())
    }

    /// Gives a connection's socket to the driver; [`ConnId::NONE`] when it broke.
    fn restore_connection(
        &mut self,
        connection: &ConnectionRecord<'_>,
        inherited: &InheritedDescriptors,
        afterwards: &mut Afterwards,
    ) -> Result<ConnId, String> {
        let Some(descriptor) = connection.descriptor else { return Ok(ConnId::NONE) };
        let socket = inherited.connection(descriptor)?;
        let socket = socket.restored(connection.unread, &connection.unsent, connection.has_ended());
        let conn = self.driver.attach(socket);
        if inherited.are_descriptors() {
            afterwards.descriptors.push(descriptor as i32);
        }
        if connection.unsent.is_empty() {
            afterwards.sent.push(conn);
        }
        Ok(conn)
    }
}

impl Core {
    fn origin(&self, state: &State<Mapped>) -> Result<Origin, StateError> {
        let mut logs = Vec::new();
        state.each::<Logs>(|worker, log| {
            logs.push((usize::from(worker), log.id));
            Ok(())
        })?;
        let (worker, workers) = (self.env.worker, self.env.shared.metrics.len());
        let same_workers = workers == logs.len();
        let same_log = same_workers && logs.contains(&(worker, self.actors.commits.log().id()));
        let ended = state.find::<Ended>()?;
        Ok(Origin { workers, same_workers, same_log, ended })
    }

    /// What any worker knew, each may need: sessions may have another home.
    fn restore_hashes(&mut self, state: &State<Mapped>) -> Result<(), StateError> {
        let hashes_max = self.env.config.limits.caps_hashes as usize;
        state.each::<Capabilities>(|_, known| {
            let nodes = known.nodes.iter().map(|node| (*node).into()).collect();
            self.actors.interests.restore(*known.hash, nodes, hashes_max);
            Ok(())
        })
    }

    /// What devices were told of accounts whose home this worker is now.
    fn restore_pushes(&mut self, state: &State<Mapped>, origin: &Origin) -> Result<(), StateError> {
        let (pushes, env) = (&mut self.actors.pushes, &self.env);
        state.each::<ToldDevices>(|_, mut record| {
            if env.home_of(record.local()) == env.worker {
                if let Some(ended) = &origin.ended {
                    let at_ms = record.at_ms_mut();
                    *at_ms = ended.moved(*at_ms, env.now.0, env.unix_ms());
                }
                pushes.take_over(env, &record);
            }
            Ok(())
        })
    }

    /// The occupants of the rooms of which this worker is the home now, whichever was before.
    fn restore_rooms(&mut self, state: &State<Mapped>, origin: &Origin) -> Result<(), StateError> {
        state.each::<Occupancy>(|_, record| {
            if self.env.home_of_room(record.room) == self.env.worker
                && (origin.ended.is_none() || self.has_account(record.local, record.account))
            {
                rooms::restore(&mut self.actors, &self.env, &self.fx, &record);
            }
            Ok(())
        })
    }

    /// Whether a session of the state belongs on this worker. `writer` is who takes what has no home yet.
    fn is_at_home(&self, session: &SessionRecord<'_>, writer: usize) -> bool {
        let user = match &session.standing {
            Standing::Bound(resource) => Some(resource.local),
            Standing::Negotiating(negotiation) => negotiation.user,
        };
        user.map_or(writer, |user| self.env.home_of(user)) == self.env.worker
    }

    /// Whether anything can be made of a session. While no server ran, its account may have been removed, or made anew.
    fn is_of_use(&self, session: &SessionRecord<'_>, origin: &Origin) -> bool {
        match &session.standing {
            _ if origin.ended.is_none() => true,
            Standing::Bound(resource) if session.connection.is_none() => {
                self.has_account(resource.local, resource.account)
            }
            _ => false,
        }
    }

    fn has_account(&self, local: &str, account: u64) -> bool {
        self.fx.work.add(work::LOOK);
        match self.env.shared.directory.account_id(local) {
            Ok(found) => found.is_some_and(|found| found.raw() == account),
            Err(error) => {
                tracing::error!(user = local, %error, "cannot read the directory");
                false
            }
        }
    }

    fn insert_restored(&mut self, session: Session, unsent: usize) {
        self.env.shared.admission.adopt(session.peer, session.marks.established);
        if !session.marks.established {
            self.places.enter(session.peer, session.conn);
        }
        metrics_connection_opened(&self.env, session.transport);
        let metrics = self.env.metrics();
        metrics.backlog_bytes.add(unsent as u64);
        if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
            metrics.tls_sessions.add(1);
        }
        self.fx.out.set_with_driver(session.conn, unsent);
        self.enter(session);
    }

    fn restore_negotiation(
        &mut self,
        conn: ConnId,
        connection: &ConnectionRecord<'_>,
        record: &NegotiationRecord<'_>,
    ) {
        let mut negotiation = Negotiation::restored(record);
        let waited = self.seconds().saturating_sub(connection.connected);
        let left = self.env.config.limits.preauth_seconds.saturating_sub(waited).max(1);
        negotiation.deadline = self.set_timer(u64::from(left) * 1000, Timer::Preauth(conn));
        let session = connection.session(
            conn,
            SessionPhase::Negotiating(Box::new(negotiation)),
            &self.env.shared.acceptor,
        );
        self.restore_frames(conn, connection);
        self.insert_restored(session, connection.unsent.len());
    }

    /// What of a frame of WebSocket was under way. One that cannot be read is like a connection that broke off in it: its
    /// next bytes will be no frame.
    fn restore_frames(&mut self, conn: ConnId, connection: &ConnectionRecord<'_>) {
        if let Some(decoder) = Decoder::restored(&connection.frames).filter(|decoder| !decoder.is_idle()) {
            self.frames.insert(conn, Box::new(decoder));
        }
    }

    fn restore_bound(&mut self, conn: ConnId, key: ResourceKey, connection: &ConnectionRecord<'_>) {
        let session = connection.session(conn, SessionPhase::Bound(key), &self.env.shared.acceptor);
        self.restore_frames(conn, connection);
        self.insert_restored(session, connection.unsent.len());
    }

    fn restore_resource(
        &mut self,
        conn: ConnId,
        record: &ResourceRecord<'_>,
        origin: &Origin,
    ) -> ResourceKey {
        let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
        let account = ActorId::from_raw(record.account);
        let blocked = if record.blocks && actors.users.find(record.local).is_none() {
            blocking::load(env, fx, record.local)
        } else {
            None
        };
        archive::load_preferences(actors, env, fx, (account, record.local));
        let key = actors.users.insert(account, record.local, record.name, conn, || blocked);
        let resource = actors.users.resource_mut(key);
        record.restore(resource, env.services().rooms);
        if let Ok(hash) = record.caps.try_into() {
            actors.interests.restore_of((key, record.local), hash, env.config.limits.caps_hashes as usize);
        }
        if record.has_flow() {
            let waiting = match origin.same_log {
                true => Waiting::SameLog,
                false => Waiting::Ranked(actors.commits.log().waiting(account).collect()),
            };
            actors.users.resource_mut(key).flow = Some(Box::new(record.flow(&waiting)));
            if record.after.is_some() {
                fx.due_cursors.note(key);
            }
            if record.sm.as_ref().is_some_and(|sm| sm.answer_up_to.is_some() || !sm.unacked.is_empty()) {
                fx.due_sm.push(key);
            }
        }
        if origin.ended.is_some() {
            // Others have come and gone meanwhile.
            self.actors.users.resource_mut(key).flags.put(Flags::PRESENCE_LOST, true);
            if let Some(queue) = self.actors.users.sm_mut(key).and_then(|sm| sm.unacked_mut()) {
                queue.forget_arrivals(is_departure);
            }
        }
        if let Some(expiry_ms) = record.expiry_ms {
            let here = |ended: &EndedAt| ended.moved(expiry_ms, self.env.now.0, self.env.unix_ms());
            let expiry_ms = origin.ended.as_ref().map_or(expiry_ms, here);
            self.detached += 1;
            self.asleep += usize::from(self.actors.users.resource(key).flags.has(Flags::ASLEEP));
            let at = Millis(expiry_ms.max(self.env.now.0 + 1));
            match self.timers.insert(at, Timer::Detached(key)) {
                Ok(timer) => self.actors.users.flow_mut(key).expiry = Some(timer),
                // It waits longer than it may then, but not for ever: it makes room for the next (see `bind`).
                Err(_) => tracing::warn!("too many timers: a session waits to be resumed without a limit"),
            }
        }
        key
    }

    /// Reads again what had come of an unfinished frame. `false`: this program does not allow it.
    fn restore_partial(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Some(session) = self.sessions.get_mut(conn) else { return true };
        let phase = match &session.phase {
            SessionPhase::Negotiating(negotiation)
                if !negotiation.header_seen && session.transport == Transport::Tcp =>
            {
                xml::Phase::BeforeHeader
            }
            _ => xml::Phase::InStream,
        };
        let namespaces = session.context.as_ref().and_then(|context| context.namespaces.as_deref());
        let read = self.framer.next(phase, namespaces, &mut session.partial, bytes, &self.xml_limits);
        matches!(read, Ok((_, None)))
    }

    /// Holds again what had been read and not handled. Whether nothing is to be read from the connection for now.
    fn restore_input(&mut self, conn: ConnId, connection: &ConnectionRecord<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let holds = &mut session.marks.holds;
        let tls_ended = matches!(&connection.tls, TlsRecord::Established(tls) if tls.peer_closed);
        if !connection.input.is_empty() || tls_ended {
            let end = match connection.has_ended() {
                _ if tls_ended => Some(InputEnd::Tls),
                true => Some(InputEnd::Fin),
                false => None,
            };
            self.turns.restore(conn, connection.input, end);
            if holds.is_empty() {
                holds.put(Holds::TURN);
                self.turns.enqueue(conn);
            }
        }
        let is_held = !holds.is_empty();
        self.measure_input(conn);
        is_held
    }

    /// The whole server is there: what could not be done before is done now.
    fn go_on(&mut self, afterwards: Afterwards) {
        capabilities::taken_over(&mut self.actors, &self.env, &mut self.fx);
        for conn in afterwards.sent {
            let unsent = match self
                .sessions
                .get(conn)
                .map(|session| (&session.phase, session.marks.holds.has(Holds::OUTPUT)))
            {
                Some((SessionPhase::Bound(key), paused)) => {
                    let resource = self.actors.users.resource(*key);
                    let handed = resource.flow.as_ref().is_some_and(|flow| flow.unsent.is_some());
                    paused || handed || resource.flags.has(Flags::BACKED_UP)
                }
                Some((_, paused)) => paused,
                None => false,
            };
            if unsent {
                self.handle(Event::Drained { conn });
            }
        }
        for key in afterwards.broken {
            if !self.begin_to_wait(key) {
                presence::session_ended(&mut self.actors, &self.env, &mut self.fx, key);
                self.count_users();
            }
        }
        for conn in afterwards.refused {
            let text = "an unfinished stanza is beyond the limits of the server's new configuration";
            self.end_stream(conn, StreamCondition::PolicyViolation, Some(text));
        }
        self.carry_out();
    }
}

/// Whether a presence says that somebody has gone. One that says that somebody is there may no longer be true.
fn is_departure(presence: &[u8]) -> bool {
    Element::parse(presence).is_ok_and(|presence| presence.attribute("type") == Some("unavailable"))
}

/// In builds for development only: goes wrong as the environment says, in the middle of a restore, so that tests can see
/// the way back being taken. The program before, which inherits the environment, is spared.
#[cfg(debug_assertions)]
#[expect(unsafe_code, reason = "a crash on purpose")]
fn fault() {
    if !guard::is_armed() {
        return;
    }
    match std::env::var("WHIMBREL_UPGRADE_FAULT").as_deref() {
        Ok("panic") => panic!("a fault that was asked for"),
        Ok("abort") => std::process::abort(),
        Ok("crash") => {
            // SAFETY: takes a number; a signal to the calling process itself.
            unsafe { libc::raise(libc::SIGSEGV) };
        }
        Ok("hang") => loop {
            std::thread::park();
        },
        _ => {}
    }
}
