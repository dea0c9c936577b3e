//! The stats file: all metrics of the server in one place that `wsar` reads while the server runs, and after it died.
//!
//! ```text
//! worker n ──stores──▶ group "worker", block n      (crate::metrics)
//! stats    ──stores──▶ group "queues", block n      queues of worker n
//!    thread └─────────▶ group "server"               queues of the whole server, its process
//! registration ──────▶ group "registration"         (crate::phone::metrics)
//! web      ──stores──▶ group "http"                 (crate::http::metrics)
//! web      ──stores──▶ group "upload"               (crate::http::metrics)
//! push-…   ──stores──▶ group "push", block n        (crate::push::metrics)
//! ```
//! Names are in no metric: those of accounts are in a file of their own (`watch::busiest`).
//!
//! Queues that several threads fill have no single writer, so a thread of its own looks at them a few times a
//! second. A queue's metrics are named `queue.NAME.length`, `.high_water` and `.limit`.

use std::io;
use std::path::Path;

use whimbrel_stats::{Blocks, Builder};

use crate::http::metrics::{UploadMetrics, WebMetrics};
use crate::metrics::WorkerMetrics;
use crate::phone::metrics::RegistrationMetrics;
use crate::proto::push::PushService;
use crate::push::metrics::PushMetrics;

whimbrel_stats::metrics! {
    /// The queues of one worker, as the stats thread sees them.
    QueueMetrics {
        completions_length "queue.completions.length" Gauge "results" "Results of jobs that wait for the worker.";
        completions_high "queue.completions.high_water" HighWater "results" "Most results that ever waited for the worker.";
        completions_limit "queue.completions.limit" HighWater "results" "Room for results; the threads that do the jobs then wait.";
        commands_length "queue.commands.length" Gauge "commands" "Commands of the control thread that wait for the worker.";
        commands_high "queue.commands.high_water" HighWater "commands" "Most commands that ever waited for the worker.";
        commands_limit "queue.commands.limit" HighWater "commands" "Room for commands; further ones are refused.";
        newcomers_length "queue.newcomers.length" Gauge "connections" "WebSocket connections that wait for the worker to take them from the HTTP server.";
        newcomers_high "queue.newcomers.high_water" HighWater "connections" "Most WebSocket connections that ever waited for the worker.";
        newcomers_limit "queue.newcomers.limit" HighWater "connections" "Room for WebSocket connections; further handshakes are answered with 503.";
        mailbox_length "queue.mailbox.length" Gauge "batches" "Batches that wait in all inbound mailboxes of the worker.";
        mailbox_fullest "queue.mailbox.fullest" HighWater "batches" "Batches that wait in the fullest of its inbound mailboxes.";
        mailbox_high "queue.mailbox.high_water" HighWater "batches" "Most batches that ever waited in one of its inbound mailboxes.";
        mailbox_limit "queue.mailbox.limit" HighWater "batches" "Room in each mailbox (limits.mailbox_parcels).";
        mailbox_bytes_length "queue.mailbox_bytes.length" Gauge "bytes" "Bytes of batches that wait in all inbound mailboxes of the worker.";
        mailbox_bytes_fullest "queue.mailbox_bytes.fullest" HighWater "bytes" "Bytes that wait in the fullest of its inbound mailboxes.";
        mailbox_bytes_high "queue.mailbox_bytes.high_water" HighWater "bytes" "Most bytes that ever waited in one of its inbound mailboxes; one batch may be longer than the limit.";
        mailbox_bytes_limit "queue.mailbox_bytes.limit" HighWater "bytes" "Room in each mailbox (limits.mailbox_kib).";
        recipients_length "queue.mailbox_recipients.length" Gauge "envelopes" "Envelopes, and recipients of those for many, that wait in all inbound mailboxes of the worker.";
        recipients_fullest "queue.mailbox_recipients.fullest" HighWater "envelopes" "Those that wait in the fullest of its inbound mailboxes.";
        recipients_high "queue.mailbox_recipients.high_water" HighWater "envelopes" "Most of them that ever waited in one of its inbound mailboxes; one batch may have more than the limit.";
        recipients_limit "queue.mailbox_recipients.limit" HighWater "envelopes" "Room in each mailbox (limits.mailbox_recipients).";
        commit_limit "queue.commit.limit" HighWater "messages" "Messages of one client that may wait for a commit; nobody reads from one that has more.";
        output_limit "queue.output.limit" HighWater "bytes" "Bytes that may wait for one client (limits.output_backlog_bytes).";
        held_limit "queue.held.limit" HighWater "bytes" "Bytes of stanzas that may wait for subscriptions on their way to the directory (limits.held_bytes).";
    }
}

