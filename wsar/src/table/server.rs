//! Tables of the server.

use super::Unit::{Bytes, Micros, Number, Percent, Seconds};
use super::{Table, column, instance, with_all};
use crate::delta::Delta;

/// One row when the server is there.
fn if_running(delta: &Delta<'_>) -> Vec<String> {
    delta.sum("connections", None).map(|_| String::new()).into_iter().collect()
}

pub(super) static SERVER: Table = Table {
    name: "server",
    key: "",
    about: "connections, logins, stanzas and bytes of the server",
    rows: if_running,
    columns: &[
        column("conns", "connections", Number, "Client connections.", |d, _| d.sum("connections", None)),
        column("sess", "sessions", Number, "Bound resources.", |d, _| d.sum("sessions", None)),
        column("login/s", "logins", Number, "Logins a second.", |d, _| d.rate("logins", None)),
        column("lfail/s", "logins_failed", Number, "Failed logins a second.", |d, _| {
            d.rate("logins.failed", None)
        }),
        column("stz-i/s", "stanzas_in", Number, "Stanzas from clients a second.", |d, _| {
            Some(d.rate("messages.in", None)? + d.rate("presences.in", None)? + d.rate("iqs.in", None)?)
        }),
        column("stz-o/s", "stanzas_out", Number, "Stanzas to clients a second.", |d, _| {
            Some(d.rate("messages.out", None)? + d.rate("presences.out", None)? + d.rate("iqs.out", None)?)
        }),
        column("in B/s", "bytes_in", Bytes, "Bytes from clients a second.", |d, _| d.rate("bytes.in", None)),
        column("out B/s", "bytes_out", Bytes, "Bytes to clients a second.", |d, _| d.rate("bytes.out", None)),
        column(
            "loop99",
            "loop_p99",
            Micros,
            "99 of 100 iterations of the event loops took no longer.",
            |d, _| d.quantile("loop.latency", 0.99, None),
        ),
        column("refus/s", "refused", Number, "Refusals a second, whatever the limit.", |d, _| refused(d)),
    ],
};

pub(super) static STANZAS: Table = Table {
    name: "stanzas",
    key: "",
    about: "stanzas by kind",
    rows: if_running,
    columns: &[
        column("msg-i/s", "messages_in", Number, "Messages from clients a second.", |d, _| {
            d.rate("messages.in", None)
        }),
        column("pre-i/s", "presences_in", Number, "Presences from clients a second.", |d, _| {
            d.rate("presences.in", None)
        }),
        column("iq-i/s", "iqs_in", Number, "IQs from clients a second.", |d, _| d.rate("iqs.in", None)),
        column("msg-o/s", "messages_out", Number, "Messages to clients a second.", |d, _| {
            d.rate("messages.out", None)
        }),
        column("pre-o/s", "presences_out", Number, "Presences to clients a second.", |d, _| {
            d.rate("presences.out", None)
        }),
        column("iq-o/s", "iqs_out", Number, "IQs to clients a second.", |d, _| d.rate("iqs.out", None)),
        column("err-o/s", "errors_out", Number, "Stanza errors to clients a second.", |d, _| {
            d.rate("stanza_errors.out", None)
        }),
        column("pending", "pending", Number, "Messages in the log that nobody has acknowledged.", |d, _| {
            d.sum("log.pending", None)
        }),
        column("commit", "commit_mean", Micros, "Mean time of a commit of the log.", |d, _| {
            let commits = d.grown("log.commits", None).filter(|&commits| commits > 0.0)?;
            Some(d.grown("log.commit_time", None)? / commits)
        }),
        column(
            "deliv50",
            "delivery_p50",
            Micros,
            "Half of the messages were with the kernel in this time.",
            |d, _| d.quantile("messages.latency", 0.5, None),
        ),
        column(
            "deliv99",
            "delivery_p99",
            Micros,
            "99 of 100 messages were with the kernel in this time.",
            |d, _| d.quantile("messages.latency", 0.99, None),
        ),
        column(
            "prmpt99",
            "prompt_p99",
            Micros,
            "The same of messages that did not wait for their client's turn: everybody's but a flooder's.",
            |d, _| d.quantile("messages.prompt_latency", 0.99, None),
        ),
        column("ack50", "ack_p50", Micros, "Half of the messages were acknowledged in this time.", |d, _| {
            d.quantile("messages.ack_latency", 0.5, None)
        }),
        column("ack99", "ack_p99", Micros, "99 of 100 messages were acknowledged in this time.", |d, _| {
            d.quantile("messages.ack_latency", 0.99, None)
        }),
    ],
};

