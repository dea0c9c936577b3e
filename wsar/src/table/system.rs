//! Tables of the machine.

use super::Unit::{Bytes, Micros, Number, Percent};
use super::{Column, Table, column, instance, one_row, with_all};
use crate::delta::Delta;

const TIMES: [&str; 8] =
    ["cpu.user", "cpu.nice", "cpu.system", "cpu.idle", "cpu.iowait", "cpu.irq", "cpu.softirq", "cpu.steal"];

/// The part of some times in all the time of a core or of all cores.
fn cpu(delta: &Delta<'_>, row: &str, parts: &[&str]) -> Option<f64> {
    let time = |name: &&str| delta.grown(name, instance(row)).unwrap_or(0.0);
    let all: f64 = TIMES.iter().map(time).sum();
    (all > 0.0).then(|| parts.iter().map(time).sum::<f64>() * 100.0 / all)
}

const BUSY: [&str; 6] = ["cpu.user", "cpu.nice", "cpu.system", "cpu.irq", "cpu.softirq", "cpu.steal"];

pub(super) static CPU: Table = Table {
    name: "cpu",
    key: "cpu",
    about: "CPU time of each core and of all",
    rows: |delta| with_all(delta, "cpu.user"),
    columns: &[
        column("%user", "user", Percent, "In programs.", |d, row| cpu(d, row, &["cpu.user"])),
        column("%nice", "nice", Percent, "In programs of low priority.", |d, row| cpu(d, row, &["cpu.nice"])),
        column("%sys", "system", Percent, "In the kernel.", |d, row| cpu(d, row, &["cpu.system"])),
        column("%irq", "irq", Percent, "In interrupts.", |d, row| cpu(d, row, &["cpu.irq"])),
        column("%soft", "softirq", Percent, "In deferred interrupts.", |d, row| {
            cpu(d, row, &["cpu.softirq"])
        }),
        column("%steal", "steal", Percent, "Taken by the host.", |d, row| cpu(d, row, &["cpu.steal"])),
        column("%iowait", "iowait", Percent, "Waiting for disks.", |d, row| cpu(d, row, &["cpu.iowait"])),
        column("%used", "used", Percent, "Neither idle nor waiting.", |d, row| cpu(d, row, &BUSY)),
        column("%idle", "idle", Percent, "Nothing to do.", |d, row| cpu(d, row, &["cpu.idle"])),
    ],
};

pub(super) static INTERRUPTS: Table = Table {
    name: "interrupts",
    key: "",
    about: "interrupts, context switches, page faults, new processes, load",
    rows: one_row,
    columns: &[
        column("intr/s", "interrupts", Number, "Interrupts a second.", |d, _| d.rate("interrupts", None)),
        column("soft/s", "softirqs", Number, "Deferred interrupts a second.", |d, _| {
            d.rate("softirqs", None)
        }),
        column("cswch/s", "context_switches", Number, "Context switches a second.", |d, _| {
            d.rate("context_switches", None)
        }),
        column("proc/s", "forks", Number, "Processes and threads started a second.", |d, _| {
            d.rate("forks", None)
        }),
        column("flt/s", "faults", Number, "Page faults a second.", |d, _| d.rate("faults", None)),
        column("majfl/s", "faults_major", Number, "Page faults a second that waited for a disk.", |d, _| {
            d.rate("faults.major", None)
        }),
        column("running", "running", Number, "Threads that run or could.", |d, _| {
            d.sum("threads.running", None)
        }),
        column("blocked", "blocked", Number, "Threads that wait for a disk.", |d, _| {
            d.sum("threads.blocked", None)
        }),
        column("load1", "load_1m", Number, "Load of the last minute.", |d, _| {
            Some(d.sum("load.1m", None)? / 100.0)
        }),
    ],
};

