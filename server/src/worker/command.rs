//! What the control thread asks of a worker, and the answers.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::config::Config;
use crate::proto::errors::StreamCondition;
use crate::rooms::operator::{self, Order, Outcome};
use crate::runtime::driver::{ConnId, Wake};
use crate::runtime::gauge::Gauge;
use crate::runtime::intake::Intake;
use crate::service::pubsub::operator as nodes;
use crate::service::register::{self, Removed};
use crate::session::SessionPhase;
use crate::user::tables::{Flags, ResourceKey};
use crate::worker::core::Core;
use crate::worker::newcomers::Newcomer;
use crate::worker::upgrade::{Keep, Quiescence, Suspend};

/// Commands that wait for one worker at most.
const QUEUE: usize = 64;

/// Connections from the HTTP server that wait for one worker at most.
const NEWCOMERS: usize = 256;

/// What is known of one bound session.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// Full JID.
    pub jid: String,
    /// Where the client connects from.
    pub address: String,
    /// Home worker.
    pub worker: usize,
    /// What carries its stream.
    pub transport: &'static str,
    /// Whether TLS protects it.
    pub tls: bool,
    /// Seconds since the connection was accepted.
    pub connected_seconds: u32,
    /// Seconds since something was received.
    pub idle_seconds: u32,
    /// Priority of its presence.
    pub priority: i8,
    /// Has sent available presence.
    pub available: bool,
    /// Is inactive (XEP-0352).
    pub inactive: bool,
    /// Has carbons enabled (XEP-0280).
    pub carbons: bool,
}

/// A command.
pub enum Command {
    /// Use a new configuration.
    Reconfigure(Arc<Config>),
    /// List bound sessions, of one account or of all, at most `max`.
    Sessions {
        /// Localpart.
        user: Option<String>,
        /// Most to list.
        max: usize,
        /// Gets the answer.
        reply: SyncSender<Vec<SessionFacts>>,
    },
    /// End the sessions of an account, or one of them.
    Kick {
        /// Localpart.
        user: String,
        /// Only this resource.
        resource: Option<String>,
        /// Why.
        condition: StreamCondition,
        /// Gets the number of ended sessions.
        reply: SyncSender<usize>,
    },
    /// An account of this worker has been deleted: its contacts are told, and its sessions end.
    Removed {
        /// Localpart.
        user: String,
        /// What was known of it.
        gone: Removed,
        /// Gets the number of ended sessions.
        reply: SyncSender<usize>,
    },
    /// Do something with a room of this worker.
    Room {
        /// Its name.
        name: String,
        /// What.
        order: Box<Order>,
        /// Gets what has come of it.
        reply: SyncSender<Outcome>,
    },
    /// Do something with a node of the publish-subscribe service of this worker.
    Node {
        /// Its name.
        name: String,
        /// What.
        order: Box<nodes::Order>,
        /// Gets what has come of it.
        reply: SyncSender<nodes::Outcome>,
    },
    /// Read from no connection and accept none; or do so again.
    Hold(bool),
    /// Tell whether everything has settled, at the end of the iteration.
    Quiescence(SyncSender<Quiescence>),
    /// Let go of everything for another program, and wait for what comes of it.
    Suspend(Suspend),
    /// Write what can be resumed by the next server.
    Keep(Keep),
    /// Take no new logins; with `close`, end all streams.
    Drain {
        /// End all streams now.
        close: bool,
        /// What was written at the last [`Command::Keep`] is there for the next server, so that nobody hears of its end.
        is_kept: bool,
    },
}

/// The queue of commands of one worker, and beside it that of connections from the HTTP server.
pub struct CommandQueue {
    queue: Intake<Command>,
    newcomers: Intake<Box<Newcomer>>,
    wake: Arc<dyn Wake>,
}

impl CommandQueue {
    /// An empty queue.
    pub fn new(wake: Arc<dyn Wake>) -> CommandQueue {
        CommandQueue { queue: Intake::new(QUEUE), newcomers: Intake::new(NEWCOMERS), wake }
    }

    /// Gives the worker a command; `false` when too many wait.
    pub fn give(&self, command: Command) -> bool {
        let taken = self.queue.push(command).is_ok();
        self.wake.wake();
        taken
    }

