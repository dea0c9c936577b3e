//! What one iteration of a worker wants done to its connections: bytes to send, and at most one action each.
//!
//! The core only appends here; the worker applies it to the driver at the end of the iteration, once per
//! connection. Many stanzas to one client become one write, and one TLS record.
//!
//! What rooms say to many may wait for more of the same while more is about to be read ([`Outbox::may_wait`]): in a busy room
//! of a thousand it is the writes that cost, not what is in them. It waits [`WAIT_MAX_MS`] at most, with nothing else before it or
//! behind it.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::runtime::deliveries::{Deliveries, Lot};
use crate::runtime::driver::{CloseHow, ConnId};
use crate::runtime::timer::Millis;
use crate::transport::{Output, Transport};

/// Room for so many entries, 96 bytes each, is kept for the next iteration. Anything that an iteration with more of them needed
/// is given back: thousands of sessions that are quiet again hold nothing here.
const ENTRIES_KEPT_MAX: usize = 256;

/// Marks a connection without an entry.
const NO_ENTRY: u32 = WEBSOCKET - 1;

/// The bit that says what carries the stream of a connection.
const WEBSOCKET: u32 = 1 << 31;

/// Emptied buffers kept for reuse, at most.
const SPARE_MAX: usize = 1024;

/// Output waits for more of its kind for so long, milliseconds.
const WAIT_MAX_MS: u64 = 5;

/// Output of so many connections waits; that of another one goes at once.
const WAITING_MAX: usize = 4096;

/// Output of one connection beyond this, in bytes, gains nothing by waiting.
const WAITING_BYTES_MAX: usize = 8 * 1024;

/// Of the output that has waited this many connections' goes out in one iteration, behind everything that does not wait: each is a
/// write, and whatever comes next is behind all of them.
const RELEASED_MAX: usize = 32;

/// Output of so many other connections in an iteration is enough to send messages from one to one before it,
const OTHERS_MIN: usize = 16;

/// and so many for each of these: a chat, of which half is acknowledgements, goes out in one piece.
const OTHERS_TIMES: usize = 4;

/// A spare buffer larger than this is given back to the allocator instead.
const SPARE_BYTES_MAX: usize = 16 * 1024;

/// What happens to a connection after its bytes have been handed to the driver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing more.
    None,
    /// Stop reading from it.
    Pause,
    /// Read from it again.
    Resume,
    /// Take it out of this worker's driver.
    Detach,
    /// Close it.
    Close(CloseHow),
}

/// One connection's part of the iteration.
#[derive(Debug)]
pub struct Entry {
    /// The connection.
    pub conn: ConnId,
    /// Bytes for the peer, before TLS.
    pub plain: Vec<u8>,
    /// Bytes for the peer, after TLS (handshake records); they go first.
    pub wire: Vec<u8>,
    /// Messages among the bytes for the peer that are timed.
    pub messages: Lot,
    /// What to do afterwards.
    pub action: Action,
    /// Since when its bytes wait; `None`: they go at once.
    waits_since: Option<Millis>,
}

impl Entry {
    /// Whether it stays for now.
    fn stays(&self, now: Millis, more_comes: bool) -> bool {
        let Some(since) = self.waits_since else { return false };
        more_comes && now.since(since) < WAIT_MAX_MS && self.plain.len() < WAITING_BYTES_MAX
    }
}

/// What is known of an index of connections: where its entry is in this iteration ([`NO_ENTRY`] for none), and what carries
/// its stream.
#[derive(Copy, Clone, Debug)]
struct Slot(u32);

impl Default for Slot {
    fn default() -> Slot {
        Slot(NO_ENTRY)
    }
}

impl Slot {
    fn entry(self) -> usize {
        (self.0 & !WEBSOCKET) as usize
    }

    fn set_entry(&mut self, entry: u32) {
        self.0 = self.0 & WEBSOCKET | entry;
    }

    fn transport(self) -> Transport {
        match self.0 & WEBSOCKET {
            0 => Transport::Tcp,
            _ => Transport::WebSocket,
        }
    }

    fn set_transport(&mut self, transport: Transport) {
        self.0 = match transport {
            Transport::Tcp => self.0 & !WEBSOCKET,
            Transport::WebSocket => self.0 | WEBSOCKET,
        };
    }
}

// Every connection has one (docs/performance.md).
const _: () = assert!(size_of::<Slot>() <= 4);

