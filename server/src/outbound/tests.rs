//! The queue with its threads, and a sender that does what a test says. No result depends on time: attempts wait for the
//! test, and deadlines lie either in the past or far away.

use std::sync::mpsc::{Receiver, Sender as Told, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;

const FAR: Duration = Duration::from_secs(3600);

struct Note(u64);

impl Outgoing for Note {
    fn id(&self) -> u64 {
        self.0
    }

    fn dead_letter(&self, lost: &Lost<'_>) -> Map<String, Value> {
        Map::from_iter([("to".to_owned(), json!("somebody")), ("sender".to_owned(), json!(lost.sender))])
    }
}

/// Tells each attempt, then waits for what it shall return.
struct Provider {
    attempts: Told<u64>,
    results: Mutex<Receiver<Result<(), Failure>>>,
}

impl Sender<Note> for Provider {
    fn name(&self) -> &'static str {
        "provider"
    }

    fn send(&self, message: &Note, _: Duration) -> Result<(), Failure> {
        let _ = self.attempts.send(message.0);
        self.results.lock().unwrap().recv().unwrap_or(Err(Failure::Refused("the test is over".into())))
    }
}

struct World {
    outbound: Outbound<Note>,
    attempts: Receiver<u64>,
    results: Told<Result<(), Failure>>,
    folder: TempDir,
}

impl World {
    fn new(queue: usize) -> World {
        let folder = tempfile::tempdir().unwrap();
        let ((attempt, attempts), (results, result)) = (channel(), channel());
        let settings = Settings {
            name: "note",
            queue,
            threads: 1,
            pause_first: Duration::from_millis(1),
            jitter: Jitter::seeded(1),
            dead_letters: folder.path().join("letters.jsonl"),
        };
        let provider = Provider { attempts: attempt, results: Mutex::new(result) };
        let outbound = Outbound::start(settings, Arc::new(provider)).unwrap();
        World { outbound, attempts, results, folder }
    }

    fn send(&self, id: u64) -> oneshot::Receiver<Delivery> {
        self.outbound.try_send(Note(id), FAR).expect("there is room")
    }

    fn letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("letters.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn unreachable(reason: &str) -> Result<(), Failure> {
    Err(Failure::Unreachable(reason.into()))
}

fn outcome(answer: oneshot::Receiver<Delivery>) -> SendOutcome {
    answer.blocking_recv().unwrap().0
}

#[test]
fn a_message_is_tried_again_until_it_is_sent() {
    let world = World::new(4);
    for result in [unreachable("down"), unreachable("still down"), Ok(())] {
        world.results.send(result).unwrap();
    }
    assert_eq!(outcome(world.send(7)), SendOutcome::Sent);
    assert_eq!(world.attempts.try_iter().collect::<Vec<_>>(), [7, 7, 7]);
    assert!(world.letters().is_empty());
}

#[test]
fn a_refusal_is_final_and_a_dead_letter() {
    let world = World::new(4);
    world.results.send(unreachable("down")).unwrap();
    world.results.send(Err(Failure::Refused("no such number".into()))).unwrap();
    assert_eq!(outcome(world.send(0xabc)), SendOutcome::Refused);
    let letters = world.letters();
    let letter = &letters[0];
    assert_eq!(letters.len(), 1);
    let fields = ["id", "kind", "reason", "to", "sender"].map(|name| letter[name].as_str().unwrap());
    assert_eq!(fields, ["0000000000000abc", "refused", "no such number", "somebody", "provider"]);
    assert!(letter["time_ms"].as_u64().is_some_and(|time| time > 0));
}

#[test]
fn a_message_past_its_deadline_is_not_tried() {
    let world = World::new(4);
    let late = world.outbound.try_send(Note(1), Duration::ZERO).unwrap();
    assert_eq!(outcome(late), SendOutcome::Unreachable);
    assert_eq!(world.attempts.try_iter().count(), 0);
    let letters = world.letters();
    assert_eq!((letters.len(), &letters[0]["kind"]), (1, &json!("unreachable")));
}

#[test]
fn a_full_queue_refuses_at_once_and_says_how_full_it_is() {
    let world = World::new(2);
    let first = world.send(1);
    assert_eq!(world.attempts.recv().unwrap(), 1, "it waits no more: it is being sent");
    let (second, third) = (world.send(2), world.send(3));
    assert_eq!(world.outbound.gauge(), (2, 2, 2));
    assert_eq!(world.outbound.try_send(Note(4), FAR).err(), Some(QueueFull));
    for _ in 0..3 {
        world.results.send(Ok(())).unwrap();
    }
    assert_eq!([first, second, third].map(outcome), [SendOutcome::Sent; 3]);
    assert_eq!(world.outbound.gauge(), (0, 2, 2));
    assert_eq!(world.attempts.try_iter().collect::<Vec<_>>(), [2, 3], "what was refused is not sent");
}

#[test]
fn a_stop_answers_what_waits_and_leaves_no_asker_behind() {
    let world = World::new(2);
    let sending = world.send(1);
    world.attempts.recv().unwrap();
    let waiting = world.send(2);
    assert!(!world.outbound.stop(Duration::ZERO), "an attempt is under way");
    assert_eq!(outcome(waiting), SendOutcome::Stopping);
    assert_eq!(world.outbound.try_send(Note(3), FAR).err(), Some(QueueFull));
    world.outbound.abandon();
    assert_eq!(outcome(sending), SendOutcome::Stopping);
    world.results.send(Ok(())).unwrap();
    assert!(world.outbound.stop(FAR), "the attempt is over");
    assert_eq!(world.outbound.gauge(), (0, 1, 2));
    world.outbound.restart().unwrap();
    world.results.send(Ok(())).unwrap();
    assert_eq!(outcome(world.send(4)), SendOutcome::Sent);
    assert_eq!(world.attempts.try_iter().collect::<Vec<_>>(), [4]);
}

#[test]
fn a_stop_ends_a_pause() {
    let folder = tempfile::tempdir().unwrap();
    let ((attempt, attempts), (results, result)) = (channel(), channel());
    let settings = Settings {
        name: "note",
        queue: 1,
        threads: 1,
        pause_first: FAR,
        jitter: Jitter::seeded(1),
        dead_letters: folder.path().join("letters.jsonl"),
    };
    let provider = Provider { attempts: attempt, results: Mutex::new(result) };
    let outbound = Outbound::start(settings, Arc::new(provider)).unwrap();
    results.send(unreachable("down")).unwrap();
    let answer = outbound.try_send(Note(1), FAR).unwrap();
    attempts.recv().unwrap();
    assert!(outbound.stop(FAR), "a pause of an hour is over at once");
    assert_eq!(outcome(answer), SendOutcome::Stopping);
    assert!(!folder.path().join("letters.jsonl").exists(), "it was not given up");
}
