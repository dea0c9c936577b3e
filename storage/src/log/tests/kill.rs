//! A process that appends is killed, again and again: what it said was committed is there, bodies and references included.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::files::{open_many, options};
use crate::actor::ActorId;
use crate::log::*;

/// In the environment of the process that is killed: the folder.
const FOLDER: &str = "WHIMBREL_TEST_KILLED_LOG";
const USERS: u64 = 5;

fn settings() -> Options {
    Options { checkpoint_bytes: 20_000, compaction_bytes_per_second: 1 << 30, ..options() }
}

fn text(number: u64) -> String {
    format!("{number} ").repeat(1 + number as usize % 200)
}

/// Runs in the process that is killed: appends for ever, says what is committed.
#[test]
fn it_appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut log = open_many(folder.as_ref(), &settings(), 1).logs.remove(0);
    let mut said = std::io::stdout().lock();
    // The test's name stands in this line.
    writeln!(said).unwrap();
    let mut results = Vec::new();
    let first =
        log.actors().filter_map(|actor| log.backlog(actor)).map(|backlog| backlog.last.time_ms()).max();
    for number in first.unwrap_or(0) + 1.. {
        let user = |n| ActorCopy::queued(ActorId::user((number + n) % USERS));
        let users: Vec<ActorCopy> = (0..1 + number % USERS).map(user).collect();
        let text = text(number);
        let origin = Origin { stream: 1, number: number as u32 };
        let body = Body { time_ms: number, origin, payload: text.as_bytes() };
        log.append_for(&users, &body, &mut results);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        if number % 3 == 0 {
            // The oldest of somebody is acknowledged, so that segments empty and are compacted.
            let user = ActorId::user(number % USERS);
            if log.backlog(user).is_some_and(|backlog| backlog.messages > 20) {
                let oldest = log.backlog(user).unwrap().first;
                // Said first: it may not come to it.
                writeln!(said, "trim {} {}", user.number(), oldest.0).unwrap();
                said.flush().unwrap();
                log.trim(user, oldest);
            }
        }
        log.maintain(number);
        log.commit_now().unwrap();
        log.keep_files_now();
        for (user, result) in users.iter().zip(&results) {
            writeln!(said, "have {} {} {number}", user.actor.number(), result.unwrap().sequence.0).unwrap();
        }
        said.flush().unwrap();
    }
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_has_committed() {
    let folder = tempfile::tempdir().unwrap();
    // What must wait: by user and id, which text.
    let mut expected: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for round in 0..20 {
        let name = "log::tests::kill::it_appends_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut note = |line: &str, trims: &mut Vec<(u64, u64)>| -> bool {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| -> Option<u64> { words.get(at)?.parse().ok() };
            match (words[0], number(1), number(2), number(3)) {
                ("have", Some(user), Some(id), Some(text)) => _ = expected.insert((user, id), text),
                ("trim", Some(user), Some(id), None) => trims.push((user, id)),
                _ => return false,
            }
            true
        };
        let (mut seen, mut trims) = (0, Vec::new());
        while seen < 50 + 37 * round {
            seen += u64::from(note(&lines.next().expect("it goes on until it is killed"), &mut trims));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said by then: a line is one write to the pipe, so none is cut off.
        lines.for_each(|line| _ = note(&line, &mut trims));
        trims.iter().for_each(|trim| _ = expected.remove(trim));

        let mut opened = open_many(folder.path(), &settings(), 1);
        assert_eq!(opened.report.damage, [], "a crash is no damage");
        let log = opened.logs.remove(0);
        for ((user, id), number) in &expected {
            let next = log.read(ActorId::user(*user), Sequence(id - 1), 1).next();
            let record =
                next.unwrap_or_else(|| panic!("round {round}: {id} of user {user} is gone")).unwrap();
            assert_eq!((record.sequence, record.payload), (Sequence(*id), text(*number).as_bytes()));
        }
        let waiting: u64 =
            log.actors().filter_map(|actor| log.backlog(actor)).map(|backlog| backlog.messages).sum();
        let unsaid = waiting - expected.len() as u64;
        assert!(unsaid <= 2 * USERS, "{unsaid} that were under way");
        // Those that were under way are there to stay.
        for actor in log.actors() {
            for record in log.pending(actor) {
                let record = record.unwrap();
                expected.insert((actor.number(), record.sequence.0), record.time_ms);
            }
        }
        log.commit_now().unwrap();
    }
}