whimbrel_stats::metrics! {
    /// The server as a whole, as the stats thread sees it.
    ServerMetrics {
        directory_length "queue.directory.length" Gauge "jobs" "Changes that wait for the directory's writer.";
        directory_high "queue.directory.high_water" HighWater "jobs" "Most changes that ever waited for the directory's writer.";
        directory_limit "queue.directory.limit" HighWater "jobs" "Room for changes (limits.directory_queue).";
        directory_reopened "directory.reopened" Counter "times" "Times the directory was opened anew because its disk had failed a commit in the middle.";
        crypto_length "queue.crypto.length" Gauge "jobs" "Passwords that wait to be hashed.";
        crypto_high "queue.crypto.high_water" HighWater "jobs" "Most passwords that ever waited to be hashed.";
        crypto_limit "queue.crypto.limit" HighWater "jobs" "Room for passwords (limits.crypto_queue).";
        version "server.version" Gauge "number" "Version of the server: 1002003 is 1.2.3.";
        certificate_expires "tls.certificate.expires" Gauge "seconds" "When the certificate expires, Unix time.";
        reloads "server.reloads" Counter "times" "Times that certificate and configuration were read again (SIGHUP, `whimbrelctl reload`).";
        uptime "server.uptime" Gauge "seconds" "Time since the start.";
        seen "server.seen" Gauge "milliseconds" "Unix time at which these figures of the server were last taken; it stands still when the server does.";
        draining "server.draining" Gauge "flag" "1 while the server takes no new logins.";
        unauthenticated "server.unauthenticated" Gauge "connections" "Connections that have not logged in.";
        login_remembered "login.remembered" Gauge "entries" "Accounts, addresses and networks whose failed logins are remembered.";
        login_driven_out "login.driven_out" Counter "entries" "Of these: forgotten for want of room before they were forgiven.";
        login_known "login.known_addresses" Gauge "addresses" "Addresses known for having logged in to an account (limits.known_addresses).";
        cpu_user "server.cpu.user" Counter "microseconds" "CPU time of the server in its own code.";
        cpu_system "server.cpu.system" Counter "microseconds" "CPU time of the server in the kernel.";
        faults_minor "server.faults.minor" Counter "faults" "Page faults of the server that needed no disk.";
        faults_major "server.faults.major" Counter "faults" "Page faults of the server that waited for a disk.";
        switches_voluntary "server.switches.voluntary" Counter "switches" "Times that threads of the server waited for something.";
        switches_involuntary "server.switches.involuntary" Counter "switches" "Times that threads of the server were made to give up their core.";
        memory_budget "memory.budget" HighWater "bytes" "Memory that the server may use (limits.memory_mib), compared with server.allocator.in_use.";
        memory_pressure "memory.pressure" HighWater "level" "What is given up for want of memory: 0 nothing; 1 from 80% of the budget, 2 from 90%, 3 from 95% (docs/config.md).";
        allocator_in_use "server.allocator.in_use" Gauge "bytes" "Memory that the server has allocated and not freed; what process.memory.anonymous has beyond it, the allocator keeps for later.";
        allocations "server.allocator.allocations" Counter "allocations" "Times that the server asked for memory.";
 upgrades "upgrade.count" Counter "upgrades" "Upgrades to another program since the process was started.";
        upgrades_failed "upgrade.failed" Counter "upgrades" "Upgrades that the new program gave up, so that the old one went on.";
        upgrade_pause "upgrade.pause" Gauge "microseconds" "Time for which nobody read from any connection during the last upgrade.";
        upgrade_sessions "upgrade.sessions" Gauge "sessions" "Sessions carried by the last upgrade.";
        upgrade_closed "upgrade.closed" Gauge "connections" "Connections closed by the last upgrade.";
        archive_length "queue.archive.length" Gauge "queries" "Queries of archives that wait for a reader.";
        archive_high "queue.archive.high_water" HighWater "queries" "Most queries of archives that ever waited.";
        archive_limit "queue.archive.limit" HighWater "queries" "Room for queries of archives (archive.queries).";
        archive_upkeep_length "queue.upkeep.length" Gauge "files" "Files of logs that are gone through for compaction or for erased texts, or wait for it.";
        archive_upkeep_high "queue.upkeep.high_water" HighWater "files" "Most of them that there ever were.";
        archive_upkeep_limit "queue.upkeep.limit" HighWater "files" "How many may wait.";
        archive_kept "archive.kept" Gauge "messages" "Messages of all archives that the index has.";
        archive_bytes "archive.bytes" Gauge "bytes" "Bytes of the logs that they need; a text that two accounts share counts for both.";
        archive_bytes_limit "archive.bytes_limit" HighWater "bytes" "Bytes that they may need (archive.mib_max); 0: no limit.";
        archive_oldest "archive.oldest" Gauge "seconds" "Age of the oldest archived message at least: that of the newest one in the oldest file that archives need.";
        archive_index_rows "archive.index_rows" Gauge "rows" "Rows of the archives' index in the directory, each of up to 64 messages.";
        archive_index_bytes "archive.index_bytes" Gauge "bytes" "Bytes of the directory's pages that they take.";
        archive_to_gather "archive.to_gather" Gauge "rows" "Rows of the archives' index whose messages are to be copied to where those of their accounts lie together (archive.gather).";
        archive_gathered "archive.gathered" Counter "messages" "Messages that were.";
        archive_gathered_files "archive.gathered_files" Gauge "files" "Files of the log in which they lie.";
        archive_gathered_bytes "archive.gathered_bytes" Gauge "bytes" "Bytes of these files.";
        archive_gather_left "archive.gather_left" Counter "rows" "Rows that were left where they are, because something else has changed them meanwhile (they are tried again), or because a text could not be read.";
        archive_gather_pressed "archive.gather_pressed" Counter "files" "Files of gathered messages, the oldest first, that went before archive.days were over, because all logs together took more than log_mib_max for each worker.";
        archive_gather_sparse "archive.gather_sparse" Counter "files" "Files of gathered messages of which less than half was needed any more while all logs together took half of what they may or more: what was is gathered once more, and they go.";
        archive_gather_failed "archive.gather_failed" Counter "times" "Times that gathering met an error, and was begun anew.";
        archive_gather_no_room "archive.gather_no_room" Gauge "flag" "1 while nothing is gathered because there is no room for a file: on the disk, or below log_mib_max for each worker.";
        archive_reads "archive.reads" Counter "reads" "Reads of files of the log for archives: one has what lies near one another.";
        archive_read_bytes "archive.read_bytes" Counter "bytes" "Bytes that they gave, what lies between messages included.";
        archive_gone "archive.gone" Counter "messages" "Messages that a page was to have, and whose file was gone.";
        archive_damaged "archive.damaged" Counter "messages" "Messages that a page was to have, and that the disk gave back otherwise than they were written.";
        stream_counts "sm.counts" Gauge "streams" "Streams of which the directory has how much was handled: those of sessions that sleep, and of sessions that slept when the server crashed, until they could not be resumed any more. At most limits.resources_per_user for each account.";
        pep_nodes "pep.nodes" Gauge "nodes" "Nodes that all accounts have (limits.pep_nodes for each).";
        pep_items "pep.items" Gauge "items" "Items that are kept in them.";
        pubsub_nodes "pubsub.nodes" Gauge "nodes" "Nodes of the publish-subscribe service (pubsub.nodes_max).";
        pubsub_items "pubsub.items" Gauge "items" "Items that are kept in them.";
        pubsub_bytes "pubsub.bytes" Gauge "bytes" "Bytes that they count for with their items (pubsub.mib_max).";
        pubsub_members "pubsub.members" Gauge "members" "Affiliations and subscriptions of all of them.";
        memory_peak "server.memory.peak" HighWater "bytes" "Most memory that was ever resident.";
    }
}