pub(super) static MEMORY: Table = Table {
    name: "memory",
    key: "",
    about: "memory and swap space",
    rows: one_row,
    columns: &[
        column("avail", "available", Bytes, "What programs can still have.", |d, _| {
            d.sum("memory.available", None)
        }),
        column("%used", "used", Percent, "Not available, of all memory.", |d, _| used(d)),
        column("free", "free", Bytes, "Holds nothing.", |d, _| d.sum("memory.free", None)),
        column("cached", "cached", Bytes, "Caches files.", |d, _| d.sum("memory.cached", None)),
        column("anon", "anonymous", Bytes, "Of programs, and of no file.", |d, _| {
            d.sum("memory.anonymous", None)
        }),
        column("slab", "slab", Bytes, "The kernel's objects.", |d, _| d.sum("memory.slab", None)),
        column("dirty", "dirty", Bytes, "Waits to be written to disk.", |d, _| d.sum("memory.dirty", None)),
        column("swapped", "swapped", Bytes, "In swap space.", |d, _| {
            Some(d.sum("swap.total", None)? - d.sum("swap.free", None)?)
        }),
        column("swpin/s", "swap_in", Number, "Pages read from swap space a second.", |d, _| {
            d.rate("swap.in", None)
        }),
        column("swpou/s", "swap_out", Number, "Pages written to swap space a second.", |d, _| {
            d.rate("swap.out", None)
        }),
    ],
};

fn used(delta: &Delta<'_>) -> Option<f64> {
    let total = delta.sum("memory.total", None).filter(|&total| total > 0.0)?;
    Some(100.0 - delta.sum("memory.available", None)? * 100.0 / total)
}

pub(super) static DISK: Table = Table {
    name: "disk",
    key: "disk",
    about: "requests, bytes and utilisation of each disk",
    rows: |delta| delta.instances("disk.reads").map(str::to_owned).collect(),
    columns: &[
        column("read/s", "reads", Number, "Reads a second.", |d, row| d.rate("disk.reads", instance(row))),
        column("rd B/s", "read_bytes", Bytes, "Bytes read a second.", |d, row| {
            d.rate("disk.read_bytes", instance(row))
        }),
        column("writ/s", "writes", Number, "Writes a second.", |d, row| d.rate("disk.writes", instance(row))),
        column("wr B/s", "written_bytes", Bytes, "Bytes written a second.", |d, row| {
            d.rate("disk.written_bytes", instance(row))
        }),
        column("await", "await", Micros, "Mean time of a request.", |d, row| {
            let requests = d.grown("disk.reads", instance(row))? + d.grown("disk.writes", instance(row))?;
            (requests > 0.0).then_some(d.grown("disk.waited", instance(row))? * 1000.0 / requests)
        }),
        column("%util", "busy", Percent, "Time with something to do.", |d, row| {
            Some(d.rate("disk.busy", instance(row))? / 10.0)
        }),
    ],
};

pub(super) static SPACE: Table = Table {
    name: "space",
    key: "",
    about: "room on the disk of the data directory",
    rows: |delta| delta.sum("data.size", None).map(|_| String::new()).into_iter().collect(),
    columns: &[
        column("free", "free", Bytes, "Room left.", |d, _| d.sum("data.free", None)),
        column("size", "size", Bytes, "Size of the disk.", |d, _| d.sum("data.size", None)),
        column("%free", "free_part", Percent, "Room left, of the disk.", |d, _| {
            let size = d.sum("data.size", None).filter(|&size| size > 0.0)?;
            Some(d.sum("data.free", None)? * 100.0 / size)
        }),
    ],
};

pub(super) static NETWORK: Table = Table {
    name: "net",
    key: "interface",
    about: "packets and bytes of each network interface",
    rows: |delta| delta.instances("net.in.bytes").map(str::to_owned).collect(),
    columns: &[
        column("rxpck/s", "in_packets", Number, "Packets received a second.", |d, row| {
            d.rate("net.in.packets", instance(row))
        }),
        column("txpck/s", "out_packets", Number, "Packets sent a second.", |d, row| {
            d.rate("net.out.packets", instance(row))
        }),
        column("rx B/s", "in_bytes", Bytes, "Bytes received a second.", |d, row| {
            d.rate("net.in.bytes", instance(row))
        }),
        column("tx B/s", "out_bytes", Bytes, "Bytes sent a second.", |d, row| {
            d.rate("net.out.bytes", instance(row))
        }),
        column("err/s", "errors", Number, "Damaged or unsendable packets a second.", |d, row| {
            Some(d.rate("net.in.errors", instance(row))? + d.rate("net.out.errors", instance(row))?)
        }),
        column("drop/s", "dropped", Number, "Packets dropped a second.", |d, row| {
            Some(d.rate("net.in.dropped", instance(row))? + d.rate("net.out.dropped", instance(row))?)
        }),
    ],
};

