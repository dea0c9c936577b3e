//! TCP: segments, connections made and lost, retransmissions.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const SNMP: &str = "/proc/net/snmp";
const NETSTAT: &str = "/proc/net/netstat";

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

const TCP: [(&str, Description); 9] = [
    ("ActiveOpens", count("tcp.active_opens", "connections", "Connections asked for.")),
    ("PassiveOpens", count("tcp.passive_opens", "connections", "Connections that others asked for.")),
    ("AttemptFails", count("tcp.failed", "connections", "Connections that did not come about.")),
    ("EstabResets", count("tcp.resets", "connections", "Connections that were reset.")),
    ("InSegs", count("tcp.in.segments", "segments", "Segments received.")),
    ("OutSegs", count("tcp.out.segments", "segments", "Segments sent, repeated ones not counted.")),
    ("RetransSegs", count("tcp.retransmits", "segments", "Segments sent again.")),
    ("InErrs", count("tcp.in.errors", "segments", "Segments received damaged.")),
    ("OutRsts", count("tcp.out.resets", "segments", "Resets sent.")),
];
const ESTABLISHED: Description = metric(
    "tcp.established",
    Kind::Gauge,
    "connections",
    "Connections that are open, or closed by one side.",
);
const EXTENDED: [(&str, Description); 4] = [
    (
        "ListenOverflows",
        count("tcp.listen_overflows", "connections", "Connections refused by a full backlog."),
    ),
    ("ListenDrops", count("tcp.listen_drops", "connections", "Requests for a connection that were dropped.")),
    ("TCPTimeouts", count("tcp.timeouts", "times", "Retransmission timers that ran out.")),
    ("TCPAbortOnMemory", count("tcp.memory_aborts", "connections", "Connections ended for want of memory.")),
];

#[derive(Default)]
pub(super) struct Tcp {
    buffer: String,
}

impl Source for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let snmp = text::read(SNMP, &mut self.buffer)?;
        for (name, what) in &TCP {
            sink.put(what, text::paired(snmp, "Tcp", name));
        }
        sink.put(&ESTABLISHED, text::paired(snmp, "Tcp", "CurrEstab"));
        let netstat = text::read(NETSTAT, &mut self.buffer)?;
        for (name, what) in &EXTENDED {
            sink.put(what, text::paired(netstat, "TcpExt", name));
        }
        Ok(())
    }
}
