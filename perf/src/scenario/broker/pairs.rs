//! The loads: connections that do nothing, and pairs of which each arrival is answered with the next message.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::counters::{Counters, Latencies};
use crate::report::{Latency, Memory, Phase};
use crate::sample::process::Process;
use crate::sample::{Sample, Server};
use crate::scenario::broker::{Heard, Speech};
use crate::scenario::poll::{self, Interest};
use crate::scenario::{chat, rest};

/// How long a broker may take for its answer to a new client.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long to wait for what is still on its way at the end.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long to wait for the sockets before looking at the time.
const WAIT_MAX: Duration = Duration::from_millis(20);

const READ_BYTES: usize = 64 * 1024;

/// A broker, and what is asked of it.
pub(crate) struct Room<'a> {
    /// What it speaks.
    pub(crate) speech: Speech,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its processes.
    pub(crate) servers: Vec<u32>,
    /// The run is to end.
    pub(crate) interrupted: &'a AtomicBool,
}

struct Client {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: u32,
    /// The number that comes next from the partner.
    next: u32,
}

/// Memory of so many idle connections, for each count.
///
/// # Errors
/// The broker does not take them.
pub(crate) fn held(room: &Room<'_>, counts: &[u64], settle: Duration) -> Result<Memory, String> {
    let (mut clients, mut memory) = (Vec::new(), Memory::default());
    for &count in counts {
        while (clients.len() as u64) < count {
            let client = Client::connect(room, clients.len() as u32)?;
            clients.push(client);
        }
        std::thread::sleep(settle);
        rest(&room.servers, room.interrupted)?;
        memory.points.push((count, Sample::take(&Server::Here(room.servers.clone()))));
    }
    memory.compute();
    Ok(memory)
}

/// A chat of so many clients in pairs; returns the phase, with what was lost in its counters.
///
/// # Errors
/// The broker refuses, ends a connection, or delivers in another order.
pub(crate) fn talked(
    room: &Room<'_>,
    name: &str,
    clients: u64,
    window: u32,
    body_bytes: usize,
    time: Duration,
) -> Result<Phase, String> {
    let clients = (clients / 2 * 2) as u32;
    let clients = (0..clients).map(|number| Client::connect(room, number)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut talk = Talk { room, clients, body_bytes, began, sending: true, delivered: 0, latencies: None };
    for first in (0..talk.clients.len()).step_by(2) {
        (0..window).for_each(|_| talk.say(first));
    }
    // What does not count, first.
    talk.run(|_, passed| passed >= Duration::from_secs(2))?;
    let (before, from, delivered) = (Process::read_all(&room.servers), Instant::now(), talk.delivered);
    talk.latencies = Some(Latencies::default());
    talk.run(|_, _| from.elapsed() >= time)?;
    let (after, seconds) = (Process::read_all(&room.servers), from.elapsed().as_secs_f64());
    let counted = Counters { delivered: talk.delivered - delivered, ..Counters::default() };
    let latencies = talk.latencies.take().unwrap_or_default();
    talk.sending = false;
    let stopped = Instant::now();
    talk.run(|talk, _| talk.delivered == talk.sent() || stopped.elapsed() > DRAIN_MAX)?;
    let (sent, delivered) = (talk.sent(), talk.delivered);
    let whole = Counters { sent, delivered, lost: sent - delivered, ..Counters::default() };
    let mut phase = Phase { name: name.to_owned(), seconds, counted, whole, ..Phase::default() };
    phase.latencies.extend(Latency::of(&latencies).map(|latency| ("message".to_owned(), latency)));
    if let (Some(before), Some(after)) = (before, after) {
        phase.server_cpu =
            Some((after.user_seconds - before.user_seconds, after.system_seconds - before.system_seconds));
        phase.server_switches = Some(after.context_switches.saturating_sub(before.context_switches));
    }
    chat::add_figures(&mut phase);
    Ok(phase)
}

struct Talk<'a> {
    room: &'a Room<'a>,
    clients: Vec<Client>,
    body_bytes: usize,
    began: Instant,
    sending: bool,
    delivered: u64,
    /// What is timed; `None` while nothing counts.
    latencies: Option<Latencies>,
}

