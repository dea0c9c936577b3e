//! The log: full, sparse, slow, damaged, old, and failing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::channel;

use whimbrel_server::worker::command::Command;
use whimbrel_storage::directory::{WriteTransaction, run_inline};

use super::messages::one_sender_may_fill;
use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::support::disk::fail_the_next_root;
use crate::support::managed::chat;
use crate::support::program::log_folder;
use crate::support::roster::{ROSTER, roster};

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "the log is full",
        configure: |config| {
            config.workers = 1;
            config.log_segment_mib = 2;
            config.log_mib_max = 16;
            one_sender_may_fill(config);
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            let filler = "x".repeat(200_000);
            stage.until_with("refused.log_full", || {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'><body>{filler}</body></message>"
                ));
                romeo.settle();
            });
        },
        moves: &["refused.log_full", "refused.archive"],
        ..PLAIN
    },
    Step {
        what: "most of the log is dead, and an old message waits in front of it",
        configure: |config| {
            config.archive.enabled = false;
            config.workers = 1;
        },
        act: |stage, server| {
            let mut romeo = server.online("romeo", "orchard");
            romeo.send(&chat("juliet@localhost", 0));
            let filler = "x".repeat(200_000);
            stage.until_with("log.compacted", || {
                let body = format!("<body>{filler}</body>");
                romeo.send(&format!("<message to='romeo@localhost' type='chat' id='f'>{body}</message>"));
                while romeo.next_message() != "f" {}
            });
        },
        moves: &["log.compacted"],
        ..PLAIN
    },
    Step {
        what: "more messages wait for a subscription's write than may be not_durable",
        // So much that one sender may have all of them waiting.
        configure: |config| config.limits.held_bytes = 64 << 20,
        act: wait_for_the_directory,
        moves: &["log.pauses"],
        ..PLAIN
    },
    Step {
        what: "a record that waits is damaged on the disk",
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            romeo.send("<message to='juliet@localhost' type='chat'><body>it is the east</body></message>");
            stage.until("log.pending");
            damage(server.data.as_ref().unwrap().path(), b"it is the east");
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            stage.until("log.damaged");
        },
        moves: &["log.damaged"],
        ..PLAIN
    },
    Step {
        what: "a message has waited for longer than it may",
        act: |stage, server| {
            server.login("romeo", "orchard").send(&chat("juliet@localhost", 0));
            stage.until("log.pending");
            // No configuration can say so: a day is the least.
            let mut config = (*server.server.config()).clone();
            config.limits.offline_days = 0;
            for queue in &server.server.commands {
                assert!(queue.give(Command::Reconfigure(config.clone().into())));
            }
            stage.until("log.expired");
        },
        moves: &["log.expired"],
        ..PLAIN
    },
    Step {
        what: "the disk fails for a while",
        configure: |config| config.workers = 1,
        act: |stage, server| {
            let folder = log_folder(server.data.as_ref().unwrap().path(), 0);
            let away = folder.with_extension("away");
            // What stands in a folder's place is no folder, so no file in it can be touched.
            fs::rename(&folder, &away).unwrap();
            File::create(&folder).unwrap();
            stage.until_with("refused.log_failed", || {
                server.login("romeo", "orchard").send(&chat("juliet@localhost", 0));
            });
            fs::remove_file(&folder).unwrap();
            fs::rename(&away, &folder).unwrap();
            stage.until("log.reopened");
        },
        moves: &["refused.log_failed", "log.reopened"],
        ..PLAIN
    },
    Step {
        what: "the disk fails a commit of the directory, and works again",
        act: fail_the_directory,
        moves: &["directory.reopened"],
        ..PLAIN
    },
];

/// Changes a byte of a text, wherever the segments have it.
fn damage(data: &Path, text: &[u8]) {
    let folders = fs::read_dir(data.join("log/generation-1")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.filter(|path| path.is_dir()).flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut found = 0;
    for path in files.map(|entry| entry.unwrap().path()) {
        let bytes = fs::read(&path).unwrap();
        let Some(at) = bytes.windows(text.len()).position(|window| window == text) else { continue };
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"#", at as u64).unwrap();
        found += 1;
    }
    assert!(found > 0, "the text is in no segment");
}

/// What the disk has not taken is refused and not there; what comes next is written.
fn fail_the_directory(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.login("juliet", "balcony");
    fail_the_next_root(server.data.as_ref().unwrap().path());
    for (name, answer) in [("lost", "error"), ("kept", "result")] {
        let item = format!("<item jid='romeo@localhost' name='{name}'/>");
        let set = juliet.ask("set", None, &format!("<query xmlns='{ROSTER}'>{item}</query>"));
        assert_eq!(set.attribute("type"), Some(answer), "{set:?}");
        let is_there = roster(&mut juliet).concat().contains(name);
        assert_eq!(is_there, name == "kept", "{name}");
    }
    stage.until("directory.reopened");
}

/// The directory's writer stands still while a subscription is to be written; what the user's other client sends the
/// same contact waits for that.
fn wait_for_the_directory(stage: &mut Stage<'_>, server: &Verona) {
    server.accounts(&["tybalt"]);
    let (mut asks, mut writes) = (server.login("romeo", "orchard"), server.login("romeo", "street"));
    writes.enable_sm();
    let (holds, is_held) = channel();
    let (go, may_go) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let wait = move |_: &mut WriteTransaction<'_>| {
                holds.send(()).unwrap();
                // Let go of when the other end is gone, too.
                let _ = may_go.recv();
                Ok(())
            };
            run_inline(&server.server.shared.directory, Box::new(wait)).unwrap();
        });
        is_held.recv().unwrap();
        asks.send("<presence type='subscribe' to='tybalt@localhost'/>");
        stage.until_with("log.pauses", || {
            let message = "<message to='tybalt@localhost' type='chat'><body>t</body></message>";
            writes.send(&message.repeat(200));
        });
        drop(go);
    });
}