pub(super) static WORKERS: Table = Table {
    name: "workers",
    key: "worker",
    about: "utilisation and latency of each event loop",
    rows: |delta| with_all(delta, "loop.iterations"),
    columns: &[
        column("%busy", "busy", Percent, "Time outside waiting.", |d, row| {
            let workers = if instance(row).is_some() { 1 } else { d.instances("loop.busy").count() };
            Some(d.rate("loop.busy", instance(row))? / 10_000.0 / workers.max(1) as f64)
        }),
        column("wakes/s", "iterations", Number, "Iterations a second.", |d, row| {
            d.rate("loop.iterations", instance(row))
        }),
        column("ev/wake", "events_per_wakeup", Number, "Mean number of events an iteration.", |d, row| {
            let turns = d.grown("loop.iterations", instance(row)).filter(|&turns| turns > 0.0)?;
            Some(d.grown("loop.events", instance(row))? / turns)
        }),
        column("loop50", "loop_p50", Micros, "Half of the iterations took no longer.", |d, row| {
            d.quantile("loop.latency", 0.5, instance(row))
        }),
        column("loop99", "loop_p99", Micros, "99 of 100 iterations took no longer.", |d, row| {
            d.quantile("loop.latency", 0.99, instance(row))
        }),
        column("loopmax", "loop_max", Micros, "Longest iteration of this time.", |d, row| {
            d.quantile("loop.latency", 1.0, instance(row))
        }),
        column("conns", "connections", Number, "Client connections.", |d, row| {
            d.sum("connections", instance(row))
        }),
        column("msg-i/s", "messages_in", Number, "Messages from clients a second.", |d, row| {
            d.rate("messages.in", instance(row))
        }),
    ],
};

/// The queues, by the names of their metrics.
pub fn queues(delta: &Delta<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for series in delta.latest().schema.series() {
        let queue = series.name.strip_prefix("queue.").and_then(|rest| rest.strip_suffix(".length"));
        if let Some(queue) = queue
            && !names.iter().any(|name| name == queue)
        {
            names.push(queue.to_owned());
        }
    }
    names
}

/// How full a queue is: of those with an instance for each worker, the fullest.
pub fn fullness(delta: &Delta<'_>, queue: &str) -> Option<f64> {
    let limit = delta.max(&format!("queue.{queue}.limit"), None).filter(|&limit| limit > 0.0)?;
    Some(fullest_length(delta, queue)? * 100.0 / limit)
}

/// What waits in the fullest of the queues that stand under one name. One queue stands for many (mailboxes, clients), and
/// what waits in all of them says nothing about any.
fn fullest_length(delta: &Delta<'_>, queue: &str) -> Option<f64> {
    let fullest = delta.max(&format!("queue.{queue}.fullest"), None);
    fullest.or_else(|| delta.max(&format!("queue.{queue}.length"), None))
}

/// The fullest queue and how full it is.
pub fn fullest(delta: &Delta<'_>) -> Option<(String, f64)> {
    let parts =
        queues(delta).into_iter().filter_map(|queue| fullness(delta, &queue).map(|part| (queue, part)));
    parts.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Push services, in the order of the label `service` of their metrics.
const PUSH_SERVICES: [&str; 3] = ["fcm", "apns", "webpush"];

/// The label of a push service.
fn push_label(row: &str) -> Option<&'static str> {
    let labels = ["0", "1", "2"];
    PUSH_SERVICES.iter().position(|name| *name == row).map(|at| labels[at])
}

/// Those that are configured: there is room for what waits for them.
fn push_services(delta: &Delta<'_>) -> Vec<String> {
    let is_on = |name: &str| delta.max("queue.push.limit", push_label(name)).is_some_and(|room| room > 0.0);
    PUSH_SERVICES.iter().filter(|name| is_on(name)).map(|name| (*name).to_owned()).collect()
}

pub(super) static PUSH: Table = Table {
    name: "push",
    key: "service",
    about: "notifications of each push service: sent, failed by reason, latency, queue",
    rows: push_services,
    columns: &[
        column("sent/s", "sent", Number, "Notifications a second that the push service took.", |d, row| {
            d.rate("push.sent", push_label(row))
        }),
        column("gone/s", "gone", Number, "Not taken a second: the device is gone.", |d, row| {
            d.rate("push.failed.gone", push_label(row))
        }),
        column("refus/s", "refused", Number, "Not taken a second: refused for good.", |d, row| {
            d.rate("push.failed.refused", push_label(row))
        }),
        column(
            "key/s",
            "credentials",
            Number,
            "Not taken a second: the server's key is refused.",
            |d, row| d.rate("push.failed.credentials", push_label(row)),
        ),
        column(
            "late/s",
            "overdue",
            Number,
            "Given up a second: no attempt succeeded in their time.",
            |d, row| d.rate("push.failed.overdue", push_label(row)),
        ),
        column("try/s", "attempts", Number, "Requests to the push service a second.", |d, row| {
            d.rate("push.attempts", push_label(row))
        }),
        column(
            "lat50",
            "latency_p50",
            Micros,
            "Half were taken in this time from their message.",
            |d, row| d.quantile("push.latency", 0.5, push_label(row)),
        ),
        column(
            "lat99",
            "latency_p99",
            Micros,
            "99 of 100 were taken in this time from their message.",
            |d, row| d.quantile("push.latency", 0.99, push_label(row)),
        ),
        column("pause", "paused", Seconds, "For how long the push service gets nothing.", |d, row| {
            Some(d.max("push.paused", push_label(row))? / 1000.0)
        }),
        column("queue", "queue", Number, "Notifications that wait.", |d, row| {
            d.max("queue.push.length", push_label(row))
        }),
    ],
};