/// Output of one iteration, per connection.
#[derive(Default)]
pub struct Outbox {
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    /// How many of the entries were left by the last [`Outbox::take`]; they come first.
    left: usize,
    spare: Vec<Vec<u8>>,
    /// Bytes of earlier iterations that the driver still has, of connections of which it has any.
    with_driver: HashMap<ConnId, u32, FixedState>,
    /// How long messages take.
    pub times: Deliveries,
}

impl Outbox {
    /// The place of a connection's entry, made when there is none.
    fn place(&mut self, conn: ConnId) -> usize {
        let index = conn.index as usize;
        let slot = self.slot(conn).entry();
        // A connection can end and its index be taken again within one iteration: then both have entries.
        if slot < self.entries.len() && self.entries[slot].conn == conn {
            return slot;
        }
        let place = self.entries.len();
        let entry = u32::try_from(place).ok().filter(|entry| *entry < NO_ENTRY);
        self.slots[index].set_entry(entry.expect("fewer entries than connections"));
        let plain = self.spare.pop().unwrap_or_default();
        self.entries.push(Entry {
            conn,
            plain,
            wire: Vec::new(),
            messages: Lot::default(),
            action: Action::None,
            waits_since: None,
        });
        place
    }

    /// The entry of a connection, for something that does not wait.
    fn entry(&mut self, conn: ConnId) -> &mut Entry {
        let place = self.place(conn);
        self.entries[place].waits_since = None;
        &mut self.entries[place]
    }

    /// Since when the output of a connection waits for more; `now` if it has none.
    pub fn waits_since(&self, conn: ConnId, now: Millis) -> Option<Millis> {
        self.written(conn).map_or(Some(now), |entry| entry.waits_since)
    }

    /// What has just been written to a connection may wait, as what had been written before does: `since` is what
    /// [`Outbox::waits_since`] said of that.
    pub fn may_wait(&mut self, conn: ConnId, since: Option<Millis>) {
        let Some(slot) = self.slots.get(conn.index as usize).map(|slot| slot.entry()) else { return };
        if let Some(entry) = self.entries.get_mut(slot).filter(|entry| entry.conn == conn)
            && self.left < WAITING_MAX
            && entry.wire.is_empty()
            && entry.action == Action::None
        {
            entry.waits_since = since;
        }
    }

    /// What carries the stream of a connection, from its first byte on.
    pub fn set_transport(&mut self, conn: ConnId, transport: Transport) {
        self.slot(conn).set_transport(transport);
    }