pub(super) static TCP: Table = Table {
    name: "tcp",
    key: "",
    about: "TCP segments, connections and retransmissions",
    rows: one_row,
    columns: &[
        column("estab", "established", Number, "Open connections.", |d, _| d.sum("tcp.established", None)),
        column("activ/s", "active_opens", Number, "Connections asked for a second.", |d, _| {
            d.rate("tcp.active_opens", None)
        }),
        column("passv/s", "passive_opens", Number, "Connections a second that others asked for.", |d, _| {
            d.rate("tcp.passive_opens", None)
        }),
        column("iseg/s", "in_segments", Number, "Segments received a second.", |d, _| {
            d.rate("tcp.in.segments", None)
        }),
        column("oseg/s", "out_segments", Number, "Segments sent a second.", |d, _| {
            d.rate("tcp.out.segments", None)
        }),
        column("retrn/s", "retransmits", Number, "Segments sent again a second.", |d, _| {
            d.rate("tcp.retransmits", None)
        }),
        column("reset/s", "resets", Number, "Connections reset a second.", |d, _| d.rate("tcp.resets", None)),
        column("fail/s", "failed", Number, "Connections a second that did not come about.", |d, _| {
            d.rate("tcp.failed", None)
        }),
        column(
            "lover/s",
            "listen_overflows",
            Number,
            "Connections a second that found the backlog full.",
            |d, _| d.rate("tcp.listen_overflows", None),
        ),
    ],
};

pub(super) static SOCKETS: Table = Table {
    name: "sockets",
    key: "",
    about: "sockets by state, their memory, open files",
    rows: one_row,
    columns: &[
        column("totsck", "used", Number, "Sockets of all kinds.", |d, _| d.sum("sockets.used", None)),
        column("tcpsck", "tcp_open", Number, "TCP sockets.", |d, _| d.sum("sockets.tcp.open", None)),
        column("orphan", "tcp_orphan", Number, "TCP sockets that no program has.", |d, _| {
            d.sum("sockets.tcp.orphan", None)
        }),
        column("tcp-tw", "tcp_time_wait", Number, "TCP sockets in TIME-WAIT.", |d, _| {
            d.sum("sockets.tcp.time_wait", None)
        }),
        column("tcpmem", "tcp_memory", Bytes, "Memory of TCP buffers.", |d, _| {
            d.sum("sockets.tcp.memory", None)
        }),
        column("udpsck", "udp_open", Number, "UDP sockets.", |d, _| d.sum("sockets.udp.open", None)),
        column("files", "files", Number, "Open files of all programs.", |d, _| d.sum("files.open", None)),
    ],
};

pub(super) const OVERVIEW: &[Column] = &[
    column("%cpu", "cpu", Percent, "CPU time used, of all cores.", |d, _| cpu(d, "", &BUSY)),
    column("avail", "memory_available", Bytes, "Memory that programs can still have.", |d, _| {
        d.sum("memory.available", None)
    }),
    column("rx B/s", "in_bytes", Bytes, "Bytes received a second, over all interfaces.", |d, _| {
        d.rate("net.in.bytes", None)
    }),
    column("tx B/s", "out_bytes", Bytes, "Bytes sent a second, over all interfaces.", |d, _| {
        d.rate("net.out.bytes", None)
    }),
    column("conns", "connections", Number, "Client connections.", |d, _| d.sum("connections", None)),
    column("msg-i/s", "messages_in", Number, "Messages from clients a second.", |d, _| {
        d.rate("messages.in", None)
    }),
    column("msg-o/s", "messages_out", Number, "Messages to clients a second.", |d, _| {
        d.rate("messages.out", None)
    }),
    column(
        "loop99",
        "loop_p99",
        Micros,
        "99 of 100 iterations of the event loops took no longer.",
        |d, _| d.quantile("loop.latency", 0.99, None),
    ),
    column("%queue", "queue_fullest", Percent, "How full the fullest queue is.", |d, _| {
        super::server::fullest(d).map(|(_, part)| part)
    }),
];
