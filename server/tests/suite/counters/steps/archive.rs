//! Archives: written, read, cut, and asked for too often.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use whimbrel_server::config::Config;
use whimbrel_storage::archive::continuation::GOES_ON;

use super::{PLAIN, Verona};
use crate::archive::{page, query};
use crate::counters::stage::{Stage, Step};
use crate::support::Client;

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a conversation is archived, becomes too long for an account, and is read",
        configure: |config| {
            config.workers = 1;
            config.archive.mib_per_account = 1;
        },
        act: fill_and_read,
        moves: &[
            "archive.messages",
            "archive.rows",
            "archive.kept",
            "archive.bytes",
            "archive.cut",
            "archive.queries",
            "archive.pages",
            "archive.returned",
            "archive.oldest",
            "archive.index_rows",
            "archive.index_bytes",
            "queue.archive.high_water",
        ],
        ..PLAIN
    },
    Step {
        what: "messages of an archive are gathered, but for those that cannot be read",
        configure: |config| {
            config.workers = 1;
            config.archive.gather_seconds = 1;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            fill(&mut romeo, 200, 1000);
            for metric in ["archive.to_gather", "archive.gathered"] {
                stage.until(metric);
            }
            stage.until("archive.gathered_files");
            stage.until("archive.gathered_bytes");
            let log = server.data.as_ref().expect("it runs").path().join("log");
            std::fs::create_dir(log.join("generation-0/0/gathering.partial")).expect("it can be made");
            stage.until_with("archive.gather_failed", || fill(&mut romeo, 70, 100));
            std::fs::remove_dir(log.join("generation-0/0/gathering.partial")).expect("it can be removed");
            for file in &segments(&log) {
                let content = std::fs::read(file).expect("a file of the log");
                let file = std::fs::OpenOptions::new().write(true).open(file).expect("it can be written");
                for at in (0..content.len().saturating_sub(100)).step_by(50) {
                    if content[at..at + 50] == [b'x'; 50] {
                        file.write_all_at(b"y", at as u64).expect("it can be written");
                    }
                }
            }
            stage.until("archive.gather_left");
        },
        moves: &[
            "archive.to_gather",
            "archive.gathered",
            "archive.gathered_files",
            "archive.gathered_bytes",
            "archive.gather_failed",
            "archive.gather_left",
        ],
        ..PLAIN
    },
    Step {
        what: "what was gathered has half of what all logs may take, and more comes",
        configure: |config| {
            one_small_log(config, 16);
            config.archive.gather_seconds = 1;
        },
        act: |stage, server| {
            talk_to_oneself_until(stage, server, "archive.gather_pressed", 60_000);
        },
        moves: &["archive.gather_pressed"],
        ..PLAIN
    },
    Step {
        what: "most of what was gathered is cut, and logs take half of what they may",
        configure: |config| {
            one_small_log(config, 8);
            config.archive.mib_per_account = 1;
            config.archive.gather_seconds = 3;
        },
        act: |stage, server| {
            for (name, bytes) in [("juliet", 300), ("romeo", 5_000)] {
                let mut client = server.login(name, "alone");
                let body = format!("<body>{}</body>", "x".repeat(bytes));
                let text = format!("<message to='{name}@localhost' type='chat'>{body}</message>");
                (0..70).for_each(|_| client.send(&text));
                client.settle();
            }
            stage.until("archive.gathered");
            // What she has stays, in a file with what he has no longer.
            talk_to_oneself_until(stage, server, "archive.gather_sparse", 5_000);
        },
        moves: &["archive.gather_sparse"],
        ..PLAIN
    },
    Step {
        what: "all archives together become too large",
        configure: |config| {
            config.workers = 1;
            config.archive.mib_max = 1;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            let mut juliet = server.online("juliet", "balcony");
            let filler = "x".repeat(10_000);
            stage.until_with("archive.crowded", || {
                for _ in 0..16 {
                    let body = format!("<body>{filler}</body>");
                    romeo
                        .send(&format!("<message to='juliet@localhost' type='chat' id='f'>{body}</message>"));
                    while juliet.next_message() != "f" {}
                }
            });
        },
        moves: &["archive.crowded"],
        ..PLAIN
    },
    Step {
        what: "all archives together have a limit",
        configure: |config| config.archive.mib_max = 1,
        act: |stage, _| stage.count_from_zero(),
        moves: &["archive.bytes_limit"],
        ..PLAIN
    },
    Step {
        what: "a client asks for a long page and does not read it",
        configure: |config| {
            config.workers = 1;
            config.limits.output_backlog_bytes = 600_000;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            fill(&mut romeo, 200, 100_000);
            ask(&mut romeo);
            stage.until("archive.active");
        },
        moves: &["archive.active"],
        ..PLAIN
    },
    Step {
        what: "a client reads its archive page by page",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            fill(&mut romeo, 30, 100);
            let mut after = String::new();
            for _ in 0..3 {
                let inside = page(5, &format!("<after>{after}</after>"));
                after = query(&mut romeo, &[], &inside).expect("a page").ids.pop().expect("a message");
            }
            if GOES_ON {
                stage.until("archive.continuations");
            }
        },
        moves: if GOES_ON { &["archive.continuations", "archive.continued"] } else { &[] },
        ..PLAIN
    },
    Step {
        what: "a log is nearly full of what was delivered long ago",
        configure: |config| one_small_log(config, 16),
        act: |stage, server| {
            talk_to_oneself_until(stage, server, "archive.pressed", 100_000);
        },
        moves: &["archive.pressed"],
        ..PLAIN
    },
    Step {
        what: "an account with an archive is deleted",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            fill(&mut romeo, 200, 100);
            stage.until("archive.kept");
            stage.until("archive.memory");
            romeo.send("<iq type='set' id='d'><query xmlns='jabber:iq:register'><remove/></query></iq>");
            stage.until("archive.expired");
        },
        moves: &["archive.memory", "archive.expired"],
        ..PLAIN
    },
    Step {
        what: "a message is retracted while it waits for its recipient",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
            romeo.send(RETRACTION);
            for metric in ["archive.retractions", "archive.retracted", "archive.retracted_waiting"] {
                stage.until(metric);
            }
        },
        moves: &["archive.retractions", "archive.retracted", "archive.retracted_waiting"],
        ..PLAIN
    },
    Step {
        what: "a message is retracted of which a session that can be resumed has a copy",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut phone = server.login("romeo", "phone");
            phone.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
            phone.enable_sm();
            phone.settle();
            phone.cut();
            let mut romeo = server.login("romeo", "orchard");
            romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
            romeo.send(RETRACTION);
            stage.until("archive.retracted_copies");
        },
        moves: &["archive.retracted_copies"],
        ..PLAIN
    },
    Step {
        what: "the text of a retracted message is taken out of the log",
        configure: |config| {
            config.workers = 1;
            config.archive.erase_days = 0;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
            romeo.send(RETRACTION);
            stage.until("archive.erased");
            stage.until("queue.upkeep.high_water");
        },
        moves: &["archive.erased", "queue.upkeep.high_water"],
        ..PLAIN
    },
    Step {
        what: "the text of a retracted message is on the disk still",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
            romeo.send(RETRACTION);
            stage.until("archive.to_erase");
            stage.until("archive.to_erase_age");
        },
        moves: &["archive.to_erase", "archive.to_erase_age"],
        ..PLAIN
    },
    Step {
        what: "the files of an archive are damaged, and then removed, behind the server's back",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            fill(&mut romeo, 10, 1000);
            let files = segments(&server.data.as_ref().expect("it runs").path().join("log"));
            for file in &files {
                let content = std::fs::read(file).expect("a file of the log");
                let Some(at) = content.windows(100).position(|bytes| bytes == [b'x'; 100]) else { continue };
                let file = std::fs::OpenOptions::new().write(true).open(file).expect("it can be written");
                file.write_all_at(b"y", at as u64).expect("it can be written");
            }
            ask(&mut romeo);
            stage.until("archive.reads");
            stage.until("archive.read_bytes");
            stage.until("archive.damaged");
            files.iter().for_each(|file| std::fs::remove_file(file).expect("it can be removed"));
            // The reader's threads have them open for a while.
            stage.until_with("archive.gone", || {
                ask(&mut romeo);
                while romeo.stanza().name() != "iq" {}
            });
        },
        moves: &["archive.reads", "archive.read_bytes", "archive.damaged", "archive.gone"],
        ..PLAIN
    },
    Step {
        what: "more is retracted at once than may",
        configure: |config| {
            config.workers = 1;
            config.archive.retractions = 1;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            stage.until_with("refused.retractions", || {
                romeo.send(&RETRACTION.repeat(50));
                romeo.settle();
                romeo.quiet();
            });
        },
        moves: &["refused.retractions"],
        ..PLAIN
    },
    Step {
        what: "more clients ask for pages at once than may",
        configure: |config| {
            config.archive.readers = 1;
            config.archive.queries = 1;
        },
        act: |stage, server| {
            let mut clients: Vec<_> = (0..8).map(|n| server.login("romeo", &format!("r{n}"))).collect();
            fill(&mut clients[0], 100, 10_000);
            stage.until_with("refused.archive_queries", || {
                clients.iter_mut().for_each(ask);
                for client in &mut clients {
                    while client.stanza().name() != "iq" {}
                }
            });
        },
        moves: &["refused.archive_queries", "archive.latency"],
        ..PLAIN
    },
];

