//! Everybody who floods, in one process and one thread: clients take turns, each writes a bounded piece at a time.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::account::Accounts;
use crate::scenario::attack::kinds::{
    Entrance, FIRST_FLOODER, Kind, LISTENER, Place, Reading, find, prepare,
};
use crate::scenario::attack::rooms;
use crate::scenario::attack::wire::{Flood, News, Order, Poured, tell};
use crate::scenario::client::{Client, Door, Entry, RESOURCE, connect, header};
use crate::scenario::poll;

/// Bytes that a client produces at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// How long to wait for the answers to what fills the accounts; what has not come by then is not waited for.
const PREPARE_MAX: Duration = Duration::from_secs(90);

/// Spinning and sleeping take turns of this length together.
const SPIN_PERIOD: Duration = Duration::from_millis(4);

/// How long to sleep where nothing can be done.
const NAP: Duration = Duration::from_millis(2);

/// How long nothing comes to a client that has all its answers.
const QUIET: Duration = Duration::from_millis(20);

/// Connections that have not logged in which each client of guesses and half logins holds open.
const HELD_EACH: usize = 64;

/// Sessions from one source address.
const SESSIONS_PER_ADDRESS: u32 = 50;

/// Runs until the coordinator is gone.
pub(super) fn run(flood: &Flood, door: &Door, orders: &Receiver<Order>) -> Result<(), String> {
    let kind = find(&flood.kind).ok_or_else(|| format!("there is no kind `{}`", flood.kind))?;
    let mut flooder = Flooder {
        entry: Entry::new(door),
        kind,
        flood: flood.clone(),
        slots: (0..flood.clients * kind.sessions).map(|_| Slot::default()).collect(),
        buffer: vec![0; READ_BYTES],
        poured: Poured::default(),
        addresses: 0,
        allowance: 0.0,
    };
    flooder.connect()?;
    if flood.prepare && kind.entrance == Entrance::Session {
        flooder.prepare()?;
    }
    tell(&News::Ready);
    let mut task = Task::begin(Doing::Rest);
    loop {
        match orders.try_recv() {
            Ok(order) => flooder.obey(order, &mut task)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        match task.doing {
            Doing::Rest => flooder.wait(Duration::from_millis(5))?,
            Doing::Spin(share) => flooder.spin(share)?,
            Doing::Flood => flooder.pour(&mut task.last)?,
        }
    }
}

#[derive(Clone, Copy)]
enum Doing {
    Rest,
    Spin(f64),
    Flood,
}

struct Task {
    doing: Doing,
    began: Instant,
    last: Instant,
    cpu_seconds: f64,
}

impl Task {
    fn begin(doing: Doing) -> Task {
        let now = Instant::now();
        Task { doing, began: now, last: now, cpu_seconds: poll::cpu_seconds() }
    }
}

#[derive(Default)]
struct Slot {
    client: Option<Client>,
    /// Stanzas written so far.
    count: u64,
    /// Of these, those that have not all been sent.
    piece: u64,
    /// Stanzas that its pace allows.
    allowance: f64,
    /// Connections that have not logged in.
    held: VecDeque<Client>,
    /// When it last sent or read anything.
    busy: Option<Instant>,
}

struct Flooder {
    entry: Entry,
    kind: &'static Kind,
    flood: Flood,
    slots: Vec<Slot>,
    buffer: Vec<u8>,
    poured: Poured,
    /// Source addresses used by guesses and half logins.
    addresses: u32,
    /// Stanzas that the pace of all together allows.
    allowance: f64,
}

impl Flooder {
    fn obey(&mut self, order: Order, task: &mut Task) -> Result<(), String> {
        match order {
            Order::Spin(share) => {
                self.poured = Poured::default();
                *task = Task::begin(Doing::Spin(share));
            }
            Order::Flood => {
                self.poured = Poured::default();
                self.allowance = 0.0;
                self.set_off();
                *task = Task::begin(Doing::Flood);
            }
            Order::Report => {
                let mut poured = std::mem::take(&mut self.poured);
                poured.seconds = task.began.elapsed().as_secs_f64();
                poured.cpu_seconds = poll::cpu_seconds() - task.cpu_seconds;
                self.count_ended(&mut poured);
                *task = Task::begin(Doing::Rest);
                tell(&News::Poured(Box::new(poured)));
            }
            Order::Cut => {
                for slot in &mut self.slots {
                    slot.client.take().into_iter().chain(slot.held.drain(..)).for_each(Client::cut);
                    slot.piece = 0;
                }
                tell(&News::Ready);
            }
            Order::Connect => {
                self.connect()?;
                tell(&News::Ready);
            }
            Order::Measure => {}
        }
        Ok(())
    }

    /// Gives each client of a pace its own moments to send at, or the same to all.
    fn set_off(&mut self) {
        let clients = self.slots.len().max(1) as f64;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.allowance = if self.kind.at_once { 0.0 } else { index as f64 / clients };
        }
    }

    fn count_ended(&self, poured: &mut Poured) {
        if self.kind.entrance != Entrance::Session {
            return;
        }
        for reason in self.slots.iter().filter_map(|slot| slot.client.as_ref()?.ended.clone()) {
            *poured.ended.entry(reason).or_default() += 1;
        }
    }

    /// Logs in everybody who is not.
    fn connect(&mut self) -> Result<(), String> {
        if self.kind.entrance != Entrance::Session {
            return Ok(());
        }
        let mut has_come = false;
        for index in 0..self.slots.len() {
            if self.slots[index].client.is_none() {
                self.come(index)?;
                has_come = true;
            }
        }
        match self.kind.fill.filter(|_| has_come) {
            Some(fill) => self.fill(fill),
            None => Ok(()),
        }
    }

    /// Logs one in.
    fn come(&mut self, index: usize) -> Result<(), String> {
        let place = self.place(index);
        let from = Ipv4Addr::from(0x7f02_0001 + index as u32 / SESSIONS_PER_ADDRESS);
        let resource = match place.session {
            0 => RESOURCE.to_owned(),
            other => format!("{RESOURCE}{other}"),
        };
        let from = Some(IpAddr::V4(from));
        let mut client = Client::log_in(&mut self.entry, place.account, from, &resource, false)?;
        client.push(self.kind.greeting);
        client.push("<presence/>");
        client.flush();
        if self.kind.is_in_room {
            rooms::enter(&mut client, &place, &mut self.buffer)?;
        }
        self.slots[index] = Slot { client: Some(client), ..Slot::default() };
        Ok(())
    }

    /// Lets the last session of each account send what the flood needs.
    fn fill(&mut self, fill: fn(&Place) -> String) -> Result<(), String> {
        let sessions = self.kind.sessions as usize;
        let last = (0..self.slots.len()).filter(|index| index % sessions == sessions - 1);
        for index in last.collect::<Vec<_>>() {
            let text = fill(&self.place(index));
            if let Some(client) = &mut self.slots[index].client {
                client.push(&text);
            }
        }
        let end = Instant::now() + PREPARE_MAX;
        let mut is_done = false;
        while !is_done && Instant::now() < end {
            is_done = true;
            for slot in &mut self.slots {
                let Some(client) = &mut slot.client else { continue };
                client.flush();
                is_done &= client.is_empty() || client.ended.is_some();
            }
            self.read(NAP)?;
        }
        Ok(())
    }

    fn place(&self, index: usize) -> Place {
        let sessions = self.kind.sessions as usize;
        Place {
            domain: self.entry.door.domain.clone(),
            account: FIRST_FLOODER + (index / sessions) as u64,
            clients: (self.slots.len() / sessions) as u64,
            session: (index % sessions) as u64,
        }
    }

    /// Whether a client has sent all that it sends on one connection, and has its answers; it comes anew then.
    fn comes_anew(&mut self, index: usize) -> Result<bool, String> {
        let slot = &mut self.slots[index];
        if self.kind.cut_after.is_none_or(|most| slot.count < most) || slot.piece > 0 {
            return Ok(false);
        }
        if slot.busy.is_none_or(|busy| busy.elapsed() > QUIET) {
            slot.client.take().into_iter().for_each(Client::cut);
            self.come(index)?;
        }
        Ok(true)
    }

    /// Fills the accounts, and waits for the answers.
    fn prepare(&mut self) -> Result<(), String> {
        let mut left = vec![0; self.slots.len()];
        for (index, left) in left.iter_mut().enumerate() {
            let mut text = String::new();
            *left = prepare(&self.place(index), &mut text);
            if let Some(client) = &mut self.slots[index].client {
                client.push(&text);
            }
        }
        let end = Instant::now() + PREPARE_MAX;
        while left.iter().any(|&left| left > 0) && Instant::now() < end {
            let mut interests = Vec::new();
            for (slot, left) in self.slots.iter_mut().zip(&mut left) {
                let Some(client) = slot.client.as_mut().filter(|client| client.ended.is_none()) else {
                    *left = 0;
                    continue;
                };
                client.flush();
                client.receive(&mut self.buffer, |element| {
                    let answer = element.name() == b"iq"
                        && matches!(element.attribute(b"type"), Some(b"result" | b"error"));
                    *left = left.saturating_sub(u64::from(answer));
                });
                interests.push(client.interest(true));
            }
            poll::wait(&interests, NAP).map_err(cannot_wait)?;
        }
        Ok(())
    }

    /// Uses a share of the CPU and sends nothing.
    fn spin(&mut self, share: f64) -> Result<(), String> {
        let began = Instant::now();
        let busy = SPIN_PERIOD.mul_f64(share.clamp(0.0, 1.0));
        while began.elapsed() < busy {
            std::hint::spin_loop();
        }
        self.wait(SPIN_PERIOD - busy)
    }

    /// Reads what has come, at most for `time`.
    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            self.read(end.saturating_duration_since(Instant::now()))?;
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    fn reads(&self, index: usize) -> bool {
        match self.kind.reading {
            Reading::All => true,
            Reading::NotTheFirst => index > 0,
            Reading::Nobody => false,
        }
    }

    fn read(&mut self, time: Duration) -> Result<(), String> {
        let (mut of, mut interests) = (Vec::new(), Vec::new());
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(client) = slot.client.as_ref().filter(|client| client.ended.is_none()) {
                let interest = client.interest(self.reads(index));
                if interest.read || interest.write {
                    of.push(index);
                    interests.push(interest);
                }
            }
        }
        let ready = poll::wait(&interests, time).map_err(cannot_wait)?;
        for (index, _) in of.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            if !self.reads(index) {
                continue;
            }
            if let Some(client) = &mut self.slots[index].client {
                let count = client.discard(&mut self.buffer) as u64;
                self.poured.read += count;
                if count > 0 {
                    self.slots[index].busy = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// One turn of everybody.
    fn pour(&mut self, last: &mut Instant) -> Result<(), String> {
        let passed = last.elapsed().as_secs_f64();
        *last = Instant::now();
        if let Some(rate) = self.flood.rate_max {
            self.allowance = (self.allowance + passed * rate).min(rate.max(1.0));
        }
        let mut moved = false;
        for index in 0..self.slots.len() {
            if let Some(pace) = self.kind.pace {
                let slot = &mut self.slots[index];
                slot.allowance = (slot.allowance + passed * pace).min(pace.max(1.0));
            }
            moved |= match self.kind.entrance {
                Entrance::Session => self.pour_stanzas(index),
                Entrance::Guess | Entrance::Half => self.pour_login(index),
            };
        }
        self.read(if moved { Duration::ZERO } else { NAP })
    }

    /// Whether one more may be written, by the paces and by the bytes of the phase; takes it if so.
    fn take(&mut self, index: usize) -> bool {
        let slot = &mut self.slots[index];
        let spent = self.poured.bytes >= self.flood.bytes_max;
        let too_fast = self.kind.pace.is_some() && slot.allowance < 1.0;
        let all_too_fast = self.flood.rate_max.is_some() && self.allowance < 1.0;
        if spent || too_fast || all_too_fast {
            return false;
        }
        slot.allowance -= 1.0;
        self.allowance -= 1.0;
        true
    }

    fn pour_stanzas(&mut self, index: usize) -> bool {
        if index == 0 && self.kind.reading == Reading::NotTheFirst {
            return false;
        }
        let live = |slot: &Slot| slot.client.as_ref().is_some_and(|client| client.ended.is_none());
        if !live(&self.slots[index]) {
            return false;
        }
        if self.comes_anew(index).unwrap_or(true) {
            return false;
        }
        if self.slots[index].piece == 0 {
            let place = self.place(index);
            let mut text = String::new();
            let mut piece = 0;
            while text.len() < PIECE_BYTES && self.take(index) {
                (self.kind.write)(&place, self.slots[index].count, &mut text);
                self.slots[index].count += 1;
                piece += 1;
            }
            let slot = &mut self.slots[index];
            slot.piece = piece;
            if let Some(client) = &mut slot.client {
                client.push(&text);
            }
        }
        self.flush(index)
    }

    /// Sends what the kernel takes; whether that was anything.
    fn flush(&mut self, index: usize) -> bool {
        let slot = &mut self.slots[index];
        let Some(client) = &mut slot.client else { return false };
        let count = client.flush();
        self.poured.bytes += count as u64;
        if count > 0 {
            slot.busy = Some(Instant::now());
        }
        if client.is_empty() {
            self.poured.stanzas += std::mem::take(&mut slot.piece);
        }
        count > 0
    }

    /// Another source address for each connection.
    fn address(&mut self) -> IpAddr {
        self.addresses = (self.addresses + 1) % 0xfff0;
        IpAddr::V4(Ipv4Addr::from(0x7f03_0001 + self.addresses))
    }

    /// One more connection on which a login begins, or a whole guess is made; nobody waits for the answer.
    fn pour_login(&mut self, index: usize) -> bool {
        for client in self.slots[index].held.iter_mut().filter(|client| !client.is_empty()) {
            self.poured.bytes += client.flush() as u64;
            self.poured.stanzas += u64::from(client.is_empty());
        }
        if !self.take(index) {
            return false;
        }
        let from = self.address();
        let Ok(socket) = connect(self.entry.door.address, Some(from)) else { return false };
        let mut client = Client::new(socket);
        let slot = &mut self.slots[index];
        let guess = guess(slot.count);
        slot.count += 1;
        client.push(&header(&self.entry.door.domain));
        client.push(if self.kind.entrance == Entrance::Guess { &guess } else { &guess[..guess.len() / 2] });
        slot.held.push_back(client);
        if slot.held.len() > HELD_EACH
            && let Some(oldest) = slot.held.pop_front()
        {
            oldest.cut();
        }
        true
    }
}

/// A wrong password for the recipient's account (RFC 4616).
fn guess(number: u64) -> String {
    let name = Accounts::name(LISTENER);
    let text = STANDARD.encode(format!("\0{name}\0wrong{number}"));
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{text}</auth>")
}

fn cannot_wait(error: std::io::Error) -> String {
    format!("cannot wait: {error}")
}
