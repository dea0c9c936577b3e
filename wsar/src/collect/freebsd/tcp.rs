//! TCP: connections by state, made and lost. The first members of `struct tcpstat` and the order of
//! net.inet.tcp.states have stayed the same over all supported releases; later members have not and are left alone.

use std::io;

use super::sysctl;
use crate::collect::{Source, metric, strange};
use crate::sample::{Description, Kind, Sink};

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

/// The place of each in `struct tcpstat`.
const COUNTS: [(usize, Description); 5] = [
    (0, count("tcp.active_opens", "connections", "Connections asked for.")),
    (1, count("tcp.passive_opens", "connections", "Connections that others asked for.")),
    (3, count("tcp.resets", "connections", "Connections that were dropped.")),
    (4, count("tcp.failed", "connections", "Connections that did not come about.")),
    (11, count("tcp.timeouts", "times", "Retransmission timers that ran out.")),
];
/// The place of each in net.inet.tcp.states.
const STATES: [(usize, Description); 2] = [
    (4, metric("tcp.established", Kind::Gauge, "connections", "Connections that are open.")),
    (10, metric("sockets.tcp.time_wait", Kind::Gauge, "sockets", "TCP sockets in TIME-WAIT.")),
];

pub(super) struct Tcp;

impl Source for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        for (name, table) in [("net.inet.tcp.stats", &COUNTS[..]), ("net.inet.tcp.states", &STATES[..])] {
            let values = sysctl::numbers(name)?;
            for (at, what) in table {
                let value = values.get(*at).ok_or_else(|| strange(format!("sysctl {name} is too short")))?;
                sink.put(what, *value);
            }
        }
        Ok(())
    }
}