pub(super) static QUEUES: Table = Table {
    name: "queues",
    key: "queue",
    about: "length, high-water mark and limit of every queue of the server",
    rows: queues,
    columns: &[
        column("length", "length", Number, "What waits, over all workers.", |d, row| {
            d.sum(&format!("queue.{row}.length"), None)
        }),
        column("max", "length_max", Number, "What waits at the worker where most waits.", |d, row| {
            d.max(&format!("queue.{row}.length"), None)
        }),
        column("high", "high_water", Number, "The most that ever waited.", |d, row| {
            d.max(&format!("queue.{row}.high_water"), None)
        }),
        column("limit", "limit", Number, "What may wait.", |d, row| {
            d.max(&format!("queue.{row}.limit"), None)
        }),
        column(
            "fullest",
            "fullest",
            Number,
            "What waits in the fullest of them: of one client, of one mailbox.",
            fullest_length,
        ),
        column("%full", "full", Percent, "How full the fullest is.", fullness),
    ],
};

/// Refusals a second, whatever the limit.
pub fn refused(delta: &Delta<'_>) -> Option<f64> {
    refusals(delta).into_iter().filter_map(|name| delta.rate(&name, None)).reduce(|a, b| a + b)
}

fn refusals(delta: &Delta<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for series in delta.latest().schema.series() {
        if series.name.starts_with("refused.") && !names.iter().any(|name| **name == *series.name) {
            names.push(series.name.to_string());
        }
    }
    names
}

pub(super) static REFUSALS: Table = Table {
    name: "refusals",
    key: "reason",
    about: "what the server has refused, by the limit that bit",
    rows: |delta| refusals(delta).into_iter().map(|name| name["refused.".len()..].to_owned()).collect(),
    columns: &[
        column("ref/s", "rate", Number, "Refusals a second.", |d, row| {
            d.rate(&format!("refused.{row}"), None)
        }),
        column("total", "total", Number, "Refusals since the start.", |d, row| {
            d.sum(&format!("refused.{row}"), None)
        }),
    ],
};

pub(super) static PROCESS: Table = Table {
    name: "process",
    key: "",
    about: "CPU time, memory, threads and descriptors of the server's process",
    rows: |delta| delta.sum("process.memory.resident", None).map(|_| String::new()).into_iter().collect(),
    columns: &[
        column("%user", "user", Percent, "Of one core, in the server's code.", |d, _| {
            Some(d.rate("server.cpu.user", None)? / 10_000.0)
        }),
        column("%sys", "system", Percent, "Of one core, in the kernel.", |d, _| {
            Some(d.rate("server.cpu.system", None)? / 10_000.0)
        }),
        column("rss", "resident", Bytes, "Memory.", |d, _| d.sum("process.memory.resident", None)),
        column("anon", "anonymous", Bytes, "Allocated memory.", |d, _| {
            d.sum("process.memory.anonymous", None)
        }),
        column("flt/s", "faults", Number, "Page faults a second.", |d, _| {
            d.rate("server.faults.minor", None)
        }),
        column("majfl/s", "faults_major", Number, "Page faults a second that waited for a disk.", |d, _| {
            d.rate("server.faults.major", None)
        }),
        column("cswch/s", "switches", Number, "Times a second that its threads waited.", |d, _| {
            d.rate("server.switches.voluntary", None)
        }),
        column("nvcsw/s", "preempted", Number, "Times a second that its threads lost their core.", |d, _| {
            d.rate("server.switches.involuntary", None)
        }),
        column("threads", "threads", Number, "Threads.", |d, _| d.sum("process.threads", None)),
        column("files", "files", Number, "Open files.", |d, _| d.sum("process.files", None)),
        column("%files", "files_part", Percent, "Open files, of those that it may have.", |d, _| {
            let limit = d.sum("process.files.limit", None).filter(|&limit| limit > 0.0)?;
            Some(d.sum("process.files", None)? * 100.0 / limit)
        }),
        column("cert", "certificate", Seconds, "Time until the certificate expires.", |d, _| {
            let expires = d.sum("tls.certificate.expires", None).filter(|&expires| expires > 0.0)?;
            Some(expires - d.latest().time_ms as f64 / 1000.0)
        }),
        column("uptime", "uptime", Seconds, "Time since the start.", |d, _| d.sum("server.uptime", None)),
    ],
};
