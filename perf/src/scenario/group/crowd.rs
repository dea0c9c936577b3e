//! The clients of a room and of the pair beside it, and what has reached them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::wire::{self, Heard};
use crate::engine::counters::Latencies;
use crate::scenario::client::Client;
use crate::scenario::poll;

/// How long to wait for the sockets before looking at the time.
const WAIT_MAX: Duration = Duration::from_millis(5);

/// How long nothing may come of what was asked for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

const READ_BYTES: usize = 64 * 1024;

/// A message to the room that is under way.
struct Sent {
    at: Instant,
    /// Occupants that it has yet to reach.
    left: usize,
}

/// Everybody.
pub(super) struct Crowd<'a> {
    /// The occupants, and behind them the pair.
    clients: Vec<Client>,
    occupants: usize,
    /// Whether each occupant has entered.
    pub(super) inside: Vec<bool>,
    /// Stanzas that say so and that belong to each client: as many as rooms it has entered.
    pub(super) entered: Vec<u32>,
    /// Rooms that were opened.
    pub(super) opened: u32,
    /// How many messages each occupant has got.
    position: Vec<usize>,
    /// The numbers of the room's messages in their one order.
    order: Vec<u32>,
    sent: Vec<Sent>,
    /// When each message of the pair was said.
    beside: Vec<Instant>,
    /// Deliveries to occupants.
    pub(super) deliveries: u64,
    /// Messages that have reached all.
    pub(super) complete: u64,
    /// What is timed; `None` while nothing counts.
    pub(super) timed: Option<Timed>,
    interrupted: &'a AtomicBool,
    buffer: Vec<u8>,
}

/// Times of what is delivered.
#[derive(Default)]
pub(super) struct Timed {
    /// From sending a message to its last occupant.
    pub(super) last: Latencies,
    /// To each occupant.
    pub(super) each: Latencies,
    /// Of messages of the pair.
    pub(super) beside: Latencies,
}

impl<'a> Crowd<'a> {
    /// Of clients that are logged in: so many occupants, and behind them the pair.
    pub(super) fn new(clients: Vec<Client>, occupants: usize, interrupted: &'a AtomicBool) -> Crowd<'a> {
        let count = clients.len();
        Crowd {
            clients,
            occupants,
            inside: vec![false; count],
            entered: vec![0; count],
            opened: 0,
            position: vec![0; count],
            order: Vec::new(),
            sent: Vec::new(),
            beside: Vec::new(),
            deliveries: 0,
            complete: 0,
            timed: None,
            interrupted,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// How many of them are in the room, or are to be.
    pub(super) fn occupants(&self) -> usize {
        self.occupants
    }

    /// Messages to the room so far.
    pub(super) fn said(&self) -> u64 {
        self.sent.len() as u64
    }

    /// Messages that have yet to reach somebody.
    pub(super) fn under_way(&self) -> u64 {
        self.said() - self.complete
    }

    /// Has a client say something.
    pub(super) fn push(&mut self, client: usize, text: &str) {
        self.clients[client].push(text);
    }

    /// Has an occupant say the next message to the room.
    pub(super) fn say(&mut self, room: &str, body_bytes: usize) {
        let number = self.sent.len();
        let from = number % self.occupants;
        self.clients[from].push(&wire::message(room, number as u32, body_bytes));
        self.sent.push(Sent { at: Instant::now(), left: self.occupants });
    }

    /// Has one of the pair say something to the other, whose address is given.
    pub(super) fn say_beside(&mut self, to: &str) {
        let number = self.beside.len() as u32;
        self.clients[self.occupants].push(&wire::beside(to, number));
        self.beside.push(Instant::now());
    }

    /// Exchanges the connection of a client for another.
    pub(super) fn replace(&mut self, client: usize, with: Client) {
        std::mem::replace(&mut self.clients[client], with).cut();
        self.entered[client] = 0;
        self.inside[client] = false;
    }

    /// Sends and receives until it is over; `step` is called before each turn.
    ///
    /// # Errors
    /// Somebody's session ended, something was refused, came twice or in another order, or nothing comes any more.
    pub(super) fn until(
        &mut self,
        mut over: impl FnMut(&Crowd<'_>) -> bool,
        mut step: impl FnMut(&mut Crowd<'_>),
    ) -> Result<(), String> {
        let mut news = Instant::now();
        loop {
            step(self);
            if over(self) {
                return Ok(());
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            if self.turn()? {
                news = Instant::now();
            } else if news.elapsed() > SILENCE_MAX {
                return Err(format!("nothing has come for {} s", SILENCE_MAX.as_secs()));
            }
        }
    }

    /// One turn; whether anything came.
    fn turn(&mut self) -> Result<bool, String> {
        for client in &mut self.clients {
            client.flush();
        }
        let interests: Vec<_> = self.clients.iter().map(|client| client.interest(true)).collect();
        let ready = poll::wait(&interests, WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut any = false;
        for client in (0..ready.len()).filter(|&client| ready[client]) {
            any = true;
            let heard = receive(&mut self.clients[client], &mut buffer);
            for what in heard {
                self.heard(client, what)?;
            }
            if let Some(reason) = &self.clients[client].ended {
                return Err(format!("the server ended a session: {reason}"));
            }
        }
        self.buffer = buffer;
        Ok(any)
    }

    fn heard(&mut self, client: usize, heard: Heard) -> Result<(), String> {
        match heard {
            Heard::Nothing => {}
            Heard::Refused => return Err(format!("something of client {client} was refused")),
            Heard::Entered => {
                self.inside[client] = true;
                self.entered[client] += 1;
            }
            Heard::Left => self.inside[client] = false,
            Heard::Opened => self.opened += 1,
            Heard::Beside(number) => {
                let at = self.beside.get(number as usize).ok_or("a message that nobody has sent")?;
                if let Some(timed) = &mut self.timed {
                    timed.beside.record(at.elapsed().as_nanos() as u64);
                }
            }
            Heard::Message(number) => self.delivered(client, number)?,
        }
        Ok(())
    }

    fn delivered(&mut self, client: usize, number: u32) -> Result<(), String> {
        let place = self.position[client];
        match self.order.get(place) {
            Some(expected) if *expected != number => {
                return Err(format!(
                    "occupant {client} got message {number} where others got {expected}: the room has no one order"
                ));
            }
            Some(_) => {}
            None => self.order.push(number),
        }
        self.position[client] += 1;
        let sent = self.sent.get_mut(number as usize).ok_or("a message that nobody has sent")?;
        sent.left =
            sent.left.checked_sub(1).ok_or_else(|| format!("message {number} came to somebody twice"))?;
        self.deliveries += 1;
        let took = sent.at.elapsed().as_nanos() as u64;
        let is_last = sent.left == 0;
        self.complete += u64::from(is_last);
        if let Some(timed) = &mut self.timed {
            timed.each.record(took);
            if is_last {
                timed.last.record(took);
            }
        }
        Ok(())
    }

    /// Cuts all connections.
    pub(super) fn cut(self) {
        self.clients.into_iter().for_each(Client::cut);
    }
}

/// What a client has heard now.
fn receive(client: &mut Client, buffer: &mut [u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    client.receive(buffer, |element| heard.push(wire::heard(element)));
    heard
}