const RETRACTION: &str = "<message to='juliet@localhost' type='chat'><retract xmlns='urn:xmpp:message-retract:1' id='m'/></message>";

fn fill(client: &mut Client, messages: usize, bytes: usize) {
    let filler = "x".repeat(bytes);
    for _ in 0..messages {
        client.send(&format!("<message to='juliet@localhost' type='chat'><body>{filler}</body></message>"));
    }
    client.settle();
    client.quiet();
}

/// One worker, whose log may take so many MiB.
fn one_small_log(config: &mut Config, mib: u32) {
    config.workers = 1;
    config.log_segment_mib = 2;
    config.log_mib_max = mib;
}

/// One writes himself texts of so many bytes, each after the one before has come, until a metric moves.
fn talk_to_oneself_until(stage: &mut Stage<'_>, server: &Verona, metric: &str, bytes: usize) {
    let mut romeo = server.online("romeo", "orchard");
    let filler = "x".repeat(bytes);
    stage.until_with(metric, || {
        let body = format!("<body>{filler}</body>");
        romeo.send(&format!("<message to='romeo@localhost' type='chat' id='f'>{body}</message>"));
        while romeo.next_message() != "f" {}
    });
}

/// The files of the log in a folder and those below it.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of the log");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let all = paths.flat_map(|path| if path.is_dir() { segments(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

fn ask(client: &mut Client) {
    client.send(
        "<iq type='set' id='a'><query xmlns='urn:xmpp:mam:2'>\
         <set xmlns='http://jabber.org/protocol/rsm'><max>250</max></set></query></iq>",
    );
}

fn fill_and_read(stage: &mut Stage<'_>, server: &Verona) {
    let mut romeo = server.login("romeo", "orchard");
    let mut juliet = server.online("juliet", "balcony");
    let filler = "x".repeat(10_000);
    stage.until_with("archive.cut", || {
        for _ in 0..16 {
            romeo.send(&format!(
                "<message to='juliet@localhost' type='chat' id='f'><body>{filler}</body></message>"
            ));
            while juliet.next_message() != "f" {}
        }
    });
    ask(&mut romeo);
    while romeo.stanza().name() != "iq" {}
    let metrics =
        ["archive.kept", "archive.bytes", "archive.oldest", "archive.index_rows", "archive.index_bytes"];
    for metric in metrics.into_iter().chain(["archive.pages", "queue.archive.high_water"]) {
        stage.until(metric);
    }
}