    /// Where the elements for `conn` go. They are sealed first when it speaks TLS.
    #[inline]
    pub fn stream(&mut self, conn: ConnId) -> Output<'_> {
        let place = self.place(conn);
        self.entries[place].waits_since = None;
        let transport = self.slots[conn.index as usize].transport();
        Output::new(transport, &mut self.entries[place].plain)
    }

    fn slot(&mut self, conn: ConnId) -> &mut Slot {
        let index = conn.index as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    fn written(&self, conn: ConnId) -> Option<&Entry> {
        let slot = self.slots.get(conn.index as usize)?.entry();
        self.entries.get(slot).filter(|entry| entry.conn == conn)
    }

    /// Writes a message, a whole element, to a connection, and notes since when it is under way. One behind output that its client
    /// has not taken yet waits for that client.
    pub fn write_message(&mut self, conn: ConnId, element: &[u8]) {
        let mut received = self.times.received();
        let is_behind = self.with_driver(conn) > 0;
        let place = self.place(conn);
        let transport = self.slots[conn.index as usize].transport();
        let entry = &mut self.entries[place];
        entry.waits_since = None;
        if received.at.is_some() {
            received.has_waited |= is_behind;
            entry.messages.add(received);
        }
        Output::new(transport, &mut entry.plain).written(element);
    }

    /// Whether something has been written to a connection or asked for since its output was last taken.
    #[inline]
    pub fn is_written(&self, conn: ConnId) -> bool {
        self.written(conn).is_some()
    }

    /// Makes room for so many bytes that are about to be written to a connection. What it has written so far goes at once.
    pub fn reserve(&mut self, conn: ConnId, bytes: usize) {
        self.entry(conn).plain.reserve(bytes);
    }

    /// Bytes in that buffer so far.
    pub fn plain_len(&self, conn: ConnId) -> usize {
        self.written(conn).map_or(0, |entry| entry.plain.len())
    }

    /// Everything that waits for a client: what was written in this iteration, and what the driver has.
    pub fn waiting(&self, conn: ConnId) -> usize {
        self.written(conn).map_or(0, |entry| entry.plain.len() + entry.wire.len()) + self.with_driver(conn)
    }

    /// Bytes that the driver has for a client.
    pub fn with_driver(&self, conn: ConnId) -> usize {
        match self.with_driver.is_empty() {
            true => 0,
            false => self.with_driver.get(&conn).copied().unwrap_or(0) as usize,
        }
    }

    /// The driver says how many bytes it has for a client. Returns how many it had before.
    pub fn set_with_driver(&mut self, conn: ConnId, bytes: usize) -> usize {
        let before = match bytes {
            0 => self.with_driver.remove(&conn),
            _ => self.with_driver.insert(conn, u32::try_from(bytes).unwrap_or(u32::MAX)),
        };
        // What a crowd of slow readers has needed is given back.
        if self.with_driver.is_empty() && self.with_driver.capacity() > ENTRIES_KEPT_MAX {
            self.with_driver = HashMap::default();
        }
        before.unwrap_or(0) as usize
    }

    /// Bytes of TLS that go out as they are, before those of the stream.
    pub fn wire(&mut self, conn: ConnId) -> &mut Vec<u8> {
        &mut self.entry(conn).wire
    }

    /// Moves what was written for TLS to what goes out as it is: for the answer with which TLS begins.
    pub fn plain_to_wire(&mut self, conn: ConnId) {
        let entry = self.entry(conn);
        entry.wire.append(&mut entry.plain);
    }

    /// Asks for an action once the bytes are out. A close is never taken back by a weaker action.
    pub fn act(&mut self, conn: ConnId, action: Action) {
        let entry = self.entry(conn);
        let keep = match entry.action {
            Action::Close(CloseHow::Reset) => true,
            Action::Close(CloseHow::Flush) => !matches!(action, Action::Close(CloseHow::Reset)),
            Action::Detach => !matches!(action, Action::Close(_)),
            Action::None | Action::Pause | Action::Resume => false,
        };
        if !keep {
            entry.action = action;
        }
    }

    /// Takes the entries of this iteration, in the order in which they were first touched. Those that wait for more stay while
    /// `more_comes`, and afterwards as long as others of them go, which are the last.
    pub fn take(&mut self, now: Millis, more_comes: bool) -> Vec<Entry> {
        if self.left == 0 && self.entries.iter().all(|entry| entry.waits_since.is_none()) {
            for entry in &self.entries {
                self.slots[entry.conn.index as usize].set_entry(NO_ENTRY);
            }
            return std::mem::take(&mut self.entries);
        }
        let (mut due, mut staying, mut released) = (Vec::new(), Vec::new(), Vec::new());
        for (place, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            let waits = entry.waits_since.is_some();
            let stays = waits && (released.len() == RELEASED_MAX || entry.stays(now, more_comes));
            // A later connection of the same index may have the slot.
            let slot = &mut self.slots[entry.conn.index as usize];
            if slot.entry() == place {
                slot.set_entry(if stays { staying.len() as u32 } else { NO_ENTRY });
            }
            match (stays, waits) {
                (true, _) => staying.push(entry),
                (false, true) => released.push(entry),
                (false, false) => due.push(entry),
            }
        }
        due.append(&mut released);
        self.left = staying.len();
        self.entries = staying;
        due
    }

    /// Gives the emptied list of entries back, so that the next iteration need not allocate it.
    pub fn put_back(&mut self, mut entries: Vec<Entry>) {
        entries.clear();
        entries.shrink_to(ENTRIES_KEPT_MAX);
        if self.entries.is_empty() {
            self.entries = entries;
        }
    }

    /// Whether nothing is to be done, not even later.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something has been written or asked for since [`Outbox::take`].
    pub fn has_news(&self) -> bool {
        self.entries.len() > self.left || self.entries.iter().any(|entry| entry.waits_since.is_none())
    }

    /// Takes an emptied buffer for reuse.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Puts entries with messages from one to one before all others, which may be what a room says to a thousand. Returns how many
/// go first; `None`: so few others go that nobody waits for them.
pub fn prompt_first(entries: &mut [Entry]) -> Option<usize> {
    let prompt = entries.iter().filter(|entry| entry.messages.prompt() > 0).count();
    if prompt == 0 || entries.len() - prompt < OTHERS_MIN.max(OTHERS_TIMES * prompt) {
        return None;
    }
    let mut first = 0;
    for at in 0..entries.len() {
        if entries[at].messages.prompt() > 0 {
            entries.swap(first, at);
            first += 1;
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests;