impl Talk<'_> {
    fn sent(&self) -> u64 {
        self.clients.iter().map(|client| u64::from(client.sent)).sum()
    }

    fn run(&mut self, over: impl Fn(&Talk<'_>, Duration) -> bool) -> Result<(), String> {
        let mut buffer = vec![0; READ_BYTES];
        while !over(self, self.began.elapsed()) {
            if self.room.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            let interests: Vec<Interest> = self.clients.iter().map(Client::interest).collect();
            let ready = poll::wait(&interests, WAIT_MAX).map_err(|error| format!("cannot wait: {error}"))?;
            for number in (0..ready.len()).filter(|&number| ready[number]) {
                self.hear(number, &mut buffer)?;
            }
            for client in &mut self.clients {
                client.flush()?;
            }
        }
        Ok(())
    }

    /// Says one message from a client to its partner: its number, when it was said, and what fills it up.
    fn say(&mut self, number: usize) {
        let now = self.began.elapsed().as_nanos();
        let client = &mut self.clients[number];
        let mut text = format!("{:x}-{now:x}-", client.sent);
        while text.len() < self.body_bytes {
            text.push('x');
        }
        let sequence = (client.sent % (1 << 16)) as u16;
        self.room.speech.send(number as u32 ^ 1, sequence, text.as_bytes(), &mut client.output);
        client.sent += 1;
    }

    fn hear(&mut self, number: usize, buffer: &mut [u8]) -> Result<(), String> {
        self.clients[number].fill(buffer)?;
        let input = std::mem::take(&mut self.clients[number].input);
        let mut used = 0;
        while let Some((heard, length)) = self.room.speech.hear(&input[used..])? {
            used += length;
            match heard {
                Heard::Message(text, reply) => {
                    self.clients[number].output.extend_from_slice(reply.as_bytes());
                    self.arrived(number, text)?;
                }
                Heard::Asked(reply) => self.clients[number].output.extend_from_slice(reply.as_bytes()),
                Heard::Ready | Heard::Taken | Heard::Nothing => {}
            }
        }
        self.clients[number].input = input[used..].to_vec();
        Ok(())
    }

    fn arrived(&mut self, number: usize, text: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(text);
        let mut parts = text.split('-');
        let mut part = || u64::from_str_radix(parts.next()?, 16).ok();
        let (Some(sequence), Some(said)) = (part(), part()) else {
            return Err(format!("a message came back altered: {text:?}"));
        };
        let next = &mut self.clients[number].next;
        if sequence != u64::from(*next) {
            return Err(format!("message {sequence} came where {next} was due"));
        }
        *next += 1;
        self.delivered += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.record((self.began.elapsed().as_nanos() as u64).saturating_sub(said));
        }
        if self.sending {
            self.say(number);
        }
        Ok(())
    }
}

impl Client {
    /// Connects, subscribes, and waits until that stands.
    fn connect(room: &Room<'_>, number: u32) -> Result<Client, String> {
        let failed = |error: std::io::Error| format!("client {number} cannot connect: {error}");
        let socket = TcpStream::connect(room.address).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let mut client = Client { socket, input: Vec::new(), output: Vec::new(), sent: 0, next: 0 };
        client.socket.write_all(&room.speech.hello(number)).map_err(failed)?;
        let mut buffer = [0; 4096];
        loop {
            let count = client.socket.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Err(format!("client {number}: the broker closed the connection"));
            }
            client.input.extend_from_slice(&buffer[..count]);
            while let Some((heard, used)) = room.speech.hear(&client.input)? {
                let ready = heard == Heard::Ready;
                client.input.drain(..used);
                if ready {
                    client.input.shrink_to_fit();
                    client.socket.set_nonblocking(true).map_err(failed)?;
                    return Ok(client);
                }
            }
        }
    }

    fn interest(&self) -> Interest {
        Interest { fd: self.socket.as_raw_fd(), read: true, write: !self.output.is_empty() }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        match self.socket.read(buffer) {
            Ok(0) => Err("the broker closed a connection".into()),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(format!("a connection broke: {error}")),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("a connection broke: {error}")),
            }
        }
        Ok(())
    }
}