    /// Commands that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        self.queue.gauge()
    }

    /// Gives the worker a connection; `false` when too many wait: it is closed.
    pub fn hand_over(&self, newcomer: Box<Newcomer>) -> bool {
        let taken = self.newcomers.push(newcomer).is_ok();
        self.wake.wake();
        taken
    }

    /// Whether there is room for one more connection, now.
    pub fn has_room_for_newcomer(&self) -> bool {
        !self.newcomers.is_full()
    }

    /// Connections that wait, most that ever waited, limit.
    pub fn newcomers_gauge(&self) -> Gauge {
        self.newcomers.gauge()
    }

    /// Whether a connection waits.
    pub fn has_newcomers(&self) -> bool {
        self.newcomers.has_next()
    }

    /// The next connection.
    pub fn take_newcomer(&self) -> Option<Box<Newcomer>> {
        self.newcomers.pop()
    }

    /// The next command.
    pub fn take(&self) -> Option<Command> {
        self.queue.pop()
    }
}

impl Core {
    /// Does what the control thread asks. An answer that nobody waits for any more is dropped.
    pub fn execute(&mut self, command: Command) {
        match command {
            Command::Reconfigure(config) => self.reconfigure(config),
            Command::Sessions { user, max, reply } => {
                let _ = reply.try_send(self.session_facts(user.as_deref(), max));
            }
            Command::Kick { user, resource, condition, reply } => {
                let _ = reply.try_send(self.kick(&user, resource.as_deref(), condition));
            }
            Command::Room { name, order, reply } => {
                operator::carry_out(&mut self.actors, &self.env, &mut self.fx, &name, *order, reply);
                self.carry_out();
            }
            Command::Node { name, order, reply } => {
                nodes::carry_out(&mut self.actors, &self.env, &mut self.fx, &name, *order, &reply);
                self.carry_out();
            }
            Command::Removed { user, gone, reply } => {
                let sessions = self.actors.users.resources_of(&user).len();
                register::removed(&mut self.actors, &self.env, &mut self.fx, &user, &gone);
                self.carry_out();
                let _ = reply.try_send(sessions);
            }
            Command::Drain { close, is_kept } => {
                self.confirm_kept(is_kept);
                self.drain(close);
            }
            // The worker itself does these: they are the driver's.
            Command::Hold(_) | Command::Quiescence(_) | Command::Suspend(_) | Command::Keep(_) => {}
        }
    }

    fn session_facts(&self, user: Option<&str>, max: usize) -> Vec<SessionFacts> {
        let now = self.seconds();
        let facts = |session: &crate::session::Session| {
            let SessionPhase::Bound(key) = session.phase else { return None };
            let resource = self.actors.users.resource(key);
            if user.is_some_and(|user| user != self.actors.users.local_of(key)) {
                return None;
            }
            Some(SessionFacts {
                jid: self.actors.users.full_jid(&self.env, key),
                address: session.peer.to_string(),
                worker: self.env.worker,
                transport: session.transport.name(),
                tls: session.channel().secured,
                connected_seconds: now.saturating_sub(session.connected),
                idle_seconds: now.saturating_sub(session.heard),
                priority: resource.priority,
                available: resource.flags.has(Flags::AVAILABLE),
                inactive: resource.flags.has(Flags::INACTIVE),
                carbons: resource.flags.has(Flags::CARBONS),
            })
        };
        self.sessions.iter().filter_map(facts).take(max).collect()
    }

    fn kick(&mut self, user: &str, resource: Option<&str>, condition: StreamCondition) -> usize {
        let keys = self.actors.users.resources_of(user);
        let named = |key: &ResourceKey| {
            resource.is_none_or(|resource| *self.actors.users.resource(*key).name == *resource)
        };
        let keys: Vec<ResourceKey> = keys.into_iter().filter(named).collect();
        for &key in &keys {
            match self.actors.users.resource(key).conn {
                ConnId::NONE => self.forget_detached(key),
                conn => self.end_stream(conn, condition, Some("ended by the operator")),
            }
        }
        keys.len()
    }
}
