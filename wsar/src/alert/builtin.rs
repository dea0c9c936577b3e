//! The rules that need no file.

use super::rules::{CERTIFICATE_DAYS, FOR_MS, REFUSED, Rule, UP};
use crate::delta::Delta;
use crate::table::server;

/// A level, where the rule goes again, and how long in milliseconds.
enum Level {
    Above(f64, f64, u64),
    Below(f64, f64, u64),
}
use Level::{Above, Below};

/// A row: name with its unit, metric, the metric it is a percentage of, level, and what to do.
type Row = (&'static str, &'static str, Option<&'static str>, Level, &'static str);

const ROWS: &[Row] = &[
    ("the server is down", UP, None, Below(1.0, 1.0, FOR_MS), "Start whimbreld; its log says why it ended."),
    (
        "the server was started lately (uptime, seconds)",
        "server.uptime",
        None,
        Below(120.0, 120.0, 0),
        "If nobody did that, its log says why it ended before.",
    ),
    (
        "disk of the data directory (percent free)",
        "data.free",
        Some("data.size"),
        Below(10.0, 15.0, FOR_MS),
        "Free space or grow the disk; when it is full, messages are refused.",
    ),
    (
        "messages refused for want of room in the log (a second)",
        "refused.log_full",
        None,
        Above(0.0, 0.0, 0),
        "The log says whether the disk is full or descriptors ran out.",
    ),
    (
        "the disk failed the directory (times a second)",
        "directory.reopened",
        None,
        Above(0.0, 0.0, 0),
        "Look at the system's log and at the disk; the server goes on by itself.",
    ),
    (
        "certificate (days left)",
        CERTIFICATE_DAYS,
        None,
        Below(14.0, 20.0, FOR_MS),
        "Renew it and run `whimbrelctl reload`.",
    ),
    (
        "refusals (a second)",
        REFUSED,
        None,
        Above(20.0, 5.0, 30_000),
        "The table of refusals says which limit bites, and where to change it.",
    ),
    (
        "failed logins (a second)",
        "logins.failed",
        None,
        Above(10.0, 2.0, 30_000),
        "Somebody guesses passwords, or an application has a wrong one; the log names addresses.",
    ),
    (
        "event loop (99 %, microseconds)",
        "loop.latency:p99",
        None,
        Above(50_000.0, 10_000.0, 10_000),
        "The machine has too little CPU time for the load; see CPU and workers.",
    ),
    (
        "text messages could not be sent (a second)",
        "registration.send_failed",
        None,
        Above(0.0, 0.0, 0),
        "The SMS gateway does not answer in time; try its address by hand.",
    ),
    (
        "text messages refused by the gateway (a second)",
        "registration.send_refused",
        None,
        Above(0.0, 0.0, 0),
        "The SMS gateway refuses: its account, its key or the number.",
    ),
    (
        "a push service refuses the server's key (notifications a second)",
        "push.failed.credentials",
        None,
        Above(0.0, 0.0, 0),
        "The server's log says which and why; docs/push.md tells what each answer means.",
    ),
    (
        "a push service is out of reach or overloaded (pause, milliseconds)",
        "push.paused",
        None,
        Above(10_000.0, 0.0, FOR_MS),
        "`wsar push` tells which, the server's log why; chat and the other push services go on.",
    ),
    (
        "notifications were given up (a second)",
        "push.failed.overdue",
        None,
        Above(0.0, 0.0, 0),
        "A push service was out of reach for longer than they were of use; `wsar push` tells which.",
    ),
    (
        "commits of the log are slow (mean, microseconds)",
        "mean:log.commit_time/log.commits",
        None,
        Above(100_000.0, 50_000.0, FOR_MS),
        "The disk is slow or busy; see its latency.",
    ),
    (
        "open files of the server (percent)",
        "process.files",
        Some("process.files.limit"),
        Above(90.0, 80.0, FOR_MS),
        "Raise LimitNOFILE of the unit, or find who holds the connections.",
    ),
    (
        "archives of messages (percent of archive.mib_max)",
        "archive.bytes",
        Some("archive.bytes_limit"),
        Above(90.0, 85.0, FOR_MS),
        "Raise archive.mib_max, or lower archive.days; else the largest archives lose their oldest messages.",
    ),
    (
        "available memory (percent)",
        "memory.available",
        Some("memory.total"),
        Below(5.0, 10.0, FOR_MS),
        "Lower limits.memory_mib, or find what else uses the memory.",
    ),
];

/// The rules that need no file, and those for the queues that there are. They say nothing of metrics that are not there:
/// that the server is down is said once.
pub fn rules(delta: &Delta<'_>) -> Vec<Rule> {
    let full = |queue: &String| {
        let (name, metric) = (format!("queue {queue} is nearly full (percent)"), format!("full:{queue}"));
        let cure = "See which client, account or disk fills it.";
        rule(&name, &metric, None, &Above(80.0, 50.0, FOR_MS), cure)
    };
    let rows = ROWS.iter().map(|(name, metric, of, level, cure)| rule(name, metric, *of, level, cure));
    rows.chain(server::queues(delta).iter().map(full)).collect()
}

fn rule(name: &str, metric: &str, of: Option<&str>, level: &Level, cure: &str) -> Rule {
    let (above, below, clear, for_ms) = match *level {
        Above(level, clear, for_ms) => (Some(level), None, clear, for_ms),
        Below(level, clear, for_ms) => (None, Some(level), clear, for_ms),
    };
    Rule {
        name: name.to_owned(),
        cure: Some(cure.to_owned()),
        metric: metric.to_owned(),
        of: of.map(str::to_owned),
        above,
        below,
        clear: Some(clear),
        for_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Known;
    use crate::collect::Collector;

    #[test]
    fn the_builtin_rules_make_sense_and_watch_what_there_is() {
        let data = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(data.path());
        let (mut old, new) = (collector.sample(), collector.sample());
        old.time_ms = new.time_ms - 1_000;
        let known = Known::new(&new.schema);
        let rules = rules(&Delta::between(&old, &new).unwrap());
        assert_eq!(rules.len(), ROWS.len(), "there are no queues without a server");
        for rule in rules {
            assert_eq!((rule.check(), known.check(&rule)), (Ok(()), Ok(())), "{}", rule.name);
        }
    }
}
