//! A worker's sessions out of the state file.
//!
//! Until the whole server is there, nothing is read, written or closed: if anything is amiss, the old program must
//! find every socket as it left it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::Sequence;

use super::Waiting;
use crate::proto::errors::StreamCondition;
use crate::proto::sm::StreamManagement;
use crate::runtime::driver::{ConnId, Detached, Driver, Event};
use crate::runtime::platform;
use crate::runtime::timer::Millis;
use crate::saved::error::StateError;
use crate::saved::file::{BlockKind, StateFile};
use crate::saved::record::{
    LinkRecord, NegotiationRecord, Place, ResourceRecord, SessionRecord, Standing, marks,
};
use crate::saved::tls::TlsRecord;
use crate::session::{Holds, Marks, Session, SessionPhase, StreamContext};
use crate::stream::machine::Negotiation;
use crate::takeover::InheritedDescriptors;
use crate::takeover::guard;
use crate::takeover::rehearse::{Contents, Mapped, sessions_of};
use crate::tls::Tls;
use crate::transport::Transport;
use crate::user::blocking;
use crate::user::flow::Flow;
use crate::user::inactive::HeldStanzas;
use crate::user::presence;
use crate::user::tables::{Flags, ResourceKey};
use crate::worker::Worker;
use crate::worker::core::{Core, Timer, metrics_connection_opened};
use crate::worker::run_queue::InputEnd;
use crate::xml::{self, StreamNamespaces};

/// What a worker needs to take over its part.
pub struct Restoring {
    /// The state file.
    pub state: Arc<Mapped>,
    /// The descriptors that came along.
    pub inherited: Arc<InheritedDescriptors>,
    /// Identities of the logs that the state tells of, one for each worker that wrote it.
    pub logs: Vec<u64>,
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
    pub contents: Contents,
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
        let Restoring { state, inherited, logs, reply, go } = restoring;
        let mut afterwards = Afterwards::default();
        let restored = self.restore_all(&state, &inherited, &logs, &mut afterwards);
        let worker = self.core.env.worker;
        let restored = restored
            .map(|contents| Restored { worker, contents })
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

