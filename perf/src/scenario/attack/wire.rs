//! What the coordinator and its processes tell each other: JSON, one line each, over stdin and stdout.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

use serde::{Deserialize, Serialize};

use crate::engine::counters::Pairs;
use crate::scenario::client::Door;

/// What a process is for; the first line that it reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The server.
    pub(super) door: Door,
    /// The CPU to stay on; `None`: any.
    pub(super) core: Option<usize>,
    /// What it does.
    pub(super) role: Role,
}

/// One of the processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Role {
    /// Two users, of whom one sends to the other.
    Victim {
        /// Messages a second.
        rate: f64,
    },
    /// Everybody who floods.
    Flooder(Flood),
    /// Keeps the server's CPU busy.
    Occupant,
}

/// What the flooder is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flood {
    /// The name of the kind.
    pub(super) kind: String,
    /// Clients.
    pub(super) clients: u32,
    /// Fill rosters and the like first.
    pub(super) prepare: bool,
    /// Bytes that all clients may send in one phase.
    pub(super) bytes_max: u64,
    /// Stanzas a second of all together at most.
    pub(super) rate_max: Option<f64>,
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Order {
    /// The victim: send, and time what arrives.
    Measure,
    /// The flooder, the occupant: use this share of the CPU and send nothing.
    Spin(f64),
    /// The flooder: send.
    Flood,
    /// Stop, and tell what came of it. The occupant's answer is that it is [`News::Ready`].
    Report,
    /// The flooder: cut every connection.
    Cut,
    /// The flooder: log everybody in who is not.
    Connect,
}

/// What a process tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// It is connected, or has cut what it was told to.
    Ready,
    /// The victim's answer to [`Order::Report`].
    Talked(Box<Talk>),
    /// The flooder's answer to [`Order::Report`].
    Poured(Box<Poured>),
    /// It cannot go on.
    Failed(String),
}

/// What the victim saw since [`Order::Measure`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Talk {
    /// Messages sent.
    pub(super) sent: u64,
    /// Of these, messages that arrived.
    pub(super) arrived: u64,
    /// From when each was due to its arrival, or to the end of the wait for it, in nanoseconds.
    pub(super) latencies: Pairs,
    /// Why a session of the pair has ended.
    pub(super) ended: Option<String>,
    /// How long a login with the recipient's password took afterwards, in seconds, or why it was refused.
    pub(super) login: Option<Result<f64, String>>,
}

/// What the flooder did since [`Order::Spin`] or [`Order::Flood`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Poured {
    /// Stanzas, passwords or half logins that the server's kernel has taken.
    pub(super) stanzas: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Bytes read.
    pub(super) read: u64,
    /// How long, in seconds.
    pub(super) seconds: f64,
    /// CPU time of the flooder in it, in seconds.
    pub(super) cpu_seconds: f64,
    /// Connections that the server ended, by reason.
    pub(super) ended: BTreeMap<String, u64>,
}

/// Reads the job, and the orders from then on.
pub(super) fn job() -> io::Result<(Job, Receiver<Order>)> {
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first)?;
    let job = serde_json::from_str(&first)?;
    let (sender, orders) = channel();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(order) = line.and_then(|line| Ok(serde_json::from_str(&line)?)) else { break };
            if sender.send(order).is_err() {
                break;
            }
        }
    })?;
    Ok((job, orders))
}

/// Tells the coordinator.
pub(super) fn tell(news: &News) {
    if let Ok(mut line) = serde_json::to_vec(news) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        // Without a coordinator nobody is left to tell; the closed stdin ends the process.
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
