//! The workers of a run: processes of one engine each, and the coordinator that gives them orders.
//!
//! ```text
//! coordinator ── orders, a JSON line each, on stdin ──► worker process ── TCP ──► server under test
//!             ◄── news, a JSON line each, on stdout ──     (one thread, one engine)
//! ```
//! Processes rather than threads, since the limit on descriptors is one of the process.

pub(crate) mod coordinator;
pub(crate) mod progress;
#[expect(unsafe_code, reason = "system calls")]
pub(crate) mod worker;

use serde::{Deserialize, Serialize};

use crate::engine::Share;
use crate::engine::counters::{Counters, Pairs};
use crate::engine::target::Target;
use crate::engine::traffic::Load;

/// The first line a worker reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The server.
    pub(crate) target: Target,
    /// This worker's part.
    pub(crate) share: Share,
}

/// What a worker is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Bring so many sessions up.
    Reach {
        /// Sessions of this worker.
        sessions: u32,
        /// Connects a second, if the pace changes.
        rate: Option<f64>,
    },
    /// Begin no more logins; those under way go on.
    StopLogins,
    /// Run a load.
    Run(Run),
    /// Subscribe the sessions of each group to each other.
    Subscribe {
        /// Sessions in a group.
        group: u32,
    },
    /// End every second session.
    SendReceiversAway,
    /// End all sessions and this worker.
    Finish,
}

/// A load and when it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What is sent; `None` leaves the load before it as it is.
    pub(crate) load: Option<Load>,
    /// Bytes of a message's body.
    pub(crate) body_bytes: usize,
    /// Time that does not count, first.
    pub(crate) warmup_ms: u64,
    /// What happens when the time that counts begins.
    pub(crate) at_start: Start,
    /// When the time that counts ends.
    pub(crate) until: Until,
    /// The time that counts at most.
    pub(crate) limit_ms: u64,
    /// How long to wait for what is still on its way.
    pub(crate) drain_ms: u64,
    /// What has not come by then is lost.
    pub(crate) settle: bool,
    /// Tells this run's messages from others'.
    pub(crate) run: u32,
}

/// What happens at the start of the time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Start {
    /// Nothing.
    Nothing,
    /// Sessions are cut, and come back.
    Cut {
        /// Every n-th pair stays; 0: none.
        keep_every: u32,
        /// Connects a second of this worker.
        rate: f64,
    },
    /// The receivers of stored messages come back.
    CallReceivers,
    /// The first of each group makes a room.
    MakeRooms {
        /// Sessions of a group.
        members: u32,
        /// Every n-th pair is on the move; 0: none.
        mobile: u32,
    },
    /// The others enter them.
    EnterRooms,
}

/// What ends the time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Until {
    /// The limit.
    Limit,
    /// Every session is up.
    AllReady,
    /// Every message has been dealt with by the server.
    AllStored,
    /// Every session is up and every message is there.
    AllCollected,
    /// Every room is there.
    RoomsMade,
    /// Everybody is in a room.
    AllInRooms,
}

/// What a worker tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// Several times a second.
    Progress(Box<Counters>),
    /// The order to reach has been carried out.
    Reached(Box<Timed>),
    /// The time that counts begins.
    Measuring,
    /// It ends.
    Measured,
    /// A load is over.
    Done(Box<Done>),
    /// An order that takes no time has been carried out.
    Obeyed,
    /// The worker cannot go on; its last words follow.
    Fatal(String),
    /// The last words.
    Bye(Box<Counters>),
}

/// Histograms in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timed {
    /// Logins.
    pub(crate) login: Pairs,
    /// Messages or presences.
    pub(crate) message: Pairs,
    /// Pings.
    pub(crate) ping: Pairs,
    /// Copies of messages to rooms.
    #[serde(default)]
    pub(crate) group: Pairs,
}

/// A load that is over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// How long the time that counts was.
    pub(crate) measured_ns: u64,
    /// What was counted in it.
    pub(crate) measured: Counters,
    /// What was counted from its beginning until everything had arrived or was lost, warm-up included.
    pub(crate) whole: Counters,
    /// What was timed.
    pub(crate) timed: Timed,
}