    fn restore_all(
        &mut self,
        state: &Mapped,
        inherited: &InheritedDescriptors,
        logs: &[u64],
        afterwards: &mut Afterwards,
    ) -> Result<Contents, String> {
        let state = StateFile::read(state.bytes()).map_err(|error| error.to_string())?;
        let core = &self.core;
        let (worker, workers) = (core.env.worker, core.env.shared.metrics.len());
        // With as many workers as before, each is the home of whom it was the home of.
        let same = workers == logs.len();
        let same_log = same && logs.get(worker) == Some(&core.actors.commits.log().id());
        let mut contents = Contents::default();
        let mut failed = None;
        for block in state.blocks.iter().filter(|block| block.kind == BlockKind::Sessions) {
            let writer = usize::from(block.worker) % workers;
            if same && writer != worker {
                continue;
            }
            let read = sessions_of(block, |session| {
                if self.core.is_at_home(&session, writer) {
                    contents.count(&session);
                    if let Err(text) = self.restore_session(session, inherited, same_log, afterwards) {
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
        Ok(contents)
    }

    fn restore_session(
        &mut self,
        session: SessionRecord<'_>,
        inherited: &InheritedDescriptors,
        same_log: bool,
        afterwards: &mut Afterwards,
    ) -> Result<(), String> {
        let conn = match &session.link {
            Some(link) => self.restore_link(link, inherited, afterwards)?,
            None => ConnId::NONE,
        };
        match &session.standing {
            Standing::Negotiating(negotiation) => {
                if let Some(link) = &session.link {
                    self.core.restore_negotiation(conn, link, negotiation);
                }
            }
            Standing::Bound(resource) => {
                let key = self.core.restore_resource(conn, resource, same_log);
                if conn != ConnId::NONE {
                    if let Some(link) = &session.link {
                        self.core.restore_bound(conn, key, link);
                    }
                } else if session.link.is_some() {
                    afterwards.broken.push(key);
                }
            }
        }
        if let Some(link) = session.link.as_ref().filter(|_| conn != ConnId::NONE) {
            if !self.core.restore_partial(conn, link.partial) {
                afterwards.refused.push(conn);
            }
            if self.core.restore_input(conn, link) {
                self.driver.pause_reading(conn);
            }
        }
        Ok(())
    }

    /// Gives a connection's socket to the driver; [`ConnId::NONE`] when it broke.
    fn restore_link(
        &mut self,
        link: &LinkRecord<'_>,
        inherited: &InheritedDescriptors,
        afterwards: &mut Afterwards,
    ) -> Result<ConnId, String> {
        let Some(descriptor) = link.descriptor else { return Ok(ConnId::NONE) };
        let socket = inherited.take(descriptor)?;
        let ended = link.marks & marks::ENDED != 0;
        let conn = self.driver.attach(Detached::restored(socket, link.unread, &link.unsent, ended));
        afterwards.descriptors.push(descriptor as i32);
        if link.unsent.is_empty() {
            afterwards.sent.push(conn);
        }
        Ok(conn)
    }
}

impl Core {
    /// Whether a session of the state belongs on this worker. `writer` is who takes what has no home yet.
    fn is_at_home(&self, session: &SessionRecord<'_>, writer: usize) -> bool {
        let user = match &session.standing {
            Standing::Bound(resource) => Some(resource.local),
            Standing::Negotiating(negotiation) => negotiation.user,
        };
        user.map_or(writer, |user| self.env.home_of(user)) == self.env.worker
    }

    fn restored_session(&self, conn: ConnId, link: &LinkRecord<'_>, phase: SessionPhase) -> Session {
        let has = |mark: u8| link.marks & mark != 0;
        let tls = match &link.tls {
            TlsRecord::Plain => None,
            TlsRecord::Fresh => Some(Box::new(self.env.shared.acceptor.begin())),
            TlsRecord::Established(record) => Some(Box::new(Tls::restored(record))),
        };
        let mut declared = StreamNamespaces::default();
        for (prefix, uri) in &link.namespaces {
            declared.push(prefix, uri);
        }
        let namespaces = (!link.namespaces.is_empty()).then(|| Box::new(declared));
        let language: Option<Box<str>> = link.language.map(Into::into);
        let context = (namespaces.is_some() || language.is_some())
            .then(|| Box::new(StreamContext { namespaces, language }));
        let mut holds = Holds::default();
        if has(marks::PAUSED) {
            holds.put(Holds::OUTPUT);
        }
        Session {
            conn,
            connected: link.connected,
            heard: link.heard,
            phase,
            tls,
            partial: None,
            context,
            marks: Marks {
                pinged: has(marks::PINGED),
                holds,
                established: has(marks::ESTABLISHED),
                direct_tls: has(marks::DIRECT_TLS),
            },
            transport: Transport::Tcp,
            peer: link.peer,
        }
    }

    fn insert_restored(&mut self, session: Session, unsent: usize) {
        self.env.shared.admission.adopt(session.peer, session.marks.established);
        if !session.marks.established {
            self.places.enter(session.peer, session.conn);
        }
        metrics_connection_opened(&self.env);
        let metrics = self.env.metrics();
        metrics.backlog_bytes.add(unsent as u64);
        if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
            metrics.tls_sessions.add(1);
        }
        self.fx.out.set_with_driver(session.conn, unsent);
        self.enter(session);
    }

    fn restore_negotiation(&mut self, conn: ConnId, link: &LinkRecord<'_>, record: &NegotiationRecord<'_>) {
        let mut negotiation = Negotiation::restored(record);
        let waited = self.seconds().saturating_sub(link.connected);
        let left = self.env.config.limits.preauth_seconds.saturating_sub(waited).max(1);
        negotiation.deadline = self.set_timer(u64::from(left) * 1000, Timer::Preauth(conn));
        let session = self.restored_session(conn, link, SessionPhase::Negotiating(Box::new(negotiation)));
        self.insert_restored(session, link.unsent.len());
    }

    fn restore_bound(&mut self, conn: ConnId, key: ResourceKey, link: &LinkRecord<'_>) {
        let session = self.restored_session(conn, link, SessionPhase::Bound(key));
        self.insert_restored(session, link.unsent.len());
    }

    fn restore_resource(&mut self, conn: ConnId, record: &ResourceRecord<'_>, same_log: bool) -> ResourceKey {
        let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
        let account = ActorId::from_raw(record.account);
        let blocked = if record.blocks && actors.users.find(record.local).is_none() {
            blocking::load(env, fx, record.local)
        } else {
            None
        };
        let key = actors.users.insert(account, record.local, record.name, conn, || blocked);
        let resource = actors.users.resource_mut(key);
        resource.priority = record.priority;
        resource.flags = Flags::of_bits(record.flags);
        resource.presence = record.presence.into();
        if !record.directed.is_empty() {
            resource.directed = Some(Box::new(record.directed.iter().map(|name| (*name).into()).collect()));
        }
        if !record.held.is_empty() {
            resource.held = Some(Box::new(HeldStanzas::restored(&record.held)));
        }
        let has_flow = record.sm.is_some() || record.after.is_some() || !record.unsent.is_empty();
        if has_flow {
            let waiting = match same_log {
                true => Waiting(Vec::new()),
                false => Waiting(actors.commits.log().waiting(account).collect()),
            };
            let message = |place: Place| match same_log {
                true => Sequence(place.sequence),
                false => waiting.message_at(place),
            };
            let after = record.after.map(|place| match same_log {
                true => Sequence(place.sequence),
                false => waiting.cursor_at(place),
            });
            let flow = Flow {
                sm: record.sm.as_ref().map(|sm| StreamManagement::restored(sm, message)),
                unsent: (!record.unsent.is_empty())
                    .then(|| Box::new(record.unsent.iter().copied().map(message).collect())),
                expiry: None,
                after,
            };
            actors.users.resource_mut(key).flow = Some(Box::new(flow));
            if record.after.is_some() {
                fx.due_cursors.push(key);
            }
            if record.sm.as_ref().is_some_and(|sm| sm.answer_up_to.is_some() || !sm.unacked.is_empty()) {
                fx.due_sm.push(key);
            }
        }
        if let Some(expiry_ms) = record.expiry_ms {
            self.detached += 1;
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
            SessionPhase::Negotiating(negotiation) if !negotiation.header_seen => xml::Phase::BeforeHeader,
            _ => xml::Phase::InStream,
        };
        let namespaces = session.context.as_ref().and_then(|context| context.namespaces.as_deref());
        let read = self.framer.next(phase, namespaces, &mut session.partial, bytes, &self.xml_limits);
        matches!(read, Ok((_, None)))
    }

    /// Holds again what had been read and not handled. Whether nothing is to be read from the connection for now.
    fn restore_input(&mut self, conn: ConnId, link: &LinkRecord<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let holds = &mut session.marks.holds;
        let tls_ended = matches!(&link.tls, TlsRecord::Established(tls) if tls.peer_closed);
        if !link.input.is_empty() || tls_ended {
            let end = match link.marks & marks::ENDED != 0 {
                _ if tls_ended => Some(InputEnd::Tls),
                true => Some(InputEnd::Fin),
                false => None,
            };
            self.turns.restore(conn, link.input, end);
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