/// All metrics of a server.
pub struct Stats {
    /// One block for each worker, which writes it.
    pub workers: Blocks<WorkerMetrics>,
    /// One block for each worker, written by the stats thread.
    pub queues: Blocks<QueueMetrics>,
    /// One block, written by the stats thread.
    pub server: Blocks<ServerMetrics>,
    /// One block, written by the thread of registration, its queue by the stats thread.
    pub registration: Blocks<RegistrationMetrics>,
    /// One block, written by the thread of the HTTP server for clients in browsers.
    pub http: Blocks<WebMetrics>,
    /// One block for each push service (label `service`), written by the thread of its provider.
    pub push: Blocks<PushMetrics>,
    /// One block, written by several threads, each cell by one.
    pub upload: Blocks<UploadMetrics>,
}

impl Stats {
    /// In memory, where nobody else reads them.
    ///
    /// # Panics
    /// If there is no memory for them.
    pub fn in_memory(workers: usize) -> Stats {
        // Like any other allocation of a few kilobytes.
        Stats::from(builder(workers).in_memory().expect("there is memory for the metrics"))
    }

    /// In the stats file of a data directory, made anew.
    ///
    /// # Errors
    /// The system's reason.
    pub fn in_file(data: &Path, workers: usize) -> io::Result<Stats> {
        builder(workers).in_file(data).map(Stats::from)
    }
}

