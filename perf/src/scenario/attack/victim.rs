//! The victim: one user sends another messages at a steady rate, from one process, and times each from the moment at
//! which it was due. It never waits for anything but its own two sessions.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::account::Accounts;
use crate::engine::counters::Latencies;
use crate::scenario::attack::kinds::{LISTENER, TALKER};
use crate::scenario::attack::wire::{News, Order, Talk, tell};
use crate::scenario::client::{Client, Door, Entry, present};
use crate::scenario::poll;

/// How long to wait for messages that are still on their way.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Messages that may be under way; a server that holds more is slow beyond measure.
const UNDER_WAY_MAX: u64 = 100_000;

const READ_BYTES: usize = 64 * 1024;

/// Runs until the coordinator is gone.
pub(super) fn run(door: &Door, rate: f64, orders: &Receiver<Order>) -> Result<(), String> {
    poll::go_first();
    let mut entry = Entry::new(door);
    let mut pair = Pair::log_in(&mut entry)?;
    tell(&News::Ready);
    loop {
        let order = match orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => return Ok(()),
        };
        match order {
            Some(Order::Measure) => {
                if pair.ended().is_some() {
                    pair = Pair::log_in(&mut entry)?;
                }
                pair.begin(rate);
            }
            Some(Order::Report) => {
                pair.due = None;
                pair.drain()?;
                let mut talk = pair.report();
                talk.login = Some(try_login(&mut entry));
                tell(&News::Talked(Box::new(talk)));
            }
            _ => {}
        }
        pair.turn(&entry.door.domain)?;
    }
}

/// One login with the recipient's password, and another resource; in seconds.
fn try_login(entry: &mut Entry) -> Result<f64, String> {
    let began = Instant::now();
    let client = Client::log_in(entry, LISTENER, None, "other", false)?;
    let seconds = began.elapsed().as_secs_f64();
    client.cut();
    Ok(seconds)
}

struct Pair {
    talker: Client,
    listener: Client,
    /// Stanzas that each of them has received.
    handled: [u32; 2],
    /// When the next message is due.
    due: Option<Instant>,
    interval: Duration,
    phase: u64,
    /// When each message of the phase was due; `None` once it has arrived.
    sent: Vec<Option<Instant>>,
    arrived: u64,
    latencies: Latencies,
    buffer: Vec<u8>,
}

impl Pair {
    fn log_in(entry: &mut Entry) -> Result<Pair, String> {
        Ok(Pair {
            talker: present(entry, TALKER, None, true)?,
            listener: present(entry, LISTENER, None, true)?,
            handled: [0; 2],
            due: None,
            interval: Duration::from_secs(1),
            phase: 0,
            sent: Vec::new(),
            arrived: 0,
            latencies: Latencies::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn begin(&mut self, rate: f64) {
        self.phase += 1;
        self.sent.clear();
        self.arrived = 0;
        self.latencies = Latencies::default();
        self.interval = Duration::from_secs_f64(1.0 / rate);
        self.due = Some(Instant::now());
    }

    fn ended(&self) -> Option<String> {
        let name = |account: u64, client: &Client| {
            client.ended.as_ref().map(|reason| format!("{}: {reason}", Accounts::name(account)))
        };
        name(TALKER, &self.talker).or_else(|| name(LISTENER, &self.listener))
    }

    fn turn(&mut self, domain: &str) -> Result<(), String> {
        self.send(domain);
        let now = Instant::now();
        let wait = self.due.map_or(Duration::from_millis(5), |due| due.saturating_duration_since(now));
        let clients = [&self.talker, &self.listener];
        let live: Vec<_> = (0..2).filter(|&index| clients[index].ended.is_none()).collect();
        let polled: Vec<_> = live.iter().map(|&index| clients[index].interest(true)).collect();
        // The orders come by another thread, so a wait is short.
        let ready = poll::wait(&polled, wait.min(Duration::from_millis(5)))
            .map_err(|error| format!("cannot wait: {error}"))?;
        for (index, _) in live.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.read(index);
        }
        Ok(())
    }

    fn send(&mut self, domain: &str) {
        let now = Instant::now();
        while let Some(due) = self.due.filter(|due| *due <= now) {
            self.due = Some(due + self.interval);
            if self.ended().is_some() || self.sent.len() as u64 - self.arrived >= UNDER_WAY_MAX {
                continue;
            }
            let (phase, number, to) = (self.phase, self.sent.len(), Accounts::name(LISTENER));
            self.talker.push(&format!(
                "<message type='chat' id='v{phase}.{number}' to='{to}@{domain}'><body>Are you still there? {number}\
                 </body></message>"
            ));
            self.sent.push(Some(due));
        }
        self.talker.flush();
        self.listener.flush();
    }

    fn read(&mut self, index: usize) {
        let client = if index == 0 { &mut self.talker } else { &mut self.listener };
        let (handled, managed, mut asked) = (&mut self.handled[index], client.managed, false);
        let (phase, sent) = (self.phase, &mut self.sent);
        let (arrived, latencies) = (&mut self.arrived, &mut self.latencies);
        client.receive(&mut self.buffer, |element| match element.name() {
            b"r" => asked = true,
            b"message" | b"presence" | b"iq" => {
                *handled = handled.wrapping_add(1);
                let Some(number) = own(element.attribute(b"id"), phase) else { return };
                if let Some(due) = sent.get_mut(number).and_then(Option::take) {
                    *arrived += 1;
                    latencies.record(due.elapsed().as_nanos() as u64);
                }
            }
            _ => {}
        });
        if asked && managed {
            let h = self.handled[index];
            client.push(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
        }
        client.flush();
    }

    fn drain(&mut self) -> Result<(), String> {
        let end = Instant::now() + DRAIN_MAX;
        while self.arrived < self.sent.len() as u64 && self.ended().is_none() && Instant::now() < end {
            self.turn("")?;
        }
        Ok(())
    }

    /// What did not arrive has taken at least until now.
    fn report(&mut self) -> Talk {
        for due in self.sent.iter().flatten() {
            self.latencies.record(due.elapsed().as_nanos() as u64);
        }
        Talk {
            sent: self.sent.len() as u64,
            arrived: self.arrived,
            latencies: self.latencies.to_pairs(),
            ended: self.ended(),
            login: None,
        }
    }
}

/// The number in the id of one of the victim's messages of this phase.
fn own(id: Option<&[u8]>, phase: u64) -> Option<usize> {
    let (of, number) = std::str::from_utf8(id?).ok()?.strip_prefix('v')?.split_once('.')?;
    (of.parse() == Ok(phase)).then(|| number.parse().ok()).flatten()
}