fn builder(workers: usize) -> Builder {
    let mut builder = Builder::default();
    builder.group::<WorkerMetrics>("worker", "worker", workers);
    builder.group::<QueueMetrics>("queues", "worker", workers);
    builder.group::<ServerMetrics>("server", "", 1);
    builder.group::<RegistrationMetrics>("registration", "", 1);
    builder.group::<WebMetrics>("http", "", 1);
    builder.group::<PushMetrics>("push", "service", PushService::ALL.len());
    builder.group::<UploadMetrics>("upload", "", 1);
    builder
}

impl From<whimbrel_stats::file::Built> for Stats {
    fn from(built: whimbrel_stats::file::Built) -> Stats {
        Stats {
            workers: built.blocks(0),
            queues: built.blocks(1),
            server: built.blocks(2),
            registration: built.blocks(3),
            http: built.blocks(4),
            push: built.blocks(5),
            upload: built.blocks(6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_stats::{Block, Description};

    const TABLES: [(&str, &str, &[Description]); 7] = [
        (
            "Workers",
            "Each worker has its own (label `worker`) and is the only one to write them.",
            WorkerMetrics::DESCRIPTIONS,
        ),
        (
            "Queues of a worker",
            "Taken four times a second, for each worker (label `worker`).",
            QueueMetrics::DESCRIPTIONS,
        ),
        ("The server as a whole", "Taken four times a second.", ServerMetrics::DESCRIPTIONS),
        (
            "Registration by phone number",
            "Zero where it is off (docs/registration.md).",
            RegistrationMetrics::DESCRIPTIONS,
        ),
        (
            "HTTP for clients in browsers",
            "Until a WebSocket is handed to a worker (docs/web.md); zero where nothing listens.",
            WebMetrics::DESCRIPTIONS,
        ),
        (
            "Push",
            "For each push service (label `service`: 0 FCM, 1 APNs, 2 Web Push); zero where it is not configured (docs/push.md).",
            PushMetrics::DESCRIPTIONS,
        ),
        ("HTTP upload", "Zero where it is off (docs/web.md).", UploadMetrics::DESCRIPTIONS),
    ];

    const BEGIN: &str = "<!-- made from the code: begin -->\n";
    const END: &str = "<!-- made from the code: end -->";

    fn tables() -> String {
        let mut text = String::new();
        for (title, about, descriptions) in TABLES {
            text += &format!(
                "\n## {title}\n\n{about}\n\n| metric | kind | unit | meaning |\n|---|---|---|---|\n"
            );
            for d in descriptions {
                text += &format!("| `{}` | {} | {} | {} |\n", d.name, d.kind.name(), d.unit, d.help);
            }
        }
        text + "\n"
    }

    #[test]
    fn docs_metrics_md_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the mark where the tables begin");
        let (written, after) = rest.split_once(END).expect("the mark where the tables end");
        if std::env::var_os("WHIMBREL_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
            return;
        }
        assert_eq!(
            written,
            tables(),
            "docs/metrics.md is not current: WHIMBREL_WRITE_DOCS=1 cargo test -p whimbrel-server --lib docs_metrics"
        );
    }

    #[test]
    fn no_name_is_used_twice_and_every_queue_has_length_high_water_and_limit() {
        let mut names: Vec<&str> = TABLES.iter().flat_map(|(_, _, table)| *table).map(|d| d.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let queues = names.iter().filter_map(|name| name.strip_prefix("queue.")?.strip_suffix(".limit"));
        let queues: Vec<&str> = queues.collect();
        for queue in [
            "completions",
            "commands",
            "newcomers",
            "mailbox",
            "mailbox_bytes",
            "mailbox_recipients",
            "commit",
            "output",
            "held",
            "directory",
            "crypto",
            "sms",
            "push",
        ] {
            assert!(queues.contains(&queue), "no limit of {queue}");
        }
        // Whatever is named as a queue is one.
        let named = names.iter().filter_map(|name| name.strip_prefix("queue.")?.rsplit_once('.'));
        for queue in queues.into_iter().chain(named.map(|(queue, _)| queue)) {
            for figure in ["length", "high_water", "limit"] {
                let name = format!("queue.{queue}.{figure}");
                assert!(names.contains(&name.as_str()), "no {name}");
            }
        }
    }
}
